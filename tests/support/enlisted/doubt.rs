//! What an answer may not hide, and a transaction may not begin on.

use bytes::Bytes;
use http::{Response, StatusCode};
use tower_idempotency::{Operation, RunError, StepError, TransactionFuture};

use super::{Error, Failed, Fixture, Handle, INSERT, Outcome, work};

/// Fails the first time, and so is in doubt.
async fn mail(op: &Operation) -> Result<(), Error> {
    op.once("mail", || async { Err("the line went dead".to_owned()) }).await
}

async fn fails_at_the_mail<S: Fixture>(shop: &S) {
    let first: Result<(), RunError<Error>> =
        shop.runner().run("shop", "K", "", |op| async move { mail(&op).await }).await;
    assert!(matches!(first, Err(RunError::Work(StepError::Retry(_)))), "{first:?}");
}

pub(crate) async fn nothing_commits_behind_a_step_in_doubt<S: Fixture>() {
    let shop = S::open().await;
    fails_at_the_mail(&shop).await;
    let enlisted = shop.enlisted();
    let second = shop.runner().run("shop", "K", "", move |op| async move {
        assert!(matches!(mail(&op).await, Err(StepError::InDoubt { .. })));
        // Swallowed.
        let order = op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT)).await;
        assert!(matches!(&order, Err(StepError::InDoubt { step }) if step == "mail"), "{order:?}");
        let answer = op.complete(&enlisted, answering::<S>()).await;
        assert!(matches!(&answer, Err(StepError::InDoubt { step }) if step == "mail"), "{answer:?}");
        Ok::<(), Error>(())
    });
    let second: Result<(), RunError<Error>> = second.await;
    assert!(matches!(second, Err(RunError::OutcomeUnknown)), "{second:?}");
    assert_eq!(shop.orders(), 0);
}

/// The transaction began before that was known.
pub(crate) async fn no_answer_commits_behind_a_doubt_that_comes_up_meanwhile<S: Fixture>() {
    let shop = S::open().await;
    fails_at_the_mail(&shop).await;
    let enlisted = shop.enlisted();
    let second = shop.runner().run("shop", "K", "", move |op| async move {
        let doubtful = op.clone();
        let answering = work::<S, _, _>(move |tx| {
            Box::pin(async move {
                S::run(tx, INSERT).await?;
                let doubt = mail(&doubtful).await;
                assert!(matches!(&doubt, Err(StepError::InDoubt { step }) if step == "mail"), "{doubt:?}");
                Ok(Response::new(Bytes::from_static(b"17")))
            })
        });
        let answer = op.complete(&enlisted, answering).await;
        assert!(matches!(&answer, Err(StepError::InDoubt { step }) if step == "mail"), "{answer:?}");
        Ok::<(), Error>(())
    });
    let second: Result<(), RunError<Error>> = second.await;
    assert!(matches!(second, Err(RunError::OutcomeUnknown)), "{second:?}");
    assert_eq!(shop.orders(), 0);
}

/// The first call pays; the second one answers without coming to that.
pub(crate) async fn a_failure_that_leaves_out_a_payment_commits_nothing<S: Fixture>() {
    for (status, said, rows) in [(409, false, 0), (409, true, 1), (201, false, 1)] {
        let shop = S::open().await;
        let call = || {
            let enlisted = shop.enlisted();
            shop.runner().run("shop", "K", "", move |op| async move {
                if !op.is_resumed() {
                    op.pay("charge", |_| async { Ok(1) }).await?;
                    return Err(Error::Retry("later".into()));
                }
                let work = work::<S, _, _>(move |tx| {
                    Box::pin(async move {
                        S::run(tx, INSERT).await?;
                        let mut response = Response::new(Bytes::from_static(b"7"));
                        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
                        if said {
                            response.extensions_mut().insert(tower_idempotency::Outcome::Final);
                        }
                        Ok(response)
                    })
                });
                op.complete(&enlisted, work).await.map(|()| 7)
            })
        };
        assert!(matches!(call().await, Err(RunError::Work(Error::Retry(_)))));
        let second: Outcome = call().await;
        assert_eq!(shop.orders(), rows, "{status}, said: {said}");
        if rows == 1 {
            assert_eq!(second.ok(), Some(7));
            continue;
        }
        assert!(matches!(&second, Err(RunError::Work(StepError::InDoubt { step })) if step == "charge"), "{second:?}");
        assert!(matches!(call().await, Err(RunError::OutcomeUnknown)), "it is parked");
    }
}

