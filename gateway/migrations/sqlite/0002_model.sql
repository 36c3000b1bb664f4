-- Addresses that a consumer's keys may come from; keys that a newer one has taken the place of; where a change came from;
-- what becomes of keys that leaked; and the name of this database, which no other has.

-- Ranges separated by spaces; none is every address.
ALTER TABLE consumers ADD COLUMN allowed_ips TEXT NOT NULL DEFAULT '';

-- Since when a newer key takes the place of this one, and which.
ALTER TABLE keys ADD COLUMN deprecated_at BIGINT;
ALTER TABLE keys ADD COLUMN successor TEXT;

-- The address that a change was asked for from; NULL is the machine itself.
ALTER TABLE audit ADD COLUMN source TEXT;

-- What is done to a key of the bucket that is reported as leaked, and how long it then goes on after it was rolled.
ALTER TABLE buckets ADD COLUMN leak_policy TEXT NOT NULL DEFAULT 'notify' CHECK (leak_policy IN ('notify', 'roll', 'revoke'));
ALTER TABLE buckets ADD COLUMN leak_grace_ms BIGINT NOT NULL DEFAULT 86400000;

CREATE TABLE store_identity (
    id TEXT NOT NULL PRIMARY KEY
);

INSERT INTO store_identity (id) VALUES (lower(hex(randomblob(16))));
