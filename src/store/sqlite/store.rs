//! The store itself, and its threads.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::connection::PATIENCE;
use super::error::{self, SqliteOpenError};
use super::open;
use super::open_store::OpenStore;
use super::options::SqliteStoreOptions;
use super::owner::{self, Dead, Other};
use super::reader::{Reader, Tasks};
use super::request::{Mark, Outcome, Request, WriteRequest};
use super::row::{self, RowWrite, Stored};
use super::writer::{Writer, unanswered};
use crate::core::{Key, Record, Version};
use crate::store::contract::{Durability, Filter, Loaded, Page, Query, Store, StoreError, Swap};
use crate::util::signal::lock;

/// How many threads read.
const READERS: usize = 2;
/// A store that was alive so recently is not asked again.
const ALIVE: Duration = Duration::from_millis(20);

/// Keeps records in a SQLite database, through crashes and power loss. For any
/// number of processes of one machine.
///
/// A write is acknowledged once the disk has it (`synchronous = FULL`). Writes that
/// wait at the same time share one transaction and one sync, each with a result of
/// its own. A replay is one look-up, beside the writer.
///
/// ```
/// use tower_idempotency::Runner;
/// use tower_idempotency::store::{SqliteStore, DurabilityLevel, require};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("sqlite-store-doc-{}", std::process::id()));
/// # let path = directory.join("payments.db");
/// let store = SqliteStore::open(&path)?;
/// require(&store, DurabilityLevel::PowerLoss).await?;
///
/// let runner = Runner::new(store);
/// let charge = |_| async { Ok::<_, std::fmt::Error>("ch_1".to_owned()) };
/// let first = runner.run("charges", "order-17", "1999 EUR", charge).await?;
///
/// // Another process of this machine: the response is there, and nothing runs again.
/// let runner = Runner::new(SqliteStore::open(&path)?);
/// let again = |_| async { Err::<String, _>(std::fmt::Error) };
/// assert_eq!(runner.run("charges", "order-17", "1999 EUR", again).await?, first);
/// # drop(runner);
/// # let _ = std::fs::remove_dir_all(directory);
/// # Ok(()) }
/// ```
///
/// `sqlite3 payments.db 'SELECT * FROM overview'` shows an operator what is in it.
///
/// # What it keeps
///
/// - A swap or removal is atomic: after a crash the file has all of it, or nothing. Once
///   the store has acknowledged it, the file has it.
/// - **A dead process's leases are free at once**, for a process that opens the store,
///   scans it for lapsed records, or meets one of them. Each open store has a
///   file beside the database (`….owner-…`), locked as long as its process lives;
///   when the lock is free, so are the leases. No lease outlives a boot. If that
///   file is missing, the store can't know, and the lease has to expire.
/// - **Nothing is "absent" on the word of a damaged file.** Each row has a checksum
///   over its key and all columns, and each of 128 parts of the store a count of its
///   keys and the sum of their hashes, which the store checks before it takes the first key
///   there for a new one. It checks the sum of the rows' checksums in the
///   background. If something does not fit, the store returns
///   [`Corrupt`](crate::store::StoreErrorKind::Corrupt): for a
///   record that was changed, or for every key without a record in a part where records
///   are missing.
/// - A store that was not closed opens only if it still has everything that it
///   acknowledged: it refuses a missing, older, shortened or foreign `-wal`, and one that is
///   damaged before its end. Only the last transaction may be
///   incomplete: power failed as it was written.
/// - Unfinished records stay until they complete, whatever their age. The store removes
///   complete ones some time after they expire, as other writes come in.
///
/// # Time
///
/// Leases and retentions count on a clock that runs from the start of the machine,
/// also while that is suspended, and that can't be set: one for all processes.
/// Over a restart of the machine, its wall clock says how long that took; at most a
/// day counts, and time never goes back. [`durability`](Store::durability) tells
/// when the two disagree.
///
/// # Errors
///
/// [`Unavailable`](crate::store::StoreErrorKind::Unavailable), with the reason, while another
/// connection holds the database's write lock for more than 6 s (a transaction that is open
/// in a shell, say), while a file of the store is missing or replaced, or while
/// the system can't write; [`Full`](crate::store::StoreErrorKind::Full) while the disk is
/// full. The store continues when the cause is gone, without a restart.
///
/// # Limits
///
/// The disk's space bounds the number of records. Beside them, expect up to some
/// 50 MiB for `-wal`, and 20 MiB of memory with the default cache. A body or a
/// step's value may have up to 1 GB.
///
/// # Caveats
///
/// One machine only: the store refuses network file systems. `-wal`, `-shm`, `.lock` and
/// `.owner-…` belong to the database: move and copy them together, while the store
/// is closed, or use SQLite's own backup. The store at first refuses a backup of a store that
/// was open, since it may lack acknowledged writes; to accept that, set
/// [`accept_the_loss_of_acknowledged_writes`](SqliteStoreOptions::accept_the_loss_of_acknowledged_writes).
///
/// Fork first, and open a store in each child. A child that was forked while its
/// parent had a store open can neither use that one nor open one of its own, unless
/// it runs another program: SQLite's locks may be held by threads that it does not
/// have. As locks are inherited, the leases of a parent that died are not free before such a child
/// ends, or runs another program.
///
/// In a process that has the store open, do not open the database file by other means
/// than SQLite, not even to read or to copy it: on Unix, closing such a file drops all
/// locks that the process has on it, SQLite's among them, and other processes then
/// write where they should wait. (See *How To Corrupt An SQLite Database File*, section 2.2.)
///
/// It is as durable as the disk is honest: a disk that acknowledges a sync it has
/// not done loses acknowledged writes. The store notices damage that is done while it is open
/// when it reads a damaged record, and notices missing records when it is next opened.
///
/// The library must be SQLite 3.51.3 or newer; the store refuses an older one. One program
/// has one SQLite: sqlx 0.9 shares this one, and sqlx 0.8 can't with its feature
/// `sqlite`.
///
/// Opening, and dropping the last handle, do blocking I/O. The store's threads are
/// outside the async runtime, so a paused tokio clock does not stop its time. In
/// tests, use [`with_clock`](SqliteStoreOptions::with_clock).
#[derive(Clone)]
pub struct SqliteStore(pub(super) Arc<Handle>);

