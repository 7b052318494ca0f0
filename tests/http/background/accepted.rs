//! What is answered 202, and run later.

use serde_json::json;
use tokio::sync::oneshot;
use tower_idempotency::core::{HistoryEvent, Status};
use tower_idempotency::store::{MemoryStore, StoreErrorKind};
use tower_idempotency::{Background, Backoff, EventKind, Reconciled, StatusService};

use super::{ask, assert_accepted, counting, later, layer, paying, shown};
use crate::support;
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, completer, gated, post, post_body, reply, secs, send, stored_key, with};
use crate::support::store::{Call, Fault, Faulty};
use crate::support::{Count, settle};

#[tokio::test(start_paused = true)]
async fn the_client_chooses_and_the_duplicates_get_the_same() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, runs) = paying(&layer);
    let completer = completer(&layer, &app);

    // Without the preference all is as ever, and so with ones that are not known.
    send(&app, post("now")).await.assert_first(201, "paid");
    send(&app, with(post("now-2"), "prefer", "wait=10, handling=lenient")).await.assert_first(201, "paid");
    assert_eq!(runs.get(), 2);

    let first = send(&app, later("k")).await;
    assert_accepted(&first, "/operations/k");
    let again = send(&app, later("k")).await;
    assert_accepted(&again, "/operations/k");
    assert_eq!((first.headers, first.body), (again.headers, again.body), "byte for byte");
    assert_eq!((runs.get(), lab.events.count("Accepted")), (2, 1));
    send(&app, with(post_body("k", "other"), "prefer", "respond-async")).await.assert_problem("key-reused", 422);

    let report = completer.run_once().await.unwrap();
    assert_eq!((report.found, report.completed, runs.get()), (1, 1, 3), "due at once");
    send(&app, later("k")).await.assert_replay(201, "paid");
    send(&app, post("k")).await.assert_replay(201, "paid");
    assert_eq!(completer.run_once().await.unwrap().found, 0);
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    let history: Vec<_> = record.history().iter().map(|entry| (entry.attempt, entry.event)).collect();
    assert_eq!(history, [(0, HistoryEvent::Accepted), (1, HistoryEvent::Claimed), (1, HistoryEvent::Completed)]);
}

#[tokio::test(start_paused = true)]
async fn a_route_can_always_do_so() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab).background(Background::at("/jobs/").always().retry_after(secs(7)));
    let (app, runs) = paying(&layer);
    let answer = send(&app, post("\"a/b c\"")).await;
    assert_accepted(&answer, "/jobs/a%2Fb%20c");
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!(runs.get(), 0);
    let status = ask(&StatusService::new(&layer), "GET", "/jobs/a%2Fb%20c", &[]).await;
    assert_eq!((status.status, status.json()["state"].clone()), (200, json!("queued")));
    assert_eq!(status.headers["retry-after"], "7");
}

/// While it runs, those who prefer so get the 202, the others 409.
#[tokio::test(start_paused = true)]
async fn duplicates_while_it_runs() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, runs, gate) = gated(&layer, |_| reply(201, "paid"));
    let completer = completer(&layer, &app);
    send(&app, later("k")).await;
    let running = tokio::spawn(async move { completer.run_once().await.unwrap() });
    settle().await;
    assert_eq!(runs.get(), 1);
    assert_accepted(&send(&app, later("k")).await, "/operations/k");
    send(&app, post("k")).await.assert_problem("in-progress", 409);
    assert_eq!(shown(&layer, "k").await.json()["state"], "running");
    gate.add_permits(1);
    assert_eq!(running.await.unwrap().completed, 1);
    assert_eq!(runs.get(), 1);
}

/// One that runs in the foreground can be waited for as well.
#[tokio::test(start_paused = true)]
async fn a_duplicate_of_what_runs_in_the_foreground() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, runs, gate) = gated(&layer, |_| reply(201, "paid"));
    let client = support::lab::spawn(&app, post("k"));
    settle().await;
    assert_accepted(&send(&app, later("k")).await, "/operations/k");
    gate.add_permits(1);
    client.await.unwrap().unwrap().assert_first(201, "paid");
    send(&app, later("k")).await.assert_replay(201, "paid");
    assert_eq!(runs.get(), 1);
}

