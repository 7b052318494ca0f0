//! The isolation level is the caller's, and what is above READ COMMITTED has no
//! chance to see a renewal.

use std::time::Duration;

use servers::Postgres;
use tower_idempotency::{RunError, StepError};

use crate::shop::{Driver, Failed, INSERT, Shop, work};
use crate::with_both_drivers;

with_both_drivers! {
    the_caller_chooses_the_isolation_level
    a_snapshot_older_than_a_renewal_commits_nothing
    a_serializable_database_will_do
}

type Error = StepError<Failed>;

const LEVEL: &str = "SELECT CASE current_setting('transaction_isolation') \
     WHEN 'serializable' THEN 3 WHEN 'repeatable read' THEN 2 ELSE 1 END::bigint";

async fn the_caller_chooses_the_isolation_level<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    for (key, set, level) in [
        ("1", "", 1),
        ("2", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", 2),
        ("3", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", 3),
    ] {
        let joined = shop.joined.clone();
        let outcome = shop.runner().run("shop", key, "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    D::script(tx, set).await?;
                    D::run(tx, INSERT).await?;
                    D::run(tx, LEVEL).await
                })
            });
            op.transaction(&joined, "order", work).await
        });
        let outcome: Result<i64, RunError<Error>> = outcome.await;
        assert_eq!(outcome.unwrap_or_else(|error| panic!("{set}: {error:?}")), level);
        assert_eq!(shop.orders(), key, "{set}");
    }
}

async fn a_snapshot_older_than_a_renewal_commits_nothing<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let version = "SELECT version FROM idempotency.records";
    for (patient, rows) in [(false, "0"), (true, "1")] {
        let joined = shop.joined.clone();
        let database = shop.database.clone();
        let seen = move || Postgres::shared().sql_in(&database, version);
        let runner = shop.runner_with(|engine| engine.lease(Duration::from_millis(if patient { 20_000 } else { 900 })));
        let outcome = runner.run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    D::script(tx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
                    let order = D::run(tx, INSERT).await?;
                    let before = seen();
                    while !patient && seen() == before {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Ok(order)
                })
            });
            op.transaction(&joined, "order", work).await
        });
        let outcome: Result<i64, RunError<Error>> = outcome.await;
        match outcome {
            Ok(_) if patient => {}
            Err(RunError::Work(StepError::RolledBack(error))) if !patient => {
                assert!(error.to_string().contains("READ COMMITTED"), "it is told why: {error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(shop.orders(), rows);
    }
}

/// Then our own statements are undone, too, when others come between.
async fn a_serializable_database_will_do<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let name = &shop.database;
    shop.sql(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"));
    let calls = (0..24).map(|n| {
        let (runner, joined) = (shop.runner(), shop.joined.clone());
        let key = if n % 3 == 0 { "A" } else { "B" };
        tokio::spawn(async move {
            loop {
                let joined = joined.clone();
                let call = runner.run("shop", key, "", move |op| async move {
                    op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await
                });
                let outcome: Result<i64, RunError<Error>> = call.await;
                match outcome {
                    Ok(order) => return order,
                    Err(RunError::Busy(_) | RunError::Work(StepError::RolledBack(_) | StepError::Retry(_))) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic");
    }
    assert_eq!(shop.orders(), "2");
}
