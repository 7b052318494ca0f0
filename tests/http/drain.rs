//! A process that comes to its end: what it refuses, what it finishes, and what it leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_idempotency::core::{HistoryEvent, Status};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Background, Drained, EventKind, IdempotencyLayer, Mode};

use crate::support::lab::{
    App, Lab, completer, gated, numbered, post, post_body, reply, secs, send, send_now, serve, spawn, stored_key,
    unkeyed, with,
};
use crate::support::store::{Call, Fault};
use crate::support::{Count, poll_once, settle};

/// A drain that is waited for by a task.
async fn draining(layer: &IdempotencyLayer, deadline: Duration) -> JoinHandle<Drained> {
    let drain = tokio::spawn(layer.drain(deadline));
    settle().await;
    drain
}

/// A handler that answers once the door is open, and how often it ran.
fn behind_a_door(layer: &IdempotencyLayer) -> (App, Count, Arc<Semaphore>) {
    gated(layer, |number| reply(201, format!("run {number}")))
}

#[tokio::test(start_paused = true)]
async fn new_work_is_refused_and_what_was_begun_goes_on() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, runs, door) = behind_a_door(&layer);
    door.add_permits(1);
    send(&app, post("done")).await.assert_first(201, "run 1");
    let runs_on = spawn(&app, post("runs"));
    settle().await;
    assert!(!layer.is_draining());
    let drain = draining(&layer.clone(), secs(20)).await;
    assert!(layer.is_draining());
    let swaps = lab.store.swaps();
    send_now(&app, post("new")).await.assert_problem("draining", 503);
    send_now(&app, post("done")).await.assert_replay(201, "run 1");
    send_now(&app, post("runs")).await.assert_problem("in-progress", 409);
    send_now(&app, post_body("runs", "{}")).await.assert_problem("key-reused", 422);
    assert_eq!(lab.store.swaps(), swaps, "nothing is stored");
    door.add_permits(2);
    // What is not guarded is none of its business.
    assert_eq!(send(&app, unkeyed("POST")).await.status, 201);
    runs_on.await.unwrap().unwrap().assert_first(201, "run 2");
    assert!(drain.await.unwrap().is_empty());
    send_now(&app, post("runs")).await.assert_replay(201, "run 2");
    send_now(&app, post("new")).await.assert_problem("draining", 503);
    assert_eq!(runs.get(), 3);
    let told: Vec<_> = lab.events.names().into_iter().filter(|name| name.starts_with("Drain")).collect();
    assert_eq!(told, ["DrainBegun", "DrainEnded"]);
    assert!(!lab.events.all().iter().any(|event| event.kind.needs_attention()));
}

/// It would run here, and another process has more time for it.
#[tokio::test(start_paused = true)]
async fn what_would_be_resumed_is_left_to_other_processes() {
    let lab = Lab::new();
    let fails_once = |layer: &IdempotencyLayer| {
        let runs = Count::default();
        serve(layer, move |_| {
            let status = if runs.up() == 1 { 503 } else { 201 };
            async move { Ok(reply(status, "charged")) }
        })
    };
    let (layer, other) = (lab.layer().resumable(), lab.layer().resumable());
    let (app, heir) = (fails_once(&layer), fails_once(&other));
    send(&app, post("k")).await.assert_first(503, "charged");
    assert!(layer.drain(secs(20)).await.is_empty());
    send_now(&app, post("k")).await.assert_problem("draining", 503);
    send_now(&heir, post("k")).await.assert_first(503, "charged");
    send_now(&heir, post("k")).await.assert_first(201, "charged");
    send_now(&app, post("k")).await.assert_replay(201, "charged");
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_handler_whose_client_hung_up() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, runs, door) = behind_a_door(&layer);
    let client = spawn(&app, post("k"));
    settle().await;
    client.abort();
    let drain = draining(&layer, secs(20)).await;
    assert!(!drain.is_finished());
    door.add_permits(1);
    settle().await;
    assert!(drain.is_finished(), "at once");
    assert!(drain.await.unwrap().is_empty());
    send_now(&app, post("k")).await.assert_replay(201, "run 1");
    assert_eq!(runs.get(), 1);
}

/// A claim that was on its way when the drain began was begun before it.
#[tokio::test(start_paused = true)]
async fn it_waits_for_a_claim_on_its_way() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, runs) = numbered(&layer);
    lab.store.fail_once(Call::Swap(Status::Pending), Fault::Slow(secs(2)));
    let client = spawn(&app, post("k"));
    settle().await;
    let drain = draining(&layer, secs(20)).await;
    assert!(!drain.is_finished() && runs.get() == 0);
    assert!(drain.await.unwrap().is_empty());
    assert_eq!(runs.get(), 1);
    client.await.unwrap().unwrap().assert_first(201, "charge 1");
}