pub(super) struct Handle {
    pub(super) shared: Arc<OpenStore>,
    tasks: Arc<Tasks>,
    /// Taken when the last handle goes, which ends the writer.
    requests: Option<Sender<Request>>,
    writer: Option<JoinHandle<Option<Connection>>>,
    others: Vec<JoinHandle<()>>,
    /// A connection that is left over from a transaction of the caller's.
    pub(super) idle: Mutex<Option<Connection>>,
    /// Stores that were alive, and when.
    alive: Mutex<HashMap<i64, Instant>>,
}

impl SqliteStore {
    /// Opens the store in the database file `path`. Creates it if there is nothing:
    /// readable by this user only, and directories above it that are missing, too.
    ///
    /// Does blocking I/O: up to a few seconds after a crash.
    ///
    /// # Errors
    ///
    /// [`SqliteOpenError`] if the path has something else, or if acknowledged writes are
    /// missing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SqliteOpenError> {
        Self::options().open(path)
    }

    /// To set something other than the path.
    pub const fn options() -> SqliteStoreOptions {
        SqliteStoreOptions::new()
    }

    fn open_with(options: SqliteStoreOptions, path: &Path) -> Result<Self, SqliteOpenError> {
        let (shared, connection) = open::open(&options, path)?;
        let shared = Arc::new(shared);
        let (requests, waiting) = mpsc::channel();
        let mut handle = Handle {
            shared: Arc::clone(&shared),
            tasks: Arc::default(),
            requests: Some(requests),
            writer: None,
            others: Vec::new(),
            idle: Mutex::default(),
            alive: Mutex::default(),
        };
        // From here on, dropping the handle closes what was opened.
        let writer = Writer { shared, requests: waiting, waiting: VecDeque::new(), writes_first: false, shut: None };
        let io = |error| SqliteOpenError::io(path, error);
        handle.writer = Some(spawn("idempotency-writer", move || writer.run(connection)).map_err(io)?);
        handle.start(path)?;
        Ok(Self(Arc::new(handle)))
    }

    /// Does one write. Of a conflict, what is there; its parts may be missing.
    async fn write(&self, key: &Key, expected: Option<Version>, row: Option<RowWrite>) -> Result<Outcome, StoreError> {
        self.0.shared.guard.check_process()?;
        let (reply, answer) = oneshot::channel();
        self.0.ask(Request::Write(WriteRequest { key: *key, expected, row, reply }))?;
        answer.await.map_err(unanswered)?
    }

    /// Has a reader do this.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.shared.guard.check_process()?;
        let (reply, answer) = oneshot::channel();
        self.0.tasks.push(Box::new(move |reader| {
            // The caller may have gone.
            let _ = reply.send(reader.and_then(work));
        }));
        answer.await.map_err(unanswered)?
    }

    async fn find(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let key = *key;
        self.read(move |reader| reader.load(&key)).await
    }

    /// Makes sure that "absent" is true of this key, if it is said.
    async fn trust(&self, key: &Key) -> Result<(), StoreError> {
        let buckets = &self.0.shared.buckets;
        if !buckets.is_known(key) {
            let key = *key;
            self.read(move |reader| reader.verify(&key)).await?;
        }
        Ok(())
    }

    /// What was found, with the time. If a dead store holds it, it is freed first.
    async fn loaded(&self, key: &Key, mut found: Option<Stored>) -> Result<Loaded, StoreError> {
        if self.is_held_by_the_dead(found.as_ref()).await? {
            found = self.find(key).await?;
        }
        let record = found.as_ref().map(Stored::record).transpose()?;
        // After the look: no record is newer than the time it comes with.
        Ok(Loaded { record, now: self.0.shared.clock.now() })
    }

    /// Whether the record was held by a store that is dead; then it is free by now.
    async fn is_held_by_the_dead(&self, found: Option<&Stored>) -> Result<bool, StoreError> {
        let shared = &self.0.shared;
        let Some(columns) = found.map(|found| found.columns) else { return Ok(false) };
        let holder = columns.holder;
        let live = row::time(columns.due) > shared.clock.now();
        if holder == 0 || holder == shared.owner.number() || !live || self.0.was_alive(holder) {
            return Ok(false);
        }
        let other = self.read(move |reader| Ok(owner::probe(&reader.shared.place.path, holder, &reader.shared.boot)));
        let Other::Dead(dead) = other.await? else { return Ok(false) };
        self.free(dead).await?;
        Ok(true)
    }

    async fn free(&self, dead: Dead) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.0.ask(Request::Free(dead, reply))?;
        answer.await.map_err(unanswered)?
    }

    async fn ask_durability(&self, mark: Mark) -> Result<Durability, StoreError> {
        self.0.shared.guard.check_process()?;
        let (reply, answer) = oneshot::channel();
        self.0.ask(Request::Durability(mark, reply))?;
        answer.await.map_err(unanswered)?
    }

    /// Frees what all dead stores held.
    async fn free_all(&self) -> Result<(), StoreError> {
        let others = self.read(|reader| {
            let shared = &reader.shared;
            // Without descriptors for that, their leases are waited for.
            Ok(owner::others(&shared.place.path, &shared.boot, shared.owner.number()).unwrap_or_default())
        });
        for other in others.await? {
            if let Other::Dead(dead) = other {
                self.free(dead).await?;
            }
        }
        Ok(())
    }
}

