-- The change feed is written by the tables themselves: whatever changes a key or a consumer, every digest and every
-- consumer id that gateways must look at again is in it. And what a waiting command needs to know of gateways.

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

CREATE TRIGGER waiting_is_told AFTER UPDATE ON awaited FOR EACH STATEMENT EXECUTE FUNCTION tell_of_changes();
