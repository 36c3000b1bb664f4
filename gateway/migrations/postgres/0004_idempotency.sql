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

-- The order in which the admin API lists consumers.
CREATE INDEX consumers_by_age ON consumers (created_at, id);
