//! How long an attempt may take, and how many there may be.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use tower::{ServiceExt, service_fn};
use tower_idempotency::core::{Mode, Resolution, Status};
use tower_idempotency::{Completer, Refusal, StoredBody};

use super::{app, crashed, layer, once, parked_why, stored};
use crate::support;
use crate::support::Count;
use crate::support::bodies::Failure;
use crate::support::lab::{Inner, Lab, completer, post, reply, secs, send, serve, with};
use crate::support::store::{Call, Fault};

#[tokio::test(start_paused = true)]
async fn what_fails_too_often_is_parked_and_the_others_go_on() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (layer(&lab), Count::default());
    let count = runs.clone();
    let app = serve(&layer, move |request: Inner| {
        let poison = request.headers().contains_key("x-poison");
        let run = if poison { count.up() } else { 0 };
        async move {
            assert!(run % 2 == 0, "a poison pill");
            Ok(if poison { reply(500, "no") } else { reply(200, "fine") })
        }
    });
    let completer = completer(&layer, &app).max_tries(4);
    send(&app, with(post("k"), "x-poison", "yes")).await;
    crashed(&lab, "other", Mode::Resumable, b"{}").await;
    let mut total = (0, 0, 0);
    for _ in 0..6 {
        clock.advance(secs(60));
        let report = once(&completer).await;
        total = (total.0 + report.completed, total.1 + report.released, total.2 + report.parked);
    }
    assert_eq!(total, (1, 3, 1), "the other, three more tries, and the end of them");
    assert_eq!(runs.get(), 4);
    assert_eq!(parked_why(&stored(&lab).await), "it was tried 4 times");
    assert_eq!((lab.events.count("Parked"), lab.events.count("Panicked")), (1, 2));
    send(&app, with(post("k"), "x-poison", "yes")).await.assert_problem("outcome-unknown", 500);
    // A human says that it may go on: the count starts anew.
    lab.decide("k", Resolution::RunAgain).await;
    assert_eq!(once(&completer).await.released, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_parked() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(503, "later") });
    let completer = completer(&layer, &app).max_age(secs(100));
    send(&app, post("k")).await.assert_first(503, "later");
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.released, 1);
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.parked, 1);
    assert_eq!(parked_why(&stored(&lab).await), "it is 120 seconds old");
}

/// The handler was in time, and the store is slow: what it answered is kept.
#[tokio::test(start_paused = true)]
async fn a_deadline_does_not_cut_off_the_end() {
    for of_the_route in [false, true] {
        let lab = Lab::new();
        let mut layer = lab.layer();
        if of_the_route {
            layer = layer.background(tower_idempotency::Background::at("/ops").deadline(secs(1)));
        } else {
            layer = layer.background(tower_idempotency::Background::at("/ops"));
        }
        let app = app(&layer, |_, _| async { reply(201, "paid") });
        let completer = completer(&layer, &app).deadline(if of_the_route { secs(60) } else { secs(1) });
        assert_eq!(send(&app, with(post("k"), "prefer", "respond-async")).await.status, 202);
        lab.store.fail_once(Call::Swap(Status::Complete), Fault::Slow(secs(2)));
        let report = once(&completer).await;
        assert_eq!((report.completed, report.failed), (1, 0), "of the route: {of_the_route}");
        assert_eq!((lab.events.count("CutOff"), lab.events.count("Completed")), (0, 1));
        send(&app, post("k")).await.assert_replay(201, "paid");
    }
}

/// Whatever is around the layer may hang; the answer is stored by then.
#[tokio::test(start_paused = true)]
async fn what_hangs_after_the_end_is_not_waited_for() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(201, "paid") });
    let inner = app.clone();
    let hanging = service_fn(move |request: Request<StoredBody>| {
        let call = inner.clone().oneshot(request.map(support::bodies::full));
        async move {
            call.await.unwrap();
            std::future::pending::<Result<Response<()>, Failure>>().await
        }
    });
    let completer = Completer::new(&layer, hanging).deadline(secs(1));
    crashed(&lab, "k", Mode::Resumable, b"{\"amount\":100}").await;
    clock.advance(secs(60));
    let report = tokio::time::timeout(secs(60), once(&completer)).await.expect("it does not wait");
    assert_eq!(report.completed, 1);
    send(&app, post("k")).await.assert_replay(201, "paid");
}

