//! What can be set before a store is opened.

use std::sync::Arc;
use std::time::Duration;

use super::connection::LONGEST;
use crate::util::clock::Clock;

/// How to open a [`SqliteStore`](super::SqliteStore).
///
/// ```
/// use tower_idempotency::clock::ManualClock;
/// use tower_idempotency::store::SqliteStore;
///
/// # let path = std::env::temp_dir().join(format!("sqlite-options-doc-{}", std::process::id()));
/// let store = SqliteStore::options().cache_bytes(64 << 20).with_clock(ManualClock::new()).open(path.join("keys.db"))?;
/// # drop(store);
/// # std::fs::remove_dir_all(path).unwrap();
/// # Ok::<_, tower_idempotency::store::SqliteOpenError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteStoreOptions {
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) cache_bytes: u64,
    pub(super) join: bool,
    pub(super) network: bool,
    pub(super) accept_loss: bool,
    pub(super) reset_time: bool,
    pub(super) index_labels: bool,
    pub(super) transaction_limit: Duration,
}

impl SqliteStoreOptions {
    /// The machine's clock, a cache of 8 MiB, and a file of the store's own.
    pub const fn new() -> Self {
        Self {
            clock: None,
            cache_bytes: 8 << 20,
            join: false,
            network: false,
            accept_loss: false,
            reset_time: false,
            index_labels: false,
            transaction_limit: LONGEST,
        }
    }

    /// The store's clock, for tests. Its times must survive a restart:
    /// leases and retentions are counted in it.
    ///
    /// All stores that share the file must share this clock.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// How much of what the writer reads from the disk it keeps in memory. Readers
    /// keep up to 1 MiB each.
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Puts the records into tables of a database that you have already.
    ///
    /// Their names begin with `idempotency_`. The database must exist and be in WAL
    /// mode (`PRAGMA journal_mode = WAL`). The store changes nothing else in it: the database
    /// keeps its `application_id`, its `user_version` and its vacuum mode.
    ///
    /// Without this, the store refuses a database that no store made.
    pub const fn join_existing_database(mut self) -> Self {
        self.join = true;
        self
    }

    /// Opens the store even on NFS, CIFS, 9p, virtiofs or FUSE.
    ///
    /// **This risks everything that the store keeps**: SQLite's WAL needs memory
    /// that all processes share, and locks that work. If either is missing, two
    /// processes may take one claim, or damage the file. Use it only for a file system
    /// whose locks work, and that only one machine uses.
    pub const fn risk_a_network_file_system(mut self) -> Self {
        self.network = true;
        self
    }

    /// Opens the store even if acknowledged writes are known to be missing or
    /// damaged: to start from a backup, say.
    ///
    /// **An operation whose acknowledged writes are gone runs again when a client retries it**:
    /// the handler charges twice. Set it for one start, once you know what is missing.
    pub const fn accept_the_loss_of_acknowledged_writes(mut self) -> Self {
        self.accept_loss = true;
        self
    }

    /// Forgets the latest time of the store, and continues from the
    /// machine's clock: for a store that was once opened while that clock was far in the
    /// future.
    ///
    /// No other process may have the store open, else this has no effect. Leases
    /// and retentions that were counted from the wrong time are that much longer.
    pub const fn reset_the_latest_time(mut self) -> Self {
        self.reset_time = true;
        self
    }

    /// Whether labels are indexed, so that an [`Operator`](crate::Operator) finds the few operations
    /// with a [label](crate::Listing::label) among many without looking at the others; no by default.
    /// The index is written in the transaction of the record. An entry takes some 150 bytes of the
    /// file for each label of an operation, as long as its record is there.
    ///
    /// ```
    /// use tower_idempotency::store::SqliteStore;
    ///
    /// # let path = std::env::temp_dir().join(format!("sqlite-labels-doc-{}", std::process::id()));
    /// let store = SqliteStore::options().index_labels(true).open(path.join("keys.db"))?;
    /// # drop(store);
    /// # std::fs::remove_dir_all(path).unwrap();
    /// # Ok::<_, tower_idempotency::store::SqliteOpenError>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// - What was begun before is in the index once it is written again, so the index lacks what
    ///   was complete by then.
    /// - From then on each store that is opened on the file writes the index, with this option or
    ///   without. What an earlier release begins is not in it, nor what a process does that had the
    ///   file open before; what they end or remove is not left behind in it.
    /// - What is [encrypted](crate::Engine) is not in it, since its labels are encrypted, too.
    pub const fn index_labels(mut self, index: bool) -> Self {
        self.index_labels = index;
        self
    }

    /// For how long a [transaction](super::SqliteStore::transactions) of yours may hold the write
    /// lock: 5 seconds at most, since other writers wait no longer. A third of the
    /// operation's lease is the limit, too, and a third of the shortest
    /// lease that is about to end in this file.
    pub const fn transaction_limit(mut self, limit: Duration) -> Self {
        self.transaction_limit = if limit.as_nanos() < LONGEST.as_nanos() { limit } else { LONGEST };
        self
    }
}

impl Default for SqliteStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}
