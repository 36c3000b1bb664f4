-- Consumers, their keys, who did what to them, what changed in which order, and what was done with keys.
--
-- Types are those that PostgreSQL has too: BIGINT for numbers and for times (milliseconds since 1970, UTC), TEXT, and
-- BLOB where PostgreSQL says BYTEA. No plain key is ever in here.

-- The name of this database, which no other has.
CREATE TABLE store_identity (
    id TEXT NOT NULL PRIMARY KEY
);

INSERT INTO store_identity (id) VALUES (lower(hex(randomblob(16))));

CREATE TABLE buckets (
    name TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    -- What is done to a key of the bucket that is reported as leaked, and how long it then goes on after it was rolled.
    leak_policy TEXT NOT NULL DEFAULT 'notify' CHECK (leak_policy IN ('notify', 'roll', 'revoke')),
    leak_grace_ms BIGINT NOT NULL DEFAULT 86400000
);

INSERT INTO buckets (name, created_at) VALUES ('default', CAST(strftime('%s', 'now') AS BIGINT) * 1000);

CREATE TABLE consumers (
    id TEXT NOT NULL PRIMARY KEY,
    bucket TEXT NOT NULL REFERENCES buckets (name),
    name TEXT NOT NULL,
    custom_id TEXT,
    description TEXT,
    -- A JSON object, or nothing.
    metadata TEXT,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    -- Addresses that its keys may come from: ranges separated by spaces; none is every address.
    allowed_ips TEXT NOT NULL DEFAULT '',
    -- A JSON object of texts.
    tags TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (bucket, name),
    UNIQUE (bucket, custom_id)
);

-- The order in which the admin API lists consumers.
CREATE INDEX consumers_by_age ON consumers (created_at, id);

-- The tags of consumers, one a row, for lists by tag. `consumers.tags` is what counts; the triggers follow it.
CREATE TABLE consumer_tags (
    consumer_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (consumer_id, name)
) WITHOUT ROWID;

CREATE INDEX consumer_tags_by_value ON consumer_tags (name, value, consumer_id);

CREATE TRIGGER tags_of_a_new_consumer AFTER INSERT ON consumers WHEN NEW.tags <> '{}'
BEGIN
    INSERT INTO consumer_tags (consumer_id, name, value) SELECT NEW.id, t.key, t.value FROM json_each(NEW.tags) t;
END;

CREATE TRIGGER tags_of_a_changed_consumer AFTER UPDATE OF tags ON consumers WHEN NEW.tags <> OLD.tags
BEGIN
    DELETE FROM consumer_tags WHERE consumer_id = OLD.id;
    INSERT INTO consumer_tags (consumer_id, name, value) SELECT NEW.id, t.key, t.value FROM json_each(NEW.tags) t;
END;

CREATE TRIGGER tags_of_a_deleted_consumer AFTER DELETE ON consumers
BEGIN
    DELETE FROM consumer_tags WHERE consumer_id = OLD.id;
END;

CREATE TABLE keys (
    id TEXT NOT NULL PRIMARY KEY,
    consumer_id TEXT NOT NULL REFERENCES consumers (id),
    -- SHA-256 of the whole key.
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    hint TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'disabled', 'revoked')),
    -- Since when a newer key takes the place of this one, and which.
    deprecated_at BIGINT,
    successor TEXT,
    -- When a key would end that is to be replaced, had its end not been brought forward: its successor inherits that. NULL
    -- is never.
    original_expires_at BIGINT,
    description TEXT,
    expires_at BIGINT,
    -- Separated by spaces; NULL is all that the consumer has.
    scopes TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_used_at BIGINT
);

CREATE INDEX keys_by_age ON keys (created_at, id);
CREATE INDEX keys_by_consumer ON keys (consumer_id, created_at, id);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    -- The address that it was asked for from; NULL is the machine itself.
    source TEXT,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    -- A JSON object without secrets.
    detail TEXT NOT NULL
);

CREATE INDEX audit_by_subject ON audit (subject_id, id);
CREATE INDEX audit_prunings ON audit (CAST(subject_id AS INTEGER)) WHERE action = 'audit.prune';

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never changed');
END;

-- A row of the audit goes only when a later row says up to which moment the audit was pruned, and the row is from before:
-- `subject_id` is that moment.
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
WHEN NOT EXISTS (
    SELECT 1 FROM audit said
    WHERE said.action = 'audit.prune' AND CAST(said.subject_id AS INTEGER) > OLD.at AND said.id > OLD.id
)
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never deleted, unless the audit says that it was pruned');
END;

