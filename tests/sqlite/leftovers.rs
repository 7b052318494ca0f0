//! What the work of a transaction leaves behind on its connection is nobody else's.

use std::time::Duration;

use rusqlite::Connection;
use tower_idempotency::store::sqlite::SqliteTransaction;
use tower_idempotency::store::{Store, Swap};
use tower_idempotency::{RunError, StepError};

use super::records::{claim, key};
use super::shop::{Answer, Driver, INSERT, Outcome, Plain, Shop, with_each_driver, work};

with_each_driver! {
    temporary_tables_are_not_taken_for_the_stores
    an_exclusive_lock_is_not_kept_beyond_the_transaction
}

/// Runs the script in a transaction with an order.
async fn scripted<D: Driver>(shop: &Shop<D>, key: &str, script: &'static str) -> Outcome {
    let joined = shop.joined.clone();
    let outcome = shop.runner().run("shop", key, "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            Box::pin(async move {
                let order = D::run(tx, INSERT).await?;
                D::script(tx, script).await?;
                Ok(order)
            })
        });
        op.transaction(&joined, "order", work).await
    });
    outcome.await
}

/// SQLite looks for a name in `temp` first.
async fn temporary_tables_are_not_taken_for_the_stores<D: Driver>() {
    let shop = Shop::<D>::open();
    let scripts = [
        "CREATE TEMP TABLE idempotency_parts (record, n, value, hash, PRIMARY KEY (record, n)) WITHOUT ROWID",
        "CREATE TEMP TABLE idempotency_tallies AS SELECT * FROM idempotency_tallies",
        "CREATE TEMP TABLE idempotency_records AS SELECT * FROM idempotency_records",
    ];
    for (n, script) in scripts.into_iter().enumerate() {
        let orders = shop.orders();
        for attempt in 0..3 {
            let joined = shop.joined.clone();
            let outcome = shop.runner().run("shop", &n.to_string(), "", move |op| async move {
                let work = work::<D, _, _>(move |tx| {
                    Box::pin(async move {
                        D::script(tx, script).await?;
                        D::run(tx, INSERT).await
                    })
                });
                let order = op.transaction(&joined, "order", work).await?;
                // The first attempts die after the commit.
                if attempt < 2 { Err(StepError::Retry("died".into())) } else { Ok(order) }
            });
            let outcome: Outcome = outcome.await;
            assert_eq!(outcome.is_ok(), attempt == 2, "{script}: {outcome:?}");
            assert_eq!(shop.orders(), orders + 1, "{script}, {attempt}: {outcome:?}");
        }
    }
}

async fn an_exclusive_lock_is_not_kept_beyond_the_transaction<D: Driver>() {
    let shop = Shop::<D>::open();
    let outcome = scripted(&shop, "K", "PRAGMA locking_mode = EXCLUSIVE").await;
    if let Err(error) = outcome {
        assert!(format!("{error:?}").contains("EXCLUSIVE"), "{error:?}");
    }
    let swap = shop.store.swap(&key("other"), None, &claim()).await;
    assert!(matches!(swap, Ok(Swap::Stored)), "{swap:?}");
    for n in 0..3 {
        shop.order(&format!("after-{n}")).await.unwrap();
        assert!(shop.locked_for() < Duration::from_secs(1));
    }
}

type Queries = fn(&mut Connection) -> rusqlite::Result<i64>;

fn called<'t>(tx: &'t mut SqliteTransaction, f: Queries) -> Answer<'t> {
    Box::pin(async move { tx.call(f).await.map_err(|error| error.to_string()) })
}

async fn call(shop: &Shop<Plain>, key: &str, f: Queries) -> Outcome {
    let joined = shop.joined.clone();
    let outcome = shop.runner().run("shop", key, "", move |op| async move {
        op.transaction(&joined, "order", work::<Plain, _, _>(move |tx| called(tx, f))).await
    });
    outcome.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_finds_nothing_of_the_one_before() {
    let shop = Shop::<Plain>::open();
    let changes: [(&str, Queries); 6] = [
        ("temp-table", |db| db.execute_batch("CREATE TEMP TABLE t (a)").map(|()| 1)),
        ("query-only", |db| db.execute_batch("PRAGMA query_only = ON").map(|()| 1)),
        ("busy-timeout", |db| db.busy_timeout(Duration::from_secs(9)).map(|()| 1)),
        ("progress", |db| {
            let before = db.query_row(INSERT, [], |row| row.get(0))?;
            db.progress_handler(1, Some(|| true))?;
            Ok(before)
        }),
        ("authorizer", |db| {
            let before = db.query_row(INSERT, [], |row| row.get(0))?;
            db.authorizer(Some(|_: rusqlite::hooks::AuthContext<'_>| rusqlite::hooks::Authorization::Deny))?;
            Ok(before)
        }),
        ("trigger", |db| {
            db.execute_batch("CREATE TEMP TRIGGER r AFTER INSERT ON main.orders BEGIN SELECT raise(ABORT, 'boo'); END")
                .map(|()| 1)
        }),
    ];
    let mut bad = Vec::new();
    for (name, change) in changes {
        let first = call(&shop, name, change).await;
        for n in 0..2 {
            let again = call(&shop, &format!("{name}-{n}"), |db| {
                let timeout: i64 = db.query_row("PRAGMA busy_timeout", [], |row| row.get(0))?;
                assert_eq!(timeout, 0);
                db.execute_batch("CREATE TEMP TABLE t (a); DROP TABLE t")?;
                db.query_row(INSERT, [], |row| row.get(0))
            })
            .await;
            if again.is_err() {
                bad.push(format!("{name} ({first:?}): {again:?}"));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connection_in_the_place_of_the_transactions_is_noticed() {
    let shop = Shop::<Plain>::open();
    let outcome = call(&shop, "K", |db| {
        let order = db.query_row(INSERT, [], |row| row.get(0))?;
        let path = db.path().unwrap_or_default().to_owned();
        *db = Connection::open(path)?;
        Ok(order)
    })
    .await;
    assert!(matches!(outcome, Err(RunError::Work(StepError::RolledBack(_)))), "{outcome:?}");
    assert_eq!(shop.orders(), 0);
    assert_eq!(shop.order("K").await.unwrap(), 1);
}

/// The future of an operation may be dropped anywhere.
#[test]
fn dropped_outside_of_a_runtime_it_is_rolled_back() {
    fn dropped<D: Driver>() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shop = runtime.block_on(async { Shop::<D>::open() });
        let joined = shop.joined.clone();
        let call = shop.runner().run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    D::run(tx, INSERT).await?;
                    std::future::pending().await
                })
            });
            op.transaction(&joined, "order", work).await
        });
        let mut call: std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>> = Box::pin(call);
        runtime.block_on(async {
            let _ = tokio::time::timeout(Duration::from_millis(500), &mut call).await;
        });
        drop(call);
        assert!(shop.locked_for() < Duration::from_secs(1));
        assert_eq!(shop.orders(), 0);
    }
    dropped::<Plain>();
    #[cfg(feature = "sqlx-sqlite")]
    dropped::<super::shop::Sqlx>();
}
