//! The one write lock: who has it, for how long, and who is not kept waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tower_idempotency::store::{EnlistedDatabase, Store, StoreErrorKind, Swap};
use tower_idempotency::{EventKind, RunError, StepError};

use super::processes::Other;
use super::records::{claim, key};
use super::shop::{Driver, ENDLESS, Error, Failed, INSERT, Outcome, Plain, Shop, create, with_each_driver, work};

with_each_driver! {
    a_transaction_that_takes_too_long_is_rolled_back
    whoever_waits_for_a_transaction_gets_what_it_wants
    no_lease_is_lost_to_transactions_that_take_as_long_as_they_may
    a_transaction_may_take_a_third_of_the_shortest_lease_there_is
    what_waits_for_a_transaction_goes_before_the_next_one
    a_transaction_of_somebodys_shell_is_named
    a_transaction_gets_its_turn_among_many_writes
    renewals_go_on_around_transactions
}

async fn a_transaction_that_takes_too_long_is_rolled_back<D: Driver>() {
    let shop = Shop::<D>::open();
    let limited = Shop::<D>::with_limit(&shop.path, Duration::from_millis(400));
    for how in ["sleeps", "endless query", "many queries"] {
        let joined = limited.joined.clone();
        let since = Instant::now();
        let outcome = limited.runner().run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    D::run(tx, INSERT).await?;
                    match how {
                        "sleeps" => tokio::time::sleep(Duration::from_secs(30)).await,
                        "endless query" => drop(D::run(tx, ENDLESS).await),
                        _ => loop {
                            // Whatever they say.
                            let _ = D::run(tx, INSERT).await;
                        },
                    }
                    Ok(1)
                })
            });
            op.transaction(&joined, "order", work).await
        });
        let outcome: Outcome = outcome.await;
        let took = since.elapsed();
        let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{how}: {outcome:?}") };
        assert!(error.to_string().contains("longer than the 400ms"), "{error}");
        // The limit is the promise: 400 ms, where the work alone would take 30 s or for ever.
        assert!(took < Duration::from_secs(2), "{how}: {took:?}");
        let locked = limited.locked_for();
        assert!(locked < Duration::from_millis(500), "{how}: {locked:?}");
        assert_eq!(limited.orders(), 0, "{how}");
    }
    limited.order("K").await.unwrap();
}

/// Queries that go on in one call whatever is said are interrupted, one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_ignore_their_errors_are_stopped_too() {
    let shop = Shop::<Plain>::open();
    let limited = Shop::<Plain>::with_limit(&shop.path, Duration::from_millis(300));
    let joined = limited.joined.clone();
    let stopped = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stopped);
    let outcome = limited.runner().run("shop", "K", "", move |op| async move {
        let work = work::<Plain, _, _>(move |tx| {
            Box::pin(async move {
                let endless = move |db: &mut Connection| {
                    while !seen.load(Ordering::SeqCst) {
                        let _ = db.query_row(INSERT, [], |row| row.get::<_, i64>(0));
                        let _ = db.execute_batch("COMMIT");
                    }
                    Ok(1)
                };
                tx.call(endless).await.map_err(|error| error.to_string())
            })
        });
        op.transaction(&joined, "order", work).await
    });
    let outcome: Outcome = outcome.await;
    assert!(matches!(outcome, Err(RunError::Work(StepError::RolledBack(_)))), "{outcome:?}");
    stopped.store(true, Ordering::SeqCst);
    assert!(limited.locked_for() < Duration::from_secs(2));
    assert_eq!(limited.orders(), 0, "not even outside of it");
    limited.order("K").await.unwrap();
}

/// Longer than any of these would be waited for by itself: the writes of the same
/// store, and those of another one on the file.
async fn whoever_waits_for_a_transaction_gets_what_it_wants<D: Driver>() {
    let shop = Shop::<D>::open();
    let other = Shop::<D>::at(&shop.path);
    let (joined, begun) = (shop.joined.clone(), Arc::new(AtomicBool::new(false)));
    let begins = Arc::clone(&begun);
    let long = shop.runner().run("shop", "long", "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            Box::pin(async move {
                let order = D::run(tx, INSERT).await?;
                begins.store(true, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(4500)).await;
                Ok(order)
            })
        });
        op.transaction(&joined, "order", work).await
    });
    let long = tokio::spawn(long);
    while !begun.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut waiting = Vec::new();
    for n in 0..20 {
        let store = if n % 2 == 0 { shop.store.clone() } else { other.store.clone() };
        waiting.push(tokio::spawn(async move { store.swap(&key(n), None, &claim()).await }));
    }
    // And a whole operation, with a transaction of its own.
    let order = tokio::spawn(async move { other.order("other").await });
    for swap in waiting {
        let swap = swap.await.unwrap();
        assert!(matches!(swap, Ok(Swap::Stored)), "{swap:?}");
    }
    let outcome: Outcome = long.await.unwrap();
    assert_eq!(outcome.unwrap(), 1);
    assert_eq!(order.await.unwrap().unwrap(), 2);
}

