//! What is in doubt stays so: no transaction starts, and no answer hides it.

use bytes::Bytes;
use http::Response;
use servers::Postgres;
use tower_idempotency::{Operation, RunError, StepError};

use crate::shop::{Driver, Failed, INSERT, Shop, work};
use crate::with_both_drivers;

with_both_drivers! {
    nothing_commits_behind_a_step_in_doubt
    a_doubt_that_comes_up_meanwhile_stops_the_answer
}

type Error = StepError<Failed>;

/// Fails the first time, and so is in doubt.
async fn mail(op: &Operation) -> Result<(), Error> {
    op.once("mail", || async { Err("the line went dead".to_owned()) }).await
}

async fn nothing_commits_behind_a_step_in_doubt<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let first: Result<(), RunError<Error>> =
        shop.runner().run("shop", "K", "", |op| async move { mail(&op).await }).await;
    assert!(matches!(first, Err(RunError::Work(StepError::Retry(_)))), "{first:?}");
    let joined = shop.joined.clone();
    let second = shop.runner().run("shop", "K", "", move |op| async move {
        assert!(matches!(mail(&op).await, Err(StepError::InDoubt { .. })));
        // Swallowed.
        let order = op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await;
        assert!(matches!(&order, Err(StepError::InDoubt { step }) if step == "mail"), "{order:?}");
        let answer = op.complete(&joined, answering::<D>(None)).await;
        assert!(matches!(&answer, Err(StepError::InDoubt { step }) if step == "mail"), "{answer:?}");
        Ok::<(), Error>(())
    });
    let second: Result<(), RunError<Error>> = second.await;
    assert!(matches!(second, Err(RunError::OutcomeUnknown)), "{second:?}");
    assert_eq!(shop.orders(), "0");
}

async fn a_doubt_that_comes_up_meanwhile_stops_the_answer<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let first: Result<(), RunError<Error>> =
        shop.runner().run("shop", "K", "", |op| async move { mail(&op).await }).await;
    assert!(matches!(first, Err(RunError::Work(StepError::Retry(_)))), "{first:?}");
    let joined = shop.joined.clone();
    let second = shop.runner().run("shop", "K", "", move |op| async move {
        let answer = op.complete(&joined, answering::<D>(Some(op.clone()))).await;
        assert!(matches!(&answer, Err(StepError::InDoubt { step }) if step == "mail"), "{answer:?}");
        Ok::<(), Error>(())
    });
    let second: Result<(), RunError<Error>> = second.await;
    assert!(matches!(second, Err(RunError::OutcomeUnknown)), "{second:?}");
    assert_eq!((shop.orders().as_str(), shop.sql("SELECT status FROM idempotency.records").as_str()), ("0", "0"));
}

/// Writes an order and an answer, and perhaps finds a doubt on the way.
fn answering<D: Driver>(
    doubtful: Option<Operation>,
) -> impl for<'t> FnOnce(&'t mut crate::shop::Handle<D>) -> tower_idempotency::TransactionFuture<'t, Response<Bytes>, Failed>
+ Send {
    work::<D, _, _>(move |tx| {
        Box::pin(async move {
            D::run(tx, INSERT).await?;
            if let Some(op) = doubtful {
                let _ = mail(&op).await;
            }
            Ok(Response::new(Bytes::from_static(b"null")))
        })
    })
}