/// One whose outcome is not known, and that is withdrawn.
#[tokio::test(start_paused = true)]
async fn it_waits_until_a_claim_that_failed_is_withdrawn() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, runs) = numbered(&layer);
    let mut swaps = 0;
    lab.store.fail(move |call| match call {
        Call::Swap(_) if swaps < 3 => {
            swaps += 1;
            Fault::After
        }
        Call::Load if swaps < 4 => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    let refused = send(&app, post("k")).await;
    refused.assert_problem("store-unavailable", 503);
    lab.store.heal();
    let drain = draining(&layer, secs(20)).await;
    assert!(!drain.is_finished(), "the claim is on record");
    assert!(drain.await.unwrap().is_empty());
    assert_eq!((lab.store.peek(&stored_key("k")).await, runs.get()), (None, 0));
}

/// What begins nothing leaves nothing behind, whatever the store says.
#[tokio::test(start_paused = true)]
async fn what_is_refused_while_the_store_is_away_keeps_no_drain_waiting() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, _, door) = behind_a_door(&layer);
    let client = spawn(&app, post("k"));
    settle().await;
    let drain = draining(&layer, secs(20)).await;
    lab.store.down();
    send(&app, post("new")).await.assert_problem("store-unavailable", 503);
    lab.store.heal();
    door.add_permits(1);
    settle().await;
    assert!(drain.is_finished(), "no claim is withdrawn that was never made");
    client.await.unwrap().unwrap().assert_first(201, "run 1");
}

#[tokio::test(start_paused = true)]
async fn it_waits_until_a_response_is_saved_late() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, _) = numbered(&layer);
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_first(201, "charge 1");
    let drain = draining(&layer, secs(60)).await;
    tokio::time::sleep(secs(10)).await;
    assert!(!drain.is_finished());
    lab.store.heal();
    assert!(drain.await.unwrap().is_empty());
    assert_eq!(lab.events.count("SavedLate"), 1);
    send_now(&app, post("k")).await.assert_replay(201, "charge 1");
}

/// By key and attempt: an operation that runs, and one whose response can't be saved.
#[tokio::test(start_paused = true)]
async fn at_the_deadline_it_tells_what_was_left() {
    let lab = Lab::new();
    let (at_most_once, resumable) = (lab.layer(), lab.layer().resumable());
    let (app, _, door) = behind_a_door(&at_most_once);
    let (steps, _, steps_door) = behind_a_door(&resumable);
    let first = spawn(&app, post("a"));
    // It waits, and then ends before the drain begins.
    let ended = spawn(&steps, post("ended"));
    settle().await;
    steps_door.add_permits(1);
    settle().await;
    let second = spawn(&steps, post("b"));
    settle().await;
    let began = Instant::now();
    let (left, also) = (draining(&at_most_once, secs(5)).await, draining(&resumable, secs(7)).await);
    let (left, also) = (left.await.unwrap(), also.await.unwrap());
    assert_eq!(began.elapsed().as_secs(), 7, "and not before");
    let named =
        |left: &Drained| left.operations.iter().map(|left| (left.key, left.attempt, left.mode)).collect::<Vec<_>>();
    assert_eq!(named(&left), [(stored_key("a"), 1, Mode::AtMostOnce)]);
    assert_eq!(named(&also), [(stored_key("b"), 1, Mode::Resumable)]);
    assert_eq!((left.others, also.others), (0, 0));
    assert!(left.to_string().contains(&stored_key("a").to_string()), "{left}");
    let needs = lab.events.all().into_iter().filter(|event| event.kind.needs_attention());
    let told: Vec<_> = needs
        .map(|event| if let EventKind::DrainEnded { left } = event.kind { *left } else { Drained::default() })
        .collect();
    assert_eq!(told, [left, also], "an operator sees it");
    // Nothing was stopped: only the end of the process does that.
    door.add_permits(1);
    steps_door.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "run 1");
    second.await.unwrap().unwrap().assert_first(201, "run 2");
    ended.await.unwrap().unwrap().assert_first(201, "run 1");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_not_stored_is_left_too() {
    let lab = Lab::new();
    let layer = lab.layer().resumable();
    let (app, _, door) = behind_a_door(&layer);
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    door.add_permits(1);
    send(&app, post("before")).await;
    let during = spawn(&app, post("during"));
    settle().await;
    let drain = draining(&layer, secs(5)).await;
    door.add_permits(1);
    let left = drain.await.unwrap();
    let mut keys: Vec<_> = left.operations.iter().map(|left| left.key).collect();
    let mut expected = [stored_key("during"), stored_key("before")];
    keys.sort_unstable();
    expected.sort_unstable();
    assert_eq!((keys.as_slice(), left.others), (expected.as_slice(), 0));
    during.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_earliest_deadline_counts_and_all_calls_have_the_same_end() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, _, door) = behind_a_door(&layer);
    let client = spawn(&app, post("k"));
    settle().await;
    let began = Instant::now();
    let calls = [
        draining(&layer, secs(30)).await,
        draining(&layer.clone(), secs(10)).await,
        draining(&layer, Duration::MAX).await,
    ];
    let mut ends = Vec::new();
    for call in calls {
        ends.push(call.await.unwrap());
        assert_eq!(began.elapsed().as_secs(), 10);
    }
    door.add_permits(1);
    client.await.unwrap().unwrap().assert_first(201, "run 1");
    // Also of a call that comes when it is over.
    ends.push(layer.drain(secs(30)).await);
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(ends[0].operations.len(), 1);
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    assert_eq!((lab.events.count("DrainBegun"), lab.events.count("DrainEnded")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_not_waited_for_goes_on() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, _) = numbered(&layer);
    drop(layer.drain(secs(20)));
    send(&app, post("a")).await.assert_first(201, "charge 1");
    let mut drain = Box::pin(layer.drain(secs(20)));
    let (slow, _, door) = behind_a_door(&layer);
    let client = spawn(&slow, post("b"));
    settle().await;
    assert!(poll_once(&mut drain).await.is_none());
    drop(drain);
    send_now(&app, post("c")).await.assert_problem("draining", 503);
    door.add_permits(1);
    client.await.unwrap().unwrap();
    assert!(layer.drain(secs(20)).await.is_empty(), "a later call tells the end");
    assert_eq!((lab.events.count("DrainBegun"), lab.events.count("DrainEnded")), (1, 1));
}

