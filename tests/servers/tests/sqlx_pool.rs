//! A store on the application's own pool of sqlx.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use servers::{Postgres, Proxy, wait_until};
use tower_idempotency::core::{Claim, Claimed, Fingerprint, Key, Labels, Mode, Record};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::postgres::{Enlisted, SharedPool, TransactionDriver};
use tower_idempotency::store::{PostgresStore, PostgresStoreOptions, Store};
use tower_idempotency::{Engine, RunError, Runner, StepError};

/// A version of sqlx, as far as the tests need it.
trait Version: 'static {
    type Pool: TransactionDriver<Handle = Self::Handle>;
    type Handle: Send;

    /// A pool that pings no connection before it gives it out.
    fn pool(url: &str, connections: u32) -> Self::Pool;
    fn store(options: PostgresStoreOptions, pool: &Self::Pool) -> PostgresStore;
    /// Gives connections back to the pool on which `sql` was run.
    async fn leave(pool: &Self::Pool, connections: usize, sql: &'static str);
    /// Runs a statement of the application's.
    fn run<'t>(handle: &'t mut Self::Handle, sql: &'static str) -> Running<'t>;
    /// The same after a savepoint that it neither commits nor rolls back.
    fn run_in_savepoint<'t>(handle: &'t mut Self::Handle, sql: &'static str) -> Running<'t>;
}

/// As a `begin` that is dropped leaves it.
const OPEN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";

const TAKE: &str = "UPDATE stock SET \"left\" = \"left\" - 1";

type Running<'t> = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + 't>>;

macro_rules! version {
    ($name:ident, $options:path, $pool:path, $connection:path, $executor:path, $begin:path, $store:ident) => {
        struct $name;

        impl Version for $name {
            type Pool = $pool;
            type Handle = $connection;

            fn pool(url: &str, connections: u32) -> $pool {
                let options = <$options>::new().max_connections(connections).test_before_acquire(false);
                options.connect_lazy(url).expect("a URL")
            }

            fn store(options: PostgresStoreOptions, pool: &$pool) -> PostgresStore {
                options.$store(pool.clone())
            }

            async fn leave(pool: &$pool, connections: usize, sql: &'static str) {
                use $executor as Executor;
                let mut all = Vec::new();
                for _ in 0..connections {
                    let mut connection = pool.acquire().await.expect("a connection");
                    // It may fail: that is what one is left with.
                    let _ = Executor::execute(&mut *connection, sql).await;
                    all.push(connection);
                }
                drop(all);
                // They go back in tasks.
                while pool.num_idle() < connections {
                    tokio::task::yield_now().await;
                }
            }

            fn run<'t>(handle: &'t mut $connection, sql: &'static str) -> Running<'t> {
                use $executor as Executor;
                let done = Executor::execute(handle, sql);
                Box::pin(async move { done.await.map(drop).map_err(|error| error.to_string()) })
            }

            fn run_in_savepoint<'t>(handle: &'t mut $connection, sql: &'static str) -> Running<'t> {
                use $begin as Connection;
                Box::pin(async move {
                    std::mem::forget(Connection::begin(&mut *handle).await.map_err(|error| error.to_string())?);
                    Self::run(handle, sql).await
                })
            }
        }
    };
}

version!(
    Sqlx09,
    sqlx::postgres::PgPoolOptions,
    sqlx::PgPool,
    sqlx::postgres::PgConnection,
    sqlx::Executor,
    sqlx::Connection,
    with_sqlx_pool
);

version!(
    Sqlx08,
    sqlx_postgres_08::PgPoolOptions,
    sqlx_postgres_08::PgPool,
    sqlx_postgres_08::PgConnection,
    sqlx_core_08::executor::Executor,
    sqlx_core_08::connection::Connection,
    with_sqlx_08_pool
);

macro_rules! with_each_version {
    ($($test:ident)*) => {
        mod sqlx_09 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test::<super::Sqlx09>().await;
            })*
        }

        mod sqlx_08 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test::<super::Sqlx08>().await;
            })*
        }
    };
}

