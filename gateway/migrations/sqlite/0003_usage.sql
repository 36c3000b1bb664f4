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
