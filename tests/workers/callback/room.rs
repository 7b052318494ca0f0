//! Who makes a callback, and how many are made at once.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use tower_idempotency::core::Status;
use tower_idempotency::{Background, Backoff, Callback, Report};

use super::{BACKOFF, Receiver, once, over};
use crate::support::lab::{Lab, completer, post, reply, secs, send, serve, stored_key};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

#[tokio::test(start_paused = true)]
async fn what_only_owes_a_callback_does_not_fill_the_queue() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::failing(100);
    let background = Background::at("/ops").always().queue(2);
    let layer = lab
        .layer_with(|engine| engine.backoff(BACKOFF))
        .resumable()
        .background(background)
        .callback(receiver.callback());
    let app = serve(&layer, |_| async { Ok(reply(200, "later")) });
    let completer = completer(&layer, &app);
    for key in ["a", "b"] {
        assert_eq!(send(&app, post(key)).await.status, 202);
    }
    let report = once(&completer).await;
    assert_eq!((report.completed, report.callbacks_failed), (2, 2), "{report:?}");
    clock.advance(secs(100));
    assert_eq!(send(&app, post("c")).await.status, 202);
}

/// In two processes, that is: they share nothing but the store.
#[tokio::test(start_paused = true)]
async fn two_completers_never_call_at_the_same_time() {
    let (lab, _) = Lab::manual();
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Count::default());
    let waiting = || {
        let (gate, calls) = (gate.clone(), calls.clone());
        Callback::new(move |_| {
            calls.up();
            let gate = gate.clone();
            async move { gate.acquire().await.map(|permit| permit.forget()) }
        })
    };
    let (app, first) = over(&lab, waiting(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    // Both have looked before either writes.
    let (_, second) = over(&Lab::over(lab.store.clone()), waiting(), 201);
    lab.store.fail(|call| {
        if let Call::Swap(_) = call { Fault::Slow(std::time::Duration::from_millis(2)) } else { Fault::None }
    });
    let [first, second] = [first, second].map(|completer| tokio::spawn(async move { once(&completer).await }));
    // Time is paused: this is until nothing else can happen.
    tokio::time::sleep(secs(1)).await;
    assert_eq!(calls.get(), 1);
    gate.add_permits(2);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.callbacks_delivered + second.callbacks_delivered, calls.get()), (1, 1), "{first:?} {second:?}");
}

/// A completer without a callback leaves them to others, and is not held up.
#[tokio::test(start_paused = true)]
async fn who_has_no_callback_leaves_it_to_others() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, ours) = over(&lab, receiver.callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    let other = Lab::over(lab.store.clone());
    let layer = other.layer().resumable();
    let theirs = completer(&layer, &serve(&layer, |_| async { Ok(reply(200, "")) }));
    assert_eq!(once(&theirs).await.skipped, 1);
    assert_eq!(once(&theirs).await, Report::default(), "it is left alone for a while");
    assert_eq!(once(&ours).await.callbacks_delivered, 1);
    assert_eq!(receiver.delivered()[0].call, 1);
}

/// A hook that counts its calls and returns when it may.
fn gated(gate: &Arc<Semaphore>, calls: &Count) -> Callback {
    let (gate, calls) = (gate.clone(), calls.clone());
    Callback::new(move |_| {
        calls.up();
        let gate = gate.clone();
        async move { gate.acquire().await.map(|permit| permit.forget()) }
    })
}

/// Time is paused, and no test waits for it: all of it is before any deadline.
#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_keeps_no_operation_waiting() {
    let (lab, clock) = Lab::manual();
    let (gate, calls, runs) = (Arc::new(Semaphore::new(0)), Count::default(), Count::default());
    let layer = lab.layer_with(|engine| engine.backoff(BACKOFF)).resumable().callback(gated(&gate, &calls));
    let app = serve(&layer, move |_| {
        let status = if (2..=3).contains(&runs.up()) { 503 } else { 201 };
        async move { Ok(reply(status, "done")) }
    });
    for key in ["delivered", "one", "other"] {
        send(&app, post(key)).await;
    }
    clock.advance(secs(40));
    let completer = completer(&layer, &app).concurrency(1);
    let running = tokio::spawn(async move { once(&completer).await });
    settle().await;
    for key in ["one", "other"] {
        assert_eq!(lab.store.peek(&stored_key(key)).await.unwrap().status(), Status::Complete, "{key}");
    }
    assert_eq!(calls.get(), 1, "as many at once as operations");
    gate.add_permits(3);
    let report = running.await.unwrap();
    assert_eq!((report.completed, report.callbacks_delivered, calls.get()), (2, 3, 3), "{report:?}");
}

/// What was not begun is left to the completer that runs next.
#[tokio::test(start_paused = true)]
async fn a_completer_that_stops_makes_no_more_callbacks() {
    let (lab, _) = Lab::manual();
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Count::default());
    let (app, completer) = over(&lab, gated(&gate, &calls), 201);
    for key in ["one", "other"] {
        send(&app, post(key)).await;
    }
    let completer = completer.concurrency(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = completer.clone();
    let running = tokio::spawn(async move { running.run(async { stopped.await.unwrap_or(()) }).await });
    settle().await;
    stop.send(()).unwrap();
    settle().await;
    gate.add_permits(2);
    running.await.unwrap().unwrap();
    assert_eq!((calls.get(), lab.events.count("CallbackDelivered")), (1, 1));
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
}

/// Many of them, which it can do nothing about, keep it neither busy nor from its
/// own work.
#[tokio::test(start_paused = true)]
async fn callbacks_of_others_do_not_keep_a_completer_busy() {
    const THEIRS: u64 = 10_500;
    let (lab, clock) = Lab::manual();
    let (app, _) = over(&lab, Receiver::default().callback(), 201);
    for n in 0..THEIRS {
        send(&app, post(&format!("k{n}"))).await;
    }
    clock.advance(secs(1));
    let other = Lab::over(lab.store.clone());
    let layer = other.layer_with(|engine| engine.backoff(Backoff::new(secs(0), secs(0)))).resumable();
    let runs = Count::default();
    let service = serve(&layer, move |_| {
        let status = if runs.up() == 1 { 503 } else { 201 };
        async move { Ok(reply(status, "")) }
    });
    send(&service, post("ours")).await;
    clock.advance(secs(1));
    let before = lab.store.loads();
    let theirs = completer(&layer, &service).poll(secs(20));
    let running = tokio::spawn(async move { theirs.run(std::future::pending()).await });
    // Time is paused: this is until it rests.
    tokio::time::sleep(secs(1)).await;
    assert_eq!(lab.store.peek(&stored_key("ours")).await.unwrap().status(), Status::Complete);
    let loads = lab.store.loads() - before;
    assert!((THEIRS..THEIRS + 10).contains(&loads), "looked {loads} times");
    running.abort();
}
