//! Review: what else broke.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_idempotency::core::{Mode, Status};
use tower_idempotency::{Background, Completer};

use support::bodies::{Failure, Part, data, script};
use support::lab::{Inner, Lab, operation, post, reply, request, secs, send, serve, spawn, stored_key, with};
use support::store::{Call, Fault};
use support::{Count, settle};

/// Item 4: "routing is not an operation". 301 and 302 change POST to GET, and leave
/// PATCH what it is (Fetch §4.4, curl -X): it is followed with the same key.
#[tokio::test]
async fn a_patch_that_is_redirected_can_be_followed() {
    for status in [301, 302, 307, 308] {
        let lab = Lab::new();
        let app = serve(&lab.layer(), move |request: Inner| async move {
            if request.uri().path() == "/orders/17" {
                let mut moved = reply(status, "");
                moved.headers_mut().insert("location", "/orders/17/".parse().unwrap());
                return Ok(moved);
            }
            Ok(reply(200, "changed"))
        });
        assert_eq!(send(&app, request("PATCH", "/orders/17", "k", "{}")).await.status, status);
        send(&app, request("PATCH", "/orders/17/", "k", "{}")).await.assert_first(200, "changed");
    }
}

/// Item 4: "`Idempotent-Replayed` set by a handler never passes on a first answer".
#[tokio::test]
async fn a_handler_can_not_call_its_answer_a_replay_in_a_trailer() {
    for length in [0, 3] {
        let lab = Lab::new();
        let app = serve(&lab.layer(), move |_: Inner| async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("idempotent-replayed", "true".parse().unwrap());
            trailers.insert("idempotency-replay-unavailable", "incomplete".parse().unwrap());
            trailers.insert("x-sum", "1".parse().unwrap());
            let body = data(&b"abc"[..length]);
            Ok(Response::new(script([body, Part::Trailers(trailers)])))
        });
        let response = app.clone().oneshot(post("k")).await.unwrap();
        let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap();
        assert_eq!(trailers["x-sum"], "1");
        assert!(!trailers.contains_key("idempotent-replayed"), "{trailers:?}");
        assert!(!trailers.contains_key("idempotency-replay-unavailable"), "{trailers:?}");
    }
}

/// Item 7, "an attempt may not end an operation with a failure while a step that is
/// paid was not reached by it"; item 2, "gRPC over tonic is the user". A failure of
/// gRPC is a 200 with `grpc-status`.
#[tokio::test]
async fn a_failure_of_grpc_does_not_hide_a_payment() {
    let lab = Lab::new();
    let runs = Count::default();
    let app = serve(&lab.layer().resumable(), move |request: Inner| {
        let (op, run) = (operation(&request), runs.up());
        async move {
            if run > 1 {
                // tonic's answer to a call that lacks its metadata: "trailers only".
                let failed = Response::builder().header("content-type", "application/grpc").header("grpc-status", "3");
                return Ok(failed.body(script([])).unwrap());
            }
            op.pay("charge", |_| async { Ok::<_, Failure>(17) }).await.unwrap();
            Ok(reply(503, ""))
        }
    });
    let grpc = || with(post("k"), "content-type", "application/grpc");
    assert_eq!(send(&app, grpc()).await.status, 503);
    let second = send(&app, grpc()).await;
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert_ne!(record.status(), Status::Complete, "{second:?}");
}

/// Item 2: request trailers "count in the fingerprint only where asked for, and for gRPC".
#[tokio::test]
async fn request_trailers_of_grpc_count() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_: Inner| async { Ok(reply(200, "done")) });
    let grpc = |amount: &str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-amount", amount.parse().unwrap());
        let request = Request::post("/pay").header("idempotency-key", "k").header("content-type", "application/grpc");
        request.body(script([data(b"abc"), Part::Trailers(trailers)])).unwrap()
    };
    send(&app, grpc("1")).await.assert_first(200, "done");
    send(&app, grpc("2")).await.assert_problem("key-reused", 422);
}

/// Item 10: "whoever settles asks first what is unsaved; duplicates get in-progress
/// meanwhile". A store call may hang for 5 s, and a lease be shorter: until that call
/// is given up nobody knows that this process has the answer still in hand.
#[tokio::test(start_paused = true)]
async fn what_is_being_saved_is_in_hand_while_the_store_hangs() {
    let mut wrong = Vec::new();
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let layer = lab.layer().lease(secs(2)).background(Background::at("/operations"));
        let layer = if mode == Mode::Resumable { layer.resumable() } else { layer };
        let runs = Count::default();
        let count = runs.clone();
        let app = serve(&layer, move |_: Inner| {
            let run = count.up();
            async move { Ok(reply(201, format!("charge {run}"))) }
        });
        lab.store.fail_once(Call::Swap(Status::Complete), Fault::Hang);
        let first = spawn(&app, post("k"));
        settle().await;
        assert_eq!(runs.get(), 1);
        tokio::time::sleep(secs(3)).await;
        let second = send(&app, post("k")).await;
        let first = first.await.unwrap().unwrap();
        tokio::time::sleep(secs(10)).await;
        let third = send(&app, post("k")).await;
        wrong.push(format!(
            "{mode:?}: ran {}; {} {:?}, meanwhile {} {:?}, later {} {:?}",
            runs.get(),
            first.status,
            first.text(),
            second.status,
            second.text(),
            third.status,
            third.text()
        ));
    }
    assert!(wrong.iter().all(|what| what.contains("ran 1") && what.contains("meanwhile 409")), "{wrong:#?}");
}

