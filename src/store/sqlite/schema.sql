-- A record: what is searched as columns, the rest as it goes over the wire. Keys are
-- hashes, so by key each new record would go to a page of its own: they are kept in
-- the order in which they come, and only the index below is all over the place.
-- Times are milliseconds since 1970, on the store's clock. `holder` is the store
-- whose lease it is; `hash` is over all columns and the key, `key_hash` over the key,
-- `bucket` its first bits.
CREATE TABLE "records" (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    format INTEGER NOT NULL,
    version INTEGER NOT NULL,
    status INTEGER NOT NULL,
    created INTEGER NOT NULL,
    written INTEGER NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    holder INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    request INTEGER NOT NULL,
    response_hash INTEGER NOT NULL,
    hash INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    key_hash INTEGER NOT NULL,
    head BLOB NOT NULL,
    response BLOB
);

CREATE UNIQUE INDEX "records_key" ON "records" (key);
-- With the holder, so that the rows of one that died are found in here alone.
CREATE INDEX "records_unfinished" ON "records" (due, key, holder) WHERE status < 2;
CREATE INDEX "records_complete" ON "records" (due, key) WHERE status = 2;

-- What is written once, of the record with this id: the request is 0, steps begin
-- at 1.
CREATE TABLE "parts" (
    record INTEGER NOT NULL,
    n INTEGER NOT NULL,
    value BLOB NOT NULL,
    hash INTEGER NOT NULL,
    PRIMARY KEY (record, n)
) WITHOUT ROWID;

-- How many records there are in each bucket, and the sums of their hashes and their
-- keys': who finds no record can tell whether one was lost. Each transaction touches
-- this page, so bucket -1 has what each one changes: how many transactions of
-- stores there were, and the latest time that one of them told. Bucket -2 has the
-- store's own number, by which another one's page is known.
CREATE TABLE "tallies" (
    bucket INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    keys INTEGER NOT NULL
);

INSERT INTO "tallies"
    WITH RECURSIVE bucket (n) AS (VALUES (-2) UNION ALL SELECT n + 1 FROM bucket WHERE n < 127)
    SELECT n, 0, 0, 0 FROM bucket;

-- Triggers, so that it is right for any program that writes. The mask keeps the sum from
-- overflowing, which would make it a floating-point number. `OR FAIL`: a copy of each
-- page that a `DELETE` changes would be kept for undoing it alone, which never happens.
CREATE TRIGGER "records_added" AFTER INSERT ON "records" BEGIN
    UPDATE "tallies" SET count = count + 1, sum = (sum + NEW.hash) & 0x3fffffffffffffff,
        keys = (keys + NEW.key_hash) & 0x3fffffffffffffff
        WHERE bucket = NEW.bucket;
END;
CREATE TRIGGER "records_changed" AFTER UPDATE ON "records" BEGIN
    UPDATE "tallies" SET sum = (sum - OLD.hash + NEW.hash) & 0x3fffffffffffffff,
        keys = (keys - OLD.key_hash + NEW.key_hash) & 0x3fffffffffffffff
        WHERE bucket = NEW.bucket;
END;
CREATE TRIGGER "records_removed" AFTER DELETE ON "records" BEGIN
    UPDATE OR FAIL "tallies" SET count = count - 1, sum = (sum - OLD.hash) & 0x3fffffffffffffff,
        keys = (keys - OLD.key_hash) & 0x3fffffffffffffff
        WHERE bucket = OLD.bucket;
END;

-- What is true of the whole store. `base` is the time at which the machine of
-- `boot` started.
CREATE TABLE "meta" (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    layout INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    state TEXT NOT NULL,
    boot TEXT NOT NULL,
    base INTEGER NOT NULL
);

-- For people.
CREATE VIEW "overview" AS SELECT
    lower(hex(key)) AS key,
    CASE status WHEN 0 THEN 'pending' WHEN 1 THEN 'paid' ELSE 'complete' END AS status,
    attempts,
    steps,
    strftime('%Y-%m-%d %H:%M:%f', created / 1000.0, 'unixepoch') AS created,
    strftime('%Y-%m-%d %H:%M:%f', written / 1000.0, 'unixepoch') AS written,
    strftime('%Y-%m-%d %H:%M:%f', due / 1000.0, 'unixepoch') AS due,
    printf('%016x', holder) AS holder,
    length(response) AS response_bytes
FROM "records";
