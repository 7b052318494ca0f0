//! A shop with orders, on either driver.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, Object, Pool};
use servers::Postgres;
use sqlx::Executor;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use tokio_postgres::NoTls;
use tower_idempotency::store::PostgresStore;
use tower_idempotency::store::postgres::{Enlisted, TransactionDriver};
use tower_idempotency::{Engine, Runner, TransactionFuture};

use crate::enlisted::Fixture;
pub(crate) use crate::enlisted::{Answer, Failed, INSERT};

pub type Handle<D> = <<D as Driver>::Pool as TransactionDriver>::Handle;

/// The two drivers, as far as the tests need them.
pub trait Driver: Sized + 'static {
    type Pool: TransactionDriver;
    fn pool(url: &str) -> Self::Pool;
    /// Runs a statement of one row with one number.
    fn run<'t>(handle: &'t mut Handle<Self>, sql: &'static str) -> Answer<'t>;
    /// Runs any statements, and gives 0.
    fn script<'t>(handle: &'t mut Handle<Self>, sql: &'static str) -> Answer<'t>;
}

#[derive(Debug)]
pub struct Tokio;

impl Driver for Tokio {
    type Pool = Pool;

    fn pool(url: &str) -> Pool {
        Pool::builder(Manager::new(url.parse().expect("a URL"), NoTls)).max_size(8).build().expect("a pool")
    }

    fn run<'t>(client: &'t mut Object, sql: &'static str) -> Answer<'t> {
        Box::pin(async move {
            let row = client.query_one(sql, &[]).await.map_err(|error| error.to_string())?;
            Ok(row.get(0))
        })
    }

    fn script<'t>(client: &'t mut Object, sql: &'static str) -> Answer<'t> {
        Box::pin(async move { client.batch_execute(sql).await.map(|()| 0).map_err(|error| error.to_string()) })
    }
}

#[derive(Debug)]
pub struct Sqlx;

impl Driver for Sqlx {
    type Pool = sqlx::PgPool;

    fn pool(url: &str) -> sqlx::PgPool {
        PgPoolOptions::new().max_connections(8).connect_lazy(url).expect("a URL")
    }

    fn run<'t>(connection: &'t mut PgConnection, sql: &'static str) -> Answer<'t> {
        Box::pin(async move { sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|error| error.to_string()) })
    }

    fn script<'t>(connection: &'t mut PgConnection, sql: &'static str) -> Answer<'t> {
        let script = connection.execute(sql);
        Box::pin(async move { script.await.map(|_| 0).map_err(|error| error.to_string()) })
    }
}

/// Tells the compiler what kind of closure this is.
pub fn work<D: Driver, T, F>(work: F) -> F
where
    F: for<'t> FnOnce(&'t mut Handle<D>) -> TransactionFuture<'t, T, Failed>,
{
    work
}

/// A database with orders, and a store in it.
#[derive(Debug)]
pub struct Shop<'s, D: Driver> {
    pub server: &'s Postgres,
    pub database: String,
    pub store: PostgresStore,
    pub joined: Enlisted<D::Pool>,
}

impl<'s, D: Driver> Shop<'s, D> {
    pub async fn open(server: &'s Postgres) -> Self {
        Self::open_through(server, server.port()).await
    }

    /// Its business goes by way of another port.
    pub async fn open_through(server: &'s Postgres, port: u16) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let database = format!("shop_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let url = server.database(&database);
        server.sql_in(&database, "CREATE TABLE orders (id bigserial PRIMARY KEY)");
        let store = PostgresStore::connect(&url).expect("a URL");
        // Many tests begin at the same time, and connections take theirs.
        while let Err(error) = store.create_schema().await {
            assert!(error.to_string().contains("in time"), "a schema: {error}");
        }
        let through = url.replace(&format!(":{}/", server.port()), &format!(":{port}/"));
        let joined = store.transactions_on(D::pool(&through));
        Self { server, database, store, joined }
    }

    pub fn url(&self) -> String {
        self.server.url_of("postgres", &self.database)
    }

    pub fn runner(&self) -> Runner {
        self.runner_with(|engine| engine.lease(Duration::from_secs(20)))
    }

    /// A runner whose engine was told something.
    pub fn runner_with(&self, tell: impl FnOnce(Engine) -> Engine) -> Runner {
        Runner::new(tell(Engine::new(self.store.clone())))
    }

    /// What a query in the shop's database gives.
    pub fn sql(&self, sql: &str) -> String {
        self.server.sql_in(&self.database, sql)
    }

    pub fn orders(&self) -> String {
        self.server.sql_in(&self.database, "SELECT count(*) FROM orders")
    }
}

impl<D: Driver> Fixture for Shop<'static, D> {
    type Enlisted = Enlisted<D::Pool>;
    type Store = PostgresStore;
    const ENDLESS: Option<&'static str> = None;

    async fn open() -> Self {
        Self::open(Postgres::shared()).await
    }

    fn store(&self) -> PostgresStore {
        self.store.clone()
    }

    fn enlisted(&self) -> Self::Enlisted {
        self.joined.clone()
    }

    fn run<'t>(handle: &'t mut Handle<D>, sql: &'static str) -> Answer<'t> {
        D::run(handle, sql)
    }

    fn orders(&self) -> i64 {
        self.orders().parse().expect("a number")
    }

    fn steps(&self) -> i64 {
        self.sql("SELECT count(*) FROM idempotency.steps").parse().expect("a number")
    }

    fn assert_nothing_is_open(&self, _how: &str) {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
                    AND datname = current_database()";
        servers::wait_until("no transaction to be left open", || self.sql(open) == "0");
    }
}
