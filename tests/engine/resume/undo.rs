//! What an operation did before it failed for good is undone: in reverse,
//! once, and whatever crashes meanwhile.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tower::ServiceExt;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{HistoryEvent, Hold, Point, Record, Resolution, Resolve, Status, StepKey};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, NotUndone, Operation, Reconciled, Scope, StepError};

use super::crash::{Connection, Points};
use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{
    Answer, App, Lab, collect, completer, grpc, operation, post, reply, secs, send, serve, stored_key,
};
use crate::support::store::{Call, Fault};
use crate::support::{Count, poll_once, settle};

type Said = http::Response<TestBody>;

/// A flight and a hotel are booked; then there is no car, at first.
#[derive(Clone)]
struct Trip {
    store: Arc<MemoryStore>,
    clock: ManualClock,
    log: Log,
}

/// What the sellers did, and under which keys.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(String, StepKey)>>>);

impl Log {
    fn note(&self, what: &str, key: StepKey) {
        self.0.lock().unwrap().push((what.to_owned(), key));
    }

    /// Each only once, as sellers that honour keys do it.
    fn done(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let log = self.0.lock().unwrap();
        log.iter().filter(|(_, key)| seen.insert(key.to_string())).map(|(what, _)| what.clone()).collect()
    }
}

impl Trip {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = Arc::new(MemoryStore::with_clock(clock.clone()));
        Self { store, clock, log: Log::default() }
    }

    /// In a process that dies at point `fatal`; `None` if it did. By a client,
    /// or by a completer.
    fn process(&self, fatal: Option<usize>, by_client: bool) -> Option<Option<Answer>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let points = Arc::new(Points::new(fatal));
        let store =
            Connection { store: self.store.clone(), points: points.clone(), failing: None, calls: Mutex::default() };
        let layer = IdempotencyLayer::new(store, Scope::shared()).resumable();
        let (trip, at) = (self.clone(), points.clone());
        let app = serve(&layer, move |request| {
            let (op, trip, points) = (operation(&request), trip.clone(), at.clone());
            async move { Ok(trip.book(&op, &points).await) }
        });
        let mut running = Box::pin(async {
            if by_client {
                return Some(collect(app.oneshot(post("trip")).await.unwrap()).await.unwrap());
            }
            completer(&layer, &app).run_once().await.unwrap();
            None
        });
        let seen = runtime.block_on(async {
            tokio::select! {
                biased;
                () = points.dead.notified() => None,
                seen = &mut running => Some(seen),
            }
        });
        drop(runtime);
        drop(running);
        self.clock.advance(secs(700));
        seen
    }

    async fn book(&self, op: &Operation, points: &Arc<Points>) -> Said {
        for what in ["flight", "hotel"] {
            let (log, undone, at, back) = (self.log.clone(), self.log.clone(), points.clone(), points.clone());
            let booked = op.pay(what, move |key| async move {
                at.reach().await;
                log.note(what, key);
                at.reach().await;
                Ok::<_, Failure>(format!("{what}-17"))
            });
            let booked = booked.undo_with(move |booking: String, key| async move {
                back.reach().await;
                undone.note(&format!("cancel {booking}"), key);
                back.reach().await;
                Ok(())
            });
            if booked.await.is_err() {
                return reply(503, "later");
            }
        }
        // It would have one the second time: nobody may ask, then.
        let (log, at) = (self.log.clone(), points.clone());
        let car = op.step("car", |key| async move {
            at.reach().await;
            let again = log.0.lock().unwrap().iter().any(|(what, _)| what == "no car");
            log.note(
                if again { "car" } else { "no car" },
                StepKey::new(op.key(), if again { "car" } else { "no car" }),
            );
            let _ = key;
            at.reach().await;
            if again { Ok(()) } else { Err(Failure("no")) }
        });
        match car.await {
            Ok(()) => reply(201, "booked"),
            Err(StepError::Retry(_)) => reply(409, "no car"),
            Err(_) => reply(503, "later"),
        }
    }

    fn assert_settled(&self, case: &str) -> u16 {
        let last = self.process(None, true).unwrap().unwrap();
        let again = self.process(None, true).unwrap().unwrap();
        assert_eq!((again.status, again.text(), again.is_replay()), (last.status, last.text(), true), "{case}");
        let done = self.log.done();
        match last.status.as_u16() {
            201 => assert_eq!(done, ["flight", "hotel", "no car", "car"], "{case}"),
            409 => assert_eq!(done, ["flight", "hotel", "no car", "cancel hotel-17", "cancel flight-17"], "{case}"),
            other => panic!("{case}: {other} {done:?}"),
        }
        last.status.as_u16()
    }
}

