//! Together or not at all, and once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::sync::Barrier;
use tower::{ServiceExt, service_fn};
use tower_idempotency::core::{IdempotencyKey, Key};
use tower_idempotency::encryption::{EncryptionKey, Keyring};
use tower_idempotency::store::{EnlistedDatabase, MemoryStore, Store};
use tower_idempotency::{IdempotencyLayer, Operation, Operator, Retention, RunError, Runner, Scope, StepError};
use tower_layer::Layer;

use super::{Error, Failed, Fixture, INSERT, Outcome, work};

pub(crate) async fn a_step_that_committed_is_not_run_again<S: Fixture>() {
    let shop = S::open().await;
    let mut orders = Vec::new();
    for attempt in 1..=3 {
        let enlisted = shop.enlisted();
        let outcome = shop.runner().run("shop", "K", "", move |op| async move {
            let order = op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT)).await?;
            // Dies twice after the commit.
            if attempt < 3 { Err(Error::Retry("died".into())) } else { Ok::<i64, Error>(order) }
        });
        orders.push(outcome.await.ok());
        assert_eq!(shop.orders(), 1, "after attempt {attempt}");
    }
    assert_eq!(orders, [None, None, Some(1)]);
}

pub(crate) async fn work_that_fails_panics_or_is_dropped_leaves_nothing<S: Fixture>() {
    let shop = S::open().await;
    for how in ["fails", "panics", "dropped", "dropped in a query", ""] {
        if how == "dropped in a query" && S::ENDLESS.is_none() {
            continue;
        }
        let enlisted = shop.enlisted();
        let outcome = shop.runner().run("shop", "K", "", move |op| async move {
            let (inside, is_inside) = tokio::sync::oneshot::channel();
            let work = work::<S, _, _>(move |tx| {
                Box::pin(async move {
                    let order = S::run(tx, INSERT).await?;
                    inside.send(()).expect("the test waits");
                    match how {
                        "fails" => Err("no".to_owned()),
                        "panics" => panic!("on purpose"),
                        "dropped" => std::future::pending().await,
                        "dropped in a query" => S::run(tx, S::ENDLESS.unwrap_or(INSERT)).await,
                        _ => Ok(order),
                    }
                })
            });
            let step = op.transaction(&enlisted, "order", work);
            let gives_up = async {
                is_inside.await.expect("it gets there");
                if how == "dropped in a query" {
                    // As long as the query takes that has no end: it has begun by then.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                } else if how != "dropped" {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                outcome = step => outcome,
                () = gives_up => Err(Error::Retry("gave up".into())),
            }
        });
        let outcome: Outcome = outcome.await;
        match (how, &outcome) {
            ("fails", Err(RunError::Work(StepError::Retry(error)))) => assert_eq!(error, "no"),
            ("panics", Err(RunError::Panicked)) | ("", Ok(_)) => {}
            ("dropped" | "dropped in a query", Err(RunError::Work(StepError::Retry(error)))) => {
                assert_eq!(error, "gave up");
            }
            _ => panic!("{how}: {outcome:?}"),
        }
        shop.assert_nothing_is_open(how);
        assert_eq!(shop.orders(), i64::from(how.is_empty()), "{how}");
    }
}

pub(crate) async fn whoever_lost_the_claim_commits_nothing<S: Fixture>() {
    let shop = S::open().await;
    // It is never renewed, and so over soon.
    let zombie = shop.runner_with(|engine| engine.lease(Duration::from_millis(200)).max_execution(Duration::ZERO));
    let (enlisted, runner, other) = (shop.enlisted(), shop.runner(), shop.enlisted());
    // As late as it can be: inside the transaction, unless that locks the whole store.
    let locks = <S::Enlisted as EnlistedDatabase>::LOCKS_THE_STORE;
    let outcome = zombie.run("shop", "K", "", move |op| async move {
        if locks {
            take_over::<S>(&runner, &other).await;
        }
        let work = work::<S, _, _>(move |tx| {
            Box::pin(async move {
                let order = S::run(tx, INSERT).await?;
                if !locks {
                    take_over::<S>(&runner, &other).await;
                }
                Ok(order)
            })
        });
        let outcome = op.transaction(&enlisted, "order", work).await;
        assert!(matches!(outcome, Err(StepError::Lost)), "{outcome:?}");
        outcome
    });
    let _: Outcome = outcome.await;
    assert_eq!(shop.orders(), 1);
}

/// Runs the operation to its end, once the lease of its holder is over.
async fn take_over<S: Fixture>(runner: &Runner, enlisted: &S::Enlisted) {
    loop {
        let enlisted = enlisted.clone();
        let next = runner.run("shop", "K", "", move |op| async move {
            op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT)).await
        });
        let next: Outcome = next.await;
        match next {
            Ok(_) => return,
            Err(RunError::Busy(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub(crate) async fn another_store_is_refused<S: Fixture>() {
    let (shop, other) = (S::open().await, S::open().await);
    for runner in [Runner::new(MemoryStore::new()), other.runner()] {
        let enlisted = shop.enlisted();
        let outcome = runner.run("shop", "K", "", move |op| async move {
            op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT)).await
        });
        let outcome: Outcome = outcome.await;
        let Err(RunError::Work(StepError::RolledBack(error))) = outcome else { panic!("{outcome:?}") };
        assert!(error.to_string().contains("not in the database"), "{error}");
        assert_eq!(shop.orders(), 0);
    }
}

pub(crate) async fn duplicates_and_retries_make_one_row<S: Fixture>() {
    let shop = S::open().await;
    let (barrier, runs) = (Arc::new(Barrier::new(32)), Arc::new(AtomicU32::new(0)));
    let calls = (0..32).map(|_| {
        let (runner, enlisted) = (shop.runner(), shop.enlisted());
        let (barrier, runs) = (Arc::clone(&barrier), Arc::clone(&runs));
        tokio::spawn(async move {
            barrier.wait().await;
            loop {
                let (enlisted, runs) = (enlisted.clone(), Arc::clone(&runs));
                let call = runner.run("shop", "K", "", move |op| async move {
                    let order = op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT)).await?;
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
    assert_eq!(shop.orders(), 1);
}

pub(crate) async fn an_answer_that_committed_is_the_answer<S: Fixture>() {
    let shop = S::open().await;
    let runs = Arc::new(AtomicU32::new(0));
    let (enlisted, counted) = (shop.enlisted(), Arc::clone(&runs));
    let handler = service_fn(move |request: Request<_>| {
        let (enlisted, counted) = (enlisted.clone(), Arc::clone(&counted));
        let op = request.extensions().get::<Operation>().expect("an operation").clone();
        drop::<Request<tower_idempotency::RequestBody<Full<Bytes>>>>(request);
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let work = work::<S, _, _>(move |tx| {
                Box::pin(async move {
                    let order = S::run(tx, INSERT).await?;
                    let mut response = Response::new(Bytes::from(format!("order {order}\u{0}\u{ff}")));
                    *response.status_mut() = StatusCode::CREATED;
                    response.headers_mut().append("link", "<a>".parse().expect("a value"));
                    response.headers_mut().append("link", "<b>".parse().expect("a value"));
                    response.extensions_mut().insert(Retention::new(Duration::from_secs(90)));
                    Ok(response)
                })
            });
            op.step("before", |_| async { Ok::<_, Failed>(1) }).await.expect("it is stored");
            op.complete(&enlisted, work).await.expect("it commits");
            let twice =
                op.complete(&enlisted, |_| Box::pin(async { Err::<Response<Bytes>, Failed>("ran".into()) })).await;
            assert!(matches!(twice, Err(StepError::Lost)), "{twice:?}");
            let late = op.step("late", |_| async { Ok::<_, Failed>(1) }).await;
            assert!(matches!(late, Err(StepError::Lost)), "nothing is stored after the answer");
            let mut other = Response::new(Full::new(Bytes::from_static(b"something else")));
            *other.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok::<_, Infallible>(other)
        }
    });
    let service = IdempotencyLayer::new(shop.store(), Scope::shared()).resumable().layer(handler);
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
    assert_eq!((shop.orders(), runs.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(shop.steps(), 0, "they were for going on");
    let shown = Operator::new(shop.store()).find("", "K").await.expect("it is found");
    let kept = shown.record.due().since(shown.record.written_at());
    assert_eq!(kept, Duration::from_secs(90), "kept for as long as it says");
}

/// A recovery point that commits with rows is encrypted like any other.
pub(crate) async fn what_commits_with_rows_is_encrypted<S: Fixture>() {
    let shop = S::open().await;
    let ring = || {
        let secret = std::array::from_fn(|n| u8::try_from(n).unwrap_or(0));
        Keyring::new(EncryptionKey::new("the-key", &secret).unwrap())
    };
    let run = |runner: Runner, dies: bool| {
        let enlisted = shop.enlisted();
        runner.run("shop", "K", "", move |op| async move {
            let order = op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT)).await?;
            if dies { Err(Error::Retry("died".into())) } else { Ok::<i64, Error>(order) }
        })
    };
    run(shop.runner_with(|engine| engine.encryption(ring())), true).await.unwrap_err();
    let key = Key::of_runner("shop", &IdempotencyKey::parse(b"K").unwrap());
    let found = shop.store().load(&key).await.unwrap().record.unwrap();
    assert_eq!((found.sealed_with(), found.steps().len()), (Some("the-key"), 1));
    assert!(found.step("order").is_none(), "its name is not to be read");
    let without = run(shop.runner(), false).await.unwrap_err();
    assert!(matches!(without, RunError::Store(error) if error.to_string().contains("the-key")));
    assert_eq!(run(shop.runner_with(|engine| engine.encryption(ring())), false).await.unwrap(), 1);
    assert_eq!(shop.orders(), 1);
}