/// Two processes: what one accepted, the completer of the other one runs.
#[tokio::test(start_paused = true)]
async fn instances_that_share_a_store_share_the_work() {
    let (here, _clock) = Lab::manual();
    let there = Lab::over(here.store.clone());
    let (app, runs) = paying(&layer(&here));
    let there = layer(&there);
    let (other, other_runs) = paying(&there);
    for key in ["a", "b"] {
        assert_accepted(&send(&app, later(key)).await, &format!("/operations/{key}"));
    }
    assert_accepted(&send(&other, later("a")).await, "/operations/a");
    let report = completer(&there, &other).run_once().await.unwrap();
    assert_eq!((report.completed, runs.get(), other_runs.get()), (2, 0, 2));
    send(&app, later("a")).await.assert_replay(201, "paid");
}

/// No poll, no scan: the process that accepts it wakes the completer next to it.
#[tokio::test(start_paused = true)]
async fn a_completer_in_the_same_process_starts_at_once() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let (app, runs) = paying(&layer);
    let completer = completer(&layer, &app).poll(secs(3600)).concurrency(4);
    let (stop, stopped) = oneshot::channel::<()>();
    let completing = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });
    settle().await;
    let scans = lab.store.scans();
    for number in 0..20 {
        send(&app, later(&format!("k{number}"))).await;
    }
    settle().await;
    settle().await;
    assert_eq!((runs.get(), lab.store.scans()), (20, scans));
    for number in 0..20 {
        send(&app, later(&format!("k{number}"))).await.assert_replay(201, "paid");
    }
    stop.send(()).unwrap();
    completing.await.unwrap().unwrap();
}

/// What it costs: one write to accept it, and what every attempt costs.
#[tokio::test(start_paused = true)]
async fn the_round_trips() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, _) = paying(&layer);
    send(&app, later("k")).await;
    assert_eq!((lab.store.calls(), lab.store.swaps()), (1, 1), "to accept it");
    send(&app, later("k")).await;
    assert_eq!(lab.store.calls(), 2, "a duplicate");
    completer(&layer, &app).run_once().await.unwrap();
    assert_eq!((lab.store.calls(), lab.store.scans()), (5, 1), "look, claim, complete");
    send(&app, later("k")).await;
    assert_eq!(lab.store.calls(), 6, "a replay");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_pushes_back() {
    let lab = Lab::new();
    let layer = layer(&lab).background(Background::at("/operations").queue(2));
    let (app, runs) = paying(&layer);
    for key in ["a", "b"] {
        assert_eq!(send(&app, later(key)).await.status, 202);
    }
    let full = send(&app, later("c")).await;
    full.assert_problem("overloaded", 503);
    assert!(full.headers.contains_key("retry-after"));
    assert!(lab.store.peek(&stored_key("c")).await.is_none(), "nothing is stored");
    // What was accepted stays so; and the foreground is open.
    assert_accepted(&send(&app, later("a")).await, "/operations/a");
    send(&app, post("d")).await.assert_first(201, "paid");
    assert_eq!(lab.store.scans(), 1, "asked at most twice a second");
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 2);
    tokio::time::advance(secs(1)).await;
    assert_eq!(send(&app, later("c")).await.status, 202, "there is room again");
    assert_eq!(runs.get(), 3);
}

/// Its deadline is that of its route; what hung is said by name.
#[tokio::test(start_paused = true)]
async fn what_hangs_is_cut_off_and_tried_again_and_parked_in_the_end() {
    let lab = Lab::new();
    let background = Background::at("/operations").deadline(secs(30)).max_tries(2);
    let layer = layer(&lab).background(background);
    let (app, runs) = counting(&layer, |op| async move {
        op.step("order", |_| async { Ok::<_, Failure>(1) }).await.unwrap();
        let _ = op.step("print", |_| std::future::pending::<Result<u8, Failure>>()).await;
        reply(201, "never")
    });
    let completer = completer(&layer, &app);
    send(&app, later("k")).await;
    for tries in 1..=2 {
        let started = tokio::time::Instant::now();
        assert_eq!(completer.run_once().await.unwrap().released, 1, "try {tries}");
        assert_eq!(started.elapsed(), secs(30));
        tokio::time::advance(secs(10)).await;
    }
    assert_eq!(lab.events.cut_off(), [["print"], ["print"]]);
    assert_eq!(completer.run_once().await.unwrap().parked, 1);
    assert_eq!(runs.get(), 2, "parked before it ran");
    let status = shown(&layer, "k").await.json();
    assert_eq!((&status["state"], &status["parked"]), (&json!("parked"), &json!("it was tried 2 times")));
    assert_eq!((&status["steps"][0]["name"], &status["steps"][0]["state"]), (&json!("order"), &json!("done")));
    send(&app, later("k")).await.assert_problem("outcome-unknown", 500);
}