with_each_version! {
    a_transaction_that_was_left_open_takes_no_write_with_it
    connections_with_a_failed_transaction_cost_no_call
    a_dropped_transaction_that_waits_takes_no_connection_of_the_others
    a_savepoint_that_is_left_open_commits_nothing
    the_store_and_its_transactions_go_on_after_a_failover_behind_one_name
    calls_dropped_anywhere_poison_no_connection
    sessions_that_the_server_ends_cost_no_call
    transactions_that_share_the_pool_leave_two_connections
    a_step_and_the_applications_rows_commit_together
    missing_tables_are_told_or_made
}

/// A database of its own on the shared server, and a pool that leads there.
struct Shop<V: Version> {
    server: &'static Postgres,
    name: String,
    pool: V::Pool,
    store: PostgresStore,
}

impl<V: Version> Shop<V> {
    async fn open(connections: u32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = Postgres::shared();
        let name = format!("sqlx_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let pool = V::pool(&server.database(&name), connections);
        let store = V::store(PostgresStore::options(), &pool);
        store.create_schema().await.expect("a schema");
        Self { server, name, pool, store }
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql_in(&self.name, sql)
    }

    fn runner(&self) -> Runner {
        Runner::new(Engine::new(self.store.clone()).lease(Duration::from_secs(60)))
    }

    fn sharing(&self) -> Enlisted<SharedPool<V::Pool>> {
        self.store.transactions_sharing(self.pool.clone())
    }
}

/// Claims `key`, and gives the record.
async fn claimed(store: &PostgresStore, key: &Key) -> Record {
    let claim = Claim {
        fingerprint: Fingerprint::of([b"x".as_slice()]),
        mode: Mode::Resumable,
        lease: Duration::from_secs(3600),
        request: None,
        labels: Labels::new(),
    };
    let done = Ledger::new(store.clone()).apply(key, None, claim).await.expect("a claim");
    assert!(matches!(done.output, Claimed::Granted(_)), "{:?}", done.output);
    done.record.expect("a record")
}

/// Otherwise a claim would be acknowledged that is not stored: a retry would charge again.
async fn a_transaction_that_was_left_open_takes_no_write_with_it<V: Version>() {
    let shop = Shop::<V>::open(2).await;
    shop.store.durability().await.expect("the store works");
    for n in 0..4 {
        V::leave(&shop.pool, 2, OPEN).await;
        let key = Key::from_bytes([n; 32]);
        let record = claimed(&shop.store, &key).await;
        assert_eq!(shop.sql("SELECT count(*) FROM idempotency.records"), (n + 1).to_string(), "it is stored");
        V::leave(&shop.pool, 2, OPEN).await;
        let loaded = shop.store.load(&key).await.expect("a load").record.expect("a record");
        assert_eq!(loaded.version(), record.version());
    }
}

/// More of them than a statement is tried again for.
async fn connections_with_a_failed_transaction_cost_no_call<V: Version>() {
    let shop = Shop::<V>::open(8).await;
    shop.sql("CREATE TABLE stock AS SELECT 8 AS left");
    for n in 0..4 {
        V::leave(&shop.pool, 8, "BEGIN; SELECT 1/0").await;
        // One call: a ledger would make more of them.
        shop.store.load(&Key::from_bytes([n; 32])).await.expect("a load");
        V::leave(&shop.pool, 8, "BEGIN; SELECT 1/0").await;
        take(&shop, &n.to_string()).await.expect("a transaction");
    }
    assert_eq!(shop.sql("SELECT \"left\" FROM stock"), "4");
}

/// One that is taken out of stock in a step of `key`.
async fn take<V: Version>(shop: &Shop<V>, key: &str) -> Result<(), RunError<StepError<String>>> {
    let sharing = shop.sharing();
    let call = shop
        .runner()
        .run("shop", key, "", move |op| async move { op.transaction(&sharing, "take", |tx| V::run(tx, TAKE)).await });
    call.await
}

/// Another connection, whose transaction has the row of the stock.
async fn locked<V: Version>(shop: &Shop<V>) -> tokio_postgres::Client {
    let url = shop.server.url_of("postgres", &shop.name);
    let (lock, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    lock.batch_execute("BEGIN; SELECT FROM stock FOR UPDATE").await.expect("a lock");
    lock
}

/// The statements of the dropped ones go on waiting on the server; the pool is as large as before.
async fn a_dropped_transaction_that_waits_takes_no_connection_of_the_others<V: Version>() {
    let shop = Shop::<V>::open(3).await;
    shop.sql("CREATE TABLE stock AS SELECT 8 AS left");
    let lock = locked(&shop).await;
    for n in 1..=4 {
        let (sharing, (give_up, given_up)) = (shop.sharing(), tokio::sync::oneshot::channel());
        let call = tokio::spawn(shop.runner().run("shop", &n.to_string(), "", move |op| async move {
            tokio::select! {
                taken = op.transaction(&sharing, "take", |tx| V::run(tx, TAKE)) => taken,
                Ok(()) = given_up => Err(StepError::Retry("gave up".to_owned())),
            }
        }));
        let waits = format!(
            "SELECT count(*) = {n} FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event_type = 'Lock'"
        );
        tokio::task::block_in_place(|| wait_until("it to wait for the row", || shop.sql(&waits) == "t"));
        give_up.send(()).expect("it waits");
        let outcome: Result<(), RunError<StepError<String>>> = call.await.expect("no panic");
        assert!(matches!(outcome, Err(RunError::Work(StepError::Retry(_)))), "{outcome:?}");
        // As long as only the statements on the server could free a connection, the third found none.
        claimed(&shop.store, &Key::from_bytes([n; 32])).await;
    }
    lock.batch_execute("ROLLBACK").await.expect("it ends");
    take(&shop, "last").await.expect("a place is free");
    assert_eq!(shop.sql("SELECT \"left\" FROM stock"), "7", "what was dropped was rolled back");
}

/// sqlx would end the savepoint, and take that for the commit.
async fn a_savepoint_that_is_left_open_commits_nothing<V: Version>() {
    let shop = Shop::<V>::open(3).await;
    shop.sql("CREATE TABLE orders (n int)");
    let sharing = shop.sharing();
    let call = shop.runner().run("shop", "k", "", move |op| async move {
        op.transaction(&sharing, "order", |tx| V::run_in_savepoint(tx, "INSERT INTO orders VALUES (1)")).await
    });
    let outcome: Result<(), RunError<StepError<String>>> = call.await;
    let error = outcome.expect_err("it is not committed");
    assert!(matches!(error, RunError::Work(StepError::RolledBack(_))), "{error:?}");
    assert!(error.to_string().contains("savepoint"), "{error}");
    let open = "SELECT count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    wait_until("no transaction to be left open", || shop.sql(open) == "0");
    assert_eq!(shop.sql("SELECT count(*) FROM orders"), "0");
}

/// The old primary is up, and read-only: its connections are as sound as before.
async fn the_store_and_its_transactions_go_on_after_a_failover_behind_one_name<V: Version>() {
    let primary = Postgres::start();
    primary.sql("CREATE TABLE stock AS SELECT 8 AS left");
    let name = Proxy::to(([127, 0, 0, 1], primary.port()).into());
    let url = primary.url().replace(&primary.port().to_string(), &name.address().port().to_string());
    let pool = V::pool(&url, 4);
    let store = V::store(PostgresStore::options().creating_schema(), &pool);
    let shop = Shop::<V> { server: Postgres::shared(), name: String::new(), pool, store };
    claimed(&shop.store, &Key::from_bytes([1; 32])).await;
    take(&shop, "before").await.expect("a transaction");
    // All of the pool's connections lead to the old primary.
    V::leave(&shop.pool, 4, "SELECT 1").await;

    let standby = primary.fail_over();
    name.redirect(([127, 0, 0, 1], standby.port()).into());
    // Its claim finds out, and closes what else leads there.
    take(&shop, "first").await.expect("a transaction");
    claimed(&shop.store, &Key::from_bytes([2; 32])).await;
    take(&shop, "second").await.expect("a transaction");
    assert_eq!(standby.sql("SELECT \"left\" FROM stock"), "5");
    assert_eq!(primary.sql("SELECT \"left\" FROM stock"), "7");
}

/// A caller that stops waiting, at whatever point, leaves a pool that works.
async fn calls_dropped_anywhere_poison_no_connection<V: Version>() {
    let shop = Shop::<V>::open(2).await;
    for polls in 0..40 {
        let key = Key::from_bytes([polls; 32]);
        let record = claimed(&shop.store, &key).await;
        let mut call = pin!(shop.store.remove(&key, record.version()));
        for _ in 0..polls % 8 {
            if poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await {
                break;
            }
            tokio::task::yield_now().await;
        }
        // Dropped here.
    }
    claimed(&shop.store, &Key::from_bytes([200; 32])).await;
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let busy = format!("SELECT count(*) {others} AND state <> 'idle'");
    wait_until("nothing to be left running", || shop.sql(&busy) == "0");
    let open = format!("SELECT count(*) <= 2 {others}");
    wait_until("the dropped connections to be closed", || shop.sql(&open) == "t");
}

async fn sessions_that_the_server_ends_cost_no_call<V: Version>() {
    let shop = Shop::<V>::open(4).await;
    for n in 0..4 {
        let key = |m: u8| Key::from_bytes([n * 8 + m; 32]);
        let (a, b, c, d) = (key(0), key(1), key(2), key(3));
        tokio::join!(
            claimed(&shop.store, &a),
            claimed(&shop.store, &b),
            claimed(&shop.store, &c),
            claimed(&shop.store, &d)
        );
        shop.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        claimed(&shop.store, &key(4)).await;
    }
}

async fn transactions_that_share_the_pool_leave_two_connections<V: Version>() {
    let shop = Shop::<V>::open(4).await;
    shop.sql("CREATE TABLE stock AS SELECT 8 AS left");
    let lock = locked(&shop).await;
    let calls = (0..4).map(|n| {
        let (runner, sharing) = (shop.runner(), shop.sharing());
        tokio::spawn(async move {
            let call = runner.run("shop", &format!("k{n}"), "", move |op| async move {
                op.transaction(&sharing, "take", |tx| V::run(tx, TAKE)).await
            });
            let outcome: Result<(), RunError<StepError<String>>> = call.await;
            outcome
        })
    });
    let calls: Vec<_> = calls.collect();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until("two transactions to wait", || shop.sql(waiting) == "2");
    for n in 0..20 {
        shop.store.load(&Key::from_bytes([n; 32])).await.expect("a connection is free");
    }
    assert_eq!(shop.sql(waiting), "2", "no third transaction has begun");
    lock.batch_execute("ROLLBACK").await.expect("it ends");
    for call in calls {
        // A call that found no slot in time has done nothing.
        if let Err(error) = call.await.expect("no panic") {
            assert!(matches!(error, RunError::Work(StepError::RolledBack(_))), "{error:?}");
        }
    }
}

async fn a_step_and_the_applications_rows_commit_together<V: Version>() {
    let shop = Shop::<V>::open(4).await;
    shop.sql("CREATE TABLE orders (n int)");
    for attempt in 0..3 {
        let sharing = shop.sharing();
        let call = shop.runner().run("shop", "k", "", move |op| async move {
            op.transaction(&sharing, "order", |tx| V::run(tx, "INSERT INTO orders VALUES (1)")).await?;
            if attempt == 0 { Err(StepError::Retry("later".to_owned())) } else { Ok(()) }
        });
        let outcome: Result<(), RunError<StepError<String>>> = call.await;
        assert_eq!(outcome.is_ok(), attempt > 0, "{outcome:?}");
        assert_eq!(shop.sql("SELECT count(*) FROM orders"), "1");
    }
    // The store has no pool of deadpool, whose transactions these would be.
    let own = shop.store.transactions();
    let call = shop.runner().run("shop", "other", "", move |op| async move {
        op.transaction(&own, "order", |_| Box::pin(async { Ok(()) })).await
    });
    let outcome: Result<(), RunError<StepError<String>>> = call.await;
    assert!(outcome.expect_err("there is none").to_string().contains("transactions_sharing"));
}

async fn missing_tables_are_told_or_made<V: Version>() {
    let shop = Shop::<V>::open(2).await;
    let store = V::store(PostgresStore::options().schema("not there"), &shop.pool);
    let error = store.load(&Key::from_bytes([1; 32])).await.expect_err("there are no tables").to_string();
    assert!(error.contains("create_schema()"), "{error}");
    shop.sql("DROP SCHEMA idempotency CASCADE");
    let error = shop.store.load(&Key::from_bytes([1; 32])).await.expect_err("there are no tables").to_string();
    assert!(error.contains("create_schema()"), "{error}");
    // The same where they are to be made when they are missed.
    let store = V::store(PostgresStore::options().creating_schema(), &shop.pool);
    claimed(&store, &Key::from_bytes([1; 32])).await;
}
