//! The promises of `step`, `pay` and `once`.

use std::error::Error as _;
use std::sync::{Arc, Mutex};

use http::Response;
use tokio::sync::Semaphore;
use tower_idempotency::core::{Mode, Point, Status};
use tower_idempotency::store::{StoreError, StoreErrorKind};
use tower_idempotency::{Event, EventKind, Outcome, Reconciled, StepError};

use super::resumable;
use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{App, Lab, post, reply, secs, send, stored_key};
use crate::support::{Count, join_all, settle};

type Said = Response<TestBody>;

fn later() -> Said {
    reply(503, "later")
}

/// Peer bug 64: a result is a result, however little it says. And bugs 65 and
/// 68: by name, and with the claim.
#[tokio::test]
async fn every_result_is_remembered_even_those_that_look_like_nothing() {
    let lab = Lab::new();
    let works = Count::default();
    let count = works.clone();
    let app = resumable(&lab, move |op, run| {
        let count = count.clone();
        async move {
            macro_rules! remembered {
                ($name:literal, $type:ty, $value:expr) => {
                    let (count, value): (_, $type) = (count.clone(), $value);
                    let step = op.step($name, |_| async move {
                        count.up();
                        Ok::<$type, Failure>(value)
                    });
                    let result: $type = step.await.unwrap();
                    let expected: $type = $value;
                    assert_eq!(result, expected);
                };
            }
            remembered!("false", bool, false);
            remembered!("none", Option<u8>, None);
            remembered!("zero", u8, 0);
            remembered!("empty", String, String::new());
            remembered!("unit", (), ());
            remembered!("list", Vec<u8>, vec![]);
            if run == 1 { later() } else { reply(200, "done") }
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    let calls = lab.store.calls();
    send(&app, post("k")).await.assert_first(200, "done");
    assert_eq!(works.get(), 6);
    // One conflict, one claim, one completion: however many steps there were.
    assert_eq!(lab.store.calls() - calls, 3);
}

#[tokio::test]
async fn pay_moves_the_operation_to_paid_and_step_does_not() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, run| async move {
        assert_eq!((op.attempt(), op.is_resumed(), op.mode()), (run as u32, run > 1, Mode::Resumable));
        assert_eq!(*op.key(), stored_key("k"));
        assert!(!op.is_cancelled());
        op.step("order", |_| async { Ok::<_, Failure>(()) }).await.unwrap();
        if run == 1 {
            assert_eq!(op.status(), Status::Pending);
        }
        op.pay("charge", |_| async { Ok::<_, Failure>(()) }).await.unwrap();
        assert_eq!(op.status(), Status::Paid);
        if run == 1 { later() } else { reply(200, "done") }
    });
    send(&app, post("k")).await;
    assert_eq!(lab.store.peek(&stored_key("k")).await.unwrap().status(), Status::Paid);
    send(&app, post("k")).await.assert_first(200, "done");
    assert_eq!(lab.store.peek(&stored_key("k")).await.unwrap().status(), Status::Complete);
}

/// Peer bug 71.
#[tokio::test]
async fn a_steps_key_is_the_same_on_every_attempt_and_differs_by_step_and_by_caller() {
    let lab = Lab::new();
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = keys.clone();
    let app = resumable(&lab, move |op, run| {
        let seen = seen.clone();
        async move {
            for name in ["a", "b"] {
                let seen = seen.clone();
                let said = op.step_key(name);
                let step = op.step(name, |key| async move {
                    assert_eq!(key, said);
                    seen.lock().unwrap().push(key.to_string());
                    Err::<(), _>(Failure("not yet"))
                });
                assert!(matches!(step.await, Err(StepError::Retry(Failure("not yet")))));
            }
            if run == 4 { reply(200, "done") } else { later() }
        }
    });
    for key in ["k1", "k1", "k2", "k2"] {
        send(&app, post(key)).await;
    }
    let keys = keys.lock().unwrap();
    assert_eq!(keys[..2], keys[2..4]);
    assert_eq!(keys[4..6], keys[6..8]);
    let mut distinct = keys.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
}

/// Peer bugs 65 and 66.
#[tokio::test]
async fn a_name_that_is_used_twice_is_an_error_and_not_the_first_result() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, _| async move {
        assert_eq!(op.step("a", |_| async { Ok::<_, Failure>(1) }).await.unwrap(), 1);
        let again = op.step("a", |_| async { Ok::<_, Failure>(2) }).await;
        assert!(matches!(again, Err(StepError::Duplicate { step }) if step == "a"));
        let both = (0..2).map(|n| {
            op.step("b", move |_| async move {
                tokio::task::yield_now().await;
                Ok::<_, Failure>(n)
            })
        });
        let both = join_all(both).await;
        assert!(matches!(both[..], [Ok(0), Err(StepError::Duplicate { .. })]), "{both:?}");
        reply(200, "done")
    });
    send(&app, post("k")).await.assert_first(200, "done");
}

