//! Steps in doubt: whatever may have happened stays on record, and nothing is
//! run again that may have.

use std::sync::Arc;

use http::Response;
use tokio::sync::Semaphore;
use tower_idempotency::core::{Hold, Point};
use tower_idempotency::{Operation, Reconciled, StepError, StepFuture};

use super::resumable;
use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{Lab, post, reply, secs, send, spawn, stored_key};
use crate::support::store::Faulty;
use crate::support::{Count, settle};

fn later() -> Response<TestBody> {
    reply(503, "later")
}

async fn intent_is_stored(store: &Faulty) -> bool {
    let record = store.peek(&stored_key("k")).await.unwrap();
    record.step("charge").map(|step| step.point().clone()) == Some(Point::Begun)
}

/// A step under either promise; `work` is the same.
fn charge<'a, Fut>(op: &Operation, once: bool, work: impl FnOnce() -> Fut + Send + 'a) -> StepFuture<'a, bool, Failure>
where
    Fut: Future<Output = Result<bool, Failure>> + Send + 'a,
{
    let step = if once { op.once("charge", work) } else { op.pay("charge", |_| work()) };
    step.harmless_when(|error| error.0 == "connection refused")
}

/// A harmless error takes the intent back, and the next try states it again:
/// also if it was an earlier attempt that had stated it first.
#[tokio::test]
async fn no_try_acts_without_its_intent_on_record() {
    for once in [true, false] {
        let lab = Lab::new();
        let store = lab.store.clone();
        let app = resumable(&lab, move |op, run| {
            let store = store.clone();
            async move {
                if run == 1 {
                    charge(&op, once, || async { Err(Failure("timed out")) }).await.unwrap_err();
                    return later();
                }
                let did_not = || async { Reconciled::DidNotHappen };
                let refused = charge(&op, once, || async { Err(Failure("connection refused")) });
                refused.reconcile(did_not).await.unwrap_err();
                assert!(!intent_is_stored(&store).await, "taken back");
                let again = charge(&op, once, || async { Ok(intent_is_stored(&store).await) });
                reply(200, again.reconcile(did_not).await.unwrap().to_string())
            }
        });
        send(&app, post("k")).await.assert_first(503, "later");
        send(&app, post("k")).await.assert_first(200, "true");
    }
}

/// A refused connection says nothing about the call before it that timed out.
#[tokio::test]
async fn a_harmless_error_does_not_take_back_an_earlier_trys_intent() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, _| async move {
        for error in ["timed out", "connection refused"] {
            charge(&op, false, || async { Err(Failure(error)) }).await.unwrap_err();
        }
        op.nothing_happened();
        later()
    });
    send(&app, post("k")).await.assert_first(503, "later");
    assert!(intent_is_stored(&lab.store).await);
}

/// The same attempt is asked what a later one would be.
#[tokio::test]
async fn a_once_that_failed_may_be_reconciled_in_the_same_attempt() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, _| async move {
        op.once("charge", || async { Err::<bool, _>(Failure("timed out")) }).await.unwrap_err();
        let again = op.once("charge", || async { Err::<bool, _>(Failure("run again")) });
        reply(200, again.reconcile(|| async { Reconciled::Happened(true) }).await.unwrap().to_string())
    });
    send(&app, post("k")).await.assert_first(200, "true");
}

#[tokio::test]
async fn a_once_that_failed_is_parked_if_the_same_attempt_runs_it_again() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, _| async move {
        op.once("charge", || async { Err::<(), _>(Failure("timed out")) }).await.unwrap_err();
        let again = op.once("charge", || async { Ok::<_, Failure>(()) }).await;
        assert!(matches!(again, Err(StepError::InDoubt { .. })), "{again:?}");
        later()
    });
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(lab.events.count("Parked"), 1);
}

