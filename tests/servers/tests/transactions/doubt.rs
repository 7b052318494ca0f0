//! What is in doubt stays so: no transaction starts, and no answer hides it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use servers::{Postgres, wait_until};
use tokio::sync::oneshot;
use tower::{ServiceExt, service_fn};
use tower_idempotency::store::Store;
use tower_idempotency::{EventKind, IdempotencyLayer, Operation, RequestBody, RunError, Scope, StepError};
use tower_layer::Layer;

use crate::shop::{Driver, Failed, INSERT, Shop, work};
use crate::with_both_drivers;

with_both_drivers! {
    a_doubt_that_comes_up_meanwhile_stops_the_answer
    a_doubt_that_comes_up_during_the_commit_is_told_and_the_answer_stands
    nothing_commits_once_it_is_undone
}

type Error = StepError<Failed>;

/// Fails the first time, and so is in doubt.
async fn mail(op: &Operation) -> Result<(), Error> {
    op.once("mail", || async { Err("the line went dead".to_owned()) }).await
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

/// Too late to stop it: then the answer is the one truth, and somebody hears of
/// the doubt. Whether or not the handler waits for the commit.
async fn a_doubt_that_comes_up_during_the_commit_is_told_and_the_answer_stands<D: Driver>() {
    for waits in [true, false] {
        let shop = Shop::<D>::open(Postgres::shared()).await;
        shop.sql(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             WHILE NOT EXISTS (SELECT FROM pg_tables WHERE tablename = 'agreed') LOOP PERFORM pg_sleep(0.01); END LOOP; \
             RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION hold()",
        );
        let first: Result<(), RunError<Error>> =
            shop.runner().run("shop", "K", "", |op| async move { mail(&op).await }).await;
        assert!(matches!(first, Err(RunError::Work(StepError::Retry(_)))), "{first:?}");
        let told = Arc::new(Mutex::new(Vec::new()));
        let (joined, database, heard) = (shop.joined.clone(), shop.database.clone(), Arc::clone(&told));
        let runner = shop.runner_with(|engine| {
            engine.on_event(move |event| heard.lock().expect("no panic").push(event.kind.clone()))
        });
        let second = runner.run("shop", "K", "", move |op| async move {
            let commits = op.complete(&joined, answering::<D>(None));
            let doubts = async {
                let committing = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                                  AND state = 'active' AND query ILIKE 'commit%'";
                let at = database.clone();
                let seen = move || wait_until("the commit", || Postgres::shared().sql_in(&at, committing) == "1");
                tokio::task::spawn_blocking(seen).await.expect("it commits");
                let doubt = mail(&op).await;
                assert!(matches!(&doubt, Err(StepError::InDoubt { step }) if step == "mail"), "{doubt:?}");
                let agree = move || Postgres::shared().sql_in(&database, "CREATE TABLE agreed ()");
                drop(tokio::task::spawn_blocking(agree));
            };
            if waits {
                let (committed, ()) = tokio::join!(commits, doubts);
                committed.expect("it was on its way");
                return Ok(7);
            }
            tokio::select! {
                _ = commits => panic!("it can't have seen the end"),
                () = doubts => Ok::<i32, Error>(7),
            }
        });
        let second: Result<i32, RunError<Error>> = second.await;
        let third = shop.runner().run("shop", "K", "", |_| async { Ok::<_, Error>(7) }).await;
        assert!(matches!((&second, &third), (Ok(17), Ok(17))), "{second:?} {third:?}");
        assert_eq!(shop.orders(), "1");
        let told = told.lock().expect("no panic");
        let parked = told.iter().filter(|kind| matches!(kind, EventKind::Parked { why } if why.contains("stands")));
        assert_eq!(parked.count(), 1, "{told:?}");
        assert!(!told.iter().any(|kind| matches!(kind, EventKind::LeaseLost)), "{told:?}");
    }
}

/// The transaction began before the operation failed for good, and ends after.
async fn nothing_commits_once_it_is_undone<D: Driver>() {
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let (joined, store) = (shop.joined.clone(), shop.store.clone());
    let handler = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        let op = request.extensions().get::<Operation>().expect("an operation").clone();
        let (joined, store) = (joined.clone(), store.clone());
        async move {
            let (began, begun) = oneshot::channel();
            let (ordered, order) = oneshot::channel();
            let booked = op.step("flight", |_| async { Ok::<_, Failed>(17) });
            let undo = move |_: i32, _| async move {
                // Not before the transaction has ended.
                let order: Result<i64, Error> = order.await?;
                assert!(matches!(&order, Err(StepError::Undoing { step }) if step == "order"), "{order:?}");
                Ok(())
            };
            booked.undo_with(undo).await.expect("it is stored");
            tokio::spawn(async move {
                let key = *op.key();
                let work = work::<D, _, _>(move |tx| {
                    Box::pin(async move {
                        began.send(()).expect("the handler waits");
                        while store.load(&key).await.expect("it answers").record.is_none_or(|r| r.undoing().is_none()) {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        D::run(tx, INSERT).await
                    })
                });
                ordered.send(op.transaction(&joined, "order", work).await).expect("the undo waits");
            });
            begun.await.expect("it begins");
            Ok::<_, Infallible>(Response::builder().status(409).body(Full::<Bytes>::from("no")).expect("a response"))
        }
    });
    let service = IdempotencyLayer::new(shop.store.clone(), Scope::shared()).resumable().layer(handler);
    let request = Request::post("/orders").header("idempotency-key", "K").body(Full::new(Bytes::new()));
    let response = service.oneshot(request.expect("a request")).await.expect("infallible");
    assert_eq!((response.status().as_u16(), shop.orders().as_str()), (409, "0"));
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
            Ok(Response::new(Bytes::from_static(b"17")))
        })
    })
}