/// By its client, and by completers once that is gone.
#[test]
fn a_trip_that_crashes_at_any_two_points_is_booked_or_undone_and_never_both() {
    let (mut crashes, mut endings) = (0, Vec::new());
    for by_client in [true, false] {
        for first in 1.. {
            let mut first_crashed = false;
            for second in 1.. {
                let case = format!("crashes at points {first} and {second}, retried by a client: {by_client}");
                let trip = Trip::new();
                first_crashed = trip.process(Some(first), true).is_none();
                let second_crashed = trip.process(Some(second), by_client).is_none();
                crashes += usize::from(second_crashed);
                if !by_client {
                    trip.process(None, false).unwrap();
                }
                endings.push(trip.assert_settled(&case));
                if !second_crashed {
                    break;
                }
            }
            if !first_crashed {
                break;
            }
        }
    }
    let count = |status| endings.iter().filter(|ending| **ending == status).count();
    assert!(crashes > 400 && count(201) > 50 && count(409) > 100, "{crashes} {} {}", count(201), count(409));
}

/// A handler that books, answers `status`, and undoes as `undo` says.
fn booking<F>(lab: &Lab, status: u16, undo: F) -> App
where
    F: Fn(usize) -> Result<(), NotUndone> + Clone + Send + Sync + 'static,
{
    let undos = Count::default();
    serve(&lab.layer().resumable(), move |request| {
        let (op, undo, undos) = (operation(&request), undo.clone(), undos.clone());
        async move {
            let booked = op.step("flight", |_| async { Ok::<_, Failure>(17) });
            let booked = booked.undo_with(move |_: i32, _| async move { undo(undos.up()) }).await;
            Ok(reply(status, if booked.is_ok() { "so it is" } else { "not booked" }))
        }
    })
}

async fn why(lab: &Lab) -> String {
    match lab.store.peek(&stored_key("k")).await.unwrap().hold() {
        Hold::Parked { why } => why.to_string(),
        other => panic!("not parked: {other:?}"),
    }
}

#[tokio::test]
async fn only_a_final_failure_is_undone() {
    for (status, undone) in [(200, 0), (404, 1), (409, 1), (503, 0), (500, 0), (429, 0)] {
        let (lab, undos) = (Lab::new(), Count::default());
        let counted = undos.clone();
        let app = booking(&lab, status, move |_| {
            counted.up();
            Ok(())
        });
        send(&app, post("k")).await.assert_first(status, "so it is");
        assert_eq!(undos.get(), undone, "{status}");
    }
}

/// What gRPC says counts, and not the 200 before it.
#[tokio::test]
async fn a_final_failure_of_grpc_is_undone() {
    let table = [("0", 0), ("3", 1), ("5", 1), ("9", 1), ("2", 0), ("14", 0), ("8", 0), ("12", 0)];
    for (status, undone, alone) in
        table.into_iter().flat_map(|(status, undone)| [true, false].map(|a| (status, undone, a)))
    {
        let (lab, undos) = (Lab::new(), Count::default());
        let counted = undos.clone();
        let app = serve(&lab.layer().resumable(), move |request| {
            let (op, counted) = (operation(&request), counted.clone());
            async move {
                let booked = op.step("flight", |_| async { Ok::<_, Failure>(17) });
                let undo = move |_: i32, _| async move {
                    counted.up();
                    Ok(())
                };
                booked.undo_with(undo).await.unwrap();
                Ok(grpc(status, alone))
            }
        });
        let first = send(&app, post("k")).await;
        assert_eq!((first.status.as_u16(), undos.get()), (200, undone), "{status} {alone}");
        assert_eq!(first.headers.contains_key("grpc-status"), alone);
    }
}

