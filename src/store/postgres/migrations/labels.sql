-- The table of the index of labels of tower_idempotency::store::PostgresStore: for
-- PostgresStoreOptions::index_labels, and on top of 1.sql.
--
-- Run it before the first process that has the option. Running it twice does no harm.
--
-- A service needs SELECT, INSERT, UPDATE and DELETE on the table.

-- A row for each label of an operation: the tag is a hash of the label, the rest is as the
-- record has it.
CREATE TABLE IF NOT EXISTS "idempotency"."labels" (
    key      bytea   NOT NULL REFERENCES "idempotency"."records" (key) ON DELETE CASCADE,
    tag      bytea   NOT NULL,
    complete boolean NOT NULL,
    due      bigint  NOT NULL,
    PRIMARY KEY (key, tag)
);

CREATE INDEX IF NOT EXISTS "labels_due" ON "idempotency"."labels" (tag, complete, due, key);
