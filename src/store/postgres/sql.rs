//! The statements, with the tables' names filled in.
//!
//! Each is one statement that commits by itself: one round trip, no session
//! state, and nothing that a pooler between us and the server could lose. They
//! rely on READ COMMITTED and on single rows only.

use super::partitions::Partitions;
use crate::core::Key;

/// As `migrations/1.sql` has them; other names are filled in by replacing.
const MIGRATION: &str = include_str!("migrations/1.sql");
/// What makes the table of the index of labels, on top of that.
const LABEL_MIGRATION: &str = include_str!("migrations/labels.sql");
const SCHEMA: &str = "\"idempotency\"";

/// The lock of the process that makes the tables: "tower-id" in ASCII.
const MIGRATING: i64 = 0x746f_7765_722d_6964;

/// The layout that this release reads and writes.
pub(super) const LAYOUT: i32 = 1;

/// What a write sets for itself, and only until it commits: it waits for a
/// row's lock no longer than we wait for it, and it is on disk when it says so,
/// whatever the database's default is. A condition that is always met: as such
/// it costs least, and is looked at before anything is locked.
const SETTINGS: &str = "pg_catalog.set_config('lock_timeout', '3s', true) IS NOT NULL \
    AND (pg_catalog.current_setting('synchronous_commit') <> 'off' \
    OR pg_catalog.set_config('synchronous_commit', 'on', true) IS NOT NULL)";

/// This is no standby, and no server that was made read-only before its clients left it.
const TAKES_WRITES: &str = "pg_catalog.current_setting('transaction_read_only') = 'off'";

/// The columns of a record that is handed out, after the time.
const COLUMNS: &str = "r.version, r.created, r.due - r.span, r.head, r.request, r.response";

/// Where the tables are, and the expression for the time.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) schema: String,
    pub(super) prefix: String,
    /// Whether labels are indexed.
    pub(super) index_labels: bool,
    pub(super) partitions: Partitions,
    /// Tests have one that they can set.
    pub(super) clock: Option<String>,
}

impl Names {
    pub(super) fn new() -> Self {
        let (schema, prefix) = ("idempotency".into(), String::new());
        Self { schema, prefix, index_labels: false, partitions: Partitions::NONE, clock: None }
    }

    /// Why there can be no such tables. Postgres cuts off what is longer, and two
    /// stores would share theirs.
    pub(super) fn refused(&self) -> Option<&'static str> {
        let fits = (1..=63).contains(&self.schema.len()) && self.prefix.len() <= 40;
        (!fits).then_some("its schema must have 1 to 63 bytes, and its table prefix up to 40")
    }

    /// The server's time, in milliseconds: when the statement runs, not when
    /// its transaction began.
    fn now(&self) -> String {
        self.millis("pg_catalog.clock_timestamp()")
    }

    /// The same at the statement's start: an index can be searched for it.
    fn now_at_start(&self) -> String {
        self.millis("pg_catalog.statement_timestamp()")
    }

    fn millis(&self, clock: &str) -> String {
        let clock = self.clock.as_deref().unwrap_or(clock);
        format!("(pg_catalog.date_part('epoch', {clock}) * 1000)::int8")
    }

    fn schema(&self) -> String {
        quoted(&self.schema)
    }

    fn table(&self, name: &str) -> String {
        format!("{}.{}", self.schema(), quoted(&format!("{}{name}", self.prefix)))
    }

    /// The migration, for these names. One at a time: "if not exists" is no
    /// protection from others who do the same at the same moment.
    pub(super) fn migration(&self) -> Migration {
        let statements = self.statements();
        // What is there already is no news. For this transaction alone: others keep their setting.
        let quiet = "pg_catalog.set_config('client_min_messages', 'warning', true)";
        let whole = format!("SELECT pg_catalog.pg_advisory_xact_lock({MIGRATING}), {quiet};\n{statements}");
        let schema = format!("CREATE SCHEMA IF NOT EXISTS {};", self.schema());
        Migration { tables: whole.replacen(&schema, "", 1), whole, statements }
    }

    fn statements(&self) -> String {
        let labels = if self.index_labels { LABEL_MIGRATION } else { "" };
        let mut sql = format!("{}{labels}", self.partitions.divide(MIGRATION));
        for index in ["records_due", "labels_due"] {
            sql = sql.replace(&quoted(index), &quoted(&format!("{}{index}", self.prefix)));
        }
        for table in ["records", "steps", "meta", "labels"] {
            sql = sql.replace(&format!("{SCHEMA}.{}", quoted(table)), &self.table(table));
        }
        sql.replace(SCHEMA, &self.schema()) + &self.partitions.tables(|name| self.table(name))
    }

    /// The names of this table's partitions, or its own.
    fn tables(&self, name: &str) -> impl Iterator<Item = String> {
        self.partitions.of_table(name).into_iter().map(|name| self.table(&name))
    }
}