#[tokio::test]
async fn what_can_not_be_undone_yet_is_undone_by_a_later_attempt() {
    let lab = Lab::new();
    let app = booking(&lab, 409, |call| if call < 3 { Err(NotUndone::from(Failure("no"))) } else { Ok(()) });
    for _ in 0..2 {
        send(&app, post("k")).await.assert_problem("interrupted", 500);
    }
    send(&app, post("k")).await.assert_first(409, "so it is");
    send(&app, post("k")).await.assert_replay(409, "so it is");
    assert_eq!(lab.events.count("Undoing"), 1);
}

#[tokio::test]
async fn what_can_never_be_undone_calls_a_human() {
    let lab = Lab::new();
    let app = booking(&lab, 409, |_| Err(NotUndone::never("not refundable")));
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(why(&lab).await, "step \"flight\" can't be undone: not refundable");
    // Who calls the airline can say so.
    let resolution = Resolution::Undone { step: "flight".into() };
    let done = Ledger::new(lab.store.clone())
        .apply(&stored_key("k"), None, Resolve { resolution, seen: None, why: None })
        .await;
    done.unwrap().output.unwrap();
    send(&app, post("k")).await.assert_first(409, "so it is");
}

/// Its outcome may be a booking that nobody would cancel.
#[tokio::test]
async fn a_step_in_doubt_is_not_passed_over() {
    let (lab, undos) = (Lab::new(), Count::default());
    let (counted, layer) = (undos.clone(), lab.layer().resumable());
    let app = serve(&layer, move |request| {
        let (op, undos) = (operation(&request), counted.clone());
        async move {
            let undo = move |_: i32, _| async move {
                undos.up();
                Ok(())
            };
            op.pay("hotel", |_| async { Err::<i32, _>(Failure("no")) }).undo_with(undo.clone()).await.unwrap_err();
            op.pay("flight", |_| async { Ok::<_, Failure>(17) }).undo_with(undo).await.unwrap();
            Ok(reply(409, "no hotel"))
        }
    });
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert!(why(&lab).await.contains("\"hotel\""));
    assert_eq!(undos.get(), 0, "a human decides about all of it");
}

/// What is known not to have happened needs no undoing.
#[tokio::test]
async fn a_step_that_failed_for_good_or_did_nothing_is_not_undone() {
    let (lab, undos) = (Lab::new(), Count::default());
    let (counted, layer) = (undos.clone(), lab.layer().resumable());
    let app = serve(&layer, move |request| {
        let (op, undos) = (operation(&request), counted.clone());
        async move {
            let undo = move |name: String, _| async move {
                assert_eq!(name, "flight");
                undos.up();
                Ok(())
            };
            let flight = op.pay("flight", |_| async { Ok::<_, Failure>("flight".to_owned()) });
            flight.undo_with(undo.clone()).await.unwrap();
            let hotel = op.pay("hotel", |_| async { Err::<String, _>(Failure("no")) }).harmless_when(|_| true);
            hotel.undo_with(undo.clone()).await.unwrap_err();
            let car = op.pay("car", |_| async { Err::<String, _>("sold out".to_owned()) }).final_when(|_| true);
            car.undo_with(undo).await.unwrap_err();
            Ok(reply(409, "nothing left"))
        }
    });
    send(&app, post("k")).await.assert_first(409, "nothing left");
    assert_eq!(undos.get(), 1);
}

/// What it did may have to be undone, even if nobody lives to say that it did it.
#[tokio::test]
async fn a_step_that_can_be_undone_is_on_record_before_it_acts() {
    let (lab, runs) = (Lab::new(), Count::default());
    let (layer, store) = (lab.layer().resumable(), lab.store.clone());
    let app = serve(&layer, move |request| {
        let (op, store, first) = (operation(&request), store.clone(), runs.up() == 1);
        async move {
            let flight = op.step("flight", |_| async move {
                let record = store.peek(&stored_key("k")).await.unwrap();
                assert_eq!(record.step("flight").map(|step| step.point().clone()), Some(Point::Begun));
                assert!(!first, "dies with the flight booked, perhaps");
                Ok::<_, Failure>(17)
            });
            let flight = flight.reconcile(std::future::pending).undo_with(|_: i32, _| async { Ok(()) });
            // While somebody asks the airline, the handler gives up for good.
            let given_up = if first { Some(flight.await) } else { poll_once(&mut Box::pin(flight)).await };
            assert!(given_up.is_none());
            Ok(reply(409, "no hotel"))
        }
    });
    send(&app, post("k")).await.assert_problem("interrupted", 500);
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert!(why(&lab).await.contains("step \"flight\" may or may not have happened"));
}

