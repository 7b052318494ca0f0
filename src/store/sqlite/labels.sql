-- Which records have which label, for a store that indexes them. A row for each label of
-- a record: `tag` is a hash of the label, the rest is as the record has it.
CREATE TABLE "labels" (
    record INTEGER NOT NULL,
    tag INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    due INTEGER NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (record, tag)
) WITHOUT ROWID;

CREATE INDEX "labels_due" ON "labels" (tag, complete, due, key);

-- Triggers, so that it is right for any program that writes: an earlier release, and a store
-- that does not index labels.
CREATE TRIGGER "labels_moved" AFTER UPDATE ON "records"
    WHEN NEW.due <> OLD.due OR NEW.status <> OLD.status
BEGIN
    UPDATE "labels" SET complete = NEW.status = 2, due = NEW.due WHERE record = NEW.id;
END;
CREATE TRIGGER "labels_removed" AFTER DELETE ON "records" BEGIN
    DELETE FROM "labels" WHERE record = OLD.id;
END;
