//! The tables, and the statements on them with the tables' names filled in.

/// The statements that a write is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatementKind {
    Insert,
    Update,
    Delete,
    PutPart,
    CutSteps,
    DropRequest,
    DropParts,
    KeepLabels,
    PutLabel,
}

/// The layout that this release reads and writes.
pub(super) const LAYOUT: i64 = 1;
/// In the header of a file that a store made: "TwId" in ASCII. `file` shows it.
pub(super) const APPLICATION_ID: i64 = 0x5477_4964;
/// What the tables are called in a database that is not the store's own.
pub(super) const PREFIX: &str = "idempotency_";

/// As they are created, without a prefix.
const TABLES: &str = include_str!("schema.sql");
const LABEL_TABLE: &str = include_str!("labels.sql");
/// The names that get one.
const NAMES: [&str; 15] = [
    "records",
    "parts",
    "tallies",
    "meta",
    "overview",
    "records_key",
    "records_unfinished",
    "records_complete",
    "records_added",
    "records_changed",
    "records_removed",
    "labels",
    "labels_due",
    "labels_moved",
    "labels_removed",
];

/// Columns of a record, in the order in which [`row`](super::row) takes them.
/// What is long comes last: what is before it is read without it.
const COLUMNS: &str = "format, version, status, created, written, due, attempts, holder, steps, request, \
    response_hash, hash, head, response, bucket, key_hash";

/// All statements, made once.
#[derive(Debug)]
pub(super) struct Sql {
    /// Whether labels are indexed: otherwise their table need not be there.
    pub(super) index_labels: bool,
    pub(super) tables: String,
    pub(super) load: String,
    pub(super) parts: String,
    pub(super) insert: String,
    pub(super) update: String,
    pub(super) delete: String,
    pub(super) put_part: String,
    pub(super) cut_steps: String,
    pub(super) drop_request: String,
    pub(super) drop_parts: String,
    pub(super) scans: ScanSql,
    pub(super) labels: LabelSql,
    pub(super) count_unfinished: String,
    pub(super) count_complete: String,
    pub(super) held_by: String,
    pub(super) held: String,
    pub(super) ahead: String,
    pub(super) committed: String,
    pub(super) reset_time: String,
    pub(super) shortest: String,
    pub(super) layout: String,
    pub(super) new_meta: String,
    pub(super) name: String,
    pub(super) meta: String,
    pub(super) open: String,
    pub(super) close: String,
    pub(super) epoch: String,
    pub(super) last_epoch: String,
    pub(super) bucket: String,
    pub(super) bucket_keys: String,
    pub(super) bucket_rows: String,
    pub(super) is_there: String,
    pub(super) is_indexed: String,
    pub(super) tallies_page: String,
}

/// A scan for each filter.
#[derive(Debug)]
pub(super) struct ScanSql {
    pub(super) unfinished: String,
    pub(super) lapsed: String,
    pub(super) expired: String,
    pub(super) complete: String,
}

impl ScanSql {
    fn new(p: &str) -> Self {
        Self {
            unfinished: scan(p, "status < 2", EARLIEST_FIRST),
            lapsed: scan(p, "status < 2 AND due <= ?4", EARLIEST_FIRST),
            expired: scan(p, "status = 2 AND due <= ?4", EARLIEST_FIRST),
            complete: scan(p, "status = 2", LATEST_FIRST),
        }
    }

    /// The same of one label.
    fn of_label(p: &str) -> Self {
        Self {
            unfinished: label_scan(p, "complete = 0", EARLIEST_FIRST),
            lapsed: label_scan(p, "complete = 0 AND found.due <= ?4", EARLIEST_FIRST),
            expired: label_scan(p, "complete = 1 AND found.due <= ?4", EARLIEST_FIRST),
            complete: label_scan(p, "complete = 1", LATEST_FIRST),
        }
    }
}

/// What writes and reads the index of labels.
#[derive(Debug)]
pub(super) struct LabelSql {
    /// Makes its table.
    pub(super) table: String,
    /// Takes out those of a record that are not among these.
    pub(super) keep: String,
    pub(super) put: String,
    pub(super) scans: ScanSql,
}

