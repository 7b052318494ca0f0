//! No connection goes back to a pool with a transaction open: whatever ran on it
//! next would be part of that, and lost.

use std::net::SocketAddr;
use std::time::Duration;

use ::sqlx::postgres::PgPoolOptions;
use ::sqlx::{Connection, Executor};
use servers::{Fault, Postgres, Proxy, Trap, Way, wait_until};
use tower_idempotency::{RunError, StepError};

use crate::shop::{Driver, Failed, INSERT, Shop, Sqlx, work};
use crate::with_both_drivers;

with_both_drivers! {
    a_begin_that_is_given_up_leaves_no_transaction_open
}

type Outcome = Result<i64, RunError<StepError<Failed>>>;

/// Whether the server has a transaction that nothing is done in.
fn is_one_open<D: Driver>(shop: &Shop<'_, D>) -> bool {
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
                AND datname = current_database()";
    shop.sql(open) != "0"
}

async fn order<D: Driver>(shop: &Shop<'_, D>) -> Outcome {
    let joined = shop.joined.clone();
    let call = shop
        .runner()
        .run("shop", "K", "", move |op| async move { op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await });
    call.await
}

/// The server has begun, and its reply is late. sqlx 0.8.4 to 0.9.0 forget such a
/// transaction if their future is dropped then.
async fn a_begin_that_is_given_up_leaves_no_transaction_open<D: Driver>() {
    for how in ["dropped", "takes too long"] {
        let link = Proxy::to(SocketAddr::from(([127, 0, 0, 1], Postgres::shared().port())));
        let shop = Shop::<D>::open_through(Postgres::shared(), link.address().port()).await;
        link.set_trap(Trap::after(Way::Requests, b"BEGIN", Fault::Hold(Way::Replies)));
        let (given_up, give_up) = tokio::sync::oneshot::channel();
        let joined = shop.joined.clone();
        let call = tokio::spawn(shop.runner().run("shop", "K", "", move |op| async move {
            tokio::select! {
                outcome = op.transaction(&joined, "order", |tx| D::run(tx, INSERT)) => outcome,
                Ok(()) = give_up => Err(StepError::Retry("gave up".into())),
            }
        }));
        tokio::task::block_in_place(|| wait_until("it to begin", || link.sprung() == 1 && is_one_open(&shop)));
        if how == "dropped" {
            given_up.send(()).expect("it waits");
        }
        let outcome: Outcome = call.await.expect("no panic");
        match (how, outcome) {
            ("dropped", Err(RunError::Work(StepError::Retry(error)))) => assert_eq!(error, "gave up"),
            (_, Err(RunError::Work(StepError::RolledBack(error)))) => {
                assert!(error.to_string().contains("in time"), "{error}");
            }
            (_, outcome) => panic!("{how}: {outcome:?}"),
        }
        link.heal();
        tokio::task::block_in_place(|| wait_until("it to be rolled back", || !is_one_open(&shop)));
        assert_eq!(order(&shop).await.expect("nothing is in the way"), 1, "{how}");
        assert_eq!(shop.orders(), "1", "{how}");
    }
}

/// sqlx takes a savepoint that fails for the transaction around it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_savepoint_that_fails_leaves_no_transaction_open() {
    for swallowed in [false, true] {
        let shop = Shop::<Sqlx>::open(Postgres::shared()).await;
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy(&shop.url()).expect("a URL");
        let joined = shop.store.transactions_on(pool.clone());
        let outcome = shop.runner().run("shop", "K", "", move |op| async move {
            let work = work::<Sqlx, _, _>(move |tx| {
                Box::pin(async move {
                    Sqlx::run(tx, INSERT).await?;
                    Sqlx::run(tx, "SELECT 1/0::bigint").await.expect_err("it divides by zero");
                    let failed = tx.begin().await.expect_err("the transaction is aborted").to_string();
                    if swallowed { Ok(1) } else { Err(failed) }
                })
            });
            op.transaction(&joined, "order", work).await
        });
        let outcome: Outcome = outcome.await;
        match &outcome {
            Err(RunError::Work(StepError::Retry(_))) if !swallowed => {}
            Err(RunError::Work(StepError::RolledBack(_))) if swallowed => {}
            _ => panic!("{outcome:?}"),
        }
        // On the same connection, and by itself.
        pool.execute("INSERT INTO orders DEFAULT VALUES").await.expect("a connection");
        assert_eq!(shop.orders(), "1", "swallowed: {swallowed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!is_one_open(&shop));
    }
}
