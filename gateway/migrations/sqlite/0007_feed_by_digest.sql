-- The change feed is written by the tables themselves: whatever changes a key or a consumer, every digest and every
-- consumer id that gateways must look at again is in it. And what a waiting command needs to know of gateways.

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

-- The rows so far lack the keys of deleted consumers. One revision is left out and they are removed, so that every
-- gateway, also one that starts from a snapshot, finds a gap and loads everything. The id is nobody's.
INSERT INTO changes (subject, subject_id)
    SELECT 'consumer', 'csmr_00000000000000000000' WHERE EXISTS (SELECT 1 FROM changes);
INSERT INTO changes (subject, subject_id)
    SELECT 'consumer', 'csmr_00000000000000000000' WHERE EXISTS (SELECT 1 FROM changes);
DELETE FROM changes WHERE revision < (SELECT max(revision) FROM changes);

-- How old its table may get before it refuses every request; NULL is for ever.
ALTER TABLE gateways ADD COLUMN max_staleness_ms BIGINT;
-- The machine and the address that it listens on, as far as they tell that whoever listened there before is gone.
ALTER TABLE gateways ADD COLUMN listener TEXT;

-- The newest change that somebody waits for: gateways that have it say so at once, and are silent otherwise.
CREATE TABLE awaited (
    revision BIGINT NOT NULL
);

INSERT INTO awaited (revision) VALUES (0);
