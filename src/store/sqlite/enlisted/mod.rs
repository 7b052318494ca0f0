//! Transactions of the caller's that carry recovery points.

mod driver;
mod rusqlite;
#[cfg(feature = "sqlx-sqlite")]
mod sqlx;
mod state;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::rusqlite::types::{ToSqlOutput, Value};
use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use self::driver::{Failed, NotBegun, Open, SqliteDriver, Statement};
pub use self::rusqlite::{Rusqlite, SqliteTransaction};

use self::state::State;
use super::connection::BUSY;
use super::error::{Fault, says_rolled_back, stopped};
use super::plan::{self, Verdict};
use super::request::Request;
use super::row::{RowWrite, Stored};
use super::store::SqliteStore;
use super::turn::Turn;
use crate::core::{Key, Record, Version};
use crate::store::contract::{Loaded, StoreError, StoreErrorKind};
use crate::store::enlisted::{CommitError, EnlistedDatabase, EnlistedSwap, Limit, Sealed};

/// Transactions that can carry the recovery points of a [`SqliteStore`]: for
/// [`Operation::transaction`](crate::Operation::transaction). Made by
/// [`SqliteStore::transactions`], on connections of the store's own, or by
/// `SqliteStore::transactions_on`, on those of a `sqlx::SqlitePool`; cheap to clone.
pub struct SqliteEnlisted<D = Rusqlite> {
    store: SqliteStore,
    driver: D,
}

/// How long a rollback is waited for.
const ROLLING_BACK: Duration = Duration::from_secs(3);
/// Leases of at most this length may be shorter than three times the longest
/// transaction.
const SHORT: i64 = 15_000;
/// How long a transaction that has its turn tries for the lock.
const MOMENT: Duration = Duration::from_millis(100);
/// The longest pause before the lock is asked for again.
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// What a connection is to be for a transaction: the database of the store alone,
/// durable. The schema is that of the main database.
const CONNECTION: &str = "SELECT name, file, (SELECT synchronous FROM pragma_synchronous), \
    (SELECT journal_mode FROM pragma_journal_mode), (SELECT locking_mode FROM pragma_locking_mode) \
    FROM pragma_database_list";

/// A transaction that is under way.
pub struct Running<D: SqliteDriver> {
    transaction: D::Transaction,
    state: Arc<State>,
    store: SqliteStore,
    limit: Limit,
    /// The count of the store's transactions with this one, once it has written.
    commits: i64,
    /// How many pages it wrote for the store, about.
    pages: usize,
}

