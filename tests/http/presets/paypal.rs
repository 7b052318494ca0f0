//! <https://developer.paypal.com/api/rest/reference/idempotency/>, and PayPal's standards for
//! APIs.

use std::future::ready;

use bytes::Bytes;
use http::Request;

use crate::support::bodies::{TestBody, full};
use crate::support::lab::{Lab, gated, numbered, post, reply, send, serve, spawn};

fn sent(path: &str, key: &str, body: &'static str) -> Request<TestBody> {
    Request::post(path).header("paypal-request-id", key).body(full(body)).unwrap()
}

#[tokio::test]
async fn the_key_is_in_paypal_request_id_and_without_it_each_request_runs() {
    let (app, runs) = numbered(&Lab::new().layer().paypal());
    for number in 1..3 {
        send(&app, post("k")).await.assert_first(201, &format!("charge {number}"));
    }
    send(&app, sent("/pay", "k", "{}")).await.assert_first(201, "charge 3");
    assert!(send(&app, sent("/pay", "k", "{}")).await.is_replay());
    assert_eq!(runs.get(), 3);
}

#[tokio::test]
async fn a_replay_of_201_is_200_and_of_all_else_what_it_was() {
    for (status, replayed) in [(201, 200), (200, 200), (202, 202), (204, 204), (422, 422)] {
        let app = serve(&Lab::new().layer().paypal(), move |_| async move { Ok(reply(status, "")) });
        send(&app, sent("/pay", "k", "{}")).await.assert_first(status, "");
        send(&app, sent("/pay", "k", "{}")).await.assert_replay(replayed, "");
    }
}

#[tokio::test]
async fn a_hook_of_ones_own_shows_the_latest_status() {
    let latest =
        |replay: tower_idempotency::Replay| ready(replay.into_response().map(|_| Bytes::from_static(b"COMPLETED")));
    let (app, _) = numbered(&Lab::new().layer().paypal().replay_with(latest));
    send(&app, sent("/pay", "k", "{}")).await.assert_first(201, "charge 1");
    send(&app, sent("/pay", "k", "{}")).await.assert_replay(201, "COMPLETED");
}

#[tokio::test]
async fn a_key_counts_for_one_type_of_call() {
    let (app, runs) = numbered(&Lab::new().layer().paypal());
    for (number, path) in [(1, "/orders"), (2, "/captures")] {
        send(&app, sent(path, "k", "{}")).await.assert_first(201, &format!("charge {number}"));
        send(&app, sent(path, "k", "{}")).await.assert_replay(200, &format!("charge {number}"));
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test]
async fn another_payload_is_422_and_what_runs_already_409() {
    let (app, _, gate) = gated(&Lab::new().layer().paypal(), |_| reply(201, "done"));
    let first = spawn(&app, sent("/pay", "k", "{}"));
    crate::support::settle().await;
    send(&app, sent("/pay", "k", "[]")).await.assert_problem("key-reused", 422);
    send(&app, sent("/pay", "k", "{}")).await.assert_problem("in-progress", 409);
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "done");
}
