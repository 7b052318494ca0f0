//! Steps whose results go with the next write.

use tower_idempotency::core::{Point, Status};
use tower_idempotency::{Operation, StepError};

use crate::support::bodies::Failure;
use crate::support::lab::{App, Lab, post, reply, secs, send, spawn, stored_key};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

/// A handler's outcome: the response's text, or why there is none yet.
type Came<T> = Result<T, StepError<Failure>>;

/// A resumable service around a handler whose outcome becomes its response.
fn resumable<F, Fut>(lab: &Lab, handler: F) -> App
where
    F: Fn(Operation, usize) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Came<usize>> + Send + 'static,
{
    super::resumable(lab, move |op, run| {
        let run = handler(op, run);
        async move {
            match run.await {
                Ok(said) => reply(200, said.to_string()),
                Err(error) => reply(503, error.to_string()),
            }
        }
    })
}

async fn deferred(op: &Operation, name: &str, count: &Count) -> Came<usize> {
    let count = count.clone();
    op.step(name, |_| async move { Ok(count.up()) }).defer_save().await
}

async fn points(lab: &Lab, key: &str) -> Vec<(String, Point)> {
    let record = lab.store.peek(&stored_key(key)).await.unwrap();
    record.steps().iter().map(|step| (step.name().to_owned(), step.point().clone())).collect()
}

#[tokio::test]
async fn three_of_them_and_the_response_are_one_write() {
    let (lab, works) = (Lab::new(), Count::default());
    let count = works.clone();
    let app = resumable(&lab, move |op, _| {
        let count = count.clone();
        async move {
            for name in ["a", "b", "c"] {
                deferred(&op, name, &count).await?;
            }
            Ok(count.get())
        }
    });
    send(&app, post("k")).await.assert_first(200, "3");
    // Its claim, and its end.
    assert_eq!((lab.store.swaps(), works.get()), (2, 3));
    send(&app, post("k")).await.assert_replay(200, "3");
}

/// What is asked of a receiver rests on the same results in every attempt.
#[tokio::test]
async fn an_intent_is_never_stored_without_the_results_before_it() {
    let (lab, works) = (Lab::new(), Count::default());
    let (count, other) = (works.clone(), lab.clone());
    let app = resumable(&lab, move |op, run| {
        let (count, lab) = (count.clone(), other.clone());
        async move {
            let price = deferred(&op, "price", &count).await?;
            assert!(run > 1 || points(&lab, "k").await.is_empty());
            let paid = op.pay("charge", |_| async move {
                let points = points(&lab, "k").await;
                assert!(matches!(&points[..], [(_, Point::Saved(_)), (_, Point::Begun)]), "{points:?}");
                if run == 1 { Err(Failure("the line went dead")) } else { Ok(price) }
            });
            paid.await
        }
    });
    assert_eq!(send(&app, post("k")).await.status, 503);
    send(&app, post("k")).await.assert_first(200, "1");
    assert_eq!(works.get(), 1, "its result was stored");
}

/// A write that fails leaves them to the next one: no later write is stored without them.
#[tokio::test(start_paused = true)]
async fn a_write_that_fails_loses_none_of_them() {
    let (lab, works) = (Lab::new(), Count::default());
    let (count, other) = (works.clone(), lab.clone());
    let app = resumable(&lab, move |op, run| {
        let (count, lab) = (count.clone(), other.clone());
        async move {
            let price = deferred(&op, "price", &count).await?;
            if run == 1 {
                lab.store.down();
                let failed = op.step("note", |_| async { Ok::<_, Failure>(0) }).await;
                assert!(matches!(failed, Err(StepError::Store(_))), "{failed:?}");
                lab.store.heal();
            }
            op.pay("charge", |_| async move { if run == 1 { Err(Failure("no")) } else { Ok(price) } }).await
        }
    });
    assert_eq!(send(&app, post("k")).await.status, 503);
    let points = points(&lab, "k").await;
    assert!(points.iter().any(|(name, point)| name == "price" && matches!(point, Point::Saved(_))), "{points:?}");
    send(&app, post("k")).await.assert_first(200, "1");
    assert_eq!(works.get(), 1);
}