#[tokio::test]
async fn a_failed_step_may_be_tried_again_in_the_same_attempt() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, _| async move {
        let failed = op.step("a", |_| async { Err::<u8, _>(Failure("no")) }).await;
        assert!(matches!(failed, Err(StepError::Retry(_))));
        assert_eq!(op.step("a", |_| async { Ok::<_, Failure>(7) }).await.unwrap(), 7);
        reply(200, "done")
    });
    send(&app, post("k")).await.assert_first(200, "done");
}

#[tokio::test]
async fn a_final_error_is_remembered_and_a_retryable_one_is_not() {
    let lab = Lab::new();
    let works = Count::default();
    let count = works.clone();
    let app = resumable(&lab, move |op, run| {
        let count = count.clone();
        async move {
            let work = |_| async move {
                let error = if count.up() == 1 { "connection lost" } else { "declined" };
                Err::<(), _>(error.to_owned())
            };
            let step = op.pay("charge", work).final_when(|error| error == "declined");
            match (run, step.await) {
                (1, Err(StepError::Retry(error))) => assert_eq!(error, "connection lost"),
                (2 | 3, Err(StepError::Final(error))) => assert_eq!(error, "declined"),
                (_, other) => panic!("{other:?}"),
            }
            assert_eq!(op.status(), Status::Pending, "nothing was paid");
            if run < 3 { later() } else { reply(402, "declined") }
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(402, "declined");
    send(&app, post("k")).await.assert_replay(402, "declined");
    assert_eq!(works.get(), 2);
    let failed = |event: Event| if let EventKind::StepFailed { step } = event.kind { Some(step) } else { None };
    let failed: Vec<_> = lab.events.all().into_iter().filter_map(failed).collect();
    assert_eq!(failed, ["charge"], "told once: not for what may be tried again, nor for what is on record");
    assert_eq!(lab.events.count("StepReplayed"), 1);
}

/// What a handler passes on is its own error, whether or not it is final; what the engine
/// says is none of its own.
#[test]
fn the_error_of_the_work_is_taken_out() {
    let step = || "charge".to_owned();
    assert_eq!(StepError::Retry("lost").into_work(), Some("lost"));
    assert_eq!(StepError::Final("declined").into_work(), Some("declined"));
    let store = || StoreError::new(StoreErrorKind::Unavailable, "away");
    for error in [
        StepError::<&str>::Lost,
        StepError::TimedOut { step: step() },
        StepError::InDoubt { step: step() },
        StepError::Duplicate { step: step() },
        StepError::InputChanged { step: step(), stored: 1, given: 2, attempt: 1 },
        StepError::Undoing { step: step() },
        StepError::RolledBack(store()),
        StepError::Store(store()),
    ] {
        let shown = format!("{error:?}");
        assert_eq!(error.into_work(), None, "{shown}");
    }
}

/// From the step's error down to what the operating system said.
#[test]
fn an_error_of_the_store_has_its_cause() {
    let cause = std::io::Error::other("the disk is full");
    let error = StepError::<Failure>::Store(StoreError::new(StoreErrorKind::Full, "no room").caused_by(cause));
    let store = error.source().unwrap().downcast_ref::<StoreError>().unwrap();
    assert_eq!(store.kind(), StoreErrorKind::Full);
    assert_eq!(store.source().unwrap().to_string(), "the disk is full");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_takes_too_long_is_given_up_and_not_remembered() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, run| async move {
        let step = op.step("slow", |_| async move {
            if run == 1 {
                std::future::pending::<()>().await;
            }
            Ok::<_, Failure>(run)
        });
        match step.timeout(secs(2)).await {
            Err(StepError::TimedOut { step }) => reply(504, step),
            other => reply(200, format!("{other:?}")),
        }
    });
    send(&app, post("k")).await.assert_first(504, "slow");
    send(&app, post("k")).await.assert_first(200, "Ok(2)");
}

/// A `once` that failed in its first attempt, and what the second makes of it.
async fn in_doubt(said: Option<Reconciled<u8>>) -> (Lab, App, Count) {
    let lab = Lab::new();
    let works = Count::default();
    let count = works.clone();
    let app = resumable(&lab, move |op, run| {
        let count = count.clone();
        async move {
            let step =
                op.once("receipt", || async move { if count.up() == 1 { Err(Failure("timed out")) } else { Ok(9) } });
            let step = match said {
                Some(said) => step.reconcile(move || async move { said }),
                None => step,
            };
            match step.await {
                Ok(value) => reply(200, value.to_string()),
                Err(StepError::InDoubt { .. }) => reply(500, "in doubt"),
                Err(error) => reply(503, format!("{run}: {error}")),
            }
        }
    });
    send(&app, post("k")).await.assert_first(503, "1: timed out");
    (lab, app, works)
}

#[tokio::test]
async fn once_in_doubt_is_parked_and_never_run_again() {
    for said in [None, Some(Reconciled::Unknown)] {
        let (lab, app, works) = in_doubt(said).await;
        let answer = send(&app, post("k")).await;
        answer.assert_problem("outcome-unknown", 500);
        send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        assert_eq!((works.get(), lab.events.count("Parked")), (1, 1));
    }
}

#[tokio::test]
async fn once_in_doubt_is_settled_by_whoever_can_know() {
    let (_lab, app, works) = in_doubt(Some(Reconciled::Happened(5))).await;
    send(&app, post("k")).await.assert_first(200, "5");
    assert_eq!(works.get(), 1);
    let (_lab, app, works) = in_doubt(Some(Reconciled::DidNotHappen)).await;
    send(&app, post("k")).await.assert_first(200, "9");
    assert_eq!(works.get(), 2);
}

#[tokio::test]
async fn a_harmless_error_leaves_no_doubt() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, run| async move {
        let step =
            op.once("receipt", || async move { if run == 1 { Err(Failure("connection refused")) } else { Ok(()) } });
        match step.harmless_when(|error| error.0 == "connection refused").await {
            Ok(()) => reply(200, "sent"),
            Err(_) => later(),
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(200, "sent");
}

/// What is on record of the step `name`.
async fn on_record(lab: &Lab, name: &str) -> Option<Point> {
    lab.store.peek(&stored_key("k")).await.unwrap().step(name).map(|step| step.point().clone())
}

/// That this call was refused says nothing of the call that timed out before.
#[tokio::test]
async fn a_harmless_error_takes_back_nothing_of_an_earlier_attempt() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, run| async move {
        let said = Failure(if run == 1 { "timed out" } else { "connection refused" });
        let charge = op.pay("charge", |_| async move { Err::<(), _>(said) });
        let charge = charge.harmless_when(|error| error.0 == "connection refused");
        assert!(matches!(charge.await, Err(StepError::Retry(_))));
        op.nothing_happened();
        later()
    });
    for _ in 0..3 {
        send(&app, post("k")).await.assert_first(503, "later");
        assert_eq!(on_record(&lab, "charge").await, Some(Point::Begun));
    }
}

/// Nor of an earlier call of the same attempt.
#[tokio::test]
async fn a_harmless_error_takes_back_nothing_of_an_earlier_call() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, _| async move {
        for said in ["timed out", "connection refused"] {
            let charge = op.pay("charge", |_| async move { Err::<(), _>(Failure(said)) });
            let charge = charge.harmless_when(|error| error.0 == "connection refused");
            assert!(matches!(charge.await, Err(StepError::Retry(_))));
        }
        op.nothing_happened();
        later()
    });
    send(&app, post("k")).await.assert_first(503, "later");
    assert_eq!(on_record(&lab, "charge").await, Some(Point::Begun));
}

