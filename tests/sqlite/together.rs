//! Rows and recovery points: the suite of all databases, and what is SQLite's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::tempdir;
use tower_idempotency::store::SqliteStore;
use tower_idempotency::{RunError, Runner, StepError};

use super::shop::{Driver, Failed, INSERT, Outcome, Plain, Shop, with_each_driver, work};

crate::enlisted::enlisted_tests!(shared, Shop<Plain>);
#[cfg(feature = "sqlx-sqlite")]
crate::enlisted::enlisted_tests!(shared_with_sqlx, Shop<crate::shop::Sqlx>);

with_each_driver! {
    an_error_that_ended_the_transaction_can_not_be_swallowed
    a_transaction_ended_inside_is_noticed_and_commits_nothing
    savepoints_are_the_works_own
    another_file_is_refused
    an_attached_database_is_refused
    a_commit_that_is_refused_leaves_nothing
    what_was_committed_is_counted_and_found_after_a_crash
    a_file_that_is_moved_away_under_a_transaction_is_in_doubt
    a_step_that_runs_at_the_same_time_waits_for_nobody_for_long
}

async fn an_error_that_ended_the_transaction_can_not_be_swallowed<D: Driver>() {
    let shop = Shop::<D>::open();
    let joined = shop.joined.clone();
    let outcome = shop.runner().run("shop", "K", "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            Box::pin(async move {
                D::script(tx, "INSERT INTO orders (key) VALUES ('a')").await?;
                let twice = D::script(tx, "INSERT OR ROLLBACK INTO orders (key) VALUES ('a')").await;
                assert!(twice.is_err());
                // In no transaction any more: this would commit by itself.
                let alone = D::script(tx, "INSERT INTO orders (key) VALUES ('b')").await;
                assert!(alone.is_err(), "it must not commit");
                Ok(7)
            })
        });
        op.transaction(&joined, "order", work).await
    });
    let outcome: Outcome = outcome.await;
    assert!(matches!(outcome, Err(RunError::Work(StepError::RolledBack(_)))), "{outcome:?}");
    assert_eq!(shop.orders(), 0);
    shop.order("K").await.unwrap();
}

/// A commit or rollback by hand would part the rows from their recovery point.
async fn a_transaction_ended_inside_is_noticed_and_commits_nothing<D: Driver>() {
    for by_hand in ["COMMIT", "END; BEGIN", "ROLLBACK", "ROLLBACK; BEGIN IMMEDIATE"] {
        let shop = Shop::<D>::open();
        let joined = shop.joined.clone();
        let outcome = shop.runner().run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    let order = D::run(tx, INSERT).await?;
                    let ended = D::script(tx, by_hand).await;
                    assert_eq!(ended.is_ok(), by_hand.starts_with("ROLLBACK"), "{by_hand}: {ended:?}");
                    let _ = D::run(tx, INSERT).await;
                    Ok(order)
                })
            });
            op.transaction(&joined, "order", work).await
        });
        let outcome: Outcome = outcome.await;
        let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{by_hand}: {outcome:?}") };
        assert!(error.to_string().contains("ended by the work"), "{error}");
        assert_eq!(shop.orders(), 0, "{by_hand}");
        assert_eq!(shop.number("SELECT count(*) FROM idempotency_parts"), 0, "{by_hand}");
        assert_eq!(shop.order("K").await.unwrap(), 1, "{by_hand}");
    }
}

async fn savepoints_are_the_works_own<D: Driver>() {
    let shop = Shop::<D>::open();
    let joined = shop.joined.clone();
    let outcome = shop.runner().run("shop", "K", "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            Box::pin(async move {
                let order = D::run(tx, INSERT).await?;
                D::script(tx, "SAVEPOINT a").await?;
                D::run(tx, INSERT).await?;
                D::script(tx, "ROLLBACK TO a; RELEASE a; SAVEPOINT b").await?;
                // One that is left open goes with the commit.
                Ok(order)
            })
        });
        op.transaction(&joined, "order", work).await
    });
    let outcome: Outcome = outcome.await;
    assert_eq!(outcome.unwrap(), 1);
    assert_eq!(shop.orders(), 1);
}

