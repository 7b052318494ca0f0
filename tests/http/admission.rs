//! What is refused before anything runs, and what passes untouched.

use std::sync::Arc;

use http::Request;
use hyper::body::Body as _;
use tokio::sync::Semaphore;

use crate::support::bodies::{Failure, Part, data, full, script};
use crate::support::lab::{Lab, post, post_body, reply, request, send, send_now, serve, spawn, unkeyed, with};
use crate::support::{Count, settle};

fn counting(lab: &Lab, limit: usize) -> (crate::support::lab::App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer().request_limit(limit), move |_| {
        count.up();
        async { Ok(reply(200, "ran")) }
    });
    (app, runs)
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_runs_and_one_byte_more_does_not() {
    let lab = Lab::new();
    let (app, runs) = counting(&lab, 1024);
    send(&app, post_body("k1", vec![b'x'; 1024])).await.assert_first(200, "ran");
    send(&app, post_body("k2", vec![b'x'; 1025])).await.assert_problem("body-too-large", 413);
    assert_eq!((runs.get(), lab.store.len()), (1, 1));
}

#[tokio::test]
async fn a_length_in_the_head_is_enough_to_refuse_and_never_enough_to_accept() {
    let lab = Lab::new();
    let (app, runs) = counting(&lab, 8);
    // The body would stall for ever: it is not read.
    let mut announced = post("k1");
    announced.headers_mut().insert("content-length", "9".parse().unwrap());
    *announced.body_mut() = script([Part::Stall]);
    send(&app, announced).await.assert_problem("body-too-large", 413);
    let mut lying = post("k2");
    lying.headers_mut().insert("content-length", "3".parse().unwrap());
    *lying.body_mut() = script([data(b"12345"), data(b"6789")]);
    send(&app, lying).await.assert_problem("body-too-large", 413);
    let mut chunked = post("k3");
    *chunked.body_mut() = script([data(b"1234"), data(b"5678"), data(b"9"), Part::Stall]);
    send(&app, chunked).await.assert_problem("body-too-large", 413);
    assert_eq!((runs.get(), lab.store.calls()), (0, 0));
    let mut exact = post("k4");
    *exact.body_mut() = script([data(b"1234"), data(b""), data(b"5678")]);
    send(&app, exact).await.assert_first(200, "ran");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused_and_nothing_is_stored() {
    let lab = Lab::new();
    let (app, runs) = counting(&lab, 1024);
    let mut broken = post("k");
    *broken.body_mut() = script([data(b"{\"amount\":"), Part::Fail(Failure("reset"))]);
    send(&app, broken).await.assert_problem("body-incomplete", 400);
    assert_eq!((runs.get(), lab.store.calls()), (0, 0));
    send(&app, post("k")).await.assert_first(200, "ran");
}

/// Faults I16 and peer bug 42: the bytes count, not how they were cut.
#[tokio::test]
async fn a_body_in_pieces_is_the_same_request_as_the_body_in_one() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |mut request| async move {
        let mut body = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(request.body_mut()).poll_frame(cx)).await {
            body.extend_from_slice(&frame?.into_data().unwrap());
        }
        Ok(reply(200, body))
    });
    let mut pieces = post("k");
    *pieces.body_mut() = script([data(b""), data(b"{\"am"), data(b"ount\":"), data(b"100}")]);
    send(&app, pieces).await.assert_first(200, "{\"amount\":100}");
    send(&app, post("k")).await.assert_replay(200, "{\"amount\":100}");
    let mut other = post("k");
    *other.body_mut() = script([data(b"{\"amount\":"), data(b"999}")]);
    send(&app, other).await.assert_problem("key-reused", 422);
}

#[tokio::test]
async fn a_handler_sees_the_whole_body_with_its_length() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |request| async move {
        Ok(reply(200, format!("{:?} {}", request.body().size_hint().exact(), request.body().is_end_stream())))
    });
    send(&app, post_body("k1", "12345")).await.assert_first(200, "Some(5) false");
    send(&app, post_body("k2", "")).await.assert_first(200, "Some(0) true");
}

