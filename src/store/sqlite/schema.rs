//! The tables, and the statements on them with the tables' names filled in.

use super::plan::Which;

/// The layout that this release reads and writes.
pub(super) const LAYOUT: i64 = 1;
/// In the header of a file that a store made: "TwId" in ASCII. `file` shows it.
pub(super) const APPLICATION_ID: i64 = 0x5477_4964;
/// What the tables are called in a database that is not the store's own.
pub(super) const PREFIX: &str = "idempotency_";

/// As they are created, without a prefix.
const TABLES: &str = include_str!("schema.sql");
/// The names that get one.
const NAMES: [&str; 10] = [
    "records",
    "parts",
    "tallies",
    "meta",
    "overview",
    "records_unfinished",
    "records_complete",
    "records_added",
    "records_changed",
    "records_removed",
];

/// Columns of a record, in the order in which [`row`](super::row) takes them.
/// What is long comes last: what is before it is read without it.
const COLUMNS: &str = "format, version, status, created, written, due, attempts, holder, steps, request, \
    response_hash, hash, head, response, bucket";

/// All statements, made once.
#[derive(Debug)]
pub(super) struct Sql {
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
    pub(super) unfinished: String,
    pub(super) lapsed: String,
    pub(super) expired: String,
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
    pub(super) bucket: String,
    pub(super) bucket_rows: String,
    pub(super) is_there: String,
    pub(super) is_indexed: String,
    pub(super) tallies_page: String,
}

impl Sql {
    pub(super) fn new(prefix: &str) -> Self {
        // A temporary table of that name would come first otherwise.
        let p = &format!("main.{prefix}");
        let scan = |which: &str, order: &str| {
            format!(
                "SELECT {COLUMNS}, key FROM {p}records WHERE {which} AND (due, key) > (?1, ?2) \
                 AND length(key) = 32 ORDER BY {order} LIMIT ?3"
            )
        };
        Self {
            tables: tables(prefix),
            load: format!("SELECT {COLUMNS} FROM {p}records WHERE key = ?1"),
            parts: format!("SELECT n, value, hash FROM {p}parts WHERE key = ?1 ORDER BY n"),
            // Not `OR ABORT`, which would keep a copy of each page that it changes:
            // what fails is rolled back as a whole.
            insert: format!(
                "INSERT OR FAIL INTO {p}records (key, {COLUMNS}) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
            ),
            update: format!(
                "UPDATE OR FAIL {p}records SET ({COLUMNS}) \
                 = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) WHERE key = ?1"
            ),
            delete: format!("DELETE FROM {p}records WHERE key = ?1"),
            put_part: format!("INSERT OR REPLACE INTO {p}parts (key, n, value, hash) VALUES (?1, ?2, ?3, ?4)"),
            cut_steps: format!("DELETE FROM {p}parts WHERE key = ?1 AND n > ?2"),
            drop_request: format!("DELETE FROM {p}parts WHERE key = ?1 AND n = 0"),
            drop_parts: format!("DELETE FROM {p}parts WHERE key = ?1"),
            unfinished: scan("status < 2", "due, key"),
            lapsed: scan("status < 2 AND due <= ?4", "due, key"),
            expired: scan("status = 2 AND due <= ?4", "due, key"),
            held_by: format!("SELECT key FROM {p}records WHERE status < 2 AND holder = ?1"),
            ahead: format!("SELECT key FROM {p}records WHERE status < 2 AND written > ?1"),
            held: format!("SELECT key FROM {p}records WHERE status < 2 AND holder <> 0"),
            committed: format!(
                "UPDATE OR FAIL {p}tallies SET count = count + 1, sum = max(sum, ?1) WHERE bucket = -1 RETURNING count"
            ),
            reset_time: format!("UPDATE {p}tallies SET sum = ?1 WHERE bucket = -1"),
            shortest: shortest_lease(p),
            layout: format!("SELECT layout FROM {p}meta"),
            new_meta: format!(
                "INSERT INTO {p}meta (one, layout, mark, state, boot, base) VALUES (1, {LAYOUT}, 0, 'closed', '', 0)"
            ),
            name: format!("UPDATE {p}tallies SET count = ?1 WHERE bucket = -2"),
            meta: format!(
                "SELECT store.count, done.count, state, boot, base, done.sum \
                 FROM {p}meta, {p}tallies AS store, {p}tallies AS done WHERE store.bucket = -2 AND done.bucket = -1"
            ),
            open: format!("UPDATE {p}meta SET state = 'open', boot = ?1, base = ?2"),
            close: format!("UPDATE {p}meta SET state = 'closed'"),
            epoch: format!(
                "UPDATE {p}meta SET mark = mark + 1 RETURNING (SELECT count FROM {p}tallies WHERE bucket = -2), mark"
            ),
            bucket: format!("SELECT count, sum FROM {p}tallies WHERE bucket = ?1"),
            bucket_rows: format!("SELECT {COLUMNS}, key FROM {p}records WHERE key >= ?1 AND key < ?2"),
            is_there: format!("SELECT 1 FROM {p}records WHERE key = ?1"),
            is_indexed: format!(
                "SELECT 1 FROM {p}records INDEXED BY {prefix}records_unfinished WHERE status < 2 AND due = ?1 AND key = ?2"
            ),
            tallies_page: format!("SELECT rootpage FROM main.sqlite_schema WHERE name = '{prefix}tallies'"),
        }
    }
}

impl Sql {
    pub(super) fn text(&self, which: Which) -> &str {
        match which {
            Which::Insert => &self.insert,
            Which::Update => &self.update,
            Which::Delete => &self.delete,
            Which::PutPart => &self.put_part,
            Which::CutSteps => &self.cut_steps,
            Which::DropRequest => &self.drop_request,
            Which::DropParts => &self.drop_parts,
        }
    }
}

/// Of the leases that end soon, of which the short ones are some. (Not of all: a
/// transaction begins with this.)
fn shortest_lease(p: &str) -> String {
    format!(
        "SELECT min(length) FROM (SELECT due - written AS length FROM {p}records \
         WHERE status < 2 AND due > ?1 AND due <= ?2 AND holder <> 0 ORDER BY due, key LIMIT 256)"
    )
}

/// The statements that create the tables, with the prefix before each name.
fn tables(prefix: &str) -> String {
    let mut tables = String::with_capacity(TABLES.len() + 1024);
    let mut rest = TABLES;
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