/// What makes the tables.
#[derive(Clone, Debug)]
pub(super) struct Migration {
    /// The statements alone, for the migrations of others.
    pub(super) statements: String,
    pub(super) whole: String,
    /// For a schema that is there: Postgres wants the right to make one even
    /// where nothing is to be made.
    pub(super) tables: String,
}

/// An identifier in quotes, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// All statements, made once.
#[derive(Debug)]
pub(super) struct Sql {
    /// For each partition, what names one key in it; those of the tables, if they have none.
    keyed: Box<[Keyed]>,
    pub(super) scans: Scans,
    /// Of one label, if they are indexed.
    pub(super) label_scans: Option<Scans>,
    pub(super) count_unfinished: String,
    pub(super) count_lapsed: String,
    pub(super) count_complete: String,
    pub(super) count_expired: String,
    /// One for each partition.
    pub(super) sweeps: Box<[String]>,
    pub(super) layout: String,
    pub(super) probe: String,
    pub(super) epoch: String,
    /// The same, and nothing is written.
    pub(super) last_epoch: String,
}

impl Sql {
    pub(super) fn new(names: &Names) -> Self {
        let (records, steps, meta) = (names.table("records"), names.table("steps"), names.table("meta"));
        let labels = names.index_labels.then(|| names.table("labels"));
        let at_start = names.now_at_start();
        let keyed = names.tables("records").zip(names.tables("steps"));
        Self {
            keyed: keyed.map(|(records, steps)| Keyed::new(names, &records, &steps)).collect(),
            scans: Scans::new(&records, &at_start),
            label_scans: labels.as_ref().map(|labels| Scans::of_label(labels, &records, &at_start)),
            count_unfinished: counted(&records, &["status = 0", "status = 1"], "true"),
            count_lapsed: counted(&records, &["status = 0", "status = 1"], &format!("due <= {at_start}")),
            count_complete: counted(&records, &["status = 2"], "true"),
            count_expired: counted(&records, &["status = 2"], &format!("due <= {at_start}")),
            sweeps: names.tables("records").map(|records| sweep(&records, &at_start)).collect(),
            layout: format!("SELECT layout FROM {meta}"),
            probe: probe(&records, &steps, &meta, labels),
            last_epoch: format!("SELECT id, mark FROM {meta}"),
            epoch: format!(
                "UPDATE {meta} SET id = coalesce(id, $1), mark = mark + 1 WHERE {SETTINGS} RETURNING id, mark"
            ),
        }
    }

    /// Those of the partition that this key is in.
    pub(super) fn of(&self, key: &Key) -> &Keyed {
        &self.keyed[Partitions::place(key, self.keyed.len())]
    }
}

/// What names one key.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) load: String,
    /// A load of what has no steps; no row, where there is nothing like it.
    pub(super) look: String,
    /// The same, where writes are taken: a server that takes none any more shows what is past.
    pub(super) look_on_primary: String,
    /// Most records never have steps: these do without.
    pub(super) create: String,
    pub(super) replace: Replace,
    pub(super) create_with_steps: String,
    pub(super) replace_with_steps: Replace,
    pub(super) join: Replace,
    /// Of records that have labels, if they are indexed.
    pub(super) labelled: Option<Labelled>,
    pub(super) remove: String,
}

