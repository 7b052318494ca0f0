//! <https://docs.stripe.com/api/idempotent_requests>, and its page on low-level errors.

use http::HeaderValue;
use serde_json::Value;
use tower_idempotency::Outcome;

use crate::support::lab::{Answer, Lab, gated, numbered, post, post_body, reply, request, secs, send, serve, spawn};

const HOUR: u64 = 60 * 60;

/// Of an error object, its message.
#[track_caller]
fn message(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["content-type"]),
        (status, &HeaderValue::from_static("application/json"))
    );
    assert_eq!(answer.refusal.map(|refusal| refusal.name()), Some(code), "layers outside see it");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&body["error"]["type"], &body["error"]["code"]), (&"idempotency_error".into(), &code.into()), "{body}");
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_response_is_stored_and_a_500_as_well() {
    for status in [201, 400, 401, 402, 404, 422, 429, 500, 503] {
        for layer in [Lab::new().layer(), Lab::new().layer().resumable()] {
            let app = serve(&layer.stripe_v1(), move |_| async move { Ok(reply(status, "it")) });
            let first = send(&app, post("k")).await;
            first.assert_first(status, "it");
            let again = send(&app, post("k")).await;
            again.assert_replay(status, "it");
            let advice = (status >= 400).then(|| HeaderValue::from_static("false"));
            for answer in [first, again] {
                assert_eq!(answer.headers.get("stripe-should-retry"), advice.as_ref(), "{status}");
                assert_eq!(answer.headers["idempotency-key"], "k", "it is sent back");
            }
        }
    }
}

#[tokio::test]
async fn what_fails_validation_before_it_begins_is_not_stored() {
    let app = serve(&Lab::new().layer().stripe_v1(), |_| async {
        let mut response = reply(400, "invalid");
        response.extensions_mut().insert(Outcome::NothingHappened);
        Ok(response)
    });
    for body in ["one", "other"] {
        send(&app, post_body("k", body)).await.assert_first(400, "invalid");
    }
}

#[tokio::test]
async fn other_parameters_and_another_endpoint_are_an_idempotency_error() {
    let (app, runs) = numbered(&Lab::new().layer().stripe_v1());
    send(&app, post("it's-a-key")).await.assert_first(201, "charge 1");
    for request in [post_body("it's-a-key", "other"), request("POST", "/refund", "it's-a-key", "{\"amount\":100}")] {
        let answer = send(&app, request).await;
        let said = message(&answer, 400, "key-reused");
        assert!(said.starts_with(
            "Keys for idempotent requests can only be used with the same parameters they were first used with."
        ));
        assert!(said.contains("a key other than 'it's-a-key'"), "{said}");
        assert_eq!(answer.headers["stripe-should-retry"], "false");
    }
    send(&app, post("it's-a-key")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn while_the_first_request_runs_another_one_is_a_conflict_and_that_is_not_stored() {
    let (app, _, gate) = gated(&Lab::new().layer().stripe_v1(), |_| reply(201, "done"));
    let first = spawn(&app, post("k"));
    crate::support::settle().await;
    let answer = send(&app, post("k")).await;
    message(&answer, 409, "in-progress");
    assert_eq!(answer.headers["stripe-should-retry"], "true");
    assert!(answer.headers.contains_key("retry-after"));
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "done");
    send(&app, post("k")).await.assert_replay(201, "done");
}

#[tokio::test]
async fn a_key_has_up_to_255_characters() {
    let (app, _) = numbered(&Lab::new().layer().stripe_v1());
    assert_eq!(send(&app, post(&"k".repeat(255))).await.status, 201);
    message(&send(&app, post(&"k".repeat(256))).await, 400, "invalid-key");
}

#[tokio::test]
async fn a_replay_names_the_original_request() {
    let app = serve(&Lab::new().layer().stripe_v1(), |_| async {
        let mut response = reply(200, "done");
        response.headers_mut().insert("request-id", HeaderValue::from_static("req_1"));
        Ok(response)
    });
    let first = send(&app, post("k")).await;
    assert_eq!(
        (&first.headers["request-id"], first.headers.get("original-request")),
        (&HeaderValue::from_static("req_1"), None)
    );
    let again = send(&app, post("k")).await;
    assert_eq!(
        (&again.headers["original-request"], again.headers.get("request-id")),
        (&HeaderValue::from_static("req_1"), None)
    );
}

#[tokio::test]
async fn a_key_is_remembered_for_24_hours_at_least() {
    for (set, remembered) in [(1, 24), (24, 24), (48, 48)] {
        let (lab, clock) = Lab::manual();
        let (app, _) = numbered(&lab.layer_with(|engine| engine.retention(secs(set * HOUR))).stripe_v1());
        send(&app, post("k")).await.assert_first(201, "charge 1");
        clock.advance(secs(remembered * HOUR - 1));
        send(&app, post("k")).await.assert_replay(201, "charge 1");
        clock.advance(secs(2));
        send(&app, post("k")).await.assert_first(201, "charge 2");
    }
}
