//! <https://docs.adyen.com/development-resources/api-idempotency>.

use http::{HeaderValue, Response};
use serde_json::Value;

use crate::support::Count;
use crate::support::bodies::TestBody;
use crate::support::lab::{
    Answer, App, Lab, gated, numbered, operation, post, post_body, reply, secs, send, serve, spawn,
};

const DAY: u64 = 24 * 60 * 60;

fn is_transient(answer: &Answer) -> bool {
    let lines: Vec<_> = answer.headers.get_all("transient-error").iter().collect();
    assert!(lines.is_empty() || lines == ["true"], "absent means the same as false: {lines:?}");
    !lines.is_empty()
}

fn failing(status: u16, is_transient: bool) -> Response<TestBody> {
    let mut response = reply(status, "no");
    if is_transient {
        response.headers_mut().insert("transient-error", HeaderValue::from_static("true"));
    }
    response
}

#[tokio::test]
async fn what_the_layer_refuses_for_now_is_a_transient_error_with_its_number() {
    let lab = Lab::new();
    let (app, _, gate) = gated(&lab.layer().adyen(), |_| reply(201, "done"));
    let first = spawn(&app, post("k"));
    crate::support::settle().await;
    let running = send(&app, post("k")).await;
    running.assert_problem("in-progress", 409);
    let reused = send(&app, post_body("k", "other")).await;
    reused.assert_problem("key-reused", 422);
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "done");
    lab.store.down();
    let away = send(&app, post("k")).await;
    away.assert_problem("store-unavailable", 503);
    for (answer, number) in [(running, Some("704")), (reused, None), (away, Some("703"))] {
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((body.get("errorCode").and_then(Value::as_str), is_transient(&answer)), (number, number.is_some()));
    }
}

/// Fails with 502, as the header of its handler says.
fn failing_first(is_transient: bool, is_resumable: bool, has_step: bool) -> (App, Count) {
    let layer = Lab::new().layer().adyen();
    let layer = if is_resumable { layer.resumable() } else { layer };
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&layer, move |request| {
        let (operation, number) = (operation(&request), count.up());
        async move {
            if has_step {
                operation.step("step", |_| async { Ok::<_, crate::support::bodies::Failure>(1) }).await.unwrap();
            }
            Ok(if number == 1 { failing(502, is_transient) } else { reply(201, "done") })
        }
    });
    (app, runs)
}

#[tokio::test]
async fn after_a_transient_error_the_key_is_as_if_it_had_never_been_used() {
    for is_resumable in [false, true] {
        let (app, runs) = failing_first(true, is_resumable, false);
        assert!(is_transient(&send(&app, post("k")).await));
        send(&app, post_body("k", "another body")).await.assert_first(201, "done");
        assert_eq!(runs.get(), 2);
    }
}

#[tokio::test]
async fn after_a_step_it_is_resumed_and_no_key_is_freed() {
    let (app, runs) = failing_first(true, true, true);
    assert!(is_transient(&send(&app, post("k")).await));
    send(&app, post_body("k", "another body")).await.assert_problem("key-reused", 422);
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(runs.get(), 2);
}

#[tokio::test]
async fn any_other_error_is_the_final_result() {
    for is_resumable in [false, true] {
        let (app, runs) = failing_first(false, is_resumable, false);
        let first = send(&app, post("k")).await;
        first.assert_first(502, "no");
        let again = send(&app, post("k")).await;
        again.assert_replay(502, "no");
        assert!(!is_transient(&first) && !is_transient(&again));
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test]
async fn a_key_has_up_to_64_characters_and_is_sent_back() {
    let (app, _) = numbered(&Lab::new().layer().adyen());
    let key = "k".repeat(64);
    for _ in 0..2 {
        assert_eq!(send(&app, post(&key)).await.headers["idempotency-key"], key);
    }
    send(&app, post(&"k".repeat(65))).await.assert_problem("invalid-key", 400);
}

#[tokio::test]
async fn a_key_is_remembered_for_7_days() {
    let (lab, clock) = Lab::manual();
    let (app, _) = numbered(&lab.layer().adyen());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    clock.advance(secs(7 * DAY - 1));
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    clock.advance(secs(2));
    send(&app, post("k")).await.assert_first(201, "charge 2");
}