impl LabelSql {
    fn new(p: &str, id: &str) -> Self {
        Self {
            table: prefixed(LABEL_TABLE, p),
            keep: format!(
                "DELETE FROM main.{p}labels WHERE record = {id} AND tag NOT IN (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
            ),
            put: format!(
                "INSERT OR IGNORE INTO main.{p}labels (record, tag, complete, due, key) \
                 SELECT id, ?2, status = 2, due, key FROM main.{p}records INDEXED BY {p}records_key WHERE key = ?1"
            ),
            scans: ScanSql::of_label(p),
        }
    }
}

impl Sql {
    pub(super) fn new(prefix: &str, index_labels: bool) -> Self {
        // All in `main`: a temporary table of such a name would come first otherwise.
        let p = prefix;
        let (id, own) = (id_of(p), own_key(p));
        Self {
            index_labels,
            tables: prefixed(TABLES, p),
            load: load(p),
            parts: format!("SELECT n, value, hash FROM main.{p}parts WHERE record = {id} ORDER BY n"),
            // Not `OR ABORT`, which would keep a copy of each page that it changes:
            // what fails is rolled back as a whole.
            insert: format!(
                "INSERT OR FAIL INTO main.{p}records (key, {COLUMNS}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
            ),
            update: format!(
                "UPDATE OR FAIL main.{p}records SET ({COLUMNS}) \
                 = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) WHERE key = ?1"
            ),
            delete: format!("DELETE FROM main.{p}records WHERE key = ?1"),
            put_part: format!(
                "INSERT OR REPLACE INTO main.{p}parts (record, n, value, hash) VALUES ({id}, ?2, ?3, ?4)"
            ),
            cut_steps: format!("DELETE FROM main.{p}parts WHERE record = {id} AND n > ?2"),
            drop_request: format!("DELETE FROM main.{p}parts WHERE record = {id} AND n = 0"),
            drop_parts: format!("DELETE FROM main.{p}parts WHERE record = {id}"),
            scans: ScanSql::new(p),
            labels: LabelSql::new(p, &id),
            count_unfinished: count(p, "status < 2"),
            count_complete: count(p, "status = 2"),
            held_by: format!("SELECT key FROM main.{p}records WHERE status < 2 AND holder = ?1"),
            ahead: format!("SELECT key FROM main.{p}records WHERE status < 2 AND written > ?1"),
            held: format!("SELECT key FROM main.{p}records WHERE status < 2 AND holder <> 0"),
            committed: format!(
                "UPDATE OR FAIL main.{p}tallies SET count = count + 1, sum = max(sum, ?1) WHERE bucket = -1 RETURNING count"
            ),
            reset_time: format!("UPDATE main.{p}tallies SET sum = ?1 WHERE bucket = -1"),
            shortest: shortest_lease(p),
            layout: format!("SELECT layout FROM main.{p}meta"),
            new_meta: format!(
                "INSERT INTO main.{p}meta (one, layout, mark, state, boot, base) VALUES (1, {LAYOUT}, 0, 'closed', '', 0)"
            ),
            name: format!("UPDATE main.{p}tallies SET count = ?1 WHERE bucket = -2"),
            meta: meta(p),
            open: format!("UPDATE main.{p}meta SET state = 'open', boot = ?1, base = ?2"),
            close: format!("UPDATE main.{p}meta SET state = 'closed'"),
            epoch: epoch(p),
            last_epoch: format!("SELECT count, mark FROM main.{p}meta, main.{p}tallies WHERE bucket = -2"),
            bucket: format!("SELECT count, sum, keys FROM main.{p}tallies WHERE bucket = ?1"),
            bucket_keys: format!(
                "SELECT key FROM main.{p}records INDEXED BY {p}records_key WHERE key >= ?1 AND key < ?2"
            ),
            bucket_rows: format!(
                "SELECT {COLUMNS}, {own}, key FROM main.{p}records INDEXED BY {p}records_key WHERE key >= ?1 AND key < ?2"
            ),
            is_there: format!("SELECT 1 FROM main.{p}records INDEXED BY {p}records_key WHERE key = ?1"),
            is_indexed: format!(
                "SELECT 1 FROM main.{p}records INDEXED BY {p}records_unfinished WHERE status < 2 AND due = ?1 AND key = ?2"
            ),
            tallies_page: format!("SELECT rootpage FROM main.sqlite_schema WHERE name = '{p}tallies'"),
        }
    }
}

