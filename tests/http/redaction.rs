//! What hooks take out of requests and responses before they are stored.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tower_idempotency::core::NotRetained;
use tower_idempotency::{Background, EventKind, IdempotencyLayer, Outcome};

use crate::support::lab::{
    App, Lab, completer, gated, numbered, post, post_body, reply, secs, send, serve, spawn, stored_key, with,
};
use crate::support::{Count, settle};

const CARD: &str = r#"{"card":"4111","sum":5}"#;

/// Digits are not for the store, and neither is this field.
fn masking(layer: IdempotencyLayer) -> IdempotencyLayer {
    layer.redact_request(|request| {
        assert_eq!(request.method, "POST");
        request.headers.remove("x-note");
        request.uri = "/pay".parse().unwrap();
        request.body = request.body.iter().map(|byte| if byte.is_ascii_digit() { b'*' } else { *byte }).collect();
    })
}

/// Answers with what it got, at first as if a retry would help, and counts its runs.
fn echo(layer: &IdempotencyLayer) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |request| {
        let first = count.up() == 1;
        async move {
            let noted = request.headers().contains_key("x-note");
            let target = request.uri().to_string();
            let body = request.into_body().collect().await?.to_bytes();
            let text = format!("{target} {noted} {}", String::from_utf8_lossy(&body));
            Ok(reply(if first { 503 } else { 201 }, text))
        }
    });
    (app, runs)
}

fn card(key: &str) -> http::Request<crate::support::bodies::TestBody> {
    let mut request = with(post_body(key, CARD), "x-note", "4111");
    *request.uri_mut() = "/pay?token=4111".parse().unwrap();
    request
}

