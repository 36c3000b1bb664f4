-- Like the SQLite schema, except for features of PostgreSQL.
--
-- Sort columns compare bytewise (COLLATE "C"), so that pages are the same on every server.

-- Unique identity of this database.
CREATE TABLE store_identity (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY
);

INSERT INTO store_identity (id) VALUES (replace(CAST(gen_random_uuid() AS TEXT), '-', ''));

CREATE TABLE buckets (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
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

INSERT INTO buckets (name, created_at) VALUES ('default', CAST(extract(epoch FROM now()) * 1000 AS BIGINT));

-- Plans: scopes and numbers of every consumer that refers to them.
CREATE TABLE plans (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
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
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    bucket TEXT COLLATE "C" NOT NULL REFERENCES buckets (name),
    name TEXT COLLATE "C" NOT NULL,
    custom_id TEXT COLLATE "C",
    description TEXT,
    -- JSON object or NULL.
    metadata TEXT,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    -- Allowed addresses: ranges separated by spaces; empty for any address.
    allowed_ips TEXT NOT NULL DEFAULT '',
    plan TEXT COLLATE "C" REFERENCES plans (name),
    -- Own numbers in place of those of the configuration: JSON arrays, empty for none.
    limits TEXT NOT NULL DEFAULT '',
    quotas TEXT NOT NULL DEFAULT '',
    max_in_flight BIGINT,
    -- JSON object of texts.
    tags TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT consumers_bucket_name_key UNIQUE (bucket, name),
    CONSTRAINT consumers_bucket_custom_id_key UNIQUE (bucket, custom_id)
);

-- Order of lists in the admin API.
CREATE INDEX consumers_by_age ON consumers (created_at, id);

CREATE INDEX consumers_by_plan ON consumers (plan) WHERE plan IS NOT NULL;

-- Tags of consumers, one per row, for lists by tag. Derived from `consumers.tags` by triggers.
CREATE TABLE consumer_tags (
    consumer_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (consumer_id, name)
);

CREATE INDEX consumer_tags_by_value ON consumer_tags (name, value, consumer_id);

CREATE FUNCTION follow_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM consumer_tags WHERE consumer_id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.tags <> '{}' THEN
        INSERT INTO consumer_tags (consumer_id, name, value)
        SELECT NEW.id, t.key, t.value FROM json_each_text(CAST(NEW.tags AS json)) t;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER tags_of_a_new_consumer AFTER INSERT OR DELETE ON consumers
    FOR EACH ROW EXECUTE FUNCTION follow_tags();
CREATE TRIGGER tags_of_a_changed_consumer AFTER UPDATE OF tags ON consumers
    FOR EACH ROW WHEN (NEW.tags <> OLD.tags) EXECUTE FUNCTION follow_tags();

CREATE TABLE keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    consumer_id TEXT COLLATE "C" NOT NULL REFERENCES consumers (id),
    -- SHA-256 of the whole key.
    digest BYTEA NOT NULL CONSTRAINT keys_digest_key UNIQUE CHECK (octet_length(digest) = 32),
    hint TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'disabled', 'revoked')),
    -- Start of the deprecation after a roll, and the successor.
    deprecated_at BIGINT,
    successor TEXT COLLATE "C",
    -- Expiry before a roll shortened it; the successor inherits it. NULL for a key that never
    -- expires.
    original_expires_at BIGINT,
    -- First key of the chain of rolls; NULL for a key that replaced none.
    chain TEXT COLLATE "C",
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
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    -- Source address; NULL for the machine itself.
    source TEXT,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    subject_id TEXT COLLATE "C" NOT NULL,
    -- JSON object without secrets.
    detail TEXT NOT NULL
);

CREATE INDEX audit_by_subject ON audit (subject_id, id);
CREATE INDEX audit_prunings ON audit (id) WHERE action = 'audit.prune';

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are never changed or deleted';
END
$$;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- An audit row can only be deleted if a later row records a pruning up to a later moment, held in
-- `subject_id`.
CREATE FUNCTION audit_is_pruned_aloud() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM audit said
        WHERE said.action = 'audit.prune' AND CAST(said.subject_id AS BIGINT) > OLD.at AND said.id > OLD.id
    ) THEN
        RAISE EXCEPTION 'audit rows are never changed or deleted, unless the audit says that it was pruned';
    END IF;
    RETURN OLD;
END
$$;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_pruned_aloud();

-- The change feed, written by triggers: it holds every digest and consumer id that gateways must
-- read again, whatever program made the change. An advisory lock serializes writers from the
-- beginning of their transactions, so revisions appear in order: a reader of one has seen all
-- before it. A rolled-back revision leaves a gap and is never reused.
CREATE TABLE changes (
    revision BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject TEXT NOT NULL CHECK (subject IN ('plan', 'consumer', 'key')),
    subject_id TEXT COLLATE "C" NOT NULL,
    -- Digest of a key: the only trace of a deleted row.
    digest BYTEA
);

-- Notifies every gateway after the commit.
CREATE FUNCTION tell_of_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postern_changes', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER changes_are_told AFTER INSERT ON changes FOR EACH STATEMENT EXECUTE FUNCTION tell_of_changes();

-- Takes the write lock, like every transaction of the gateway, so that revisions appear in order
-- for manual changes too. The number spells `postern`.
CREATE FUNCTION feed_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8101818091236519425);
    INSERT INTO changes (subject, subject_id, digest) SELECT 'key', id, digest FROM touched;
    RETURN NULL;
