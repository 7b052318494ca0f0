//! Together or not at all, and once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use servers::Postgres;
use tokio::sync::Barrier;
use tower::{ServiceExt, service_fn};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Operation, Outcome, RunError, Runner, Scope, StepError};
use tower_layer::Layer;

use crate::shop::{Driver, Failed, INSERT, Shop, work};
use crate::with_both_drivers;

with_both_drivers! {
    a_step_that_committed_is_not_run_again
    work_that_fails_panics_or_is_dropped_leaves_nothing
    a_swallowed_error_leaves_nothing
    a_transaction_ended_inside_is_noticed
    whoever_lost_the_claim_commits_nothing
    another_database_is_refused
    duplicates_and_retries_make_one_row
    an_answer_that_committed_is_the_answer
    a_failure_that_leaves_out_a_payment_commits_nothing
    a_commit_that_the_server_refuses_leaves_nothing
    a_changed_input_is_an_error_and_commits_nothing
    a_deadlock_leaves_nothing_and_the_retry_runs
}

type Error = StepError<Failed>;

async fn a_step_that_committed_is_not_run_again<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let mut orders = Vec::new();
    for attempt in 1..=3 {
        let joined = shop.joined.clone();
        let outcome = shop.runner().run("shop", "K", "", move |op| async move {
            let order = op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await?;
            // Dies twice after the commit.
            if attempt < 3 { Err(Error::Retry("died".into())) } else { Ok::<i64, Error>(order) }
        });
        orders.push(outcome.await.ok());
        assert_eq!(shop.orders(), "1", "after attempt {attempt}");
    }
    assert_eq!(orders, [None, None, Some(1)]);
}

async fn work_that_fails_panics_or_is_dropped_leaves_nothing<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    for how in ["fails", "panics", "dropped", ""] {
        let joined = shop.joined.clone();
        let outcome = shop.runner().run("shop", "K", "", move |op| async move {
            let work = work::<D, _, _>(move |tx| {
                let insert = D::run(tx, INSERT);
                Box::pin(async move {
                    let order = insert.await?;
                    match how {
                        "fails" => Err("no".to_owned()),
                        "panics" => panic!("on purpose"),
                        "dropped" => std::future::pending().await,
                        _ => Ok(order),
                    }
                })
            });
            let step = op.transaction(&joined, "order", work);
            match tokio::time::timeout(Duration::from_millis(if how == "dropped" { 300 } else { 60_000 }), step).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::Retry("gave up".into())),
            }
        });
        let outcome: Result<i64, RunError<Error>> = outcome.await;
        match (how, &outcome) {
            ("fails", Err(RunError::Work(StepError::Retry(error)))) => assert_eq!(error, "no"),
            ("panics", Err(RunError::Panicked)) | ("", Ok(_)) => {}
            ("dropped", Err(RunError::Work(StepError::Retry(error)))) => assert_eq!(error, "gave up"),
            _ => panic!("{how}: {outcome:?}"),
        }
        let expected = if how.is_empty() { "1" } else { "0" };
        assert_eq!(shop.orders(), expected, "{how}");
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
                    AND datname = current_database()";
        servers::wait_until("no transaction to be left open", || shop.server.sql_in(&shop.database, open) == "0");
    }
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

