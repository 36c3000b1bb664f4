-- Consumers, their keys, the audit log, the change feed, and the usage of keys.
--
-- Types exist in PostgreSQL too: BIGINT for numbers and for times (milliseconds since 1970, UTC),
-- TEXT, and BLOB for PostgreSQL's BYTEA. Plain keys are never stored.

-- Unique identity of this database.
CREATE TABLE store_identity (
    id TEXT NOT NULL PRIMARY KEY
);

INSERT INTO store_identity (id) VALUES (lower(hex(randomblob(16))));

CREATE TABLE buckets (
    name TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    -- Action on a key reported as leaked, and the grace period of the policy `roll`.
    leak_policy TEXT NOT NULL DEFAULT 'notify' CHECK (leak_policy IN ('notify', 'roll', 'revoke')),
    leak_grace_ms BIGINT NOT NULL DEFAULT 86400000,
    -- Lifetimes of keys in seconds, and the most live keys of a consumer; NULL for no bound.
    default_key_lifetime BIGINT,
    max_key_lifetime BIGINT,
    max_live_keys BIGINT,
    -- What happens to keys that were not used for this number of seconds.
    unused_after BIGINT,
    unused_action TEXT NOT NULL DEFAULT 'report' CHECK (unused_action IN ('report', 'disable'))
);

INSERT INTO buckets (name, created_at) VALUES ('default', CAST(strftime('%s', 'now') AS BIGINT) * 1000);

-- Plans: scopes and numbers of every consumer that refers to them.
CREATE TABLE plans (
    name TEXT NOT NULL PRIMARY KEY,
    description TEXT,
    -- Separated by spaces; granted besides the consumer's own.
    scopes TEXT NOT NULL,
    -- As those of consumers.
    limits TEXT NOT NULL,
    quotas TEXT NOT NULL,
    max_in_flight BIGINT,
    -- Lifetimes of new keys, in seconds.
    default_key_lifetime BIGINT,
    max_key_lifetime BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE consumers (
    id TEXT NOT NULL PRIMARY KEY,
    bucket TEXT NOT NULL REFERENCES buckets (name),
    name TEXT NOT NULL,
    custom_id TEXT,
    description TEXT,
    -- JSON object or NULL.
    metadata TEXT,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    -- Allowed addresses: ranges separated by spaces; empty for any address.
    allowed_ips TEXT NOT NULL DEFAULT '',
    plan TEXT REFERENCES plans (name),
    -- Own numbers in place of those of the configuration: JSON arrays, empty for none.
    limits TEXT NOT NULL DEFAULT '',
    quotas TEXT NOT NULL DEFAULT '',
    max_in_flight BIGINT,
    -- JSON object of texts.
    tags TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (bucket, name),
    UNIQUE (bucket, custom_id)
);

-- Order of lists in the admin API.
CREATE INDEX consumers_by_age ON consumers (created_at, id);

CREATE INDEX consumers_by_plan ON consumers (plan) WHERE plan IS NOT NULL;

-- Tags of consumers, one per row, for lists by tag. Derived from `consumers.tags` by triggers.
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
    -- Start of the deprecation after a roll, and the successor.
    deprecated_at BIGINT,
    successor TEXT,
    -- Expiry before a roll shortened it; the successor inherits it. NULL for a key that never
    -- expires.
    original_expires_at BIGINT,
    -- First key of the chain of rolls; NULL for a key that replaced none.
    chain TEXT,
    description TEXT,
    expires_at BIGINT,
    -- Separated by spaces; NULL for all of the consumer's.
    scopes TEXT,
    -- As those of consumers.
    limits TEXT NOT NULL DEFAULT '',
    quotas TEXT NOT NULL DEFAULT '',
    max_in_flight BIGINT,
    -- What the key may be used for; empty for everything. Ranges and methods are separated by spaces,
    -- names of routes a JSON array.
    allowed_ips TEXT NOT NULL DEFAULT '',
    allowed_methods TEXT NOT NULL DEFAULT '',
    allowed_routes TEXT NOT NULL DEFAULT '',
    -- Whether the key may be unused for any time: 0 or 1.
    exempt_from_unused BIGINT NOT NULL DEFAULT 0,
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
    -- Source address; NULL for the machine itself.
    source TEXT,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    -- JSON object without secrets.
    detail TEXT NOT NULL
);