END
$$;

CREATE FUNCTION feed_changed_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8101818091236519425);
    IF OLD.digest <> NEW.digest THEN
        INSERT INTO changes (subject, subject_id, digest) VALUES ('key', OLD.id, OLD.digest);
    END IF;
    INSERT INTO changes (subject, subject_id, digest) VALUES ('key', NEW.id, NEW.digest);
    RETURN NULL;
END
$$;

CREATE FUNCTION feed_consumers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8101818091236519425);
    INSERT INTO changes (subject, subject_id) SELECT 'consumer', id FROM touched;
    RETURN NULL;
END
$$;

CREATE FUNCTION feed_changed_consumer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8101818091236519425);
    IF OLD.id <> NEW.id THEN
        INSERT INTO changes (subject, subject_id) VALUES ('consumer', OLD.id);
    END IF;
    INSERT INTO changes (subject, subject_id) VALUES ('consumer', NEW.id);
    RETURN NULL;
END
$$;

CREATE FUNCTION feed_plan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8101818091236519425);
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO changes (subject, subject_id) VALUES ('plan', OLD.name);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.name <> NEW.name) THEN
        INSERT INTO changes (subject, subject_id) VALUES ('plan', NEW.name);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER new_keys_are_fed AFTER INSERT ON keys REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION feed_keys();
-- Not for `last_used_at` and other columns outside the key table: usage is written often.
CREATE TRIGGER changed_keys_are_fed
    AFTER UPDATE OF id, consumer_id, digest, state, expires_at, deprecated_at, scopes, limits, quotas, max_in_flight, allowed_ips, allowed_methods, allowed_routes, chain ON keys
    FOR EACH ROW EXECUTE FUNCTION feed_changed_key();
CREATE TRIGGER removed_keys_are_fed AFTER DELETE ON keys REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION feed_keys();

CREATE TRIGGER new_consumers_are_fed AFTER INSERT ON consumers REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION feed_consumers();
CREATE TRIGGER changed_consumers_are_fed
    AFTER UPDATE OF id, bucket, name, custom_id, metadata, scopes, allowed_ips, plan, limits, quotas, max_in_flight, tags, created_at ON consumers
    FOR EACH ROW EXECUTE FUNCTION feed_changed_consumer();
CREATE TRIGGER removed_consumers_are_fed AFTER DELETE ON consumers REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION feed_consumers();

-- TRUNCATE is refused: no trigger reports the rows that it removes.
CREATE FUNCTION keys_are_deleted_row_by_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'gateways would not learn of a TRUNCATE: use DELETE';
END
$$;

CREATE TRIGGER keys_are_never_truncated BEFORE TRUNCATE ON keys
    FOR EACH STATEMENT EXECUTE FUNCTION keys_are_deleted_row_by_row();
CREATE TRIGGER consumers_are_never_truncated BEFORE TRUNCATE ON consumers
    FOR EACH STATEMENT EXECUTE FUNCTION keys_are_deleted_row_by_row();

CREATE TRIGGER new_plans_are_fed AFTER INSERT OR DELETE ON plans
    FOR EACH ROW EXECUTE FUNCTION feed_plan();
CREATE TRIGGER changed_plans_are_fed
    AFTER UPDATE OF name, scopes, limits, quotas, max_in_flight ON plans
    FOR EACH ROW EXECUTE FUNCTION feed_plan();

-- Gateways that follow this store, with their revision in force. A gateway removes its row when it
-- stops; a killed one leaves a row without heartbeats.
CREATE TABLE gateways (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
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

CREATE TRIGGER waiting_is_told AFTER UPDATE ON awaited FOR EACH STATEMENT EXECUTE FUNCTION tell_of_changes();

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
    route TEXT COLLATE "C" NOT NULL,
    -- First millisecond of the day, since 1970, UTC.
    day BIGINT NOT NULL,
    -- Of the refusal that there would have been; empty, as all others, for a good credential.
    code TEXT COLLATE "C" NOT NULL,
    cause TEXT COLLATE "C" NOT NULL,
    -- Consumer of the key; empty where it is not known.
    consumer_id TEXT COLLATE "C" NOT NULL,
    -- Range of addresses, and product of the client.
    network TEXT COLLATE "C" NOT NULL,
    client TEXT COLLATE "C" NOT NULL,
    requests BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (route, day, code, cause, consumer_id, network, client)
);

CREATE INDEX adoption_by_day ON adoption (day);

-- Last written batch of each run of a gateway, so that a repeated batch is ignored.
CREATE TABLE usage_writers (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
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
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    -- SHA-256 of the method, the target and the body.
    request BYTEA NOT NULL CHECK (length(request) = 32),
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
    consumer_id TEXT COLLATE "C" NOT NULL,
    -- NULL where those of the consumer were reset.
    key_id TEXT COLLATE "C",
    -- Name of the limit; NULL for all.
    limit_name TEXT COLLATE "C"
);

-- Use of quotas by subject and period. No foreign key: use outlives its subject.
CREATE TABLE quota_use (
    -- Name of the quota, and the kind of its periods: a quota whose kind changes is counted anew.
    quota TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    -- Id of a consumer, of the first key of a chain of rolls, or `tag:NAME=VALUE`.
    subject TEXT COLLATE "C" NOT NULL,
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
