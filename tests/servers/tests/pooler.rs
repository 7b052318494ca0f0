//! Through a real PgBouncer that pools by the transaction: its clients share
//! sessions, and no two statements need meet the same one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use servers::{PgBouncer, Postgres};
use tower_idempotency::core::Key;
use tower_idempotency::store::conformance::{Cannot, Damage, Harness, basics, races, steps};
use tower_idempotency::store::{PostgresStore, PostgresStoreOptions, Store};
use tower_idempotency::{RunError, Runner, StepError};

/// No case that runs here needs it.
const SOME_CASES: Cannot = Cannot::because("the cases of all stores run without a pooler");

#[derive(Debug)]
struct Through(Arc<dyn Store>);

#[async_trait]
impl Harness for Through {
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

fn options(schema: &str, prepared: bool) -> PostgresStoreOptions {
    PostgresStore::options().schema(schema).prepared(prepared).creating_schema()
}

/// What the contract promises, as far as a pooler could spoil it.
async fn keeps_the_contract(pooler: &PgBouncer, database: &str, prepared: bool) {
    let on = |schema| Through(Arc::new(options(schema, prepared).connect(&pooler.url_of(database)).expect("a URL")));
    basics::a_conflict_changes_nothing(&on("plain 1")).await;
    races::every_history_is_linearizable(&on("plain 2")).await;
    races::one_of_many_takes_over(&on("plain 3")).await;
    steps::completion_drops_request_and_steps(&on("plain 4")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_prepared_statements_any_pooler_will_do() {
    let server = Postgres::shared();
    server.database("plain");
    let pooler = PgBouncer::start(server, &[]);
    keeps_the_contract(&pooler, "plain", false).await;
}

/// From 1.21 on PgBouncer keeps prepared statements. An older one does not know
/// the setting, and then it is said what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_prepared_statements_it_must_keep_them() {
    let server = Postgres::shared();
    server.database("prepared");
    if PgBouncer::version() >= (1, 21) {
        let pooler = PgBouncer::start(server, &["max_prepared_statements = 200"]);
        return keeps_the_contract(&pooler, "prepared", true).await;
    }
    let pooler = PgBouncer::start(server, &[]);
    let store = options("shared", true).connect(&pooler.url_of("prepared")).expect("a URL");
    let key = tower_idempotency::core::Key::from_bytes([7; 32]);
    store.create_schema().await.expect("a schema");
    let loads = (0..64).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.load(&key).await })
    });
    for load in loads.collect::<Vec<_>>() {
        // By luck, it may have met the session that knows its statement.
        if let Err(error) = load.await.expect("no panic") {
            assert!(error.to_string().contains("prepared(false)"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_recovery_points_commit_together() {
    let server = Postgres::shared();
    server.database("orders");
    server.sql_in("orders", "CREATE TABLE orders (id bigserial PRIMARY KEY)");
    let pooler = PgBouncer::start(server, &[]);
    let store = options("shop", false).connect(&pooler.url_of("orders")).expect("a URL");
    store.create_schema().await.expect("a schema");
    let calls = (0..32_u32).map(|n| {
        let (runner, shop) = (Runner::new(store.clone()), store.transactions());
        let key = format!("order-{}", n % 8);
        tokio::spawn(async move {
            loop {
                let shop = shop.clone();
                let call = runner.run("shop", &key, "", move |op| async move {
                    let order = op.transaction(&shop, "order", |tx| {
                        Box::pin(async move {
                            // Simple, as what goes through such a pooler must be.
                            tx.batch_execute("INSERT INTO orders DEFAULT VALUES").await
                        })
                    });
                    order.await
                });
                let outcome: Result<(), RunError<StepError<tokio_postgres::Error>>> = call.await;
                match outcome {
                    Ok(()) => return,
                    Err(RunError::Busy(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(error) => panic!("{error:?}"),
                }
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic");
    }
    assert_eq!(server.sql_in("orders", "SELECT count(*) FROM orders"), "8");
}