/// An earlier attempt's intent is settled by whoever can know; from then on it
/// is this attempt's, which stores it again before it tries again.
#[tokio::test]
async fn a_step_that_was_taken_back_is_begun_anew() {
    let lab = Lab::new();
    let lab_inside = lab.clone();
    let app = resumable(&lab, move |op, run| {
        let lab = lab_inside.clone();
        async move {
            for said in ["connection refused", "timed out"] {
                let seen = &lab;
                // Under `once` the intent is stated anew in any case.
                let receipt = op.pay("receipt", |_| async move {
                    assert_eq!(on_record(seen, "receipt").await, Some(Point::Begun), "run {run}, {said}");
                    Err::<(), _>(Failure(if run == 1 { "timed out" } else { said }))
                });
                let receipt = receipt.reconcile(|| async { Reconciled::DidNotHappen });
                let receipt = receipt.harmless_when(|error| error.0 == "connection refused");
                assert!(matches!(receipt.await, Err(StepError::Retry(_))));
                if run == 1 {
                    break;
                }
                let left = (said == "timed out").then_some(Point::Begun);
                assert_eq!(on_record(&lab, "receipt").await, left);
            }
            later()
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(503, "later");
    assert_eq!(on_record(&lab, "receipt").await, Some(Point::Begun));
}

#[tokio::test]
async fn a_result_of_another_type_is_neither_used_nor_run_again() {
    let lab = Lab::new();
    let app = resumable(&lab, |op, run| async move {
        if run == 1 {
            op.step("order", |_| async { Ok::<_, Failure>("seventeen".to_owned()) }).await.unwrap();
            return later();
        }
        let work = |_| async { panic!("run again") };
        let unreadable = op.step::<u64, Failure, _, _>("order", work).await;
        assert!(matches!(unreadable, Err(StepError::Unreadable { step, .. }) if step == "order"));
        reply(200, "done")
    });
    send(&app, post("k")).await;
    send(&app, post("k")).await.assert_first(200, "done");
}

/// Forty tickets at once: a retry makes the missing ones, and the results that
/// are there at one moment go out in one write.
#[tokio::test]
async fn concurrent_steps_are_stored_together_and_only_missing_ones_run_again() {
    let lab = Lab::new();
    let works = Arc::new(Mutex::new(Vec::new()));
    let done = works.clone();
    let app = resumable(&lab, move |op, run| {
        let done = done.clone();
        async move {
            let tickets = (0..40).map(|number| {
                let done = done.clone();
                op.step(format!("ticket {number}"), move |_| async move {
                    if run == 1 && number >= 25 {
                        return Err(Failure("sold out for now"));
                    }
                    done.lock().unwrap().push(number);
                    Ok(number)
                })
            });
            let results = join_all(tickets).await;
            if results.iter().all(Result::is_ok) { reply(200, "forty") } else { later() }
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    let swaps = lab.store.swaps();
    assert!(swaps <= 4, "a claim, some saves and a release took {swaps} writes");
    send(&app, post("k")).await.assert_first(200, "forty");
    assert_eq!(*works.lock().unwrap(), (0..40).collect::<Vec<_>>());
}

/// Dropping a step stops its work, not the write of what was done.
#[tokio::test]
async fn the_result_of_a_step_that_was_dropped_while_it_was_stored_is_stored() {
    let lab = Lab::new();
    let works = Count::default();
    let count = works.clone();
    let app = resumable(&lab, move |op, run| {
        let count = count.clone();
        async move {
            let mut step = Box::pin(op.step("order", |_| async move { Ok::<_, Failure>(count.up()) }));
            if run == 1 {
                // Polled until its result is on its way, and not further.
                assert!(crate::support::poll_once(&mut step).await.is_none());
                drop(step);
                settle().await;
                return later();
            }
            reply(200, step.await.unwrap().to_string())
        }
    });
    send(&app, post("k")).await;
    send(&app, post("k")).await.assert_first(200, "1");
    assert_eq!(works.get(), 1);
}

/// As for a result, so for an intent: without its work, but not without trace.
#[tokio::test]
async fn the_intent_of_a_step_that_was_dropped_while_it_was_stored_is_stored() {
    let lab = Lab::new();
    let works = Count::default();
    let count = works.clone();
    let app = resumable(&lab, move |op, run| {
        let count = count.clone();
        async move {
            let mut step = Box::pin(op.pay("charge", |_| async move { Ok::<_, Failure>(count.up()) }));
            if run == 1 {
                // Polled until its intent is on its way, and not further.
                assert!(crate::support::poll_once(&mut step).await.is_none());
                drop(step);
                settle().await;
                return later();
            }
            reply(200, step.await.unwrap().to_string())
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    assert_eq!((works.get(), on_record(&lab, "charge").await), (0, Some(Point::Begun)));
    send(&app, post("k")).await.assert_first(200, "1");
}

#[tokio::test]
async fn nothing_happened_forgets_the_operation_unless_a_step_is_on_record() {
    for with_step in [false, true] {
        let lab = Lab::new();
        let app = resumable(&lab, move |op, run| async move {
            if with_step {
                op.step("order", |_| async { Ok::<_, Failure>(()) }).await.unwrap();
            }
            let mut response = reply(409, format!("run {run} attempt {}", op.attempt()));
            response.extensions_mut().insert(Outcome::NothingHappened);
            response
        });
        send(&app, post("k")).await.assert_first(409, "run 1 attempt 1");
        assert_eq!(lab.store.len(), usize::from(with_step));
        let attempt = if with_step { 2 } else { 1 };
        send(&app, post("k")).await.assert_first(409, &format!("run 2 attempt {attempt}"));
    }
}

/// Peer bug 10 and faults E5: who lost the claim must not take another step.
#[tokio::test(start_paused = true)]
async fn a_step_of_an_attempt_that_lost_its_claim_is_not_stored_and_says_so() {
    let (lab, clock) = Lab::manual();
    let gate = Arc::new(Semaphore::new(0));
    let (wait, charges) = (gate.clone(), Count::default());
    let count = charges.clone();
    let app = resumable(&lab, move |op, run| {
        let (wait, count) = (wait.clone(), count.clone());
        async move {
            if run == 1 {
                wait.acquire().await.unwrap().forget();
            }
            let charge = op.pay("charge", |_| async move { Ok::<_, Failure>(count.up()) }).await;
            assert_eq!(op.is_cancelled(), run == 1);
            match charge {
                Ok(number) => reply(200, format!("charge {number}")),
                Err(StepError::Lost) => reply(503, "lost"),
                Err(error) => reply(500, error.to_string()),
            }
        }
    });
    let zombie = crate::support::lab::spawn(&app, post("k"));
    settle().await;
    clock.advance(secs(61));
    send(&app, post("k")).await.assert_first(200, "charge 1");
    gate.add_permits(1);
    zombie.await.unwrap().unwrap().assert_replay(200, "charge 1");
    assert_eq!(charges.get(), 1, "its intent was refused, so its work never began");
}