impl Keyed {
    fn new(names: &Names, records: &str, steps: &str) -> Self {
        let now = names.now();
        let with_steps =
            |put: &str| format!("WITH put AS ({put} RETURNING key), {} SELECT 1::int8 FROM put", follow(steps));
        let replace = |steps: &str, also: &str| Replace::new(records, &now, steps, also);
        let count = "steps = $10::int8::int4,";
        let look =
            format!("SELECT {now}, {COLUMNS}, NULL::bytea[] FROM {records} AS r WHERE r.key = $1 AND r.steps = 0");
        Self {
            load: format!(
                "SELECT clock.now, {COLUMNS}, CASE WHEN r.steps > 0 THEN \
                 ARRAY(SELECT s.value FROM {steps} AS s WHERE s.key = r.key ORDER BY s.n) END \
                 FROM (SELECT {now} AS now) AS clock LEFT JOIN {records} AS r ON r.key = $1"
            ),
            look_on_primary: format!("{look} AND {TAKES_WRITES}"),
            look,
            create: create(records, &now, "0"),
            replace: replace("", "AND r.steps = 0"),
            create_with_steps: with_steps(&create(records, &now, "$10::int8::int4")),
            replace_with_steps: replace(count, "").map(with_steps),
            join: replace(count, IN_TRANSACTION).map(with_steps),
            labelled: names.index_labels.then(|| Labelled::new(names, records, steps)),
            remove: format!("DELETE FROM {records} AS r WHERE r.key = $1 AND r.version = $2 AND {SETTINGS}"),
        }
    }
}

/// A scan for each filter.
#[derive(Debug)]
pub(super) struct Scans {
    pub(super) unfinished: String,
    pub(super) lapsed: String,
    pub(super) expired: String,
    pub(super) complete: String,
}

impl Scans {
    fn new(records: &str, at_start: &str) -> Self {
        let past = |matching: &str| format!("{matching} AND due <= {at_start}");
        Self {
            unfinished: either(&scan(records, "status = 0"), &scan(records, "status = 1")),
            lapsed: either(&scan(records, &past("status = 0")), &scan(records, &past("status = 1"))),
            expired: scan(records, &past("status = 2")),
            complete: backwards(&scan(records, "status = 2")),
        }
    }

    /// The same of one label, `$4`, along its index.
    fn of_label(labels: &str, records: &str, at_start: &str) -> Self {
        let past = |matching: &str| format!("{matching} AND due <= {at_start}");
        let scan = |matching: &str| label_scan(labels, records, matching);
        Self {
            unfinished: scan("complete = false"),
            lapsed: scan(&past("complete = false")),
            expired: scan(&past("complete = true")),
            complete: backwards(&scan("complete = true")),
        }
    }
}

/// What writes records that have labels.
#[derive(Debug)]
pub(super) struct Labelled {
    pub(super) create: String,
    pub(super) replace: Replace,
    pub(super) join: Replace,
}

impl Labelled {
    fn new(names: &Names, records: &str, steps: &str) -> Self {
        let (now, count) = (names.now(), "steps = $10::int8::int4,");
        let also = format!("{}, {}", follow(steps), label(&names.table("labels")));
        let with_labels =
            |put: &str| format!("WITH put AS ({put} RETURNING key, status, due), {also} SELECT 1::int8 FROM put");
        Self {
            create: with_labels(&create(records, &now, "$10::int8::int4")),
            replace: Replace::new(records, &now, count, "").map(with_labels),
            join: Replace::new(records, &now, count, IN_TRANSACTION).map(with_labels),
        }
    }
}

/// Puts the labels of a record into their index with `put`, and takes out those that it has no more.
fn label(labels: &str) -> String {
    format!(
        "unlabelled AS (DELETE FROM {labels} AS l USING put WHERE l.key = put.key AND l.tag <> ALL ($13::bytea[])), \
         labelled AS (INSERT INTO {labels} (key, tag, complete, due) SELECT put.key, tags.tag, put.status = 2, put.due \
         FROM put, pg_catalog.unnest($13::bytea[]) AS tags (tag) \
         ON CONFLICT (key, tag) DO UPDATE SET complete = excluded.complete, due = excluded.due)"
    )
}

/// The transaction that was begun for this write is still the one we are in:
/// the caller neither committed it nor rolled it back.
const IN_TRANSACTION: &str = "AND pg_catalog.current_setting('tower_idempotency.transaction', true) = 'begun'";