-- The change feed, written by the tables themselves: whatever changes a key or a consumer, every digest and every consumer
-- id that gateways must look at again is in it. AUTOINCREMENT, so that a revision is never given twice, not even after the
-- newest rows are gone.
CREATE TABLE changes (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL CHECK (subject IN ('consumer', 'key')),
    subject_id TEXT NOT NULL,
    -- Of a key: once the row of the key is gone, nothing else tells what to remove.
    digest BLOB
);

CREATE TRIGGER new_keys_are_fed AFTER INSERT ON keys
BEGIN
    INSERT INTO changes (subject, subject_id, digest) VALUES ('key', NEW.id, NEW.digest);
END;

-- Not of `last_used_at` and other columns that no gateway holds: usage is written often.
CREATE TRIGGER changed_keys_are_fed
AFTER UPDATE OF id, consumer_id, digest, state, expires_at, deprecated_at, scopes ON keys
BEGIN
    INSERT INTO changes (subject, subject_id, digest) SELECT 'key', OLD.id, OLD.digest WHERE OLD.digest <> NEW.digest;
    INSERT INTO changes (subject, subject_id, digest) VALUES ('key', NEW.id, NEW.digest);
END;

CREATE TRIGGER removed_keys_are_fed AFTER DELETE ON keys
BEGIN
    INSERT INTO changes (subject, subject_id, digest) VALUES ('key', OLD.id, OLD.digest);
END;

CREATE TRIGGER new_consumers_are_fed AFTER INSERT ON consumers
BEGIN
    INSERT INTO changes (subject, subject_id) VALUES ('consumer', NEW.id);
END;

CREATE TRIGGER changed_consumers_are_fed
AFTER UPDATE OF id, bucket, name, custom_id, metadata, scopes, allowed_ips ON consumers
BEGIN
    INSERT INTO changes (subject, subject_id) SELECT 'consumer', OLD.id WHERE OLD.id <> NEW.id;
    INSERT INTO changes (subject, subject_id) VALUES ('consumer', NEW.id);
END;

CREATE TRIGGER removed_consumers_are_fed AFTER DELETE ON consumers
BEGIN
    INSERT INTO changes (subject, subject_id) VALUES ('consumer', OLD.id);
END;

-- The gateways that follow this store: which change each has taken in. A gateway that stops removes its row; one that
-- was killed leaves it behind, and is known by its silence.
CREATE TABLE gateways (
    id TEXT NOT NULL PRIMARY KEY,
    -- What operators call it: its host and its address.
    name TEXT NOT NULL,
    -- The machine and the address that it listens on, as far as they tell that whoever listened there before is gone.
    listener TEXT,
    started_at BIGINT NOT NULL,
    -- By the clock of the database.
    seen_at BIGINT NOT NULL,
    -- The newest change that it answers requests by.
    revision BIGINT NOT NULL,
    -- How old its table may get before it refuses every request; NULL is for ever.
    max_staleness_ms BIGINT
);

-- The newest change that somebody waits for: gateways that have it say so at once, and are silent otherwise.
CREATE TABLE awaited (
    revision BIGINT NOT NULL
);

INSERT INTO awaited (revision) VALUES (0);

-- What was done with each key, by hours. No reference to the keys: what a key did stays when the key is gone.
CREATE TABLE usage (
    key_id TEXT NOT NULL,
    -- Its first millisecond, since 1970, UTC.
    hour BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    -- Those of the requests that the gateway refused for what the client sent or may not do.
    refusals BIGINT NOT NULL,
    -- Of bodies.
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    PRIMARY KEY (key_id, hour)
);

CREATE INDEX usage_by_hour ON usage (hour);

-- The last batch of counts that was written, of each run of a gateway: the same batch again does nothing.
CREATE TABLE usage_writers (
    id TEXT NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL,
    -- By the clock of the database.
    at BIGINT NOT NULL
);

-- Creations that may be sent again: what was asked for with which key, and what was answered, for a day. Digests only: a
-- key that a client chose may say something about it. The answer holds no API key.
CREATE TABLE idempotency_keys (
    -- The name of the admin token: each has keys of its own.
    token TEXT NOT NULL,
    -- SHA-256 of the key.
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    -- SHA-256 of the method, the target and the body.
    request BLOB NOT NULL CHECK (length(request) = 32),
    location TEXT NOT NULL,
    -- A JSON object without secrets.
    answer TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token, digest)
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
