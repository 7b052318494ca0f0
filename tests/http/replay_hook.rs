//! What a retry gets where a hook has its say.

use std::future::ready;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tower::ServiceExt;
use tower_idempotency::{Background, IdempotencyLayer, KeyMember, Replay, StatusService};

use crate::support::Count;
use crate::support::bodies::full;
use crate::support::lab::{
    Lab, completer, gated, grpc, numbered, post, post_body, reply, secs, send, serve, spawn, with,
};

/// A hook that says what it was shown, with another status.
fn telling(layer: IdempotencyLayer) -> (IdempotencyLayer, Count) {
    let asked = Count::default();
    let count = asked.clone();
    let layer = layer.replay_with(move |replay: Replay| {
        count.up();
        let said =
            format!("{} {} {} {}", replay.method(), replay.uri(), replay.idempotency_key(), replay.response().status());
        let mut response = replay.into_response().map(|body| Bytes::from([said.as_bytes(), b" ", &body[..]].concat()));
        *response.status_mut() = StatusCode::OK;
        async move { response }
    });
    (layer, asked)
}

#[tokio::test]
async fn a_hook_has_its_say_of_replays_and_of_nothing_else() {
    let (layer, asked) = telling(Lab::new().layer().required());
    let (app, runs) = numbered(&layer);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post_body("k", "other")).await.assert_problem("key-reused", 422);
    assert_eq!(asked.get(), 0);
    send(&app, post("\"k\"")).await.assert_replay(200, "POST /pay k 201 Created charge 1");
    send(&app, post("k")).await.assert_replay(200, "POST /pay k 201 Created charge 1");
    assert_eq!((runs.get(), asked.get()), (1, 2));
    // What is shown of the operation elsewhere is what is stored.
    let status =
        StatusService::new(&layer).oneshot(Request::get("/operations/k").body(full("")).unwrap()).await.unwrap();
    assert_eq!((status.status().as_u16(), asked.get()), (200, 2));
}

/// Those that wait, those of what was accepted for later, and those with a key in the body.
#[tokio::test(start_paused = true)]
async fn every_replay_is_shown_to_the_hook() {
    let (layer, _) = telling(Lab::new().layer().wait(secs(30)));
    let (app, _, gate) = gated(&layer, |_| reply(201, "done"));
    let first = spawn(&app, post("k"));
    crate::support::settle().await;
    let waits = spawn(&app, post("k"));
    crate::support::settle().await;
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "done");
    waits.await.unwrap().unwrap().assert_replay(200, "POST /pay k 201 Created done");

    let (layer, _) = telling(Lab::new().layer().resumable().background(Background::at("/operations")));
    let (app, _) = numbered(&layer);
    let later = || with(post("k"), "prefer", "respond-async");
    assert_eq!(send(&app, later()).await.status, 202);
    completer(&layer, &app).run_once().await.unwrap();
    send(&app, later()).await.assert_replay(200, "POST /pay k 201 Created charge 1");

    let (layer, _) = telling(Lab::new().layer().key_member(KeyMember::at("/id").unwrap()));
    let (app, _) = numbered(&layer);
    let in_body =
        || Request::post("/pay").header("content-type", "application/json").body(full(r#"{"id":"b"}"#)).unwrap();
    send(&app, in_body()).await.assert_first(201, "charge 1");
    send(&app, in_body()).await.assert_replay(200, "POST /pay b 201 Created charge 1");
}

#[tokio::test]
async fn what_the_hook_gives_is_framed_anew_and_marked() {
    let hook = |replay: Replay| {
        let mut response = replay.into_response().map(|_| Bytes::from_static(b"newer"));
        for (name, value) in [("content-length", "999"), ("idempotent-replayed", "no"), ("x-state", "shipped")] {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        ready(response)
    };
    let (app, _) = numbered(&Lab::new().layer().tell_expiry().replay_with(hook));
    send(&app, post("k")).await;
    let again = send(&app, post("k")).await;
    again.assert_replay(201, "newer");
    assert_eq!(
        (again.headers.get("content-length"), &again.headers["x-state"]),
        (None, &HeaderValue::from_static("shipped"))
    );
    assert!(again.headers.contains_key("idempotency-expires-in"));
}

#[tokio::test]
async fn a_hook_that_fails_changes_nothing() {
    let panics = |replay: Replay| {
        assert!(replay.uri().path().is_empty(), "it panics");
        ready(replay.into_response())
    };
    let interim = |_| ready(Response::builder().status(100).body(Bytes::new()).unwrap());
    for layer in [Lab::new().layer().replay_with(panics), Lab::new().layer().replay_with(interim)] {
        let (app, runs) = numbered(&layer);
        send(&app, post("k")).await.assert_first(201, "charge 1");
        send(&app, post("k")).await.assert_replay(201, "charge 1");
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test]
async fn no_hook_is_asked_for_what_was_not_retained_or_is_of_grpc() {
    let (layer, asked) = telling(Lab::new().layer().response_limit(3));
    let (app, _) = numbered(&layer);
    send(&app, post("k")).await;
    send(&app, post("k")).await.assert_problem("not-retained", 201);
    let methods = tower_idempotency::GrpcMethods::by(|_| true);
    let (layer, also_asked) = telling(Lab::new().layer().grpc_methods(methods));
    let app = serve(&layer, |_| async { Ok(grpc("0", false)) });
    for _ in 0..2 {
        let mut call = with(post("k"), "content-type", "application/grpc");
        *call.version_mut() = http::Version::HTTP_2;
        assert_eq!(send(&app, call).await.text(), "\0\0\0\0\0");
    }
    assert_eq!((asked.get(), also_asked.get()), (0, 0));
}
