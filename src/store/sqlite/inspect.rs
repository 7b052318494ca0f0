//! What lies at a path, before anything touches it.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::connection::without_wal;
use super::error::{SqliteOpenError, SqliteOpenErrorKind as Kind};
use super::schema::{APPLICATION_ID, LAYOUT, PREFIX, Sql};
use super::wal::wal;

/// The smallest page that there is.
const SHORTEST: u64 = 512;
const NO_DATABASE: &str =
    "is no SQLite database, or its first page is damaged; restore it from a backup, or name another path";

/// What lies there.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Database(Database),
}

/// A database as it was at the last check-point.
#[derive(Debug)]
pub(super) struct Database {
    /// Whether a store made it, and has it for itself.
    pub(super) is_own: bool,
    pub(super) meta: Moved,
    /// The page that every transaction touches.
    pub(super) tallies_page: i64,
    pub(super) page_size: u64,
}

/// What the last check-point moved into it of the line about the whole store.
#[derive(Debug)]
pub(super) enum Moved {
    /// It has no tables of ours yet.
    NoTables,
    /// A check-point was cut short in the middle of a page; the WAL has it whole.
    Torn,
    All(Meta),
}

/// The line about the whole store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) id: i64,
    pub(super) commits: i64,
    pub(super) is_open: bool,
    pub(super) boot: String,
    pub(super) base: i64,
    pub(super) seen: i64,
}

impl Database {
    pub(super) const fn prefix(&self) -> &'static str {
        if self.is_own { "" } else { PREFIX }
    }
}

/// Looks, and refuses what is not a store's.
pub(super) fn inspect(path: &Path, join: bool) -> Result<Found, SqliteOpenError> {
    let refused = |kind, detail: &'static str| Err(SqliteOpenError::new(kind, path, detail));
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(SqliteOpenError::io(path, error)),
    };
    if found.is_dir() && path.join("TOWER-IDEMPOTENCY").exists() {
        let detail = "is the directory of a store of an earlier release, which this one does not read; let that release \
                      finish what is in it, keep it for as long as its responses are to be remembered, and name another path";
        return refused(Kind::NotADatabase, detail);
    }
    if !found.is_file() {
        return refused(Kind::NotADatabase, "is no file; name the file that the store is to be kept in");
    }
    if found.len() == 0 {
        let detail = "is empty, which a store's file never is; restore it from a backup, or name a path where there is \
                      nothing";
        return refused(Kind::Incomplete, detail);
    }
    if found.len() < SHORTEST {
        return refused(Kind::NotADatabase, NO_DATABASE);
    }
    let connection = without_wal(path).map_err(|error| SqliteOpenError::engine(path, error))?;
    database(path, &connection, join).map(Found::Database)
}

fn database(path: &Path, connection: &Connection, join: bool) -> Result<Database, SqliteOpenError> {
    let engine = |error| SqliteOpenError::engine(path, error);
    let number = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let application = match number("application_id") {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(SqliteOpenError::new(Kind::NotADatabase, path, NO_DATABASE));
        }
        other => other.map_err(engine)?,
    };
    let is_own = application == APPLICATION_ID;
    if !is_own && !join {
        let detail = "is a database that no store made; `SqliteStoreOptions::join_existing_database` puts the records into \
                      tables of it, or name another path";
        return Err(SqliteOpenError::new(Kind::Foreign, path, detail));
    }
    let page_size = number("page_size").map_err(engine)?.unsigned_abs();
    let (meta, tallies_page) = match moved(path, connection, if is_own { "" } else { PREFIX }) {
        Err(error) if error.kind() == Kind::Damaged && has_wal(path) => (Moved::Torn, 0),
        other => other?,
    };
    Ok(Database { is_own, meta, tallies_page, page_size })
}

fn moved(path: &Path, connection: &Connection, prefix: &str) -> Result<(Moved, i64), SqliteOpenError> {
    let engine = |error| SqliteOpenError::engine(path, error);
    let sql = Sql::new(prefix, false);
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = ?1", [format!("{prefix}meta")], |row| row.get(0))
        .map_err(engine)?;
    if tables == 0 {
        return Ok((Moved::NoTables, 0));
    }
    let meta = read(connection, &sql, path)?;
    let tallies_page = connection.query_row(&sql.tallies_page, [], |row| row.get(0)).map_err(engine)?;
    Ok((Moved::All(meta), tallies_page))
}

fn has_wal(path: &Path) -> bool {
    fs::metadata(wal(path)).is_ok_and(|found| found.len() > 0)
}

/// Reads the line through this connection.
pub(super) fn read(connection: &Connection, sql: &Sql, path: &Path) -> Result<Meta, SqliteOpenError> {
    let layout = connection.query_row(&sql.layout, [], |row| row.get::<_, i64>(0));
    let damaged = |error: rusqlite::Error| match error {
        rusqlite::Error::SqliteFailure(..) => SqliteOpenError::engine(path, error),
        other => {
            let detail = "is damaged: the line about the whole store can't be read; restore it from a backup";
            SqliteOpenError::new(Kind::Damaged, path, detail).caused_by(super::error::plain(other))
        }
    };
    if layout.map_err(damaged)? > LAYOUT {
        let detail = "was written by a newer release; run that one, this one would lose what it can't read";
        return Err(SqliteOpenError::new(Kind::NewerFormat, path, detail));
    }
    let meta = connection.query_row(&sql.meta, [], |row| {
        Ok(Meta {
            id: row.get(0)?,
            commits: row.get(1)?,
            is_open: row.get::<_, String>(2)? == "open",
            boot: row.get(3)?,
            base: row.get(4)?,
            seen: row.get(5)?,
        })
    });
    meta.map_err(damaged)
}