impl Sql {
    pub(super) fn text(&self, which: StatementKind) -> &str {
        match which {
            StatementKind::Insert => &self.insert,
            StatementKind::Update => &self.update,
            StatementKind::Delete => &self.delete,
            StatementKind::PutPart => &self.put_part,
            StatementKind::CutSteps => &self.cut_steps,
            StatementKind::DropRequest => &self.drop_request,
            StatementKind::DropParts => &self.drop_parts,
            StatementKind::KeepLabels => &self.labels.keep,
            StatementKind::PutLabel => &self.labels.put,
        }
    }
}

/// The id of the record whose key is a parameter.
fn id_of(p: &str) -> String {
    format!("(SELECT id FROM main.{p}records INDEXED BY {p}records_key WHERE key = ?1)")
}

/// The key that a row itself has, and not the index by which it was found.
fn own_key(p: &str) -> String {
    format!("(SELECT own.key FROM main.{p}records AS own WHERE own.id = main.{p}records.id)")
}

/// A row that the index knows and that is gone is no record that is not there: it is
/// one without values.
fn load(p: &str) -> String {
    let columns = COLUMNS.replace(", ", ", own.");
    format!(
        "SELECT own.{columns}, own.key FROM main.{p}records AS found INDEXED BY {p}records_key \
         LEFT JOIN main.{p}records AS own ON own.id = found.id WHERE found.key = ?1"
    )
}

/// A page of these, after `(?1, ?2)`, at most `?3`.
fn scan(p: &str, which: &str, (is_past, order): Order) -> String {
    let own = own_key(p);
    format!(
        "SELECT {COLUMNS}, {own}, key FROM main.{p}records WHERE {which} AND (due, key) {is_past} (?1, ?2) \
         AND length(key) = 32 ORDER BY due {order}, key {order} LIMIT ?3"
    )
}

/// The same of one label, along its index.
fn label_scan(p: &str, which: &str, (is_past, order): Order) -> String {
    let columns = COLUMNS.replace(", ", ", own.");
    format!(
        "SELECT own.{columns}, own.key, found.key FROM main.{p}labels AS found INDEXED BY {p}labels_due \
         CROSS JOIN main.{p}records AS own ON own.id = found.record WHERE found.tag = ?5 AND found.{which} \
         AND (found.due, found.key) {is_past} (?1, ?2) ORDER BY found.due {order}, found.key {order} LIMIT ?3"
    )
}

/// What is past a place in it, and how it is ordered.
type Order = (&'static str, &'static str);

const EARLIEST_FIRST: Order = (">", "ASC");
const LATEST_FIRST: Order = ("<", "DESC");

/// How many of these are due by `?1`; `?2` at most.
fn count(p: &str, which: &str) -> String {
    format!("SELECT count(*) FROM (SELECT 1 FROM main.{p}records WHERE {which} AND due <= ?1 ORDER BY due LIMIT ?2)")
}

/// The line about the whole store, with what is counted elsewhere.
fn meta(p: &str) -> String {
    format!(
        "SELECT store.count, done.count, state, boot, base, done.sum \
         FROM main.{p}meta, main.{p}tallies AS store, main.{p}tallies AS done WHERE store.bucket = -2 AND done.bucket = -1"
    )
}

fn epoch(p: &str) -> String {
    format!(
        "UPDATE main.{p}meta SET mark = mark + 1 RETURNING (SELECT count FROM main.{p}tallies WHERE bucket = -2), mark"
    )
}

/// Of the leases that end soon, of which the short ones are some. (Not of all: a
/// transaction begins with this.)
fn shortest_lease(p: &str) -> String {
    format!(
        "SELECT min(length) FROM (SELECT due - written AS length FROM main.{p}records \
         WHERE status < 2 AND due > ?1 AND due <= ?2 AND holder <> 0 ORDER BY due, key LIMIT 256)"
    )
}

/// Statements that create tables, with the prefix before each name.
fn prefixed(statements: &str, prefix: &str) -> String {
    let mut tables = String::with_capacity(statements.len() + 1024);
    let mut rest = statements;
    while let Some((before, after)) = rest.split_once('"') {
        let (name, after) = after.split_once('"').unwrap_or((after, ""));
        tables.push_str(before);
        let prefix = if NAMES.contains(&name) { prefix } else { "" };
        tables.extend(["\"", prefix, name, "\""]);
        rest = after;
    }
    tables.push_str(rest);
    tables
}
