//! What this process still has in hand, it does not take from itself.

use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use tower_idempotency::core::{Hold, Mode, Record, Status};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Background, IdempotencyLayer, Operation, Reconciled, RunError, Runner};

use crate::support::bodies::Failure;
use crate::support::lab::{
    App, Inner, Lab, completer, operation, post, post_body, reply, secs, send, serve, spawn, stored_key, with,
};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

/// The answers of a handler that charges, and how often it did.
fn charges(layer: &IdempotencyLayer) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |_: Inner| {
        let run = count.up();
        async move { Ok(reply(201, format!("charge {run}"))) }
    });
    (app, runs)
}

/// The store takes no answers, and all else.
fn takes_no_answers(lab: &Lab) {
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
}

async fn stored(lab: &Lab) -> Record {
    lab.store.peek(&stored_key("k")).await.unwrap()
}

fn layer(lab: &Lab, mode: Mode) -> IdempotencyLayer {
    leased(lab, mode, secs(60))
}

fn leased(lab: &Lab, mode: Mode, lease: std::time::Duration) -> IdempotencyLayer {
    let layer = lab.layer_with(|engine| engine.lease(lease)).background(Background::at("/operations"));
    if mode == Mode::Resumable { layer.resumable() } else { layer }
}

/// For longer than the lease, its client has the answer and the store has not.
#[tokio::test(start_paused = true)]
async fn a_completer_does_not_take_what_its_process_still_has_to_save() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let layer = layer(&lab, mode);
        let (app, runs) = charges(&layer);
        let asked = Count::default();
        let count = asked.clone();
        let completer = completer(&layer, &app).reconcile(move |_| {
            count.up();
            async { Reconciled::Unknown }
        });
        takes_no_answers(&lab);
        send(&app, post("k")).await.assert_first(201, "charge 1");
        for _ in 0..10 {
            tokio::time::sleep(secs(30)).await;
            completer.run_once().await.unwrap();
            assert!(matches!(stored(&lab).await.hold(), Hold::Leased { .. }), "{mode:?}: {:?}", stored(&lab).await);
        }
        assert_eq!((runs.get(), asked.get(), lab.events.count("Parked")), (1, 0, 0), "{mode:?}");
        lab.store.heal();
        tokio::time::sleep(secs(6)).await;
        assert_eq!(lab.events.count("SavedLate"), 1);
        send(&app, post("k")).await.assert_replay(201, "charge 1");
        assert_eq!(completer.run_once().await.unwrap().found, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn duplicates_of_what_is_still_to_be_saved_are_in_progress() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let layer = layer(&lab, mode);
        let (app, runs) = charges(&layer);
        takes_no_answers(&lab);
        send(&app, post("k")).await.assert_first(201, "charge 1");
        for _ in 0..4 {
            send(&app, post("k")).await.assert_problem("in-progress", 409);
            let later = send(&app, with(post("k"), "prefer", "respond-async")).await;
            assert_eq!(later.status, 202, "{mode:?}: {later:?}");
            send(&app, post_body("k", "another")).await.assert_problem("key-reused", 422);
            tokio::time::sleep(secs(30)).await;
        }
        assert_eq!(runs.get(), 1, "{mode:?}");
        lab.store.heal();
        tokio::time::sleep(secs(6)).await;
        send(&app, post("k")).await.assert_replay(201, "charge 1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_busy_while_its_result_is_still_to_be_saved() {
    let lab = Lab::new();
    let (runner, runs) = (Runner::new(lab.store.clone()), Count::default());
    let call = || {
        let runs = runs.clone();
        runner.run("jobs", "k", "", move |_| async move { Ok::<_, Failure>(runs.up()) })
    };
    takes_no_answers(&lab);
    assert_eq!(call().await.unwrap(), 1);
    tokio::time::sleep(secs(90)).await;
    assert!(matches!(call().await, Err(RunError::Busy(_))));
    lab.store.heal();
    tokio::time::sleep(secs(6)).await;
    assert_eq!((call().await.unwrap(), runs.get()), (1, 1));
}

/// It does not hold for ever: once saving is given up, it is as after a crash.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_saved_at_all_is_left_to_the_others() {
    let lab = Lab::new();
    let layer = lab.layer_with(|engine| engine.max_execution(secs(300)));
    let runs = Count::default();
    let (count, kept) = (runs.clone(), Arc::new(Mutex::new(Vec::new())));
    let app = serve(&layer, move |request: Inner| {
        let run = count.up();
        // Whatever a handler left running keeps no operation in hand.
        kept.lock().unwrap().push(operation(&request));
        async move { Ok(reply(201, format!("charge {run}"))) }
    });
    let completer = completer(&layer, &app);
    takes_no_answers(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(200)).await;
    assert_eq!(completer.run_once().await.unwrap().parked, 0);
    tokio::time::sleep(secs(200)).await;
    assert_eq!(lab.events.count("SaveFailed"), 1);
    assert_eq!((completer.run_once().await.unwrap().parked, runs.get()), (1, 1));
}