/// Methods that are idempotent by themselves are none of our business.
#[tokio::test]
async fn other_methods_pass_untouched_even_with_a_malformed_key() {
    let lab = Lab::new();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer().required(), move |request| {
        count.up();
        let untouched = request.extensions().get::<tower_idempotency::Operation>().is_none();
        async move { Ok(reply(200, untouched.to_string())) }
    });
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        for key in ["k", "\"broken"] {
            for _ in 0..2 {
                send(&app, request(method, "/pay", key, "")).await.assert_first(200, "true");
            }
        }
        send(&app, unkeyed(method)).await.assert_first(200, "true");
    }
    assert_eq!((runs.get(), lab.store.calls()), (6 * 5, 0));
}

#[tokio::test]
async fn post_and_patch_are_covered() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(200, "")) });
    for method in ["POST", "PATCH"] {
        send(&app, request(method, "/pay", method, "")).await.assert_first(200, "");
        send(&app, request(method, "/pay", method, "")).await.assert_replay(200, "");
    }
}

/// Peer bug 47: nothing a client sends can fake a replay.
#[tokio::test]
async fn our_own_headers_on_a_request_change_nothing() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(200, "ran")) });
    let request = with(with(post("k"), "idempotent-replayed", "true"), "x-hit", "true");
    send(&app, request).await.assert_first(200, "ran");
}

#[tokio::test]
async fn a_handler_that_reads_nothing_does_not_hang() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(200, "ran")) });
    let mut slow = post("k");
    *slow.body_mut() = full(vec![b'x'; 1 << 20]);
    send(&app, slow).await.assert_first(200, "ran");
}

/// Faults B8: work that outlives its client is bounded.
#[tokio::test]
async fn above_the_cap_requests_are_refused_and_those_running_go_on() {
    let lab = Lab::new();
    let gate = Arc::new(Semaphore::new(0));
    let (runs, wait) = (Count::default(), gate.clone());
    let count = runs.clone();
    let app = serve(&lab.layer().max_running(2), move |_| {
        count.up();
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(reply(200, "ran"))
        }
    });
    let running = [spawn(&app, post("k1")), spawn(&app, post("k2"))];
    settle().await;
    send_now(&app, post("k3")).await.assert_problem("overloaded", 503);
    assert_eq!((runs.get(), lab.store.len()), (2, 2));
    gate.add_permits(3);
    for first in running {
        first.await.unwrap().unwrap().assert_first(200, "ran");
    }
    send(&app, post("k3")).await.assert_first(200, "ran");
}

/// The permit goes with the work, not with the client.
#[tokio::test]
async fn work_whose_client_left_still_counts_against_the_cap() {
    let lab = Lab::new();
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let app = serve(&lab.layer().max_running(1), move |_| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(reply(200, "ran"))
        }
    });
    let client = spawn(&app, post("k1"));
    settle().await;
    client.abort();
    settle().await;
    send_now(&app, post("k2")).await.assert_problem("overloaded", 503);
    gate.add_permits(2);
    settle().await;
    send(&app, post("k2")).await.assert_first(200, "ran");
    send(&app, post("k1")).await.assert_replay(200, "ran");
}

#[tokio::test]
async fn a_slow_upload_takes_no_permit_and_stops_when_its_client_leaves() {
    let lab = Lab::new();
    let app = serve(&lab.layer().max_running(1), |_| async { Ok(reply(200, "ran")) });
    let stalled = Request::builder().method("POST").uri("/pay").header("idempotency-key", "k1");
    let client = spawn(&app, stalled.body(script([data(b"{"), Part::Stall])).unwrap());
    settle().await;
    send_now(&app, post("k2")).await.assert_first(200, "ran");
    client.abort();
    settle().await;
    assert_eq!(lab.store.len(), 1, "nothing of the upload is stored");
}

/// The cap is one over all clones and all routes under one layer.
#[tokio::test]
async fn unguarded_requests_need_no_permit() {
    let lab = Lab::new();
    let app = serve(&lab.layer().max_running(0), |_| async { Ok(reply(200, "ran")) });
    send_now(&app, post("k")).await.assert_problem("overloaded", 503);
    send(&app, unkeyed("POST")).await.assert_first(200, "ran");
    send(&app, request("GET", "/", "k", "")).await.assert_first(200, "ran");
}