/// Three processes on one file; two of them with nothing but transactions that take
/// as long as they may. The third one's lease is short, and kept: a fourth one that
/// asks for its operations all the time never gets them.
async fn no_lease_is_lost_to_transactions_that_take_as_long_as_they_may<D: Driver>() {
    let shop = Shop::<D>::open();
    // Closed when it is over: nothing waits any longer then.
    let over = Arc::new(Semaphore::new(0));
    let (held, lost) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    // All are opened before any is busy: opening waits for a transaction too.
    let (short, rival) = (Shop::<D>::at(&shop.path), Shop::<D>::at(&shop.path));
    let shops: Vec<_> = (0..3).map(|_| Shop::<D>::at(&shop.path)).collect();
    let mut busy = Vec::new();
    for (n, shop) in shops.into_iter().enumerate() {
        let (over, held) = (Arc::clone(&over), Arc::clone(&held));
        busy.push(tokio::spawn(async move {
            for turn in 0.. {
                if over.is_closed() {
                    break;
                }
                let (joined, held, over) = (shop.joined.clone(), Arc::clone(&held), Arc::clone(&over));
                let outcome = shop.runner().run("shop", &format!("{n}-{turn}"), "", move |op| async move {
                    let work = work::<D, _, _>(move |tx| {
                        Box::pin(async move {
                            D::run(tx, INSERT).await?;
                            held.fetch_add(1, Ordering::SeqCst);
                            over.acquire().await.map(drop).map_err(|_| "it is over".to_owned())?;
                            Ok(1)
                        })
                    });
                    op.transaction(&joined, "order", work).await
                });
                let _: Outcome = outcome.await;
            }
        }));
    }
    let seen = Arc::clone(&lost);
    let runner = short.runner_with(|engine| {
        engine.lease(Duration::from_secs(3)).on_event(move |event| {
            if matches!(event.kind, EventKind::LeaseLost) {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let runs = Arc::new(AtomicU32::new(0));
    let (mut calls, mut rivals) = (Vec::new(), Vec::new());
    for n in 0..4_usize {
        let begun = Arc::new(Semaphore::new(0));
        let (rival, again, is_held) = (rival.runner(), Arc::clone(&runs), Arc::clone(&begun));
        rivals.push(tokio::spawn(async move {
            is_held.acquire().await.unwrap().forget();
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let again = Arc::clone(&again);
                let call = rival.run("short", &n.to_string(), "", move |op| async move {
                    again.fetch_add(1, Ordering::SeqCst);
                    op.step("end", |_| async { Ok::<_, Failed>(n) }).await
                });
                if call.await.is_ok() {
                    break;
                }
            }
        }));
        let (runner, runs) = (runner.clone(), Arc::clone(&runs));
        calls.push(tokio::spawn(async move {
            let call = runner.run("short", &n.to_string(), "", move |op| async move {
                runs.fetch_add(1, Ordering::SeqCst);
                begun.add_permits(1);
                // More than two leases.
                tokio::time::sleep(Duration::from_secs(7)).await;
                op.step("end", |_| async { Ok::<_, Failed>(n) }).await
            });
            call.await
        }));
    }
    for (n, call) in calls.into_iter().enumerate() {
        let outcome = call.await.unwrap();
        assert_eq!(outcome.unwrap(), n);
    }
    for rival in rivals {
        rival.await.unwrap();
    }
    over.close();
    for busy in busy {
        busy.await.unwrap();
    }
    assert_eq!((lost.load(Ordering::SeqCst), runs.load(Ordering::SeqCst)), (0, 4));
    assert!(held.load(Ordering::SeqCst) > 5, "they did hold the lock: {held:?}");
    assert_eq!(shop.orders(), 0);
}

/// Or the holder of that lease could not renew it in time. The lease is another
/// process's, and shorter than what the transaction could take otherwise.
async fn a_transaction_may_take_a_third_of_the_shortest_lease_there_is<D: Driver>() {
    let shop = Shop::<D>::open();
    let other = Shop::<D>::at(&shop.path);
    let (over, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (ends, begins) = (Arc::clone(&over), Arc::clone(&begun));
    let runner = other.runner_with(|engine| engine.lease(Duration::from_millis(3000)));
    let short = tokio::spawn(runner.run("short", "K", "", move |op| async move {
        begins.add_permits(1);
        let _ = ends.acquire().await;
        op.step("end", |_| async { Ok::<_, Failed>(1) }).await
    }));
    begun.acquire().await.unwrap().forget();
    let joined = shop.joined.clone();
    let outcome = shop.runner().run("shop", "K", "", move |op| async move {
        op.transaction(&joined, "order", |_| Box::pin(std::future::pending::<Result<i64, Failed>>())).await
    });
    let outcome: Outcome = outcome.await;
    let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("longer than the 1s"), "{error}");
    over.close();
    assert_eq!(short.await.unwrap().unwrap(), 1);
}

/// A renewal, for example: it waits for one transaction, and never for two. The
/// other process's transaction is the next, and sees which of them was first.
async fn what_waits_for_a_transaction_goes_before_the_next_one<D: Driver>() {
    const RECORDS: &str = "SELECT count(*) FROM idempotency_records";
    let shop = Shop::<D>::open();
    let other = Shop::<D>::at(&shop.path);
    for n in 0..20_usize {
        let (key, claim) = (key(n), claim());
        assert!(matches!(shop.store.swap(&key, None, &claim).await, Ok(Swap::Stored)));
        let (begun, over) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (begins, ends, joined) = (Arc::clone(&begun), Arc::clone(&over), shop.joined.clone());
        let first = tokio::spawn(shop.runner().run("shop", &format!("first-{n}"), "", move |op| async move {
            let work = work::<D, _, _>(move |_| {
                Box::pin(async move {
                    begins.add_permits(1);
                    let _ = ends.acquire().await;
                    Ok(1)
                })
            });
            op.transaction(&joined, "order", work).await
        }));
        begun.acquire().await.unwrap().forget();
        // Its store's writer has shut the gate: that is shared, and one that begins has it
        // for itself alone. Unlocked, since a process that another test starts may inherit it.
        let is_shut = || {
            let gate = std::fs::File::open(shop.path.with_file_name("shop.db.turn")).unwrap();
            let is_shared = gate.try_lock().is_err() && gate.try_lock_shared().is_ok();
            gate.unlock().unwrap();
            is_shared
        };
        while !is_shut() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let joined = other.joined.clone();
        let next = tokio::spawn(async move {
            let begun = joined.begin(Duration::from_secs(20)).await;
            let mut transaction = begun.unwrap();
            let handle = D::Database::handle(&mut transaction).unwrap();
            let records = D::run(handle, RECORDS).await;
            D::Database::roll_back(transaction).await;
            records
        });
        // It has asked for its turn, and tries.
        tokio::time::sleep(Duration::from_millis(30)).await;
        // Polled once, it is in line: unlike that of a new key, whose absence may have to be verified before.
        let mut write = shop.store.remove(&key, claim.version());
        assert!(std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending())).await);
        over.close();
        assert!(write.await.unwrap());
        let first: Outcome = first.await.unwrap();
        assert_eq!(first.unwrap(), 1);
        let records = i64::try_from(2 * n + 1).unwrap();
        assert_eq!(next.await.unwrap().unwrap(), records, "what waited is done");
        // The other's writer has left the gate, however late it is, once it has written.
        assert!(matches!(other.store.swap(&self::key(100 + n), None, &claim).await, Ok(Swap::Stored)));
    }
}

async fn a_transaction_of_somebodys_shell_is_named<D: Driver>() {
    let shop = Shop::<D>::open();
    let shell = Connection::open(&shop.path).unwrap();
    let (joined, path) = (shop.joined.clone(), shop.path.clone());
    let since = Arc::new(std::sync::Mutex::new(None));
    let began = Arc::clone(&since);
    let outcome = shop.runner().run("shop", "K", "", move |op| async move {
        // The claim is there by now.
        shell.execute_batch("BEGIN IMMEDIATE").unwrap();
        *began.lock().unwrap() = Some(Instant::now());
        let outcome = op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await;
        shell.execute_batch("ROLLBACK").unwrap();
        outcome
    });
    let outcome: Outcome = outcome.await;
    let took = since.lock().unwrap().unwrap().elapsed();
    let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("transaction open"), "{error}");
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert!(path.exists());
    shop.order("K").await.unwrap();
}

/// The writers of this store and of another process don't stop.
async fn a_transaction_gets_its_turn_among_many_writes<D: Driver>() {
    let shop = Shop::<D>::open();
    let over = Arc::new(AtomicBool::new(false));
    let other = Shop::<D>::at(&shop.path);
    let mut writers = Vec::new();
    for n in 0..16 {
        let (store, over) = (if n % 2 == 0 { shop.store.clone() } else { other.store.clone() }, Arc::clone(&over));
        writers.push(tokio::spawn(async move {
            let mut count = 0;
            while !over.load(Ordering::SeqCst) {
                super::records::answer(&store, format!("{n}-{count}")).await;
                count += 1;
            }
            count
        }));
    }
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let since = Instant::now();
        shop.order(&n.to_string()).await.unwrap();
        slowest = slowest.max(since.elapsed());
    }
    over.store(true, Ordering::SeqCst);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert!(written > 20, "{written}");
    assert_eq!(shop.orders(), 20);
}

