//! Connections, all set up alike.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// For how long a transaction of the caller's may hold the write lock.
pub(super) const LONGEST: Duration = Duration::from_secs(5);
/// How long a statement waits for another connection's lock: longer than that. So to
/// wait for one of those is no error.
pub(super) const BUSY: Duration = Duration::from_secs(6);
/// How long the store may take for a call: longer than that, again.
pub(super) const PATIENCE: Duration = Duration::from_secs(9);

/// A symbolic link is followed; its target is what is opened.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Where the database is, and how it is to be opened.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) cache_bytes: u64,
}

impl Place {
    /// A connection that writes, durably.
    pub(super) fn writer(&self) -> rusqlite::Result<Connection> {
        let connection = self.open()?;
        let kibibytes = self.cache_bytes >> 10;
        connection.execute_batch(&format!("PRAGMA synchronous = FULL; PRAGMA cache_size = -{kibibytes};"))?;
        // The wait for a lock belongs to `BEGIN`, and nowhere else.
        Ok(connection)
    }

    /// A connection that only reads.
    pub(super) fn reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.open()?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -1024;")?;
        Ok(connection)
    }

    /// A connection for transactions of the caller's.
    pub(super) fn for_transactions(&self) -> rusqlite::Result<Connection> {
        let connection = self.open()?;
        // The caller's statements are planned as on any other connection.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, false)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -2048;")?;
        Ok(connection)
    }

    /// A connection that moves pages from the WAL into the database.
    pub(super) fn checkpointer(&self) -> rusqlite::Result<Connection> {
        let connection = self.open()?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -256;")?;
        Ok(connection)
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&self.path, FLAGS)?;
        connection.busy_timeout(BUSY)?;
        // Or some statements would be planned anew each time, for what is bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;")?;
        // Opens the files that it needs, so that it works on when descriptors run out.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    }
}

/// A connection that reads the database as it was at the last check-point, and
/// takes no lock and makes no file.
///
/// Not with plain I/O: a process that closes a file drops the locks that SQLite has on
/// it for others in this process.
pub(super) fn without_wal(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path), flags)?;
    // A check-point that a crash cut short may have moved the first page, which says
    // how many there are, and not the last one. (It can't be written to.)
    connection.execute_batch("PRAGMA writable_schema = ON")?;
    Ok(connection)
}

/// `%`, `?` and `#` mean something in a URI, and a path may be no UTF-8.
fn uri(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        if plain {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri + "?immutable=1"
}

/// The name of a file that lies beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