impl SqliteStoreOptions {
    /// Opens the store, as [`SqliteStore::open`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteOpenError> {
        SqliteStore::open_with(self, path.as_ref())
    }
}

impl Handle {
    /// Starts the threads beside the writer.
    fn start(&mut self, path: &Path) -> Result<(), SqliteOpenError> {
        let (io, engine) = (|error| SqliteOpenError::io(path, error), |error| SqliteOpenError::engine(path, error));
        for _ in 0..READERS {
            let connection = self.shared.place.reader().map_err(engine)?;
            let (tasks, shared) = (Arc::clone(&self.tasks), Arc::clone(&self.shared));
            let reader = spawn("idempotency-reader", move || tasks.run(&shared, connection));
            self.others.push(reader.map_err(io)?);
        }
        let connection = self.shared.place.checkpointer().map_err(engine)?;
        let (shared, requests) = (Arc::clone(&self.shared), self.requests.clone());
        let moves = spawn("idempotency-checkpoint", move || {
            if let Some(requests) = requests {
                Arc::clone(&shared.checkpoints).run(&shared.place, connection, &requests);
            }
        });
        self.others.push(moves.map_err(io)?);
        let connection = self.shared.place.reader().map_err(engine)?;
        let shared = Arc::clone(&self.shared);
        let verifies = spawn("idempotency-verify", move || {
            shared.buckets.verify_all(&connection, &shared.sql, &shared.checkpoints);
        });
        self.others.push(verifies.map_err(io)?);
        Ok(())
    }