/// An attempt that ends without a response leaves what it has done.
#[tokio::test]
async fn an_end_without_a_response_stores_them() {
    let (lab, works) = (Lab::new(), Count::default());
    let count = works.clone();
    let app = resumable(&lab, move |op, run| {
        let count = count.clone();
        async move {
            deferred(&op, "a", &count).await?;
            if run == 1 { Err(StepError::Retry(Failure("later"))) } else { Ok(count.get()) }
        }
    });
    assert_eq!(send(&app, post("k")).await.status, 503);
    assert_eq!(points(&lab, "k").await.len(), 1);
    send(&app, post("k")).await.assert_first(200, "1");
}

/// A step that follows may take long.
#[tokio::test]
async fn a_renewal_stores_them() {
    let (lab, works) = (Lab::new(), Count::default());
    let (count, other) = (works.clone(), lab.clone());
    tokio::time::pause();
    let app = resumable(&lab, move |op, _| {
        let (count, lab) = (count.clone(), other.clone());
        async move {
            deferred(&op, "a", &count).await?;
            assert!(points(&lab, "k").await.is_empty());
            tokio::time::sleep(secs(25)).await;
            settle().await;
            assert_eq!(points(&lab, "k").await.len(), 1, "with the first renewal");
            Ok(count.get())
        }
    });
    send(&app, post("k")).await.assert_first(200, "1");
}

/// A process that dies before the next write has the work run again: that is what is said of it.
#[test]
fn what_dies_before_the_next_write_runs_again() {
    let ((lab, clock), works, later) = (Lab::manual(), Count::default(), Count::default());
    let service = || {
        let (count, later) = (works.clone(), later.clone());
        resumable(&lab, move |op, _| {
            let (count, later) = (count.clone(), later.clone());
            async move {
                deferred(&op, "a", &count).await?;
                if later.up() == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(count.get())
            }
        })
    };
    let process = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = process();
    first.block_on(async {
        spawn(&service(), post("k"));
        settle().await;
    });
    // It dies with all its tasks.
    drop(first);
    assert_eq!(works.get(), 1);
    clock.advance(secs(60));
    process().block_on(async { send(&service(), post("k")).await.assert_first(200, "2") });
}

/// `pay`, `once` and what can be undone are stored before they return.
#[tokio::test]
async fn what_must_not_wait_does_not() {
    let lab = Lab::new();
    let other = lab.clone();
    let app = resumable(&lab, move |op, _| {
        let lab = other.clone();
        async move {
            let is_saved = async |name: &str| {
                points(&lab, "k").await.iter().any(|(step, point)| step == name && matches!(point, Point::Saved(_)))
            };
            op.pay("charge", |_| async { Ok::<_, Failure>(1) }).defer_save().await?;
            assert!(is_saved("charge").await);
            op.once("mail", || async { Ok::<_, Failure>(1) }).defer_save().await?;
            assert!(is_saved("mail").await);
            let undo = |_, _| async { Ok(()) };
            op.step("room", |_| async { Ok::<_, Failure>(1) }).defer_save().undo_with(undo).await?;
            assert!(is_saved("room").await);
            Ok(1)
        }
    });
    send(&app, post("k")).await.assert_first(200, "1");
}

/// A step that is stored as it returns stores those before it.
#[tokio::test]
async fn another_step_takes_them_along() {
    let (lab, works) = (Lab::new(), Count::default());
    let (count, other) = (works.clone(), lab.clone());
    let app = resumable(&lab, move |op, _| {
        let (count, lab) = (count.clone(), other.clone());
        async move {
            deferred(&op, "a", &count).await?;
            deferred(&op, "b", &count).await?;
            op.step("c", |_| async { Ok::<_, Failure>(1) }).await?;
            Ok(points(&lab, "k").await.len())
        }
    });
    send(&app, post("k")).await.assert_first(200, "3");
    assert_eq!(lab.store.swaps(), 3, "the claim, the third step with those before it, the end");
}

