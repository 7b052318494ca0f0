//! A shop with orders, on either driver.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;
use tower_idempotency::store::sqlite::{SqliteEnlisted, SqliteTransaction};
use tower_idempotency::store::{EnlistedDatabase, SqliteStore};
use tower_idempotency::{Engine, Operation, Runner, TransactionFuture};

use super::enlisted::Fixture;
pub(crate) use super::enlisted::{Answer, Error, Failed, INSERT, Outcome};

pub(crate) type Handle<D> = <<D as Driver>::Database as EnlistedDatabase>::Handle;

/// Takes long: an hour on a good machine.
pub(crate) const ENDLESS: &str =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// The two drivers, as far as the tests need them.
pub(crate) trait Driver: Sized + 'static {
    type Database: EnlistedDatabase;
    fn join(store: &SqliteStore, path: &Path) -> Self::Database;
    /// Runs a statement of one row with one number.
    fn run<'t>(handle: &'t mut Handle<Self>, sql: &'static str) -> Answer<'t>;
    /// Runs any statements, and gives 0.
    fn script<'t>(handle: &'t mut Handle<Self>, sql: &'static str) -> Answer<'t>;
}

#[derive(Debug)]
pub(crate) struct Plain;

impl Driver for Plain {
    type Database = SqliteEnlisted;

    fn join(store: &SqliteStore, _path: &Path) -> SqliteEnlisted {
        store.transactions()
    }

    fn run<'t>(tx: &'t mut SqliteTransaction, sql: &'static str) -> Answer<'t> {
        Box::pin(async move {
            tx.call(|db| db.query_row(sql, [], |row| row.get(0))).await.map_err(|error| error.to_string())
        })
    }

    fn script<'t>(tx: &'t mut SqliteTransaction, sql: &'static str) -> Answer<'t> {
        Box::pin(
            async move { tx.call(|db| db.execute_batch(sql)).await.map(|()| 0).map_err(|error| error.to_string()) },
        )
    }
}

#[cfg(feature = "sqlx-sqlite")]
#[derive(Debug)]
pub(crate) struct Sqlx;

#[cfg(feature = "sqlx-sqlite")]
impl Driver for Sqlx {
    type Database = SqliteEnlisted<sqlx::SqlitePool>;

    fn join(store: &SqliteStore, path: &Path) -> Self::Database {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        store.transactions_on(sqlx::sqlite::SqlitePoolOptions::new().max_connections(4).connect_lazy_with(options))
    }

    fn run<'t>(connection: &'t mut sqlx::SqliteConnection, sql: &'static str) -> Answer<'t> {
        Box::pin(async move { sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|error| error.to_string()) })
    }

    fn script<'t>(connection: &'t mut sqlx::SqliteConnection, sql: &'static str) -> Answer<'t> {
        Box::pin(
            async move { sqlx::raw_sql(sql).execute(connection).await.map(|_| 0).map_err(|error| error.to_string()) },
        )
    }
}

/// A test for each driver.
macro_rules! with_each_driver {
    ($($case:ident)*) => {
        mod plain {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case::<super::super::shop::Plain>().await;
            })*
        }
        #[cfg(feature = "sqlx-sqlite")]
        mod with_sqlx {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case::<super::super::shop::Sqlx>().await;
            })*
        }
    };
}
pub(crate) use with_each_driver;

/// Tells the compiler what kind of closure this is.
pub(crate) fn work<D: Driver, T, F>(work: F) -> F
where
    F: for<'t> FnOnce(&'t mut Handle<D>) -> TransactionFuture<'t, T, Failed>,
{
    work
}

/// A database with orders, and a store in it.
#[derive(Debug)]
pub(crate) struct Shop<D: Driver> {
    pub(crate) path: PathBuf,
    pub(crate) store: SqliteStore,
    pub(crate) joined: D::Database,
    _directory: Option<TempDir>,
}

/// Makes a shop's database, without a store.
pub(crate) fn create(path: &Path) {
    let database = Connection::open(path).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE); \
             CREATE TABLE items (order_id INTEGER REFERENCES orders (id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
}

impl<D: Driver> Shop<D> {
    pub(crate) fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        create(&path);
        Self { _directory: Some(directory), ..Self::at(&path) }
    }

    /// One more store on the database.
    pub(crate) fn at(path: &Path) -> Self {
        Self::with_limit(path, Duration::from_secs(60))
    }

    /// The same with transactions that have this limit.
    pub(crate) fn with_limit(path: &Path, limit: Duration) -> Self {
        let options = SqliteStore::options().join_existing_database().transaction_limit(limit);
        let store = options.open(path).unwrap();
        let joined = D::join(&store, path);
        Self { path: path.to_owned(), store, joined, _directory: None }
    }

    pub(crate) fn runner(&self) -> Runner {
        self.runner_with(|engine| engine.lease(Duration::from_secs(20)))
    }

    /// A runner whose engine was told something.
    pub(crate) fn runner_with(&self, tell: impl FnOnce(Engine) -> Engine) -> Runner {
        Runner::new(tell(Engine::new(self.store.clone())))
    }

    /// What a query in the shop's database gives.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        Connection::open(&self.path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn orders(&self) -> i64 {
        self.number("SELECT count(*) FROM orders")
    }

    /// Orders under this key.
    pub(crate) async fn order(&self, key: &str) -> Outcome {
        let joined = self.joined.clone();
        let order = |op: Operation| async move { op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await };
        self.runner().run("shop", key, "", order).await
    }

    /// How long it takes until somebody else can write.
    pub(crate) fn locked_for(&self) -> Duration {
        let since = Instant::now();
        let other = Connection::open(&self.path).unwrap();
        other.busy_timeout(Duration::from_secs(20)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE; ROLLBACK").unwrap();
        since.elapsed()
    }
}

impl<D: Driver> Fixture for Shop<D> {
    type Enlisted = D::Database;
    type Store = SqliteStore;
    const ENDLESS: Option<&'static str> = Some(ENDLESS);

    async fn open() -> Self {
        Self::open()
    }

    fn store(&self) -> SqliteStore {
        self.store.clone()
    }

    fn enlisted(&self) -> D::Database {
        self.joined.clone()
    }

    fn run<'t>(handle: &'t mut Handle<D>, sql: &'static str) -> Answer<'t> {
        D::run(handle, sql)
    }

    fn orders(&self) -> i64 {
        self.orders()
    }

    fn steps(&self) -> i64 {
        self.number("SELECT count(*) FROM idempotency_parts")
    }

    fn assert_nothing_is_open(&self, how: &str) {
        let locked = self.locked_for();
        assert!(locked < Duration::from_secs(1), "{how}: nothing is left open: {locked:?}");
    }
}