/// Its response is on the way; of another process's there is no telling when it comes.
#[tokio::test(start_paused = true)]
async fn a_duplicate_goes_on_waiting_for_what_runs_here() {
    let lab = Lab::new();
    let layer = lab.layer().wait(secs(60));
    let (app, _, door) = behind_a_door(&layer);
    let (elsewhere, _, _far) = behind_a_door(&lab.layer());
    let (here, there) = (spawn(&app, post("here")), spawn(&elsewhere, post("there")));
    settle().await;
    let waits_here = spawn(&app, post("here"));
    let wait_there = [spawn(&app, post("there")), spawn(&app, post("there"))];
    settle().await;
    let drain = draining(&layer, secs(20)).await;
    for client in wait_there {
        assert!(client.is_finished(), "at once");
        client.await.unwrap().unwrap().assert_problem("draining", 503);
    }
    send_now(&app, post("there")).await.assert_problem("draining", 503);
    assert!(!waits_here.is_finished());
    door.add_permits(1);
    here.await.unwrap().unwrap().assert_first(201, "run 1");
    waits_here.await.unwrap().unwrap().assert_replay(201, "run 1");
    assert!(drain.await.unwrap().is_empty());
    there.abort();
}

/// What it asks of another guarded service belongs to what runs.
#[tokio::test(start_paused = true)]
async fn a_running_handler_may_use_another_guarded_service() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (ledger, booked) = numbered(&layer);
    let door = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&door);
    let app = serve(&layer, move |request| {
        let (ledger, wait) = (ledger.clone(), Arc::clone(&wait));
        async move {
            wait.acquire().await.unwrap().forget();
            let mut inner = with(post("booking"), "x-for", "k");
            *inner.extensions_mut() = request.extensions().clone();
            let booked = ledger.oneshot(inner).await.unwrap();
            Ok(reply(booked.status().as_u16(), "paid"))
        }
    });
    let client = spawn(&app, post("k"));
    settle().await;
    let drain = draining(&layer, secs(20)).await;
    door.add_permits(1);
    client.await.unwrap().unwrap().assert_first(201, "paid");
    assert_eq!(booked.get(), 1);
    assert!(drain.await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_for_later_is_known_and_nothing_new_is_accepted() {
    let lab = Lab::new();
    let layer = lab.layer().resumable().background(Background::at("/operations").always());
    let (app, runs, door) = behind_a_door(&layer);
    let completer = completer(&layer, &app);
    let completing = tokio::spawn(async move { completer.run(std::future::pending()).await });
    settle().await;
    assert_eq!(send_now(&app, post("handed-over")).await.status, 202);
    settle().await;
    assert_eq!(runs.get(), 1);
    let drain = draining(&layer, secs(20)).await;
    send_now(&app, post("new")).await.assert_problem("draining", 503);
    assert_eq!(lab.store.peek(&stored_key("new")).await, None);
    assert_eq!(send_now(&app, post("handed-over")).await.status, 202);
    assert!(!drain.is_finished() && !completing.is_finished());
    door.add_permits(1);
    assert!(drain.await.unwrap().is_empty());
    completing.await.unwrap().unwrap();
    send_now(&app, post("handed-over")).await.assert_replay(201, "run 1");
    let record = lab.store.peek(&stored_key("handed-over")).await.unwrap();
    assert_eq!(record.history().iter().filter(|entry| entry.event == HistoryEvent::Claimed).count(), 1);
}
