//! The store contract, on Postgres.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use servers::Postgres;
use tokio_postgres::{Client, NoTls};
use tower_idempotency::conformance_tests;
use tower_idempotency::core::Key;
use tower_idempotency::store::conformance::{Cannot, Damage, FaultyStore, Harness, basics, races, scans, steps, times};
use tower_idempotency::store::{PostgresStore, PostgresStoreOptions, Store};

/// A store with a schema of its own, on the server of all tests here, and with
/// a clock that stands still.
struct OnPostgres {
    pool: Pool,
    partitions: u16,
    schema: String,
    store: Mutex<Arc<dyn Store>>,
    client: Client,
}

fn options(schema: &str, partitions: u16) -> PostgresStoreOptions {
    let clock = format!("(SELECT time FROM \"{schema}\".clock)");
    PostgresStore::options()
        .schema(schema)
        .table_prefix("Shop \"")
        .max_connections(4)
        .index_labels(true)
        .partitions(partitions)
        .with_clock(clock)
}

/// Whose the connections are.
#[derive(Clone, Copy)]
enum Pool {
    Own,
    Sqlx09,
    Sqlx08,
}

fn open(pool: Pool, options: PostgresStoreOptions) -> Arc<PostgresStore> {
    let url = Postgres::shared().url();
    Arc::new(match pool {
        Pool::Own => options.connect(&url).expect("a URL"),
        Pool::Sqlx09 => {
            let pool = sqlx::postgres::PgPoolOptions::new().max_connections(4);
            options.with_sqlx_pool(pool.connect_lazy(&url).expect("a URL"))
        }
        Pool::Sqlx08 => {
            let pool = sqlx_postgres_08::PgPoolOptions::new().max_connections(4);
            options.with_sqlx_08_pool(pool.connect_lazy(&url).expect("a URL"))
        }
    })
}

impl OnPostgres {
    async fn new() -> Self {
        Self::with(Pool::Own, 1).await
    }

    async fn in_partitions() -> Self {
        Self::with(Pool::Own, 8).await
    }

    async fn on_sqlx_09() -> Self {
        Self::with(Pool::Sqlx09, 1).await
    }

    async fn on_sqlx_08() -> Self {
        Self::with(Pool::Sqlx08, 1).await
    }

    async fn with(pool: Pool, partitions: u16) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // A name that only works quoted.
        let schema = format!("Own {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (client, connection) = tokio_postgres::connect(&Postgres::shared().url(), NoTls).await.expect("connects");
        tokio::spawn(connection);
        let store = open(pool, options(&schema, partitions));
        store.create_schema().await.expect("a schema");
        let clock = format!("CREATE TABLE \"{schema}\".clock AS SELECT now() AS time");
        client.batch_execute(&clock).await.expect("a clock");
        Self { pool, partitions, schema, store: Mutex::new(store), client }
    }
}

impl fmt::Debug for OnPostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnPostgres").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl Harness for OnPostgres {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&*self.store.lock().expect("no test has panicked"))
    }

    async fn advance(&self, by: Duration) {
        let by = format!("UPDATE \"{}\".clock SET time = time + interval '{} ms'", self.schema, by.as_millis());
        self.client.batch_execute(&by).await.expect("the clock moves");
    }

    async fn damage(&self, key: &Key, how: Damage) -> Result<(), Cannot> {
        let what = match how {
            // Its format is the second byte of its head.
            Damage::NewerFormat => "head = set_byte(head, 1, 3)",
            _ => "created = -1",
        };
        let damage = format!("UPDATE \"{}\".\"Shop \"\"records\" SET {what} WHERE key = $1", self.schema);
        let damaged = self.client.execute(&damage, &[&key.as_bytes().as_slice()]).await.expect("it is damaged");
        assert_eq!(damaged, 1);
        Ok(())
    }

    async fn reopen(&self) -> Result<(), Cannot> {
        *self.store.lock().expect("no test has panicked") = open(self.pool, options(&self.schema, self.partitions));
        Ok(())
    }

    fn bounded(&self, _: usize) -> Result<Arc<dyn Store>, Cannot> {
        Err(Cannot::because("its bound is the server's disk"))
    }
}

conformance_tests!(postgres, OnPostgres::new);
conformance_tests!(partitions, OnPostgres::in_partitions);
conformance_tests!(sqlx_09, OnPostgres::on_sqlx_09);
conformance_tests!(sqlx_08, OnPostgres::on_sqlx_08);

/// No case that runs here needs it.
const SOME_CASES: Cannot = Cannot::because("the cases of all stores run with a clock that stands still");

/// The server's own clock, and the wrapper that makes stores fail.
#[derive(Debug)]
struct OnTheClock(Arc<dyn Store>);

impl OnTheClock {
    fn new(store: impl Store) -> Self {
        Self(Arc::new(FaultyStore::new(Arc::new(store))))
    }
}

#[async_trait]
impl Harness for OnTheClock {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0)
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(200)
    }

    async fn reopen(&self) -> Result<(), Cannot> {
        Err(SOME_CASES)
    }

    async fn damage(&self, _: &Key, _: Damage) -> Result<(), Cannot> {
        Err(SOME_CASES)
    }

    fn bounded(&self, _: usize) -> Result<Arc<dyn Store>, Cannot> {
        Err(SOME_CASES)
    }
}

async fn by_the_server(schema: &str, prepared: bool) -> OnTheClock {
    let options = PostgresStore::options().schema(schema).prepared(prepared).creating_schema();
    OnTheClock::new(options.connect(&Postgres::shared().url()).expect("a URL"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_servers_own_clock() {
    let on = |schema| by_the_server(schema, true);
    times::replies_show_the_time(&on("times 1").await).await;
    times::writes_are_stamped(&on("times 2").await).await;
    times::creation_is_kept(&on("times 3").await).await;
    times::an_expired_response_can_be_replaced(&on("times 4").await).await;
    scans::lapsed_are_found(&on("times 5").await).await;
    scans::only_expired_are_found_as_expired(&on("times 6").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_prepared_statements() {
    let on = |schema| by_the_server(schema, false);
    basics::a_conflict_changes_nothing(&on("plain 1").await).await;
    races::every_history_is_linearizable(&on("plain 2").await).await;
    races::one_of_many_takes_over(&on("plain 3").await).await;
    steps::completion_drops_request_and_steps(&on("plain 4").await).await;
}

/// Where the database's default is SERIALIZABLE, the server undoes our own
/// statements when others come between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_serializable_database() {
    let server = Postgres::shared();
    let url = server.database("serializable");
    server.sql("ALTER DATABASE serializable SET default_transaction_isolation = 'serializable'");
    let on = |schema| {
        let options = PostgresStore::options().schema(schema).creating_schema();
        OnTheClock::new(options.connect(&url).expect("a URL"))
    };
    races::every_history_is_linearizable(&on("races 1")).await;
    races::one_of_many_takes_over(&on("races 2")).await;
}