/// A failure of gRPC has the status 200, and says in its head what it is.
pub(crate) async fn a_failure_of_grpc_does_not_commit_behind_a_payment<S: Fixture>() {
    for (status, commits) in [("9", false), ("0", true)] {
        let shop = S::open().await;
        let first: Result<(), RunError<Error>> = shop
            .runner()
            .run("shop", "K", "", |op| async move {
                op.pay("charge", |_| async { Ok::<_, Failed>(17) }).await?;
                Err(Error::Retry("died".into()))
            })
            .await;
        assert!(matches!(first, Err(RunError::Work(StepError::Retry(_)))), "{first:?}");
        let enlisted = shop.enlisted();
        let second = shop.runner().run("shop", "K", "", move |op| async move {
            let answering = work::<S, _, _>(move |tx| {
                Box::pin(async move {
                    S::run(tx, INSERT).await?;
                    let failed = Response::builder().header("content-type", "application/grpc");
                    Ok(failed.header("grpc-status", status).body(Bytes::from_static(b"17")).expect("a response"))
                })
            });
            let answer = op.complete(&enlisted, answering).await;
            let refused = matches!(&answer, Err(StepError::InDoubt { step }) if step == "charge");
            assert!(if commits { answer.is_ok() } else { refused }, "{answer:?}");
            Ok::<i32, Error>(7)
        });
        let second: Result<i32, RunError<Error>> = second.await;
        assert!(
            matches!((&second, commits), (Ok(17), true) | (Err(RunError::OutcomeUnknown), false)),
            "{status}: {second:?}"
        );
        assert_eq!(shop.orders(), i64::from(commits));
    }
}

pub(crate) async fn a_changed_input_is_an_error_and_commits_nothing<S: Fixture>() {
    let shop = S::open().await;
    let attempt = |price: u32| {
        let enlisted = shop.enlisted();
        shop.runner().run("shop", "K", "", move |op| async move {
            let order = op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT)).input(&price).await?;
            if op.attempt() < 3 { Err(Error::Retry("died".into())) } else { Ok(order) }
        })
    };
    let died: Outcome = attempt(100).await;
    assert!(matches!(died, Err(RunError::Work(StepError::Retry(_)))), "{died:?}");
    let changed = attempt(200).await;
    let Err(RunError::Work(StepError::InputChanged { step, stored, given, attempt: 1 })) = changed else {
        panic!("{changed:?}")
    };
    assert!(step == "order" && stored != given);
    assert_eq!(attempt(100).await.expect("the same question"), 1);
    assert_eq!(shop.orders(), 1);
}

pub(crate) async fn an_input_that_json_can_not_carry_begins_no_transaction<S: Fixture>() {
    let shop = S::open().await;
    let enlisted = shop.enlisted();
    let run = shop.runner().run("shop", "K", "", move |op| async move {
        let order = || op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT));
        for odd in [f64::NAN, f64::INFINITY] {
            let refused = order().input(&odd).await;
            assert!(matches!(&refused, Err(StepError::Unreadable { step, .. }) if step == "order"), "{refused:?}");
        }
        let refused = order().input(&std::collections::BTreeMap::from([((1, 1), 17)])).await;
        assert!(matches!(&refused, Err(StepError::Unreadable { step, .. }) if step == "order"), "{refused:?}");
        order().input(&17).await
    });
    let run: Outcome = run.await;
    assert!(run.is_ok(), "{run:?}");
    assert_eq!(shop.orders(), 1);
}

/// Writes an order and an answer.
fn answering<S: Fixture>()
-> impl for<'t> FnOnce(&'t mut Handle<S>) -> TransactionFuture<'t, Response<Bytes>, Failed> + Send {
    work::<S, _, _>(|tx| {
        Box::pin(async move {
            S::run(tx, INSERT).await?;
            Ok(Response::new(Bytes::from_static(b"17")))
        })
    })
}