/// The plain driver has connections of the store's own, to whatever lies there.
async fn another_file_is_refused<D: Driver>() {
    let (shop, other) = (Shop::<D>::open(), Shop::<D>::open());
    let joined = D::join(&shop.store, &other.path);
    let outcome = shop
        .runner()
        .run("shop", "K", "", move |op| async move { op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await });
    let outcome: Outcome = outcome.await;
    if std::any::type_name::<D>().ends_with("Plain") {
        assert_eq!(outcome.unwrap(), 1);
        return;
    }
    let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("another file"), "{error}");
    assert_eq!((shop.orders(), other.orders()), (0, 0));
}

async fn an_attached_database_is_refused<D: Driver>() {
    let shop = Shop::<D>::open();
    let beside = Connection::open(shop.path.with_file_name("other.db")).unwrap();
    beside.execute_batch("CREATE TABLE there (a)").unwrap();
    for attached in ["/", ":memory:", ""] {
        let joined = shop.joined.clone();
        let path = shop.path.with_file_name("other.db").display().to_string();
        let name = if attached.starts_with('/') { path } else { attached.to_owned() };
        let script: &'static str = Box::leak(format!("ATTACH '{name}' AS beside; CREATE TABLE beside.t (a)").into());
        let outcome = shop.runner().run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    let order = D::run(tx, INSERT).await?;
                    D::script(tx, script).await?;
                    Ok(order)
                })
            });
            op.transaction(&joined, "order", work).await
        });
        let outcome: Outcome = outcome.await;
        let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{name}: {outcome:?}") };
        assert!(error.to_string().contains("attached") && error.to_string().contains("beside"), "{error}");
        assert_eq!(shop.orders(), 0);
    }
    // Temporary tables are the connection's own affair. Those it had are gone.
    let joined = shop.joined.clone();
    let outcome = shop.runner().run("shop", "temp", "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            Box::pin(async move {
                D::script(tx, "CREATE TEMP TABLE t (a); INSERT INTO t VALUES (1)").await?;
                D::run(tx, INSERT).await
            })
        });
        op.transaction(&joined, "order", work).await
    });
    let outcome: Outcome = outcome.await;
    outcome.unwrap();
    assert_eq!(shop.orders(), 1);
}

/// A deferred key that leads nowhere is found by the commit.
async fn a_commit_that_is_refused_leaves_nothing<D: Driver>() {
    let shop = Shop::<D>::open();
    let call = |item: &'static str| {
        let joined = shop.joined.clone();
        shop.runner().run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    let order = D::run(tx, INSERT).await?;
                    D::script(tx, item).await?;
                    Ok(order)
                })
            });
            op.transaction(&joined, "order", work).await
        })
    };
    let refused: Outcome = call("INSERT INTO items VALUES (4711)").await;
    let Err(RunError::Work(StepError::RolledBack(error))) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("FOREIGN KEY"), "{error}");
    assert_eq!(shop.orders(), 0);
    assert!(shop.locked_for() < Duration::from_secs(1));
    let agreed: Outcome = call("INSERT INTO items SELECT max(id) FROM orders").await;
    agreed.unwrap();
    assert_eq!((shop.orders(), shop.number("SELECT count(*) FROM items")), (1, 1));
}