#[tokio::test(start_paused = true)]
async fn a_stored_request_that_is_too_large_by_now_is_parked() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab).request_limit(3);
    let app = app(&layer, |_, _| async { reply(200, "ran") });
    crashed(&lab, "k", Mode::Resumable, b"four").await;
    clock.advance(secs(60));
    assert_eq!(once(&completer(&layer, &app)).await.parked, 1);
    assert_eq!(parked_why(&stored(&lab).await), "its stored request has 4 bytes, which exceeds the current limit");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_off_and_counts() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let dropped = Arc::new(());
    let alive = Arc::downgrade(&dropped);
    let guard = Arc::new(Mutex::new(Some(dropped)));
    let app = app(&layer, move |op, run| {
        let held = guard.lock().unwrap().take();
        async move {
            let _held = held;
            if run == 1 {
                let hung = op.step("mail", |_| std::future::pending::<Result<(), Failure>>());
                hung.await.unwrap();
            }
            reply(200, format!("attempt {}", op.attempt()))
        }
    });
    crashed(&lab, "k", Mode::Resumable, b"{\"amount\":100}").await;
    tokio::time::sleep(secs(60)).await;
    let completer = completer(&layer, &app).deadline(secs(200));
    let began = tokio::time::Instant::now();
    assert_eq!((once(&completer).await.released, began.elapsed().as_secs()), (1, 200));
    assert!(alive.upgrade().is_none(), "the handler is gone");
    assert_eq!(lab.events.cut_off(), [["mail"]]);
    tokio::time::sleep(secs(20)).await;
    assert_eq!(once(&completer).await.completed, 1);
    send(&app, post("k")).await.assert_replay(200, "attempt 3");
}

/// A service that answers before the layer is reached must not make it a loop.
#[tokio::test(start_paused = true)]
async fn an_answer_from_before_the_layer_counts_as_a_try() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let outer = service_fn(|_: Request<StoredBody>| async { Ok::<_, Failure>(reply(401, "who are you?")) });
    let completer = Completer::new(&layer, outer).max_tries(3);
    crashed(&lab, "k", Mode::Resumable, b"{}").await;
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.released, 1);
    assert_eq!(stored(&lab).await.attempts(), 2);
    clock.advance(secs(40));
    assert_eq!(once(&completer).await.released, 1);
    clock.advance(secs(40));
    assert_eq!(once(&completer).await.parked, 1);
}

/// A service that repeats its requests gets one run out of one claim.
#[tokio::test(start_paused = true)]
async fn a_claim_is_run_once_however_often_the_service_asks() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (layer(&lab), Count::default());
    let count = runs.clone();
    let app = app(&layer, move |_, _| {
        count.up();
        async { reply(200, "ran") }
    });
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let (inner, seen) = (app.clone(), refusals.clone());
    let twice = service_fn(move |request: Request<StoredBody>| {
        let (app, seen) = (inner.clone(), seen.clone());
        async move {
            let mut last = None;
            for request in [request.clone(), request] {
                let is_work = request.method() == http::Method::POST;
                let answer = app.clone().oneshot(request.map(support::bodies::full)).await?;
                if !is_work {
                    return Ok(answer);
                }
                seen.lock().unwrap().push(answer.extensions().get::<Refusal>().copied());
                last = Some(answer);
            }
            Ok::<_, Failure>(last.unwrap())
        }
    });
    crashed(&lab, "k", Mode::Resumable, b"{}").await;
    clock.advance(secs(60));
    assert_eq!(once(&Completer::new(&layer, twice)).await.completed, 1);
    assert_eq!((runs.get(), refusals.lock().unwrap().as_slice()), (1, [None, Some(Refusal::InProgress)].as_slice()));
}
