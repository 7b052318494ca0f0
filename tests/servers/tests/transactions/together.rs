//! Rows and recovery points: the suite of all databases, and what is Postgres' own.

use servers::Postgres;
use tower_idempotency::{RunError, StepError};

use crate::enlisted::Error;
use crate::shop::{Driver, INSERT, Shop, Sqlx, Tokio, work};
use crate::with_both_drivers;

crate::enlisted::enlisted_tests!(shared, Shop<'static, Tokio>);
crate::enlisted::enlisted_tests!(shared_with_sqlx, Shop<'static, Sqlx>);

with_both_drivers! {
    a_swallowed_error_leaves_nothing
    a_transaction_ended_inside_is_noticed
    a_commit_that_the_server_refuses_leaves_nothing
    a_deadlock_leaves_nothing_and_the_retry_runs
}

async fn a_swallowed_error_leaves_nothing<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let joined = shop.joined.clone();
    let outcome = shop.runner().run("shop", "K", "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            let broken = D::run(tx, "SELECT 1/0::bigint");
            Box::pin(async move { Ok(broken.await.unwrap_or(7)) })
        });
        op.transaction(&joined, "order", work).await
    });
    let outcome: Result<i64, RunError<Error>> = outcome.await;
    assert!(matches!(outcome, Err(RunError::Work(StepError::RolledBack(_)))), "{outcome:?}");
}

/// A commit or rollback by hand would part the rows from their recovery point.
async fn a_transaction_ended_inside_is_noticed<D: Driver>() {
    for (by_hand, left) in [("COMMIT", "1"), ("COMMIT; BEGIN", "1"), ("ROLLBACK", "0"), ("ROLLBACK AND CHAIN", "0")] {
        let shop = Shop::<D>::open(Postgres::shared()).await;
        let joined = shop.joined.clone();
        let outcome = shop.runner().run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    let order = D::run(tx, INSERT).await?;
                    D::script(tx, by_hand).await?;
                    Ok(order)
                })
            });
            op.transaction(&joined, "order", work).await
        });
        let outcome: Result<i64, RunError<Error>> = outcome.await;
        let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{by_hand}: {outcome:?}") };
        assert!(error.to_string().contains("ended by the work"), "{error}");
        assert_eq!(shop.orders(), left, "{by_hand}");
        assert_eq!(shop.sql("SELECT count(*) FROM idempotency.steps"), "0", "{by_hand}");
    }
}

/// A deferred constraint, or SERIALIZABLE: then nothing is there, and the retry
/// runs the step again.
async fn a_commit_that_the_server_refuses_leaves_nothing<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    shop.server.sql_in(
        &shop.database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NOT EXISTS (SELECT FROM pg_tables WHERE tablename = 'agreed') THEN \
         RAISE EXCEPTION 'not now' USING ERRCODE = 'serialization_failure'; END IF; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let attempt = || {
        let joined = shop.joined.clone();
        shop.runner().run("shop", "K", "", move |op| async move {
            op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await
        })
    };
    let refused: Result<i64, RunError<Error>> = attempt().await;
    assert!(matches!(refused, Err(RunError::Work(StepError::RolledBack(_)))), "{refused:?}");
    assert_eq!(shop.orders(), "0");
    shop.server.sql_in(&shop.database, "CREATE TABLE agreed ()");
    attempt().await.expect("it commits now");
    assert_eq!(shop.orders(), "1");
}

/// With somebody who locks the record first and the shop's row then. The server
/// ends one of them, and it is us: the other one is more patient.
async fn a_deadlock_leaves_nothing_and_the_retry_runs<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    shop.sql("CREATE TABLE stock AS SELECT 1 AS id");
    let (joined, url) = (shop.joined.clone(), shop.url());
    let attempt = shop.runner().run("shop", "K", "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            Box::pin(async move {
                D::run(tx, INSERT).await?;
                D::script(tx, "SELECT FROM stock FOR UPDATE").await?;
                let (other, connection) =
                    ::tokio_postgres::connect(&url, ::tokio_postgres::NoTls).await.expect("connects");
                tokio::spawn(connection);
                let lock = "SET deadlock_timeout = '1min'; BEGIN; SELECT FROM idempotency.records FOR UPDATE";
                other.batch_execute(lock).await.expect("nobody else has it");
                tokio::spawn(async move { other.batch_execute("SELECT FROM stock FOR UPDATE; COMMIT").await });
                Ok(1)
            })
        });
        op.transaction(&joined, "order", work).await
    });
    let outcome: Result<i64, RunError<Error>> = attempt.await;
    let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("deadlock"), "{error}");
    assert_eq!(shop.orders(), "0");
    let joined = shop.joined.clone();
    let again = shop
        .runner()
        .run("shop", "K", "", move |op| async move { op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await });
    let again: Result<i64, RunError<Error>> = again.await;
    again.expect("nobody is in the way");
    assert_eq!(shop.orders(), "1");
}