/// One renewal after the other falls due in the middle of a transaction of the same
/// operation.
async fn renewals_go_on_around_transactions<D: Driver>() {
    let shop = Shop::<D>::open();
    let lost = Arc::new(AtomicU32::new(0));
    let (joined, seen) = (shop.joined.clone(), Arc::clone(&lost));
    let runner = shop.runner_with(|engine| {
        // A transaction may take a third of it: three times as long as it does.
        engine.lease(Duration::from_millis(1800)).on_event(move |event| {
            if matches!(event.kind, EventKind::LeaseLost) {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let outcome = runner.run("shop", "K", "", move |op| async move {
        let mut last = 0;
        for n in 0..18 {
            let work = work::<D, _, _>(move |tx| {
                Box::pin(async move {
                    let order = D::run(tx, INSERT).await?;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    Ok(order)
                })
            });
            last = op.transaction(&joined, format!("order {n}"), work).await?;
        }
        Ok::<_, Error>(last)
    });
    assert_eq!(outcome.await.unwrap(), 18);
    assert_eq!((shop.orders(), lost.load(Ordering::SeqCst)), (18, 0));
}

/// Killed at any moment: each order is there once, as its operation says, after
/// whoever comes next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_leaves_rows_and_recovery_points_together() {
    let drivers: &[&str] = if cfg!(feature = "sqlx-sqlite") { &["plain", "sqlx"] } else { &["plain"] };
    for (round, driver) in drivers.iter().flat_map(|driver| (0..5).map(move |round| (round, driver))) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        create(&path);
        let mut other = Other::start_shop(&path);
        let mut acknowledged: i64 = other.tell(&format!("orders {driver}")).parse().unwrap();
        let until = Instant::now() + Duration::from_millis(40 * (round + 1));
        while Instant::now() < until {
            acknowledged = other.answer().parse().unwrap();
        }
        other.kill();
        check_orders(&path, acknowledged).await;
    }
}

/// At known points: in the work, with the recovery point written, and right after
/// the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_before_or_after_its_commit() {
    for (at, rows) in [("in the work", 0), ("after the commit", 1)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shop.db");
        create(&path);
        let mut other = Other::start_shop(&path);
        assert_eq!(other.tell(&format!("stop {at}")), "stops");
        other.kill();
        let rest = Connection::open(&path).unwrap();
        let orders: i64 = rest.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
        assert_eq!(orders, rows, "{at}");
        let shop = Shop::<Plain>::at(&path);
        let order = shop.order("stopped").await.unwrap();
        assert_eq!((order, shop.orders()), (1, 1), "{at}");
    }
}

async fn check_orders(path: &std::path::Path, acknowledged: i64) {
    let shop = Shop::<Plain>::at(path);
    let before = shop.orders();
    assert!(before >= acknowledged, "{before} of {acknowledged}");
    for n in 0..=acknowledged {
        let order = shop.order(&format!("order-{n}")).await.unwrap();
        assert_eq!(order, n + 1, "what was committed is remembered");
    }
    // The one that was under way is there with its operation, or not at all.
    let next = shop.order(&format!("order-{}", acknowledged + 1)).await.unwrap();
    assert_eq!(next, acknowledged + 2);
    assert_eq!(shop.orders(), before.max(acknowledged + 2));
}