/// What another process has in hand can't be known.
#[tokio::test(start_paused = true)]
async fn another_process_goes_by_the_lease_alone() {
    let lab = Lab::new();
    let (app, _) = charges(&lab.layer());
    takes_no_answers(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(61)).await;
    let other = Lab::over(lab.store.clone());
    let layer = other.layer();
    assert_eq!(completer(&layer, &charges(&layer).0).run_once().await.unwrap().parked, 1);
    tokio::time::sleep(secs(6)).await;
    assert_eq!(lab.events.count("SaveFailed"), 1, "and the late answer is not taken");
}

/// The store does not take renewals, while the handler still runs here.
#[tokio::test(start_paused = true)]
async fn a_completer_does_not_take_what_its_process_still_runs() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let layer = layer(&lab, mode);
        let gate = Arc::new(Semaphore::new(0));
        let (door, runs) = (gate.clone(), Count::default());
        let count = runs.clone();
        let app = serve(&layer, move |request: Inner| {
            let (op, door, count): (Operation, _, _) = (operation(&request), door.clone(), count.clone());
            async move {
                count.up();
                door.acquire().await.unwrap().forget();
                Ok(reply(201, format!("attempt {}", op.attempt())))
            }
        });
        let completer = completer(&layer, &app);
        let client = spawn(&app, post("k"));
        settle().await;
        lab.store.fail(|call| match call {
            Call::Swap(_) => Fault::Before(StoreErrorKind::Unavailable),
            _ => Fault::None,
        });
        tokio::time::sleep(secs(100)).await;
        // The completer comes before the next renewal.
        lab.store.heal();
        let report = completer.run_once().await.unwrap();
        assert_eq!((report.parked, report.completed, runs.get()), (0, 0, 1), "{mode:?}: {report:?}");
        gate.add_permits(2);
        client.await.unwrap().unwrap().assert_first(201, "attempt 1");
        send(&app, post("k")).await.assert_replay(201, "attempt 1");
    }
}

/// A store call may hang for longer than a short lease: until it is given up, only
/// this process knows that it has the answer.
#[tokio::test(start_paused = true)]
async fn what_is_being_saved_is_in_hand_while_the_store_hangs() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let (app, runs) = charges(&leased(&lab, mode, secs(2)));
        lab.store.fail_once(Call::Swap(Status::Complete), Fault::Hang);
        let first = spawn(&app, post("k"));
        settle().await;
        tokio::time::sleep(secs(3)).await;
        send(&app, post("k")).await.assert_problem("in-progress", 409);
        first.await.unwrap().unwrap().assert_first(201, "charge 1");
        tokio::time::sleep(secs(10)).await;
        send(&app, post("k")).await.assert_replay(201, "charge 1");
        assert_eq!(runs.get(), 1, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_completer_does_not_park_what_is_being_saved_while_the_store_hangs() {
    let lab = Lab::new();
    let layer = leased(&lab, Mode::AtMostOnce, secs(2));
    let (app, _) = charges(&layer);
    let completer = completer(&layer, &app);
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::Hang);
    let first = spawn(&app, post("k"));
    settle().await;
    tokio::time::sleep(secs(3)).await;
    completer.run_once().await.unwrap();
    first.await.unwrap().unwrap().assert_first(201, "charge 1");
    tokio::time::sleep(secs(60)).await;
    let names = lab.events.names();
    assert!(!names.contains(&"Parked".into()) && names.contains(&"SavedLate".into()), "{names:?}");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
}

/// A runner beside a layer, whose completer goes over the same store.
#[tokio::test(start_paused = true)]
async fn a_completer_does_not_take_what_a_runner_beside_its_layer_still_has_to_save() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let layer = lab.layer();
        let (app, _) = charges(&layer);
        let runner = Runner::new(&layer);
        let runner = if mode == Mode::AtMostOnce { runner.at_most_once() } else { runner };
        let works = Count::default();
        takes_no_answers(&lab);
        let run = || {
            let works = works.clone();
            runner.run("jobs", "17", "", move |_| async move { Ok::<_, Failure>(works.up()) })
        };
        assert_eq!(run().await.unwrap(), 1);
        tokio::time::sleep(secs(90)).await;
        completer(&layer, &app).run_once().await.unwrap();
        lab.store.heal();
        tokio::time::sleep(secs(60)).await;
        assert_eq!((run().await.unwrap(), works.get()), (1, 1), "{mode:?}");
    }
}