/// Puts a record where there is none.
fn create(records: &str, now: &str, steps: &str) -> String {
    format!(
        "INSERT INTO {records} (key, version, status, created, due, span, steps, attempts, head, request, response) \
         SELECT $1::bytea, $2::int8, $3::int8, clock.now, clock.now + $4::int8, $4::int8, {steps}, \
         $8::int8, $5::bytea, $6::bytea, $7::bytea FROM (SELECT {now} AS now WHERE {SETTINGS}) AS clock \
         ON CONFLICT (key) DO NOTHING"
    )
}

/// Puts a record in the place of the one at version `$9`. In three forms: one
/// with a `CASE` for each column costs every write a tenth more.
#[derive(Debug)]
pub(super) struct Replace {
    /// Starts another operation.
    pub(super) anew: String,
    /// Leaves the request that is there.
    pub(super) keeping: String,
    pub(super) rest: String,
}

impl Replace {
    fn new(records: &str, now: &str, steps: &str, also: &str) -> Self {
        let update = |created: &str, now: &str, request: &str, from: &str| {
            format!(
                "UPDATE {records} AS r SET version = $2::int8, status = $3::int8, {created} \
                 due = {now} + $4::int8, span = $4::int8, {steps} attempts = $8::int8, head = $5::bytea, {request} \
                 response = $7::bytea {from} WHERE r.key = $1::bytea AND r.version = $9::int8 {also} AND {SETTINGS}"
            )
        };
        let request = "request = $6::bytea,";
        Self {
            anew: update("created = clock.now,", "clock.now", request, &format!("FROM (SELECT {now} AS now) AS clock")),
            keeping: update("", now, "", ""),
            rest: update("", now, request, ""),
        }
    }

    fn map(self, change: impl Fn(&str) -> String) -> Self {
        Self { anew: change(&self.anew), keeping: change(&self.keeping), rest: change(&self.rest) }
    }
}

/// Deletes the steps that are no more, and writes those that are new with `put`.
fn follow(steps: &str) -> String {
    format!(
        "dropped AS (DELETE FROM {steps} AS s USING put WHERE s.key = put.key AND s.n >= $10::int8), \
         written AS (INSERT INTO {steps} (key, n, value) SELECT put.key, fresh.n, fresh.value \
         FROM put, ROWS FROM (pg_catalog.unnest($11::int4[]), pg_catalog.unnest($12::bytea[])) AS fresh (n, value) \
         ON CONFLICT (key, n) DO UPDATE SET value = excluded.value)"
    )
}

/// Deletes what has expired, `$1` at most, and waits for no lock.
fn sweep(records: &str, at_start: &str) -> String {
    format!(
        "WITH old AS (SELECT key FROM {records} WHERE status = 2 AND due <= {at_start} \
         ORDER BY due, key LIMIT $1 FOR UPDATE SKIP LOCKED) \
         DELETE FROM {records} AS r USING old WHERE r.key = old.key AND {SETTINGS}"
    )
}

/// The layout, from a statement that Postgres refuses unless all columns are
/// there, with their types, and all that the others do is allowed. It touches no
/// row.
fn probe(records: &str, steps: &str, meta: &str, labels: Option<String>) -> String {
    let labels = labels.map(|labels| {
        format!(
            "l AS (INSERT INTO {labels} (key, tag, complete, due) SELECT ''::bytea, ''::bytea, false, 0::int8 WHERE false), \
             moved AS (UPDATE {labels} SET due = 0::int8 WHERE key = ''::bytea), \
             unlabelled AS (DELETE FROM {labels} WHERE key = ''::bytea), "
        )
    });
    let labels = labels.unwrap_or_default();
    format!(
        "WITH {labels}r AS (INSERT INTO {records} (key, version, status, created, due, span, steps, attempts, head, request, response) \
         SELECT ''::bytea, 0::int8, 0::int2, 0::int8, 0::int8, 0::int8, 0::int4, 0::int8, ''::bytea, ''::bytea, ''::bytea \
         WHERE false), \
         s AS (INSERT INTO {steps} (key, n, value) SELECT ''::bytea, 0::int4, ''::bytea WHERE false), \
         updated AS (UPDATE {records} SET version = 0::int8 WHERE key = ''::bytea), \
         saved AS (UPDATE {steps} SET value = ''::bytea WHERE key = ''::bytea), \
         marked AS (UPDATE {meta} SET id = 0::int8, mark = 0::int8 WHERE false), \
         removed AS (DELETE FROM {records} WHERE key = ''::bytea), \
         dropped AS (DELETE FROM {steps} WHERE key = ''::bytea) \
         SELECT layout, {} FROM {meta}",
        Partitions::look(records, steps)
    )
}

