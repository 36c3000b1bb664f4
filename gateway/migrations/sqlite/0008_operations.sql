-- What operators need: audit and usage that end, counts that are written once, and tags that are found.

-- A row of the audit goes only when a later row says up to which moment the audit was pruned, and the row is from before:
-- `subject_id` is that moment.
DROP TRIGGER audit_is_never_deleted;
CREATE INDEX audit_prunings ON audit (CAST(subject_id AS INTEGER)) WHERE action = 'audit.prune';
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
WHEN NOT EXISTS (
    SELECT 1 FROM audit said
    WHERE said.action = 'audit.prune' AND CAST(said.subject_id AS INTEGER) > OLD.at AND said.id > OLD.id
)
BEGIN
    SELECT RAISE(ABORT, 'audit rows are never deleted, unless the audit says that it was pruned');
END;

-- The last batch of counts that was written, of each run of a gateway: the same batch again does nothing.
CREATE TABLE usage_writers (
    id TEXT NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL,
    -- By the clock of the database.
    at BIGINT NOT NULL
);

-- The tags of consumers, one a row, for lists by tag. `consumers.tags` is what counts; the triggers follow it.
CREATE TABLE consumer_tags (
    consumer_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (consumer_id, name)
) WITHOUT ROWID;
CREATE INDEX consumer_tags_by_value ON consumer_tags (name, value, consumer_id);

INSERT INTO consumer_tags (consumer_id, name, value)
SELECT c.id, t.key, t.value FROM consumers c, json_each(c.tags) t;

CREATE TRIGGER tags_of_a_new_consumer AFTER INSERT ON consumers WHEN NEW.tags <> '{}'
BEGIN
    INSERT INTO consumer_tags (consumer_id, name, value) SELECT NEW.id, t.key, t.value FROM json_each(NEW.tags) t;
END;

CREATE TRIGGER tags_of_a_changed_consumer AFTER UPDATE OF tags ON consumers WHEN NEW.tags <> OLD.tags
BEGIN
    DELETE FROM consumer_tags WHERE consumer_id = OLD.id;
    INSERT INTO consumer_tags (consumer_id, name, value) SELECT NEW.id, t.key, t.value FROM json_each(NEW.tags) t;
END;

CREATE TRIGGER tags_of_a_deleted_consumer AFTER DELETE ON consumers
BEGIN
    DELETE FROM consumer_tags WHERE consumer_id = OLD.id;
END;