#[tokio::test(start_paused = true)]
async fn a_completer_gets_what_is_stored_of_a_request_and_its_client_is_compared_with_what_it_sent() {
    let lab = Lab::new();
    let layer = masking(lab.layer().resumable());
    let (app, runs) = echo(&layer);
    let first = send(&app, card("k")).await;
    assert_eq!((first.status.as_u16(), first.text()), (503, format!("/pay?token=4111 true {CARD}")), "as it came");
    let kept = lab.store.peek(&stored_key("k")).await.unwrap();
    let kept = kept.request().unwrap();
    assert_eq!((kept.body().as_ref(), kept.uri().to_string().as_str()), (&br#"{"card":"****","sum":*}"#[..], "/pay"));
    assert!(kept.headers().iter().all(|(name, _)| name != "x-note"));
    // Another body that looks the same once it is redacted.
    let other = post_body("k", CARD.replace('4', "5"));
    send(&app, other).await.assert_problem("key-reused", 422);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
    send(&app, card("k")).await.assert_replay(201, r#"/pay false {"card":"****","sum":*}"#);
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_for_later_runs_as_it_is_stored() {
    let lab = Lab::new();
    let layer = masking(lab.layer().resumable().background(Background::at("/operations").always()));
    let (app, runs) = echo(&layer);
    assert_eq!(send(&app, card("k")).await.status, 202);
    runs.up();
    completer(&layer, &app).run_once().await.unwrap();
    send(&app, card("k")).await.assert_replay(201, r#"/pay false {"card":"****","sum":*}"#);
}

fn answering(layer: &IdempotencyLayer) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |_| {
        count.up();
        async {
            let mut response = reply(201, CARD);
            response.headers_mut().insert("x-note", HeaderValue::from_static("4111"));
            response.extensions_mut().insert(Secret);
            Ok(response)
        }
    });
    (app, runs)
}

#[derive(Clone)]
struct Secret;

#[tokio::test]
async fn the_first_client_gets_its_response_and_retries_what_is_stored_of_it() {
    let lab = Lab::new();
    let layer = lab.layer().redact_response(|response| {
        assert_eq!((response.status, response.extensions.get::<Secret>().is_some()), (StatusCode::CREATED, true));
        response.headers.remove("x-note");
        response.body = Some(Bytes::from_static(b"{}"));
        // What is left out is left out in any case.
        response.headers.insert("set-cookie", HeaderValue::from_static("s=1"));
    });
    let (app, runs) = answering(&layer);
    let first = send(&app, post("k")).await;
    first.assert_first(201, CARD);
    assert_eq!(first.headers["x-note"], "4111");
    let again = send(&app, post("k")).await;
    again.assert_replay(201, "{}");
    assert!(["x-note", "set-cookie"].iter().all(|name| !again.headers.contains_key(*name)));
    assert_eq!(runs.get(), 1);
    let kept = lab.store.peek(&stored_key("k")).await.unwrap();
    let kept = kept.response().unwrap();
    assert_eq!((kept.body().unwrap().as_ref(), kept.headers().len()), (&b"{}"[..], 0));
}

#[tokio::test]
async fn both_clients_are_told_of_a_body_that_is_taken_away() {
    let lab = Lab::new();
    let (app, runs) = answering(&lab.layer().redact_response(|response| response.body = None));
    let first = send(&app, post("k")).await;
    assert_eq!((first.text().as_str(), first.unavailable()), (CARD, Some("redacted")));
    let again = send(&app, post("k")).await;
    again.assert_problem("not-retained", 201);
    assert_eq!((again.unavailable(), runs.get()), (Some("redacted"), 1));
    let kept = lab.store.peek(&stored_key("k")).await.unwrap();
    assert_eq!(kept.response().unwrap().not_retained(), Some(NotRetained::Redacted));
}

#[tokio::test]
async fn what_a_hook_makes_too_large_is_not_kept() {
    let lab = Lab::new();
    let layer = lab.layer().response_limit(100);
    let (app, _) = answering(&layer.clone().redact_response(|response| response.body = Some(vec![b'x'; 101].into())));
    let first = send(&app, post("k")).await;
    assert_eq!((first.text().as_str(), first.unavailable()), (CARD, Some("size-exceeded")));
    // And what was too large before stays away.
    let (app, _) = numbered(&layer.response_limit(1).redact_response(|response| response.body = Some(Bytes::new())));
    assert_eq!(send(&app, post("larger")).await.unavailable(), Some("size-exceeded"));
    assert_eq!(send(&app, post("larger")).await.unavailable(), Some("size-exceeded"));
}

#[tokio::test]
async fn a_request_that_a_hook_makes_too_large_is_not_stored_and_runs_now() {
    let lab = Lab::new();
    let layer = lab.layer().resumable().request_limit(100);
    let layer = layer.background(Background::at("/operations").always());
    let (app, runs) = echo(&layer.redact_request(|request| request.body = vec![b'x'; 101].into()));
    assert_eq!(send(&app, post("k")).await.status, 503);
    assert!(lab.store.peek(&stored_key("k")).await.unwrap().request().is_none(), "only its client goes on");
    assert_eq!(send(&app, post("k")).await.status, 201);
    assert_eq!((runs.get(), lab.events.count("RedactionFailed") >= 1), (2, true));
}

/// A hook that panics has redacted nothing.
#[tokio::test]
async fn nothing_is_stored_that_a_hook_did_not_look_through() {
    let lab = Lab::new();
    let layer = lab.layer().resumable();
    let layer = layer.redact_request(|_| panic!("told in a test")).redact_response(|_| panic!("told in a test"));
    let (app, runs) = answering(&layer);
    let first = send(&app, card("k")).await;
    assert_eq!((first.text().as_str(), first.unavailable()), (CARD, Some("redacted")));
    let again = send(&app, card("k")).await;
    again.assert_problem("not-retained", 201);
    let kept = lab.store.peek(&stored_key("k")).await.unwrap();
    assert!(kept.request().is_none() && kept.response().unwrap().headers().is_empty());
    let failed: Vec<_> = lab.events.all().into_iter().map(|event| event.kind).collect();
    let failed =
        |of: bool| failed.iter().any(|kind| matches!(kind, EventKind::RedactionFailed { request } if *request == of));
    assert!(failed(true) && failed(false) && runs.get() == 1);
}

#[tokio::test]
async fn a_request_that_a_hook_did_not_look_through_is_not_stored_while_it_runs() {
    let lab = Lab::new();
    let layer = lab.layer().resumable().redact_request(|_| panic!("told in a test"));
    let (app, _) = echo(&layer);
    assert_eq!(send(&app, card("k")).await.status, 503);
    assert!(lab.store.peek(&stored_key("k")).await.unwrap().request().is_none());
}

#[tokio::test]
async fn credentials_are_left_out_whatever_a_hook_does() {
    let lab = Lab::new();
    let layer = lab.layer().resumable().redact_request(|request| {
        request.headers.insert("authorization", HeaderValue::from_static("Bearer x"));
        request.headers.insert("idempotency-key", HeaderValue::from_static("k"));
    });
    let (app, _) = echo(&layer);
    send(&app, post("k")).await;
    let kept = lab.store.peek(&stored_key("k")).await.unwrap();
    let names: Vec<_> = kept.request().unwrap().headers().iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, Vec::<HeaderName>::new());
}

/// A response that does not count is not on record, so those that wait have to run in turn.
#[tokio::test(start_paused = true)]
async fn those_who_wait_do_not_take_a_body_that_was_taken_away_for_the_end() {
    let lab = Lab::new();
    let layer = lab.layer().resumable().wait(secs(30)).redact_response(|response| response.body = None);
    let (app, runs, door) = gated(&layer, |number| {
        let mut response = reply(200, format!("run {number}"));
        if number == 1 {
            response.extensions_mut().insert(Outcome::Retryable);
        }
        response
    });
    let first = spawn(&app, post("k"));
    settle().await;
    let second = spawn(&app, post("k"));
    settle().await;
    door.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap().text(), "run 1");
    let second = second.await.unwrap().unwrap();
    assert_eq!(
        (second.refusal.map(tower_idempotency::Refusal::name), runs.get()),
        (Some("in-progress"), 1),
        "{second:?}"
    );
}