impl SqliteStore {
    /// Lets transactions carry this store's recovery points, so that your rows in
    /// the store's database commit together with them: on connections of the store's
    /// own, with rusqlite 0.39.
    ///
    /// ```
    /// use tower_idempotency::store::SqliteStore;
    /// use tower_idempotency::store::sqlite::SqliteEnlisted;
    /// use tower_idempotency::{Operation, StepError};
    ///
    /// async fn order(op: &Operation, shop: &SqliteEnlisted, item: String) -> Result<i64, StepError<rusqlite::Error>> {
    ///     op.transaction(shop, "order", move |tx| Box::pin(async move {
    ///         tx.call(move |db| {
    ///             db.execute("INSERT INTO orders (item) VALUES (?1)", [item])?;
    ///             Ok(db.last_insert_rowid())
    ///         }).await
    ///     })).await
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = std::env::temp_dir().join(format!("sqlite-joined-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let path = directory.join("shop.db");
    /// # let shop = rusqlite::Connection::open(&path)?;
    /// # shop.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")?;
    ///
    /// // The shop's database, which is in WAL mode and has the table.
    /// let store = SqliteStore::options().join_existing_database().open(&path)?;
    /// let joined = store.transactions();
    /// # let runner = tower_idempotency::Runner::new(store);
    /// # for _ in 0..2 {
    /// #     let joined = joined.clone();
    /// #     let order = runner.run("s", "k", "", |op| async move { order(&op, &joined, "tea".into()).await }).await?;
    /// #     assert_eq!(order, 1);
    /// # }
    /// # assert_eq!(shop.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, i64>(0))?, 1);
    /// # drop((runner, joined, shop));
    /// # std::fs::remove_dir_all(directory)?;
    /// # Ok(()) }
    /// ```
    ///
    /// Keep your rows in your own database, which the
    /// [store joins](super::SqliteStoreOptions::join_existing_database). The store's own file
    /// may have your tables as well, under other names than the store's. But do not write to
    /// them while no store is open: the store could not tell such a write from one of its own
    /// that went missing.
    ///
    /// In one process, one transaction at a time has the write lock; the others wait
    /// for their turn, up to 6 seconds.
    pub fn transactions(&self) -> SqliteEnlisted {
        SqliteEnlisted { store: self.clone(), driver: Rusqlite }
    }

    /// The same for transactions on connections of a pool of sqlx 0.9, with feature
    /// `sqlx-sqlite`.
    ///
    /// Its connections must lead to the store's file, and be `synchronous = FULL`,
    /// which is their default. While a transaction lasts, their progress handler and
    /// their hooks for commits and rollbacks are the store's, and what was set before
    /// is not set again.
    #[cfg(feature = "sqlx-sqlite")]
    pub fn transactions_on(&self, pool: ::sqlx::SqlitePool) -> SqliteEnlisted<::sqlx::SqlitePool> {
        SqliteEnlisted { store: self.clone(), driver: pool }
    }

    /// Waits until a transaction may have the lock.
    async fn turn(&self, patience: Duration) -> Result<Turn, StoreError> {
        let (asking, turn) = oneshot::channel();
        self.0.ask(Request::Turn(asking))?;
        match timeout(patience, turn).await {
            Ok(turn) => turn.map_err(|_| stopped())?,
            Err(_) => Err(unavailable("no transaction could be begun in time: others had the database's write lock")),
        }
    }
}

impl<D: SqliteDriver> SqliteEnlisted<D> {
    async fn begin_now(&self, lease: Duration) -> Result<Running<D>, StoreError> {
        let shared = Arc::clone(&self.store.0.shared);
        shared.guard.check_process()?;
        let mut idle = self.driver.connect(&self.store).await?;
        let (started, mut pause) = (Instant::now(), Duration::from_millis(1));
        let mut busy: Option<Failed> = None;
        let (transaction, state) = loop {
            let turn = match self.store.turn(BUSY.saturating_sub(started.elapsed())).await {
                Ok(turn) => turn,
                // Why the turn before was of no use says more than that there is none.
                Err(error) => return Err(busy.map_or(error, Failed::into_store_error)),
            };
            match self.try_to_begin(idle, turn).await {
                Ok(begun) => break begun,
                Err(NotBegun::Failed(failed)) => return Err(failed.into_store_error()),
                Err(NotBegun::Busy(back, failed)) => (idle, busy) = (back, Some(failed)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        };
        let limit = Limit { since: Instant::now(), length: shared.transaction_limit.min(lease / 3) };
        let store = self.store.clone();
        let mut running = Running { transaction, state, store, limit, commits: 0, pages: 0 };
        match running.prepare().await {
            Ok(()) => Ok(running),
            Err(error) => {
                Self::roll_back(running).await;
                Err(error)
            }
        }
    }

    /// Tries for a moment: the store's own writer waits meanwhile.
    async fn try_to_begin(
        &self,
        mut idle: D::Idle,
        turn: Turn,
    ) -> Result<(D::Transaction, Arc<State>), NotBegun<D::Idle>> {
        let gate = &self.store.0.shared.gate;
        let failed = |error| NotBegun::Failed(Failed { code: None, error });
        let _next = gate.next().map_err(failed)?;
        let (begun, ends) = turn.parts();
        let ends = Arc::new(ends);
        let since = Instant::now();
        loop {
            let mut failed = Failed::busy();
            // Not while a writer of some process waits: it is next.
            if let Some(entered) = gate.enter().map_err(|error| NotBegun::Failed(Failed { code: None, error }))? {
                let state = Arc::<State>::default();
                let open = Open { state: Arc::clone(&state), _ends: Arc::clone(&ends), store: self.store.clone() };
                match D::begin(idle, open).await {
                    Ok(transaction) => {
                        drop(entered);
                        // A writer that gave up waiting meets the lock itself.
                        let _ = begun.send(());
                        return Ok((transaction, state));
                    }
                    Err(NotBegun::Busy(back, error)) => (idle, failed) = (back, error),
                    Err(other) => return Err(other),
                }
            }
            if since.elapsed() >= MOMENT {
                return Err(NotBegun::Busy(idle, failed));
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl<D: SqliteDriver> fmt::Debug for Running<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<D: SqliteDriver> Running<D> {
    async fn run(&mut self, sql: &str, bound: Vec<Value>) -> Result<Vec<Vec<Value>>, StoreError> {
        self.run_all(vec![(sql.to_owned(), bound)]).await
    }

    async fn run_all(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Value>>, StoreError> {
        D::run(&mut self.transaction, statements).await.map_err(Failed::into_store_error)
    }

    /// Before the caller's work sees it.
    async fn prepare(&mut self) -> Result<(), StoreError> {
        self.check().await?;
        let now = i64::try_from(self.store.0.shared.clock.now().as_millis()).unwrap_or(i64::MAX);
        let bound = vec![Value::Integer(now), Value::Integer(now.saturating_add(SHORT))];
        let shortest = self.store.0.shared.sql.shortest.clone();
        let rows = self.run(&shortest, bound).await?;
        // The holder of such a lease must be able to renew it after this transaction.
        if let Some(Value::Integer(shortest)) = rows.first().and_then(|row| row.first()) {
            let third = Duration::from_millis(shortest.unsigned_abs() / 3);
            self.limit.length = self.limit.length.min(third);
        }
        Ok(())
    }

    /// Whether its commit is one of the store's file, and of that alone.
    async fn check(&mut self) -> Result<(), StoreError> {
        self.check_connection().await.inspect_err(|_| self.state.set_unfit())
    }

    async fn check_connection(&mut self) -> Result<(), StoreError> {
        let databases = self.run(CONNECTION, Vec::new()).await?;
        let guard = &self.store.0.shared.guard;
        guard.check()?;
        for database in &databases {
            let [Value::Text(name), file, Value::Integer(synchronous), Value::Text(journal), Value::Text(locking)] =
                &database[..]
            else {
                return Err(unavailable("the connection does not say which database it leads to"));
            };
            match name.as_str() {
                "temp" => {}
                "main" if !path(file).is_some_and(|path| guard.is_at(&path)) => {
                    return Err(unavailable(
                        "the connection leads to another file than the store's: rows there can't commit together with it",
                    ));
                }
                "main" if *synchronous < FULL || journal != "wal" => {
                    return Err(unavailable(
                        "the connection is not set to `synchronous = FULL` in WAL mode: what it commits could be lost",
                    ));
                }
                "main" if locking == "exclusive" => {
                    return Err(unavailable(
                        "the connection is set to `locking_mode = EXCLUSIVE`: no other connection could use the database",
                    ));
                }
                "main" => {}
                other => {
                    return Err(unavailable(&format!(
                        "another database is attached to the connection, as {other}: a commit over two files in WAL mode \
                         may take in one of them alone"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The record at `key`, with its parts.
    async fn find(&mut self, key: &Key) -> Result<Option<Stored>, Fault> {
        let sql = Arc::clone(&self.store.0.shared);
        let bound = || vec![Value::Blob(key.as_bytes().to_vec())];
        let rows = self.run(&sql.sql.load, bound()).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mut stored = Stored::read_whole(row, key.as_bytes())?;
        if stored.columns.has_parts() {
            for part in self.run(&sql.sql.parts, bound()).await? {
                stored.read_part(&part, key.as_bytes())?;
            }
        }
        Ok(Some(stored))
    }

    async fn swap(&mut self, key: &Key, expected: Version, next: &Record) -> Result<EnlistedSwap, StoreError> {
        let shared = Arc::clone(&self.store.0.shared);
        let found = self.find(key).await;
        let now = shared.clock.now();
        let over = match plan::compare(&shared.buckets, key, Some(expected), found).map_err(Fault::into_store_error)? {
            Verdict::Takes(over) => over,
            Verdict::Conflict(found) => {
                let record = found.as_ref().map(Stored::record).transpose()?;
                return Ok(EnlistedSwap::Found(Loaded { record, now }));
            }
            Verdict::Refused(error) => return Err(error),
        };
        let put = RowWrite::new(key, next).indexed(next, &shared.sql);
        let mut statements = Vec::new();
        let by = (now, shared.owner.number());
        let planned: Result<(), Infallible> = plan::put(key, &put, over.as_ref(), by, |which, cells| {
            statements.push((shared.sql.text(which).to_owned(), cells.iter().map(owned).collect()));
            Ok(())
        });
        match planned {
            Ok(()) => {}
        }
        let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        statements.push((shared.sql.committed.clone(), vec![Value::Integer(millis)]));
        let counted = self.run_all(statements).await?;
        let Some(Value::Integer(commits)) = counted.first().and_then(|row| row.first()) else {
            return Err(unavailable("the store's tables do not count its transactions"));
        };
        (self.commits, self.pages) = (*commits, 3 + put.len() / 4096);
        Ok(EnlistedSwap::Written)
    }
}

/// `PRAGMA synchronous`.
const FULL: i64 = 2;

fn owned(cell: &ToSqlOutput<'_>) -> Value {
    match cell {
        ToSqlOutput::Owned(value) => value.clone(),
        ToSqlOutput::Borrowed(value) => Value::try_from(*value).unwrap_or(Value::Null),
        _ => Value::Null,
    }
}

/// A path as the library tells it, which may be no text.
fn path(file: &Value) -> Option<PathBuf> {
    match file {
        Value::Text(path) => Some(path.into()),
        #[cfg(unix)]
        Value::Blob(path) => Some(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path).into()),
        _ => None,
    }
}

fn unavailable(message: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, message)
}

impl<D> Sealed for SqliteEnlisted<D> {}

#[async_trait]
impl<D: SqliteDriver> EnlistedDatabase for SqliteEnlisted<D> {
    type Handle = D::Handle;
    type Transaction = Running<D>;

    const LOCKS_THE_STORE: bool = true;
    const NOT_THERE: &'static str = "the record of this operation is not in the database of this transaction";

    /// In a task of its own, which goes on when the wait is over.
    async fn begin(&self, lease: Duration) -> Result<Running<D>, StoreError> {
        let this = self.clone();
        let begin = tokio::spawn(async move { this.begin_now(lease).await });
        begin.await.unwrap_or_else(|_| Err(unavailable("the driver panicked")))
    }

    fn handle(transaction: &mut Running<D>) -> Option<&mut D::Handle> {
        D::handle(&mut transaction.transaction)
    }

    fn limit(transaction: &Running<D>) -> Option<Limit> {
        Some(transaction.limit)
    }

    async fn swap(
        &self,
        transaction: &mut Running<D>,
        key: &Key,
        expected: Version,
        next: &Record,
    ) -> Result<EnlistedSwap, StoreError> {
        if transaction.limit.left().is_zero() {
            return Err(transaction.limit.passed());
        }
        if transaction.state.is_rolled_back() {
            return Err(unavailable(
                "the transaction was ended by the work that got it, or by an error that it went on after: nothing of it \
                 was committed",
            ));
        }
        // Again: the work may have attached one.
        transaction.check().await?;
        transaction.swap(key, expected, next).await
    }

    async fn commit(running: Running<D>) -> Result<(), CommitError> {
        let Running { transaction, state, store, commits, pages, .. } = running;
        state.let_commit();
        if let Err(failed) = D::commit(transaction).await {
            // Its frames may lie behind those that count, and would look like damage.
            let _ = store.0.ask(Request::ResetWal);
            let rolled_back = says_rolled_back(failed.code);
            let error = failed.into_store_error();
            return Err(if rolled_back { CommitError::RolledBack(error) } else { CommitError::Unknown(error) });
        }
        let checked = spawn_blocking(move || {
            let shared = &store.0.shared;
            shared.owner.mark(commits);
            shared.checkpoints.written(pages);
            // What went to a file that is gone by now is gone with it.
            shared.guard.check()
        });
        match checked.await {
            Ok(checked) => checked.map_err(CommitError::Unknown),
            Err(_) => Ok(()),
        }
    }

    async fn roll_back(running: Running<D>) {
        running.state.give_up();
        let _ = tokio::spawn(timeout(ROLLING_BACK, D::roll_back(running.transaction))).await;
    }
}

impl<D: Clone> Clone for SqliteEnlisted<D> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), driver: self.driver.clone() }
    }
}

impl<D: fmt::Debug> fmt::Debug for SqliteEnlisted<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEnlisted").field("store", &self.store).field("driver", &self.driver).finish()
    }
}