    pub(super) fn ask(&self, request: Request) -> Result<(), StoreError> {
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        if sent { Ok(()) } else { Err(error::stopped()) }
    }

    /// Whether this store was asked, and alive, a moment ago; notes that it is asked
    /// now.
    fn was_alive(&self, holder: i64) -> bool {
        let (now, mut alive) = (Instant::now(), lock(&self.alive));
        alive.retain(|_, at| now.duration_since(*at) < ALIVE);
        let known = alive.contains_key(&holder);
        if !known {
            alive.insert(holder, now);
        }
        known
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.shared.guard.is_at_home() {
            // A fork's copy: the threads, and what they hold, are the parent's.
            self.others.drain(..).for_each(std::mem::forget);
            self.writer.take().into_iter().for_each(std::mem::forget);
            lock(&self.idle).take().into_iter().for_each(std::mem::forget);
            return;
        }
        drop(lock(&self.idle).take());
        self.tasks.end();
        self.shared.checkpoints.end();
        for thread in self.others.drain(..) {
            // If it panicked, its callers got an error.
            let _ = thread.join();
        }
        drop(self.requests.take());
        if let Some(Ok(Some(connection))) = self.writer.take().map(JoinHandle::join) {
            open::close(&self.shared, connection);
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.shared.place.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let found = self.find(key).await?;
        self.loaded(key, found).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        if expected.is_none() {
            self.trust(key).await?;
        }
        let put = RowWrite::new(key, next).indexed(next, &self.0.shared.sql);
        match self.write(key, expected, Some(put)).await? {
            Outcome::Took => Ok(Swap::Stored),
            Outcome::Conflict(None) => {
                self.trust(key).await?;
                self.0.shared.buckets.trust(key)?;
                self.loaded(key, None).await.map(Swap::Conflict)
            }
            Outcome::Conflict(found) => self.loaded(key, found).await.map(Swap::Conflict),
        }
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        match self.write(key, Some(expected), None).await? {
            Outcome::Took => Ok(true),
            Outcome::Conflict(Some(_)) => Ok(false),
            Outcome::Conflict(None) => {
                self.trust(key).await?;
                self.0.shared.buckets.trust(key)?;
                Ok(false)
            }
        }
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        if query.filter == Filter::Lapsed && query.after.is_none() {
            self.free_all().await?;
        }
        let query = query.clone();
        self.read(move |reader| {
            let now = reader.shared.clock.now();
            reader.scan(&query, now).map_err(|fault| reader.after_fault(fault))
        })
        .await
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        self.read(move |reader| {
            let now = reader.shared.clock.now();
            reader.count(filter, most, now).map_err(|fault| reader.after_fault(fault))
        })
        .await
    }

    /// Power loss, if the disk is honest.
    async fn durability(&self) -> Result<Durability, StoreError> {
        self.ask_durability(Mark::Moves).await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        self.ask_durability(Mark::Stays).await
    }

    /// A transaction may be waited for.
    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn keeps_parts(&self) -> bool {
        true
    }

    fn indexes_labels(&self) -> bool {
        self.0.shared.sql.index_labels
    }
}