CREATE INDEX audit_by_subject ON audit (subject_id, id);
CREATE INDEX audit_prunings ON audit (CAST(subject_id AS INTEGER)) WHERE action = 'audit.prune';

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never changed');
END;

-- An audit row can only be deleted if a later row records a pruning up to a later moment, held in
-- `subject_id`.
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
WHEN NOT EXISTS (
    SELECT 1 FROM audit said
    WHERE said.action = 'audit.prune' AND CAST(said.subject_id AS INTEGER) > OLD.at AND said.id > OLD.id
)
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never deleted, unless the audit says that it was pruned');
END;

-- The change feed, written by triggers: it holds every digest and consumer id that gateways must
-- read again, whatever program made the change. AUTOINCREMENT, so that a revision is never reused,
-- not even after the newest rows are deleted.
CREATE TABLE changes (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL CHECK (subject IN ('plan', 'consumer', 'key')),
    subject_id TEXT NOT NULL,
    -- Digest of a key: the only trace of a deleted row.
    digest BLOB
);

CREATE TRIGGER new_keys_are_fed AFTER INSERT ON keys
BEGIN
    INSERT INTO changes (subject, subject_id, digest) VALUES ('key', NEW.id, NEW.digest);
END;

-- Not for `last_used_at` and other columns outside the key table: usage is written often.
CREATE TRIGGER changed_keys_are_fed
AFTER UPDATE OF id, consumer_id, digest, state, expires_at, deprecated_at, scopes, limits, quotas, max_in_flight, allowed_ips, allowed_methods, allowed_routes, chain ON keys
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
AFTER UPDATE OF id, bucket, name, custom_id, metadata, scopes, allowed_ips, plan, limits, quotas, max_in_flight, tags, created_at ON consumers
BEGIN
    INSERT INTO changes (subject, subject_id) SELECT 'consumer', OLD.id WHERE OLD.id <> NEW.id;
    INSERT INTO changes (subject, subject_id) VALUES ('consumer', NEW.id);
END;

CREATE TRIGGER removed_consumers_are_fed AFTER DELETE ON consumers
BEGIN
    INSERT INTO changes (subject, subject_id) VALUES ('consumer', OLD.id);
END;

CREATE TRIGGER new_plans_are_fed AFTER INSERT ON plans
BEGIN
    INSERT INTO changes (subject, subject_id) VALUES ('plan', NEW.name);
END;

CREATE TRIGGER changed_plans_are_fed AFTER UPDATE OF name, scopes, limits, quotas, max_in_flight ON plans
BEGIN
    INSERT INTO changes (subject, subject_id) SELECT 'plan', OLD.name WHERE OLD.name <> NEW.name;
    INSERT INTO changes (subject, subject_id) VALUES ('plan', NEW.name);
END;

CREATE TRIGGER removed_plans_are_fed AFTER DELETE ON plans
BEGIN
    INSERT INTO changes (subject, subject_id) VALUES ('plan', OLD.name);
END;

-- Gateways that follow this store, with their revision in force. A gateway removes its row when it
-- stops; a killed one leaves a row without heartbeats.
CREATE TABLE gateways (
    id TEXT NOT NULL PRIMARY KEY,
    -- Display name: host and listening address.
    name TEXT NOT NULL,
    -- Machine and listening address, if unique: the previous gateway there is gone.
    listener TEXT,
    started_at BIGINT NOT NULL,
    -- By the database's clock.
    seen_at BIGINT NOT NULL,
    -- Newest revision in force.
    revision BIGINT NOT NULL,
    -- Maximum age of the table before the gateway refuses every request; NULL for no limit.
    max_staleness_ms BIGINT,
    -- Hash of the settings in force, without secrets.
    config_hash TEXT
);