/// What an operator finds an operation by goes along in the same way.
#[tokio::test(start_paused = true)]
async fn a_label_outlives_a_write_that_fails() {
    let lab = Lab::new();
    let other = lab.clone();
    let app = resumable(&lab, move |op, _| {
        let lab = other.clone();
        async move {
            op.label("order", 17);
            lab.store.down();
            let failed = op.step("note", |_| async { Ok::<_, Failure>(0) }).await;
            assert!(failed.is_err());
            lab.store.heal();
            Ok(1)
        }
    });
    send(&app, post("k")).await.assert_first(200, "1");
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    let labels: Vec<_> = record.labels().iter().map(|label| (label.name(), label.value())).collect();
    assert_eq!(labels, [("order", "17")]);
}

/// A call that is made again needs no new intent: what it rests on is stored all the same.
#[tokio::test]
async fn a_call_in_doubt_is_not_made_again_before_what_it_rests_on_is_stored() {
    let (lab, works) = (Lab::new(), Count::default());
    let (count, other) = (works.clone(), lab.clone());
    let app = resumable(&lab, move |op, run| {
        let (count, lab) = (count.clone(), other.clone());
        async move {
            let first = op.pay("charge", |_| async { Err::<usize, _>(Failure("the line went dead")) }).await;
            assert!(first.is_err());
            let price = if run == 1 { 0 } else { deferred(&op, "price", &count).await? };
            if run == 1 {
                return Err(StepError::Retry(Failure("later")));
            }
            let charge = op.pay("charge", |_| async move {
                let points = points(&lab, "k").await;
                assert!(points.iter().any(|(name, _)| name == "price"), "{points:?}");
                Ok(price)
            });
            charge.await
        }
    });
    assert_eq!(send(&app, post("k")).await.status, 503);
    send(&app, post("k")).await.assert_first(200, "1");
}

#[tokio::test]
async fn a_store_that_panics_loses_none_of_them() {
    let (lab, works) = (Lab::new(), Count::default());
    let (count, other) = (works.clone(), lab.clone());
    let app = resumable(&lab, move |op, run| {
        let (count, lab) = (count.clone(), other.clone());
        async move {
            let price = deferred(&op, "price", &count).await?;
            if run == 1 {
                lab.store.fail_once(Call::Swap(Status::Pending), Fault::Panic);
                let failed = op.pay("charge", |_| async move { Ok::<_, Failure>(price) }).await;
                assert!(failed.is_err());
            }
            op.pay("charge", |_| async move { if run == 1 { Err(Failure("no")) } else { Ok(price) } }).await
        }
    });
    assert_eq!(send(&app, post("k")).await.status, 503);
    let points = points(&lab, "k").await;
    assert!(points.iter().any(|(name, _)| name == "price"), "{points:?}");
}

/// As one that has to wait for a store does.
#[tokio::test]
async fn a_handler_of_many_leaves_turns_for_others() {
    let (lab, works) = (Lab::new(), Count::default());
    let count = works.clone();
    let app = resumable(&lab, move |op, _| {
        let count = count.clone();
        async move {
            let other = Count::default();
            let up = other.clone();
            tokio::spawn(async move { up.up() });
            for n in 0..2000 {
                deferred(&op, &n.to_string(), &count).await?;
                if other.get() == 1 {
                    return Ok(0);
                }
            }
            Ok(2000)
        }
    });
    send(&app, post("k")).await.assert_first(200, "0");
}

/// A step that failed first is not why the attempt ended, though its result is not stored yet.
#[tokio::test]
async fn one_that_was_done_at_last_is_no_reason() {
    let lab = Lab::new();
    let app = resumable(&lab, move |op, _| async move {
        let failed = op.step("a", |_| async { Err::<usize, _>(Failure("first try")) }).await;
        assert!(failed.is_err());
        op.step("a", |_| async { Ok::<_, Failure>(1) }).defer_save().await?;
        Err::<usize, _>(StepError::Retry(Failure("later")))
    });
    assert_eq!(send(&app, post("k")).await.status, 503);
    let history = format!("{:?}", lab.store.peek(&stored_key("k")).await.unwrap().history());
    assert!(history.contains("status 503") && !history.contains("step a"), "{history}");
}