/// The same of a completer: it parks what its own process is saving.
#[tokio::test(start_paused = true)]
async fn a_completer_does_not_park_what_is_being_saved_while_the_store_hangs() {
    let lab = Lab::new();
    let layer = lab.layer().lease(secs(2)).background(Background::at("/operations"));
    let app = serve(&layer, |_: Inner| async { Ok(reply(201, "charged")) });
    let driven = app.clone().map_request(|request: Request<bytes::Bytes>| request.map(support::bodies::full));
    let completer = Completer::new::<_, bytes::Bytes>(&layer, driven);
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::Hang);
    let first = spawn(&app, post("k"));
    settle().await;
    tokio::time::sleep(secs(3)).await;
    completer.run_once().await.unwrap();
    first.await.unwrap().unwrap().assert_first(201, "charged");
    tokio::time::sleep(secs(60)).await;
    let names = lab.events.names();
    assert!(!names.contains(&"Parked".into()) && names.contains(&"SavedLate".into()), "{names:?}");
    send(&app, post("k")).await.assert_replay(201, "charged");
}

/// Item 10, "a completer parks what its own process still has to save": a runner
/// beside the layer, over one store, in one process. Each has a register of its own
/// of what is in hand, and the completer asks that of its layer.
#[tokio::test(start_paused = true)]
async fn a_completer_does_not_take_what_a_runner_of_its_process_still_has_to_save() {
    use tower_idempotency::Runner;
    use tower_idempotency::store::StoreErrorKind;
    let mut wrong = Vec::new();
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let layer = lab.layer();
        let app = serve(&layer, |_: Inner| async { Ok(reply(201, "")) });
        let driven = app.clone().map_request(|request: Request<bytes::Bytes>| request.map(support::bodies::full));
        let completer = Completer::new::<_, bytes::Bytes>(&layer, driven);
        let runner = Runner::new(lab.store.clone());
        let runner = if mode == Mode::AtMostOnce { runner.at_most_once() } else { runner };
        let works = Count::default();
        lab.store.fail(|call| match call {
            Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
            _ => Fault::None,
        });
        let run = || {
            let works = works.clone();
            runner.run("jobs", "17", "", move |_| async move { Ok::<_, Failure>(works.up()) })
        };
        assert_eq!(run().await.unwrap(), 1);
        tokio::time::sleep(secs(90)).await;
        let report = completer.run_once().await.unwrap();
        lab.store.heal();
        tokio::time::sleep(secs(60)).await;
        let again = run().await;
        wrong.push(format!("{mode:?}: {report:?}; the next call gets {again:?}, worked {} times", works.get()));
    }
    assert!(wrong.iter().all(|what| what.contains("gets Ok(1), worked 1 times")), "{wrong:#?}");
}

/// Item 15, "two amounts must never hash alike". What JSON can't carry (item 16 has
/// maps with tuple keys, and NaN) switches the check off, without a word: all of it
/// has the hash of the empty text, or of `null`. (`Runner::run` refuses the first.)
#[tokio::test(start_paused = true)]
async fn an_input_that_json_can_not_carry_is_not_taken_for_another_one() {
    use std::collections::BTreeMap;
    use tower_idempotency::{RunError, Runner, StepError};
    let lab = Lab::new();
    let runner = Runner::new(lab.store.clone());
    let mut wrong = Vec::new();
    for (kind, inputs) in [("a map with tuple keys", [1.0, 2.0]), ("a float", [f64::INFINITY, f64::NEG_INFINITY])] {
        for (attempt, amount) in inputs.into_iter().enumerate() {
            let map = BTreeMap::from([((1, 1), amount as u64)]);
            let done = runner.run("s", &kind.replace(' ', "-"), "", move |op| async move {
                let step = op.pay("charge", |_| async { Ok::<_, Failure>(17) });
                let step = if kind == "a float" { step.input(&amount) } else { step.input(&map) };
                step.await?;
                // The first attempt dies behind the payment.
                if attempt == 0 { Err(StepError::Retry(Failure("died"))) } else { Ok(()) }
            });
            match (attempt, done.await) {
                (0, Err(RunError::Work(StepError::Retry(_)))) => {}
                // Refused, whichever way, is right.
                (1, Err(_)) => {}
                (_, got) => wrong.push(format!("{kind}: attempt {} with {amount}: {got:?}", attempt + 1)),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Item 23, "a time-out for reading a body". The time is looked at only where the body
/// has nothing to give, and empty frames are not counted, as they are in responses: a
/// body that has one ready whenever it is asked holds the thread.
#[tokio::test]
async fn an_upload_of_empty_frames_has_an_end() {
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::{Duration, Instant};
    struct Empty(Instant);
    impl hyper::body::Body for Empty {
        type Data = bytes::Bytes;
        type Error = Failure;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Failure>>> {
            // Would never end; the test does.
            let goes_on = self.0.elapsed() < Duration::from_secs(3);
            Poll::Ready(goes_on.then(|| Ok(hyper::body::Frame::data(bytes::Bytes::new()))))
        }
    }
    let lab = Lab::new();
    let layer = lab.layer().upload_timeout(Duration::from_millis(50));
    let app = serve(&layer, |_: Inner| async { Ok(reply(200, "ran")) });
    let (started, ticks) = (Instant::now(), Count::default());
    let others = ticks.clone();
    tokio::spawn(async move {
        loop {
            others.up();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    tokio::task::yield_now().await;
    let before = ticks.get();
    let answer = send(&app, post("k").map(|_| Empty(started).boxed_unsync())).await;
    assert!(
        answer.status != 200,
        "{answer:?} after {:?}, other tasks ran {} times",
        started.elapsed(),
        ticks.get() - before
    );
}