-- Newest revision that a command waits for; gateways confirm it as soon as it is in force.
CREATE TABLE awaited (
    revision BIGINT NOT NULL
);

INSERT INTO awaited (revision) VALUES (0);

-- Usage of each key by hour. No foreign key: usage outlives deleted keys.
CREATE TABLE usage (
    key_id TEXT NOT NULL,
    -- First millisecond of the hour, since 1970, UTC.
    hour BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    -- Requests that the gateway refused with a 4xx.
    refusals BIGINT NOT NULL,
    -- Bytes of bodies.
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    PRIMARY KEY (key_id, hour)
);

CREATE INDEX usage_by_hour ON usage (hour);

-- Requests on routes that only observe, by day and by who sent them. No foreign key: rows outlive
-- what they name.
CREATE TABLE adoption (
    route TEXT NOT NULL,
    -- First millisecond of the day, since 1970, UTC.
    day BIGINT NOT NULL,
    -- Of the refusal that there would have been; empty, as all others, for a good credential.
    code TEXT NOT NULL,
    cause TEXT NOT NULL,
    -- Consumer of the key; empty where it is not known.
    consumer_id TEXT NOT NULL,
    -- Range of addresses, and product of the client.
    network TEXT NOT NULL,
    client TEXT NOT NULL,
    requests BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (route, day, code, cause, consumer_id, network, client)
);

CREATE INDEX adoption_by_day ON adoption (day);

-- Last written batch of each run of a gateway, so that a repeated batch is ignored.
CREATE TABLE usage_writers (
    id TEXT NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL,
    -- By the database's clock.
    at BIGINT NOT NULL
);

-- Idempotent creations: request and answer by idempotency key, kept for a day. Digests only,
-- because the client's choice of a key may be sensitive. The answer contains no API key.
CREATE TABLE idempotency_keys (
    -- Name of the admin token, the namespace of the keys.
    token TEXT NOT NULL,
    -- SHA-256 of the idempotency key.
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    -- SHA-256 of the method, the target and the body.
    request BLOB NOT NULL CHECK (length(request) = 32),
    location TEXT NOT NULL,
    -- JSON object without secrets.
    answer TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token, digest)
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Resets of rate limits by operators, for gateways, which count in their memory. Kept as long as the
-- change that tells of it.
CREATE TABLE limit_resets (
    revision BIGINT NOT NULL PRIMARY KEY,
    consumer_id TEXT NOT NULL,
    -- NULL where those of the consumer were reset.
    key_id TEXT,
    -- Name of the limit; NULL for all.
    limit_name TEXT
);

-- Use of quotas by subject and period. No foreign key: use outlives its subject.
CREATE TABLE quota_use (
    -- Name of the quota, and the kind of its periods: a quota whose kind changes is counted anew.
    quota TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Id of a consumer, of the first key of a chain of rolls, or `tag:NAME=VALUE`.
    subject TEXT NOT NULL,
    -- First millisecond of the period, and of the next one; NULL if there is none.
    start BIGINT NOT NULL,
    ends BIGINT,
    -- Units used; negative where an operator added some.
    units BIGINT NOT NULL,
    -- Order of the last changes, for gateways that read what others wrote.
    tick BIGINT NOT NULL,
    PRIMARY KEY (quota, kind, subject, start)
);

CREATE INDEX quota_use_by_tick ON quota_use (tick);
CREATE INDEX quota_use_by_subject ON quota_use (subject, start);
CREATE INDEX quota_use_by_end ON quota_use (ends);

-- Last tick that was given to a row.
CREATE TABLE quota_ticks (
    tick BIGINT NOT NULL
);

INSERT INTO quota_ticks (tick) VALUES (0);