/// Work that the handler left running, and whose intent is on its way when the
/// plan is made: it would be done after everything else is undone.
#[tokio::test(start_paused = true)]
async fn what_starts_while_the_plan_is_made_does_not_start() {
    for undoable in [true, false] {
        let (lab, works) = (Lab::new(), Count::default());
        let (counted, layer, store) = (works.clone(), lab.layer().resumable(), lab.store.clone());
        let app = serve(&layer, move |request| {
            let (op, works, store) = (operation(&request), counted.clone(), store.clone());
            async move {
                let booked = op.pay("flight", |_| async { Ok::<_, Failure>(17) });
                let undo = move |_: i32, _| async move {
                    settle().await;
                    Ok(())
                };
                booked.undo_with(undo).await.unwrap();
                store.fail_once(Call::Swap(Status::Paid), Fault::Slow(secs(1)));
                tokio::spawn(async move {
                    let hotel =
                        op.pay("hotel", |_| async move { Ok::<_, Failure>(i32::try_from(works.up()).unwrap()) });
                    let hotel = if undoable { hotel.undo_with(|_: i32, _| async { Ok(()) }) } else { hotel };
                    let refused = hotel.await;
                    assert!(matches!(refused, Err(StepError::Undoing { .. })), "{refused:?}");
                });
                settle().await;
                Ok(reply(409, "no hotel"))
            }
        });
        send(&app, post("k")).await.assert_first(409, "no hotel");
        assert_eq!(works.get(), 0);
    }
}

/// Once it is undone, nothing else is done, whatever the handler wants.
#[tokio::test]
async fn while_it_is_undone_nothing_new_is_started() {
    let (lab, runs, works) = (Lab::new(), Count::default(), Count::default());
    let (counted, layer) = (works.clone(), lab.layer().resumable());
    let app = serve(&layer, move |request| {
        let (op, run, works) = (operation(&request), runs.up(), counted.clone());
        async move {
            let flight = op.pay("flight", |_| async { Ok::<_, Failure>(17) });
            let undo = move |_: i32, _| async move { if run == 1 { Err(Failure("no").into()) } else { Ok(()) } };
            flight.undo_with(undo).await.unwrap();
            if run == 1 {
                return Ok(reply(409, "no hotel"));
            }
            let hotel = op.pay("hotel", |_| async move {
                works.up();
                Ok::<_, Failure>(18)
            });
            assert!(matches!(hotel.await, Err(StepError::Undoing { step }) if step == "hotel"));
            Ok(reply(200, "all is well"))
        }
    });
    send(&app, post("k")).await.assert_problem("interrupted", 500);
    send(&app, post("k")).await.assert_first(409, "no hotel");
    assert_eq!((works.get(), lab.events.count("StepBegun")), (0, 1), "nor is it said that it will be");
}

/// A release that no longer has the step can't undo it, and does not forget it.
#[tokio::test]
async fn what_nobody_knows_how_to_undo_calls_a_human() {
    let (lab, runs) = (Lab::new(), Count::default());
    let layer = lab.layer().resumable();
    let app = serve(&layer, move |request| {
        let (op, run) = (operation(&request), runs.up());
        async move {
            if run == 1 {
                let flight = op.pay("flight", |_| async { Ok::<_, Failure>(17) });
                flight.undo_with(|_: i32, _| async { Err(Failure("no").into()) }).await.unwrap();
            }
            Ok(reply(409, "no"))
        }
    });
    send(&app, post("k")).await.assert_problem("interrupted", 500);
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert!(why(&lab).await.contains("\"flight\""));
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert!(matches!(record.step("flight").unwrap().point(), Point::Saved(_)));
}

/// The steps that the history shows as done.
fn saved(record: &Record) -> Vec<String> {
    let history = record.history().into_iter().filter(|entry| entry.event == HistoryEvent::StepSaved);
    history.filter_map(|entry| Some(entry.text?.to_string())).collect()
}