/// The count of the store's transactions and its sums go on with it: what is missing
/// is missed, and what is there is trusted.
async fn what_was_committed_is_counted_and_found_after_a_crash<D: Driver>() {
    let shop = Shop::<D>::open();
    let _reader = super::records::keep_in_wal(&shop.path);
    for n in 0..20 {
        shop.order(&format!("K{n}")).await.unwrap();
    }
    // As it is on the disk when the process dies.
    let (whole, cut) = (tempdir().unwrap(), tempdir().unwrap());
    let live = shop.path.parent().unwrap();
    super::records::copy(live, whole.path());
    shop.order("last").await.unwrap();
    super::records::copy(live, cut.path());
    let wal = |directory: &std::path::Path| directory.join("shop.db-wal");
    std::fs::copy(wal(whole.path()), wal(cut.path())).unwrap();
    let refused = SqliteStore::options().join_existing_database().open(cut.path().join("shop.db")).unwrap_err();
    assert!(refused.to_string().contains("lacks the last"), "a transaction is missing: {refused}");

    let again = Shop::<D>::at(&whole.path().join("shop.db"));
    for n in 0..20 {
        assert_eq!(again.order(&format!("K{n}")).await.unwrap(), n + 1, "it is remembered");
    }
    // Nothing is missing where new keys belong.
    for n in 0..20 {
        again.order(&format!("new-{n}")).await.unwrap();
    }
    assert_eq!(again.orders(), 40);
}

/// What goes to a file that is gone is gone with it.
async fn a_file_that_is_moved_away_under_a_transaction_is_in_doubt<D: Driver>() {
    let shop = Shop::<D>::open();
    let aside = shop.path.with_file_name("aside");
    let (joined, path, to) = (shop.joined.clone(), shop.path.clone(), aside.clone());
    let outcome =
        shop.runner_with(|engine| engine.lease(Duration::from_secs(1))).run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    let order = D::run(tx, INSERT).await?;
                    std::fs::rename(&path, &to).unwrap();
                    Ok(order)
                })
            });
            op.transaction(&joined, "order", work).await
        });
    let outcome: Outcome = outcome.await;
    let Err(RunError::Work(StepError::RolledBack(error) | StepError::Store(error))) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(error.to_string().contains("removed"), "{error}");
    std::fs::rename(&aside, &shop.path).unwrap();
    let mut again = shop.order("K").await;
    while let Err(RunError::Busy(_) | RunError::Store(_)) = again {
        tokio::time::sleep(Duration::from_millis(50)).await;
        again = shop.order("K").await;
    }
    assert_eq!(again.unwrap(), 1);
    assert_eq!(shop.orders(), 1);
}

/// Its write waits for the transaction, which waits for it in turn if the order of
/// locks is wrong.
async fn a_step_that_runs_at_the_same_time_waits_for_nobody_for_long<D: Driver>() {
    let shop = Shop::<D>::open();
    let joined = shop.joined.clone();
    let since = Instant::now();
    let outcome = shop.runner().run("shop", "K", "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            Box::pin(async move {
                let order = D::run(tx, INSERT).await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(order)
            })
        });
        let beside = async {
            for n in 0..20 {
                let pause = Duration::from_millis(n * 3);
                let step = op.step(format!("beside {n}"), |_| async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, Failed>(1)
                });
                step.await?;
            }
            Ok(0)
        };
        let (order, beside) = tokio::join!(op.transaction(&joined, "order", work), beside);
        beside.and(order)
    });
    let outcome: Outcome = outcome.await;
    assert_eq!(outcome.unwrap(), 1);
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_store_with_a_file_of_its_own_may_have_rows_of_yours() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    for round in 0..3 {
        let store = SqliteStore::open(&path).unwrap();
        let joined = store.transactions();
        let outcome = Runner::new(store).run("shop", "K", "", move |op| async move {
            op.transaction(&joined, "order", |tx| {
                Box::pin(async move {
                    tx.call(|db| {
                        db.execute_batch("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY)")?;
                        db.query_row(INSERT, [], |row| row.get::<_, i64>(0))
                    })
                    .await
                })
            })
            .await
        });
        let outcome: Result<i64, RunError<StepError<rusqlite::Error>>> = outcome.await;
        assert_eq!(outcome.unwrap(), 1, "{round}");
    }
    let rows = Connection::open(&path).unwrap().query_row("SELECT count(*) FROM orders", [], |row| row.get(0));
    assert_eq!(rows, Ok(1));
}