/// A page of what matches, after (`$1`, `$2`), at most `$3`.
fn scan(records: &str, matching: &str) -> String {
    format!(
        "SELECT key, version, status, created, due FROM {records} \
         WHERE {matching} AND (due, key) > ($1::int8, $2::bytea) ORDER BY due, key LIMIT $3::int8"
    )
}

/// The same of one label, `$4`, along its index. One record at a time: what the planner makes of a
/// join may be a look at all of them.
fn label_scan(labels: &str, records: &str, matching: &str) -> String {
    let found = scan(labels, &format!("tag = $4::bytea AND {matching}")).replacen(
        "SELECT key, version, status, created, due",
        "SELECT key, due",
        1,
    );
    format!(
        "SELECT found.key, r.version, r.status, r.created, found.due FROM ({found}) AS found CROSS JOIN LATERAL \
         (SELECT version, status, created FROM {records} AS r WHERE r.key = found.key LIMIT 1) AS r \
         ORDER BY due, key"
    )
}

/// The same, latest due first.
fn backwards(forwards: &str) -> String {
    forwards.replace("(due, key) >", "(due, key) <").replace("ORDER BY due, key", "ORDER BY due DESC, key DESC")
}

/// How many there are of these, `$1` at most. One look for each status can use the index.
fn counted(records: &str, statuses: &[&str], matching: &str) -> String {
    let look = |status: &&str| {
        format!("(SELECT 1 FROM {records} WHERE {status} AND {matching} ORDER BY due, key LIMIT $1::int8)")
    };
    let looks = statuses.iter().map(look).collect::<Vec<_>>().join(" UNION ALL ");
    format!("SELECT least(pg_catalog.count(*), $1::int8) FROM ({looks}) AS found")
}

/// The first page of what two scans find. One for each status can use the index.
fn either(one: &str, other: &str) -> String {
    format!("({one}) UNION ALL ({other}) ORDER BY due, key LIMIT $3::int8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_everywhere() {
        let names = Names { schema: "my \"own\"".into(), prefix: "P-".into(), index_labels: true, ..Names::new() };
        let migration = names.migration().whole;
        assert!(!migration.lines().any(|line| !line.starts_with("--") && line.contains("idempotency")), "{migration}");
        assert!(migration.contains(r#"CREATE TABLE IF NOT EXISTS "my ""own"""."P-records" ("#), "{migration}");
        assert!(migration.contains(r#""P-records_due" ON "my ""own"""."P-records""#), "{migration}");
        assert!(migration.contains(r#""P-labels_due" ON "my ""own"""."P-labels""#), "{migration}");
        assert!(!names.migration().tables.contains("CREATE SCHEMA"));
        let sql = Sql::new(&names);
        assert!(sql.of(&Key::from_bytes([0; 32])).load.contains(r#"LEFT JOIN "my ""own"""."P-records" AS r"#));
    }
    #[test]
    fn partitioned_tables_are_those_of_the_migration() {
        let names = Names { prefix: "p_".into(), partitions: Partitions::new(4), ..Names::new() };
        let migration = names.migration().statements;
        assert_eq!(migration.matches(") PARTITION BY RANGE (key);").count(), 2, "{migration}");
        assert_eq!(migration.matches("PARTITION OF \"idempotency\".\"p_records\" FOR VALUES FROM").count(), 4);
        assert_eq!(migration.matches("REFERENCES \"idempotency\".\"p_records\"").count(), 0, "{migration}");
        assert_eq!(migration.matches("REFERENCES \"idempotency\".\"p_records_3\" (key) ON DELETE CASCADE").count(), 1);
        assert_eq!(Names::new().migration().statements, MIGRATION);
    }
}
