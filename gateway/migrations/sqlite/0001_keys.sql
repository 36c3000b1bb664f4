-- Consumers, their keys, who did what to them, and what changed in which order.
--
-- Types are those that PostgreSQL has too: BIGINT for numbers and for times (milliseconds since 1970, UTC), TEXT, and
-- BLOB where PostgreSQL says BYTEA. No plain key is ever in here.

CREATE TABLE buckets (
    name TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL
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
    -- A JSON object of texts.
    tags TEXT NOT NULL,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (bucket, name),
    UNIQUE (bucket, custom_id)
);

CREATE TABLE keys (
    id TEXT NOT NULL PRIMARY KEY,
    consumer_id TEXT NOT NULL REFERENCES consumers (id),
    -- SHA-256 of the whole key.
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
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
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    -- A JSON object without secrets.
    detail TEXT NOT NULL
);

CREATE INDEX audit_by_subject ON audit (subject_id, id);

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never changed');
END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never deleted');
END;

-- The change feed. AUTOINCREMENT, so that a revision is never given twice, not even after the newest rows are gone.
CREATE TABLE changes (
    revision INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL CHECK (subject IN ('consumer', 'key')),
    subject_id TEXT NOT NULL,
    -- Of a key: once the row of the key is gone, nothing else tells what to remove.
    digest BLOB
);
