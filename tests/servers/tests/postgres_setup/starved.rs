//! Transactions that wait leave connections for everybody else.

use std::time::Duration;

use servers::wait_until;
use tokio_postgres::NoTls;
use tower_idempotency::core::Key;
use tower_idempotency::store::{PostgresStore, Store};
use tower_idempotency::{Engine, RunError, Runner, StepError};

use crate::tenant::Tenant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_wait_starve_no_renewal() {
    let tenant = Tenant::new().await;
    tenant.sql(&format!("CREATE TABLE stock AS SELECT 8 AS left; GRANT ALL ON stock TO {}", tenant.name));
    let url = tenant.server.url_of(&tenant.name, &tenant.name);
    let store = PostgresStore::options().max_connections(4).connect(&url).expect("a URL");
    let superuser = tenant.server.url_of("postgres", &tenant.name);
    let (mut other, connection) = tokio_postgres::connect(&superuser, NoTls).await.expect("connects");
    tokio::spawn(connection);
    let lock = other.transaction().await.expect("a transaction");
    lock.batch_execute("SELECT FROM stock FOR UPDATE").await.expect("a lock");
    let calls = (0..4).map(|n| {
        let (runner, shop) =
            (Runner::new(Engine::new(store.clone()).lease(Duration::from_secs(60))), store.transactions());
        tokio::spawn(async move {
            let call = runner.run("shop", &format!("k{n}"), "", move |op| async move {
                op.transaction(&shop, "take", |tx| {
                    Box::pin(async move { tx.batch_execute("UPDATE stock SET \"left\" = \"left\" - 1").await })
                })
                .await
            });
            let outcome: Result<(), RunError<StepError<tokio_postgres::Error>>> = call.await;
            outcome
        })
    });
    let calls: Vec<_> = calls.collect();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until("two transactions to wait", || tenant.sql(waiting).parse::<u32>().expect("a number") >= 2);
    for n in 0..20 {
        store.load(&Key::from_bytes([n; 32])).await.expect("a connection is free");
    }
    lock.rollback().await.expect("it ends");
    for call in calls {
        // Whoever found no slot in time has done nothing.
        if let Err(error) = call.await.expect("no panic") {
            assert!(matches!(error, RunError::Work(StepError::RolledBack(_))), "{error:?}");
        }
    }
}