/// No name of a step counts as the plan, or as the undoing of another step.
#[tokio::test]
async fn a_step_may_be_called_as_an_undoing_is_shown() {
    let (lab, runs, works, undos) = (Lab::new(), Count::default(), Count::default(), Count::default());
    let (counted, undone, layer) = (works.clone(), undos.clone(), lab.layer().resumable());
    let app = serve(&layer, move |request| {
        let (op, run, works, undos) = (operation(&request), runs.up(), counted.clone(), undone.clone());
        async move {
            for name in ["(undo)", "undo flight"] {
                let works = works.clone();
                let value = op.step(name, |_| async move { Ok::<_, Failure>(works.up()) }).await;
                assert!(value.is_ok(), "{name}: {value:?}");
            }
            if run == 1 {
                return Ok(reply(503, "later"));
            }
            let flight = op.pay("flight", |_| async { Ok::<_, Failure>(17) });
            let undo = move |_: i32, _| async move {
                match undos.up() {
                    1 => Err(Failure("away").into()),
                    _ => Ok(()),
                }
            };
            flight.undo_with(undo).await.unwrap();
            Ok(reply(409, "no hotel"))
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_problem("interrupted", 500);
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert!(!record.step("flight").unwrap().is_undone());
    send(&app, post("k")).await.assert_first(409, "no hotel");
    assert_eq!((works.get(), undos.get()), (2, 2));
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert_eq!(saved(&record), ["(undo)", "undo flight", "flight", "undo flight"]);
}

/// What had begun before the plan was made may say how it ended; what had not
/// gets to know that it does not count.
#[tokio::test(start_paused = true)]
async fn what_ends_after_the_plan_counts_if_it_had_begun_before() {
    let lab = Lab::new();
    let (layer, gate) = (lab.layer().resumable(), Arc::new(tokio::sync::Semaphore::new(0)));
    let app = serve(&layer, move |request| {
        let (op, gate) = (operation(&request), gate.clone());
        async move {
            let (noting, noted) = (op.clone(), gate.clone());
            tokio::spawn(async move {
                let work = |_| async move { noted.acquire().await.map(drop).map_err(|_| Failure("closed")) };
                let refused = noting.step("note", work).await;
                assert!(matches!(refused, Err(StepError::Undoing { .. })), "{refused:?}");
            });
            let (paying, paid) = (op.clone(), gate.clone());
            tokio::spawn(async move {
                let work = |_| async move { paid.acquire().await.map(drop).map_err(|_| Failure("closed")) };
                paying.pay("fee", work).await.unwrap();
            });
            settle().await;
            let flight = op.pay("flight", |_| async { Ok::<_, Failure>(17) });
            let undo = move |_: i32, _| async move {
                gate.add_permits(2);
                settle().await;
                Ok(())
            };
            flight.undo_with(undo).await.unwrap();
            Ok(reply(409, "no hotel"))
        }
    });
    send(&app, post("k")).await.assert_first(409, "no hotel");
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert_eq!(saved(&record), ["fee", "flight", "undo flight"]);
    assert_eq!(lab.events.count("StepSaved"), 3);
}

/// What was left in doubt before the plan stays so: it is not looked into any more.
#[tokio::test]
async fn while_it_is_undone_no_doubt_is_looked_into() {
    let (lab, runs, asked) = (Lab::new(), Count::default(), Count::default());
    let (counted, layer) = (asked.clone(), lab.layer().resumable());
    let app = serve(&layer, move |request| {
        let (op, run, asked) = (operation(&request), runs.up(), counted.clone());
        async move {
            let fee = op.pay("fee", |_| async { Err::<i32, _>(Failure("timed out")) }).reconcile(|| async move {
                asked.up();
                Reconciled::DidNotHappen
            });
            let fee = fee.await.unwrap_err();
            assert_eq!(matches!(fee, StepError::Undoing { .. }), run > 1, "{fee:?}");
            let flight = op.pay("flight", |_| async { Ok::<_, Failure>(17) });
            let undo = move |_: i32, _| async move { if run == 1 { Err(Failure("no").into()) } else { Ok(()) } };
            flight.undo_with(undo).await.unwrap();
            Ok(reply(409, "no hotel"))
        }
    });
    send(&app, post("k")).await.assert_problem("interrupted", 500);
    send(&app, post("k")).await.assert_first(409, "no hotel");
    assert_eq!(asked.get(), 0);
}