/// Finding out takes time, and someone else may have found out meanwhile.
#[tokio::test(start_paused = true)]
async fn a_zombie_that_was_reconciling_does_not_run_what_its_heir_ran() {
    let (lab, clock) = Lab::manual();
    let (gate, charges) = (Arc::new(Semaphore::new(0)), Count::default());
    let (door, count) = (gate.clone(), charges.clone());
    let app = resumable(&lab, move |op, run| {
        let (door, count) = (door.clone(), count.clone());
        async move {
            if run == 1 {
                charge(&op, true, || async { Err(Failure("timed out")) }).await.unwrap_err();
                return later();
            }
            let step = op.once("charge", || async move { Ok::<_, Failure>(count.up()) });
            let asked = step.reconcile(move || async move {
                if run == 2 {
                    door.acquire().await.unwrap().forget();
                }
                Reconciled::DidNotHappen
            });
            match asked.await {
                Ok(number) => reply(200, format!("charge {number}")),
                Err(error) => reply(503, error.to_string()),
            }
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    let zombie = spawn(&app, post("k"));
    settle().await;
    clock.advance(secs(61));
    send(&app, post("k")).await.assert_first(200, "charge 1");
    gate.add_permits(1);
    zombie.await.unwrap().unwrap().assert_replay(200, "charge 1");
    assert_eq!(charges.get(), 1);
}

/// What a handler left running can't be remembered any more, so it is not
/// started either.
#[tokio::test]
async fn a_step_after_the_end_is_not_run() {
    let lab = Lab::new();
    let (gate, works) = (Arc::new(Semaphore::new(0)), Count::default());
    let (door, count) = (gate.clone(), works.clone());
    let app = resumable(&lab, move |op, _| {
        let (door, count) = (door.clone(), count.clone());
        async move {
            tokio::spawn(async move {
                door.acquire().await.unwrap().forget();
                let late = op.step("late", |_| async move { Ok::<_, Failure>(count.up()) }).await;
                assert!(matches!(late, Err(StepError::Lost)), "{late:?}");
                door.add_permits(10);
            });
            reply(200, "done")
        }
    });
    send(&app, post("k")).await.assert_first(200, "done");
    gate.add_permits(1);
    settle().await;
    assert_eq!((works.get(), gate.available_permits()), (0, 10));
}

/// A step that asks for a human cuts off no step that runs at the same time:
/// what that one did is saved. What is new is not started.
#[tokio::test]
async fn a_step_in_doubt_lets_the_others_save() {
    let lab = Lab::new();
    let (gate, works) = (Arc::new(Semaphore::new(0)), Count::default());
    let (door, count) = (gate.clone(), works.clone());
    let app = resumable(&lab, move |op, run| {
        let (door, count) = (door.clone(), count.clone());
        async move {
            if run == 1 {
                charge(&op, true, || async { Err(Failure("timed out")) }).await.unwrap_err();
                return later();
            }
            let slow = op.pay("slow", |_| async move {
                door.acquire().await.unwrap().forget();
                Ok::<_, Failure>(1)
            });
            let doubtful = async {
                settle().await;
                let error = charge(&op, true, || async { Ok(true) }).await.unwrap_err();
                assert!(matches!(error, StepError::InDoubt { ref step } if step == "charge"), "{error:?}");
                let new = op.step("new", |_| async move { Ok::<_, Failure>(count.up()) }).await.unwrap_err();
                assert!(matches!(new, StepError::InDoubt { ref step } if step == "charge"), "{new:?}");
            };
            let (slow, ()) = tokio::join!(slow, doubtful);
            reply(200, format!("slow {}", slow.unwrap()))
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    let client = spawn(&app, post("k"));
    settle().await;
    gate.add_permits(1);
    client.await.unwrap().unwrap().assert_problem("outcome-unknown", 500);
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert_eq!(record.step("slow").map(|step| step.point().clone()), Some(Point::Saved("1".into())));
    assert!(matches!(record.hold(), Hold::Parked { why } if why.contains("charge")), "{:?}", record.hold());
    assert_eq!((works.get(), lab.events.count("Parked")), (0, 1));
}

/// A doubt that comes up while the operation is undone stops that, too: what was undone
/// stays so, and the next one is not begun.
#[tokio::test]
async fn no_undoing_starts_once_a_step_is_in_doubt() {
    let (lab, undone) = (Lab::new(), Count::default());
    let counted = undone.clone();
    let app = resumable(&lab, move |op, run| {
        let (gate, undone) = (Arc::new(Semaphore::new(0)), counted.clone());
        async move {
            if run == 1 {
                charge(&op, true, || async { Err(Failure("timed out")) }).await.unwrap_err();
                return later();
            }
            let flight = op.pay("flight", |_| async { Ok::<_, Failure>(17) });
            let undo = move |_: i32, _| async move {
                undone.up();
                Ok(())
            };
            flight.undo_with(undo).await.unwrap();
            let (door, left_running) = (gate.clone(), op.clone());
            tokio::spawn(async move {
                let step = left_running.once("charge", || async { Ok::<_, Failure>(18) });
                let unknown = move || async move {
                    door.acquire().await.unwrap().forget();
                    Reconciled::Unknown
                };
                step.reconcile(unknown).await
            });
            settle().await;
            let hotel = op.pay("hotel", |_| async { Ok::<_, Failure>(18) });
            let undo = move |_: i32, _| async move {
                gate.add_permits(1);
                settle().await;
                Ok(())
            };
            hotel.undo_with(undo).await.unwrap();
            reply(409, "no car")
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert!(matches!(record.hold(), Hold::Parked { why } if why.contains("charge")), "{:?}", record.hold());
    assert_eq!((undone.get(), record.left_to_undo().collect::<Vec<_>>()), (0, vec!["flight"]));
}

/// The client is told no story that the record does not tell, even if the
/// store is away when the operation is to be parked.
#[tokio::test(start_paused = true)]
async fn an_answer_is_never_given_for_an_operation_that_is_parked() {
    let lab = Lab::new();
    let store = lab.store.clone();
    let app = resumable(&lab, move |op, run| {
        let store = store.clone();
        async move {
            if run == 1 {
                charge(&op, true, || async { Err(Failure("timed out")) }).await.unwrap_err();
                return later();
            }
            charge(&op, true, || async { Ok(true) }).await.unwrap_err();
            store.down();
            reply(200, "all is well")
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    lab.store.heal();
    tokio::time::sleep(secs(6)).await;
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert!(matches!(record.hold(), Hold::Parked { .. }), "{:?}", record.hold());
}