/// At most once: run by the completer that claims it first, and never again.
#[tokio::test(start_paused = true)]
async fn at_most_once_in_the_background() {
    let lab = Lab::new();
    let layer = lab.layer().background(Background::at("/operations").always().deadline(secs(30)));
    let first = Count::default();
    let count = first.clone();
    let (app, runs) = counting(&layer, move |_| {
        let hangs = count.up() == 2;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            reply(500, "it says so itself")
        }
    });
    let asked = Count::default();
    let count = asked.clone();
    let completer = completer(&layer, &app).reconcile(move |_| {
        count.up();
        async { Reconciled::Unknown }
    });
    send(&app, post("fails")).await;
    assert_eq!(completer.run_once().await.unwrap().completed, 1, "a 500 is an answer");
    send(&app, post("fails")).await.assert_replay(500, "it says so itself");

    send(&app, post("hangs")).await;
    assert_eq!(completer.run_once().await.unwrap().released, 1);
    assert_eq!(asked.get(), 0);
    assert_eq!(completer.run_once().await.unwrap().parked, 1);
    assert_eq!((runs.get(), asked.get()), (2, 1));
    send(&app, post("hangs")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(completer.run_once().await.unwrap().found, 0);
}

/// Before it was started nothing is lost, in any mode; after that the mode
/// decides.
#[tokio::test(start_paused = true)]
async fn a_process_that_dies() {
    for resumable in [true, false] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let layer = layer.background(Background::at("/operations").always());
        let first = Count::default();
        let count = first.clone();
        let (app, runs) = counting(&layer, move |_| {
            let hangs = count.up() == 1;
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                reply(201, "paid")
            }
        });
        send(&app, post("k")).await;
        // The accepting process is gone; another one begins, and dies as well.
        let completer = completer(&layer, &app);
        let dying = tokio::spawn({
            let completer = completer.clone();
            async move { completer.run_once().await }
        });
        settle().await;
        assert_eq!(runs.get(), 1);
        dying.abort();
        settle().await;
        tokio::time::advance(secs(60)).await;
        let report = completer.run_once().await.unwrap();
        assert_eq!((report.completed, report.parked), if resumable { (1, 0) } else { (0, 1) });
        assert_eq!(runs.get(), if resumable { 2 } else { 1 });
    }
}

/// The reply of the store is lost: it is on record, and found out by looking.
#[tokio::test(start_paused = true)]
async fn lost_replies_while_it_is_accepted() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, runs) = paying(&layer);
    lab.store.fail_once(Call::Swap(Status::Pending), Fault::After);
    assert_accepted(&send(&app, later("k")).await, "/operations/k");
    assert_eq!(lab.events.count("Accepted"), 1);
    lab.store.down();
    send(&app, later("j")).await.assert_problem("store-unavailable", 503);
    lab.store.heal();
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn a_full_store_accepts_nothing() {
    let lab = Lab::over(Faulty::over(MemoryStore::new().max_entries(1)));
    let layer = layer(&lab);
    let (app, _) = paying(&layer);
    assert_eq!(send(&app, later("a")).await.status, 202);
    send(&app, later("b")).await.assert_problem("store-unavailable", 503);
    let kinds: Vec<_> = lab
        .events
        .all()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::StoreFailed { error, .. } => Some(error.kind()),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [StoreErrorKind::Full]);
}

/// An answer that says "did not start" does not undo the promise to run it.
#[tokio::test(start_paused = true)]
async fn what_was_accepted_and_did_not_start_is_tried_again() {
    for resumable in [true, false] {
        let (lab, clock) = Lab::manual();
        let layer = lab
            .layer_with(|engine| engine.backoff(Backoff::new(secs(10), secs(10))))
            .background(Background::at("/operations"));
        let layer = if resumable { layer.resumable() } else { layer };
        let tries = Count::default();
        let count = tries.clone();
        let (app, _) = counting(&layer, move |_| {
            let first = count.up() == 1;
            async move { if first { reply(429, "later") } else { reply(201, "paid") } }
        });
        let completer = completer(&layer, &app);
        assert_accepted(&send(&app, later("k")).await, "/operations/k");
        completer.run_once().await.unwrap();
        assert_eq!(completer.run_once().await.unwrap().found, 0, "it rests first");
        clock.advance(secs(11));
        completer.run_once().await.unwrap();
        send(&app, later("k")).await.assert_replay(201, "paid");
    }
}