async fn whoever_lost_the_claim_commits_nothing<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    // It is never renewed, and so over soon.
    let zombie = shop.runner_with(|engine| engine.lease(Duration::from_millis(200)).max_execution(Duration::ZERO));
    let (joined, runner, other) = (shop.joined.clone(), shop.runner(), shop.joined.clone());
    let outcome = zombie.run("shop", "K", "", move |op| async move {
        let work = work::<D, _, _>(move |tx| {
            let insert = D::run(tx, INSERT);
            Box::pin(async move {
                let order = insert.await?;
                loop {
                    let other = other.clone();
                    let next = runner.run("shop", "K", "", move |op| async move {
                        op.transaction(&other, "order", |tx| D::run(tx, INSERT)).await
                    });
                    let next: Result<i64, RunError<Error>> = next.await;
                    match next {
                        Ok(_) => return Ok(order),
                        Err(RunError::Busy(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        });
        let outcome = op.transaction(&joined, "order", work).await;
        assert!(matches!(outcome, Err(StepError::Lost)), "{outcome:?}");
        outcome
    });
    let _ = outcome.await;
    assert_eq!(shop.orders(), "1");
}

async fn another_database_is_refused<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let other = Shop::<D>::open(Postgres::shared()).await;
    for runner in [Runner::new(MemoryStore::new()), other.runner()] {
        let joined = shop.joined.clone();
        let outcome = runner.run("shop", "K", "", move |op| async move {
            op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await
        });
        let outcome: Result<i64, RunError<Error>> = outcome.await;
        let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{outcome:?}") };
        assert!(error.to_string().contains("not in the database"), "{error}");
        assert_eq!(shop.orders(), "0");
    }
}

async fn duplicates_and_retries_make_one_row<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let (barrier, runs) = (Arc::new(Barrier::new(32)), Arc::new(AtomicU32::new(0)));
    let calls = (0..32).map(|_| {
        let (runner, joined) = (shop.runner(), shop.joined.clone());
        let (barrier, runs) = (Arc::clone(&barrier), Arc::clone(&runs));
        tokio::spawn(async move {
            barrier.wait().await;
            loop {
                let (joined, runs) = (joined.clone(), Arc::clone(&runs));
                let call = runner.run("shop", "K", "", move |op| async move {
                    let order = op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await?;
                    // The first two attempts die after the commit.
                    if runs.fetch_add(1, Ordering::SeqCst) < 2 { Err(Error::Retry("died".into())) } else { Ok(order) }
                });
                match call.await {
                    Ok(order) => return order,
                    Err(RunError::Busy(_) | RunError::Work(StepError::Retry(_))) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("no panic"), 1);
    }
    assert_eq!(shop.orders(), "1");
}

/// The first call pays; the second one answers without coming to that.
async fn a_failure_that_leaves_out_a_payment_commits_nothing<D: Driver>() {
    for (status, said, rows) in [(409, false, "0"), (409, true, "1"), (201, false, "1")] {
        let shop = Shop::<D>::open(Postgres::shared()).await;
        let call = || {
            let joined = shop.joined.clone();
            shop.runner().run("shop", "K", "", move |op| async move {
                if !op.is_resumed() {
                    op.pay("charge", |_| async { Ok(1) }).await?;
                    return Err(Error::Retry("later".into()));
                }
                let work = work::<D, _, _>(move |tx| {
                    let insert = D::run(tx, INSERT);
                    Box::pin(async move {
                        insert.await?;
                        let mut response = Response::new(Bytes::from_static(b"7"));
                        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
                        if said {
                            response.extensions_mut().insert(Outcome::Final);
                        }
                        Ok(response)
                    })
                });
                op.complete(&joined, work).await.map(|()| 7)
            })
        };
        assert!(matches!(call().await, Err(RunError::Work(Error::Retry(_)))));
        let second: Result<i64, RunError<Error>> = call().await;
        assert_eq!(shop.orders(), rows, "{status}, said: {said}");
        if rows == "1" {
            assert_eq!(second.ok(), Some(7));
            continue;
        }
        assert!(matches!(&second, Err(RunError::Work(StepError::InDoubt { step })) if step == "charge"), "{second:?}");
        assert!(matches!(call().await, Err(RunError::OutcomeUnknown)), "it is parked");
    }
}

async fn an_answer_that_committed_is_the_answer<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let runs = Arc::new(AtomicU32::new(0));
    let (joined, counted) = (shop.joined.clone(), Arc::clone(&runs));
    let handler = service_fn(move |request: Request<_>| {
        let (joined, counted) = (joined.clone(), Arc::clone(&counted));
        let op = request.extensions().get::<Operation>().expect("an operation").clone();
        drop::<Request<tower_idempotency::RequestBody<Full<Bytes>>>>(request);
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let work = work::<D, _, _>(move |tx| {
                let insert = D::run(tx, INSERT);
                Box::pin(async move {
                    let order = insert.await?;
                    let mut response = Response::new(Bytes::from(format!("order {order}\u{0}\u{ff}")));
                    *response.status_mut() = StatusCode::CREATED;
                    response.headers_mut().append("link", "<a>".parse().expect("a value"));
                    response.headers_mut().append("link", "<b>".parse().expect("a value"));
                    Ok(response)
                })
            });
            op.step("before", |_| async { Ok::<_, Failed>(1) }).await.expect("it is stored");
            op.complete(&joined, work).await.expect("it commits");
            let twice =
                op.complete(&joined, |_| Box::pin(async { Err::<Response<Bytes>, Failed>("ran".into()) })).await;
            assert!(matches!(twice, Err(StepError::Lost)), "{twice:?}");
            let late = op.step("late", |_| async { Ok::<_, Failed>(1) }).await;
            assert!(matches!(late, Err(StepError::Lost)), "nothing is stored after the answer");
            let mut other = Response::new(Full::new(Bytes::from_static(b"something else")));
            *other.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok::<_, Infallible>(other)
        }
    });
    let service = IdempotencyLayer::new(shop.store.clone(), Scope::shared()).resumable().layer(handler);
    let mut answers = Vec::new();
    for n in 0..3 {
        let request = Request::post("/orders").header("idempotency-key", "K").body(Full::new(Bytes::new()));
        let response = service.clone().oneshot(request.expect("a request")).await.expect("infallible");
        let (mut parts, body) = response.into_parts();
        assert_eq!(parts.headers.remove("idempotent-replayed").is_some(), n > 0);
        let body = body.collect().await.expect("a body").to_bytes();
        answers.push((parts.status, format!("{:?}", parts.headers), body));
    }
    assert_eq!(answers[0].0, StatusCode::CREATED);
    assert_eq!(answers[0].2, Bytes::from("order 1\u{0}\u{ff}"));
    assert!(answers[0].1.contains("<a>") && answers[0].1.contains("<b>"));
    assert!(answers[1] == answers[0] && answers[2] == answers[0], "{answers:?}");
    assert_eq!((shop.orders().as_str(), runs.load(Ordering::SeqCst)), ("1", 1));
    assert_eq!(shop.sql("SELECT count(*) FROM idempotency.steps"), "0", "they were for going on");
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

async fn a_changed_input_is_an_error_and_commits_nothing<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let attempt = |price: u32| {
        let joined = shop.joined.clone();
        shop.runner().run("shop", "K", "", move |op| async move {
            let order = op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).input(&price).await?;
            if op.attempt() < 3 { Err(Error::Retry("died".into())) } else { Ok(order) }
        })
    };
    let died: Result<i64, RunError<Error>> = attempt(100).await;
    assert!(matches!(died, Err(RunError::Work(StepError::Retry(_)))), "{died:?}");
    let changed = attempt(200).await;
    let Err(RunError::Work(StepError::InputChanged { step, stored, given, attempt: 1 })) = changed else {
        panic!("{changed:?}")
    };
    assert!(step == "order" && stored != given);
    assert_eq!(attempt(100).await.expect("the same question"), 1);
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
