-- Consumers, their keys, who did what to them, and what changed in which order. As in the folder of SQLite; what
-- differs is what only PostgreSQL can say.
--
-- Texts that lists are sorted by compare byte for byte (COLLATE "C"), so that pages are the same on every server.

CREATE TABLE buckets (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL
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
    -- A JSON object of texts.
    tags TEXT NOT NULL,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT consumers_bucket_name_key UNIQUE (bucket, name),
    CONSTRAINT consumers_bucket_custom_id_key UNIQUE (bucket, custom_id)
);

CREATE TABLE keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    consumer_id TEXT COLLATE "C" NOT NULL REFERENCES consumers (id),
    -- SHA-256 of the whole key.
    digest BYTEA NOT NULL CONSTRAINT keys_digest_key UNIQUE CHECK (octet_length(digest) = 32),
    hint TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'disabled', 'revoked')),
    expires_at BIGINT,
    -- Separated by spaces; NULL is all that the consumer has.
    scopes TEXT,
    description TEXT,
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
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    subject_id TEXT COLLATE "C" NOT NULL,
    -- A JSON object without secrets.
    detail TEXT NOT NULL
);

CREATE INDEX audit_by_subject ON audit (subject_id, id);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are never changed or deleted';
END
$$;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- The change feed. Writers take turns from the beginning of their transactions, so revisions appear in their order: a
-- reader that has seen one has seen all before it. A revision that was rolled back leaves a gap and is never given again.
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
