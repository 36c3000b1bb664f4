-- The gateways that follow this store: which change each has taken in. A gateway that stops removes its row; one that
-- was killed leaves it behind, and is known by its silence.

CREATE TABLE gateways (
    id TEXT NOT NULL PRIMARY KEY,
    -- What operators call it: its host and its address.
    name TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    -- By the clock of the database.
    seen_at BIGINT NOT NULL,
    -- The newest change that it answers requests by.
    revision BIGINT NOT NULL
);
