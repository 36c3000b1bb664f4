-- As in the folder of SQLite; what differs is what only PostgreSQL can say.
--
-- Texts that lists are sorted by compare byte for byte (COLLATE "C"), so that pages are the same on every server.

-- The name of this database, which no other has.
CREATE TABLE store_identity (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY
);

INSERT INTO store_identity (id) VALUES (replace(CAST(gen_random_uuid() AS TEXT), '-', ''));

CREATE TABLE buckets (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    -- What is done to a key of the bucket that is reported as leaked, and how long it then goes on after it was rolled.
    leak_policy TEXT NOT NULL DEFAULT 'notify' CHECK (leak_policy IN ('notify', 'roll', 'revoke')),
    leak_grace_ms BIGINT NOT NULL DEFAULT 86400000
);

INSERT INTO buckets (name, created_at) VALUES ('default', CAST(extract(epoch FROM now()) * 1000 AS BIGINT));

CREATE TABLE consumers (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    bucket TEXT COLLATE "C" NOT NULL REFERENCES buckets (name),
    name TEXT COLLATE "C" NOT NULL,
    custom_id TEXT COLLATE "C",
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
    CONSTRAINT consumers_bucket_name_key UNIQUE (bucket, name),
    CONSTRAINT consumers_bucket_custom_id_key UNIQUE (bucket, custom_id)
);

-- The order in which the admin API lists consumers.
CREATE INDEX consumers_by_age ON consumers (created_at, id);

-- The tags of consumers, one a row, for lists by tag. `consumers.tags` is what counts; the triggers follow it.
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
    -- Since when a newer key takes the place of this one, and which.
    deprecated_at BIGINT,
    successor TEXT COLLATE "C",
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
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    -- The address that it was asked for from; NULL is the machine itself.
    source TEXT,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    subject_id TEXT COLLATE "C" NOT NULL,
    -- A JSON object without secrets.
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

-- A row of the audit goes only when a later row says up to which moment the audit was pruned, and the row is from before:
-- `subject_id` is that moment.
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

-- The change feed, written by the tables themselves: whatever changes a key or a consumer, every digest and every consumer
-- id that gateways must look at again is in it. Writers take turns from the beginning of their transactions, so revisions
-- appear in their order: a reader that has seen one has seen all before it. A revision that was rolled back leaves a gap and
-- is never given again.
CREATE TABLE changes (
    revision BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject TEXT NOT NULL CHECK (subject IN ('consumer', 'key')),
    subject_id TEXT COLLATE "C" NOT NULL,
    -- Of a key: once the row of the key is gone, nothing else tells what to remove.
    digest BYTEA
);

-- Wakes every gateway when the transaction has committed.
CREATE FUNCTION tell_of_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('postern_changes', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER changes_are_told AFTER INSERT ON changes FOR EACH STATEMENT EXECUTE FUNCTION tell_of_changes();

-- What writes takes its turn, as in every transaction of the gateway, so that revisions appear in their order also where
-- the change was made by hand. The number spells `postern`.
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

CREATE TRIGGER new_keys_are_fed AFTER INSERT ON keys REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION feed_keys();
-- Not of `last_used_at` and other columns that no gateway holds: usage is written often.
CREATE TRIGGER changed_keys_are_fed
    AFTER UPDATE OF id, consumer_id, digest, state, expires_at, deprecated_at, scopes ON keys
    FOR EACH ROW EXECUTE FUNCTION feed_changed_key();
CREATE TRIGGER removed_keys_are_fed AFTER DELETE ON keys REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION feed_keys();

CREATE TRIGGER new_consumers_are_fed AFTER INSERT ON consumers REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION feed_consumers();
CREATE TRIGGER changed_consumers_are_fed
    AFTER UPDATE OF id, bucket, name, custom_id, metadata, scopes, allowed_ips ON consumers
    FOR EACH ROW EXECUTE FUNCTION feed_changed_consumer();
CREATE TRIGGER removed_consumers_are_fed AFTER DELETE ON consumers REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION feed_consumers();

-- No trigger tells what a TRUNCATE removed.
CREATE FUNCTION keys_are_deleted_row_by_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'gateways would not learn of a TRUNCATE: use DELETE';
END
$$;

CREATE TRIGGER keys_are_never_truncated BEFORE TRUNCATE ON keys
    FOR EACH STATEMENT EXECUTE FUNCTION keys_are_deleted_row_by_row();
CREATE TRIGGER consumers_are_never_truncated BEFORE TRUNCATE ON consumers
    FOR EACH STATEMENT EXECUTE FUNCTION keys_are_deleted_row_by_row();

-- The gateways that follow this store: which change each has taken in. A gateway that stops removes its row; one that
-- was killed leaves it behind, and is known by its silence.
CREATE TABLE gateways (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
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

CREATE TRIGGER waiting_is_told AFTER UPDATE ON awaited FOR EACH STATEMENT EXECUTE FUNCTION tell_of_changes();

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
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
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
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    -- SHA-256 of the method, the target and the body.
    request BYTEA NOT NULL CHECK (length(request) = 32),
    location TEXT NOT NULL,
    -- A JSON object without secrets.
    answer TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (token, digest)
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
