-- The tables of tower_idempotency::store::PostgresStore, layout 1.
--
-- Run it with your own migrations, or let `create_schema()` do so. For another
-- schema or a prefix of the tables' names, replace "idempotency". and set the
-- same on `PostgresStore::options()`. Running it twice does no harm.
--
-- A service needs: USAGE on the schema; SELECT, INSERT, UPDATE and DELETE on
-- the three tables.
CREATE SCHEMA IF NOT EXISTS "idempotency";

-- One operation a row. Times are milliseconds since 1970, by this server.
CREATE TABLE IF NOT EXISTS "idempotency"."records" (
    -- A fresh number for every write: what a conditional write compares.
    version  bigint   NOT NULL,
    -- 0 pending, 1 paid, 2 complete.
    status   bigint   NOT NULL,
    created  bigint   NOT NULL,
    -- When the lease, or the retention of a complete record, is over, and how
    -- long it lasts: it was written that long before.
    due      bigint   NOT NULL,
    span     bigint   NOT NULL,
    -- How often it was tried. For people: the store reads it from the head.
    attempts bigint   NOT NULL DEFAULT 1,
    -- How many recovery points there are.
    steps    integer  NOT NULL,
    -- Behind the numbers, which would begin at a multiple of eight.
    key      bytea    NOT NULL PRIMARY KEY,
    -- This and the bytes below are CBOR behind a checksum, not for people.
    head     bytea    NOT NULL,
    request  bytea,
    response bytea
);

-- The recovery points of operations that are not complete yet.
CREATE TABLE IF NOT EXISTS "idempotency"."steps" (
    key   bytea   NOT NULL REFERENCES "idempotency"."records" (key) ON DELETE CASCADE,
    n     integer NOT NULL,
    value bytea   NOT NULL,
    PRIMARY KEY (key, n)
);

-- One row: which layout the tables have, and which data this is.
CREATE TABLE IF NOT EXISTS "idempotency"."meta" (
    one    boolean  NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    layout integer  NOT NULL,
    id     bigint,
    mark   bigint   NOT NULL DEFAULT 0
);

-- For scans: what is not finished, and what may be forgotten, by when it falls
-- due. One index without a condition: every further one, a condition, a check and
-- a generated column are paid for by every write.
CREATE INDEX IF NOT EXISTS "records_due" ON "idempotency"."records" (status, due, key);

INSERT INTO "idempotency"."meta" (layout) VALUES (1) ON CONFLICT DO NOTHING;