/// On one thread: a query that takes long holds up nobody else.
#[tokio::test(flavor = "current_thread")]
async fn no_query_blocks_the_runtime() {
    let shop = Shop::<Plain>::open();
    let joined = shop.joined.clone();
    let ticks = Arc::new(AtomicU32::new(0));
    let ticker = {
        let ticks = Arc::clone(&ticks);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                ticks.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let outcome = shop.runner().run("shop", "K", "", move |op| async move {
        let work = work::<Plain, _, _>(move |tx| {
            Box::pin(async move {
                tx.call(|_| {
                    std::thread::sleep(Duration::from_millis(500));
                    Ok(3)
                })
                .await
                .map_err(|error| error.to_string())
            })
        });
        op.transaction(&joined, "order", work).await
    });
    let outcome: Outcome = outcome.await;
    assert_eq!(outcome.unwrap(), 3);
    ticker.abort();
    assert!(ticks.load(Ordering::SeqCst) > 10, "{ticks:?}");
}

#[cfg(feature = "sqlx-sqlite")]
#[tokio::test]
async fn a_connection_of_a_pool_must_be_durable_and_is_given_back_as_it_was() {
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
    let shop = Shop::<super::shop::Sqlx>::open();
    let order = async |synchronous: SqliteSynchronous| {
        let options = SqliteConnectOptions::new().filename(&shop.path).synchronous(synchronous);
        let options = options.busy_timeout(Duration::from_millis(1234));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
        let joined = shop.store.transactions_on(pool.clone());
        let outcome = shop.runner().run("shop", &format!("{synchronous:?}"), "", move |op| async move {
            let order = op.transaction(&joined, "order", |tx| {
                Box::pin(async move { sqlx::query_scalar(INSERT).fetch_one(tx).await })
            });
            order.await
        });
        let outcome: Result<i64, RunError<StepError<sqlx::Error>>> = outcome.await;
        let timeout: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&pool).await.unwrap();
        assert_eq!(timeout, 1234);
        // Its own transactions are nobody's affair.
        let mut own = pool.begin().await.unwrap();
        sqlx::query("INSERT INTO items VALUES (NULL)").execute(&mut *own).await.unwrap();
        own.commit().await.unwrap();
        outcome
    };
    for refused in [SqliteSynchronous::Off, SqliteSynchronous::Normal] {
        let outcome = order(refused).await;
        let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{outcome:?}") };
        assert!(error.to_string().contains("synchronous"), "{error}");
    }
    assert_eq!(shop.orders(), 0);
    order(SqliteSynchronous::Full).await.unwrap();
    order(SqliteSynchronous::Extra).await.unwrap();
    assert_eq!((shop.orders(), shop.number("SELECT count(*) FROM items")), (2, 4));
}

/// sqlx takes a savepoint that fails for the whole transaction, and goes on outside
/// of it.
#[cfg(feature = "sqlx-sqlite")]
#[tokio::test]
async fn nested_transactions_of_sqlx_are_savepoints() {
    use sqlx::Connection as _;
    let shop = Shop::<super::shop::Sqlx>::open();
    let joined = shop.joined.clone();
    let outcome = shop.runner().run("shop", "K", "", move |op| async move {
        let order = op.transaction(&joined, "order", |tx| {
            Box::pin(async move {
                let order: i64 = sqlx::query_scalar(INSERT).fetch_one(&mut *tx).await?;
                let mut inner = tx.begin().await?;
                sqlx::query(INSERT).execute(&mut *inner).await?;
                inner.rollback().await?;
                let mut inner = tx.begin().await?;
                sqlx::query(INSERT).execute(&mut *inner).await?;
                // Dropped: rolled back.
                drop(inner);
                let mut inner = tx.begin().await?;
                sqlx::query(INSERT).execute(&mut *inner).await?;
                inner.commit().await?;
                Ok(order)
            })
        });
        order.await
    });
    let outcome: Result<i64, RunError<StepError<sqlx::Error>>> = outcome.await;
    outcome.unwrap();
    assert_eq!(shop.orders(), 2);
}
