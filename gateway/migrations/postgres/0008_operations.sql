-- What operators need: audit and usage that end, counts that are written once, and tags that are found.

-- A row of the audit goes only when a later row says up to which moment the audit was pruned, and the row is from before:
-- `subject_id` is that moment.
CREATE INDEX audit_prunings ON audit (id) WHERE action = 'audit.prune';

DROP TRIGGER audit_is_never_changed ON audit;
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

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

-- The last batch of counts that was written, of each run of a gateway: the same batch again does nothing.
CREATE TABLE usage_writers (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL,
    -- By the clock of the database.
    at BIGINT NOT NULL
);

-- The tags of consumers, one a row, for lists by tag. `consumers.tags` is what counts; the triggers follow it.
CREATE TABLE consumer_tags (
    consumer_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (consumer_id, name)
);
CREATE INDEX consumer_tags_by_value ON consumer_tags (name, value, consumer_id);

INSERT INTO consumer_tags (consumer_id, name, value)
SELECT c.id, t.key, t.value FROM consumers c, json_each_text(CAST(c.tags AS json)) t;

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
