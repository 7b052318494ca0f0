//! When a completer looks, and how much it runs at once.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use tower_idempotency::Completer;
use tower_idempotency::core::Mode;

use super::{app, crashed, layer, once};
use crate::support::lab::{Inner, Lab, completer, operation, post, reply, secs, send, serve, with};
use crate::support::{Count, settle};

/// More is due than one round starts: the next one does not wait for the poll.
#[tokio::test(start_paused = true)]
async fn more_than_one_round_starts_is_run_at_once() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (layer(&lab), Count::default());
    let count = runs.clone();
    let app = app(&layer, move |_, _| {
        count.up();
        async { reply(201, "paid") }
    });
    for number in 0..2100 {
        crashed(&lab, &format!("k{number}"), Mode::Resumable, b"{}").await;
    }
    clock.advance(secs(60));
    let completer = completer(&layer, &app).poll(secs(3600));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });
    // Time is paused: this is until nothing else can happen.
    tokio::time::sleep(secs(1)).await;
    assert_eq!(runs.get(), 2100);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_may() {
    let (lab, clock) = Lab::manual();
    let (running, most, gate) = (Count::default(), Count::default(), Arc::new(Semaphore::new(0)));
    let (layer, count, door) = (layer(&lab), running.clone(), gate.clone());
    let app = app(&layer, move |_, _| {
        let (count, most, door) = (count.clone(), most.clone(), door.clone());
        async move {
            let (before, _) = (count.get(), count.up());
            assert!(before < 2 + most.get(), "too many at once");
            door.acquire().await.unwrap().forget();
            most.up();
            reply(200, "done")
        }
    });
    for key in ["a", "b", "c", "d", "e"] {
        crashed(&lab, key, Mode::Resumable, b"{}").await;
    }
    clock.advance(secs(60));
    let completer = completer(&layer, &app).concurrency(2);
    let work = tokio::spawn(async move { once(&completer).await });
    settle().await;
    assert_eq!(running.get(), 2);
    gate.add_permits(5);
    assert_eq!(work.await.unwrap().completed, 5);
}

/// Runs `completer` for as long as `during` takes.
async fn running(completer: &Completer, during: impl Future<Output = ()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = completer.clone();
    let work = tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
    during.await;
    stop.send(()).unwrap();
    work.await.unwrap().unwrap();
}

/// However rarely the store is asked: what this process releases wakes it.
#[tokio::test(start_paused = true)]
async fn what_this_process_releases_is_finished_when_it_is_due() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let app = app(&layer, |_, run| async move { if run == 1 { reply(503, "later") } else { reply(200, "done") } });
    let completer = completer(&layer, &app).poll(secs(24 * 3600));
    running(&completer, async {
        settle().await;
        send(&app, post("k")).await.assert_first(503, "later");
        tokio::time::sleep(secs(11)).await;
        send(&app, post("k")).await.assert_replay(200, "done");
    })
    .await;
    assert_eq!(lab.store.scans(), 2, "at the start, and when it was due");
}

#[tokio::test(start_paused = true)]
async fn an_idle_completer_asks_once_a_poll() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    running(&completer(&layer, &app), tokio::time::sleep(secs(5000))).await;
    assert!((750..=1501).contains(&lab.store.scans()), "{} scans in a thousand polls", lab.store.scans());
    assert_eq!(lab.store.calls(), 0, "and nothing else");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_rarely_and_told_of_once() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    crashed(&lab, "k", Mode::Resumable, b"{\"amount\":100}").await;
    lab.store.down();
    running(&completer(&layer, &app), async {
        tokio::time::sleep(secs(3600)).await;
        assert!((40..=150).contains(&lab.store.scans()), "{} scans in an hour", lab.store.scans());
        assert_eq!(lab.events.names(), ["StoreFailed"]);
        lab.store.heal();
        tokio::time::sleep(secs(61)).await;
        send(&app, post("k")).await.assert_replay(200, "done");
    })
    .await;
}

/// One operation that hangs keeps no other waiting; and shutting down waits
/// for what runs.
#[tokio::test(start_paused = true)]
async fn others_go_on_while_one_hangs_and_shutdown_waits() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let app = serve(&layer, |request: Inner| async move {
        if request.headers().contains_key("x-slow") && operation(&request).is_resumed() {
            tokio::time::sleep(secs(200)).await;
        }
        Ok(if operation(&request).is_resumed() { reply(200, "done") } else { reply(503, "later") })
    });
    let slow = || with(post("slow"), "x-slow", "yes");
    send(&app, slow()).await.assert_first(503, "later");
    running(&completer(&layer, &app), async {
        tokio::time::sleep(secs(20)).await;
        send(&app, slow()).await.assert_problem("in-progress", 409);
        send(&app, post("k")).await.assert_first(503, "later");
        tokio::time::sleep(secs(20)).await;
        send(&app, post("k")).await.assert_replay(200, "done");
    })
    .await;
    send(&app, slow()).await.assert_replay(200, "done");
}
