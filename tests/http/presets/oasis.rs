//! OASIS Repeatable Requests 1.0.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderName, Method, Request};
use tower::ServiceExt;
use tower_idempotency::clock::{Clock, ManualClock};
use tower_idempotency::{HeaderFilter, IdempotencyLayer, Retention, StatusService};

use crate::support::bodies::{TestBody, full};
use crate::support::lab::{Answer, Lab, gated, numbered, reply, secs, send, serve, spawn, unkeyed, with};

const ID: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";
const OTHER: &str = "11111111-2222-4333-8444-555555555555";
const DAY: u64 = 24 * 60 * 60;

/// A request without the two headers.
fn bare(method: &str, path: &str) -> Request<TestBody> {
    Request::builder().method(method).uri(path).body(full("{}")).unwrap()
}

/// This time as the header has it.
fn date(clock: &ManualClock) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(clock.now().as_millis()))
}

/// A request that was first sent at this time.
fn sent(id: &str, first: &str) -> Request<TestBody> {
    with(with(bare("POST", "/pay"), "repeatability-request-id", id), "repeatability-first-sent", first)
}

/// The clock of this lab is at this time.
fn lab() -> (Lab, ManualClock, String) {
    let (lab, clock) = Lab::manual();
    // HTTP dates are of whole seconds.
    clock.advance(Duration::from_millis(1000 - clock.now().as_millis() % 1000));
    let now = date(&clock);
    (lab, clock, now)
}

fn layer(lab: &Lab) -> IdempotencyLayer {
    lab.layer().oasis_repeatable_requests()
}

fn result(answer: &Answer) -> Option<&str> {
    let lines: Vec<_> = answer.headers.get_all("repeatability-result").iter().collect();
    assert!(lines.len() < 2, "{lines:?}");
    lines.first().map(|line| line.to_str().unwrap())
}

#[track_caller]
fn assert_rejected(answer: &Answer, name: &str, status: u16) {
    answer.assert_problem(name, status);
    assert_eq!(result(answer), Some("rejected"), "{name}");
}

#[tokio::test]
async fn one_of_the_two_headers_alone_is_400() {
    let (lab, _, now) = lab();
    let (app, runs) = numbered(&layer(&lab));
    let id_alone = with(bare("POST", "/pay"), "repeatability-request-id", ID);
    let time_alone = with(bare("POST", "/pay"), "repeatability-first-sent", &now);
    for request in [id_alone, time_alone] {
        assert_rejected(&send(&app, request).await, "first-sent-invalid", 400);
    }
    // Without both it is an ordinary request.
    let answer = send(&app, unkeyed("POST")).await;
    answer.assert_first(201, "charge 1");
    assert_eq!((result(&answer), runs.get(), lab.store.len()), (None, 1, 0));
}

#[tokio::test]
async fn a_first_sent_time_in_another_form_is_400() {
    let (lab, _, now) = lab();
    let (app, runs) = numbered(&layer(&lab));
    let twice = with(sent(ID, &now), "repeatability-first-sent", &now);
    for other in ["2026-01-01T00:00:00Z", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "now", ""] {
        assert_rejected(&send(&app, sent(ID, other)).await, "first-sent-invalid", 400);
    }
    assert_rejected(&send(&app, twice).await, "first-sent-invalid", 400);
    assert_eq!((runs.get(), lab.store.len()), (0, 0));
}

#[tokio::test]
async fn each_response_says_whether_the_request_was_accepted() {
    let (lab, _, now) = lab();
    let (app, _, gate) = gated(&layer(&lab).replay_headers(HeaderFilter::only([])), |_| reply(201, "done"));
    let first = spawn(&app, sent(ID, &now));
    crate::support::settle().await;
    assert_rejected(&send(&app, sent(ID, &now)).await, "in-progress", 409);
    gate.add_permits(1);
    assert_eq!(result(&first.await.unwrap().unwrap()), Some("accepted"));
    let again = send(&app, sent(ID, &now)).await;
    again.assert_replay(201, "done");
    assert_eq!(result(&again), Some("accepted"));
    assert_rejected(&send(&app, sent("order-17", &now)).await, "invalid-key", 400);
    lab.store.down();
    assert_rejected(&send(&app, sent(OTHER, &now)).await, "store-unavailable", 503);
}

/// It may have done something before it panicked.
#[tokio::test]
async fn what_may_have_changed_something_is_not_rejected() {
    let (lab, _, now) = lab();
    let app = serve(&layer(&lab), |request| async move {
        assert!(request.uri().path().is_empty(), "it panics");
        Ok(reply(201, "done"))
    });
    for _ in 0..2 {
        let answer = send(&app, sent(ID, &now)).await;
        answer.assert_problem("outcome-unknown", 500);
        assert_eq!(result(&answer), Some("accepted"));
    }
}

#[tokio::test]
async fn ids_are_uuids_and_their_case_does_not_count() {
    let (lab, _, now) = lab();
    let (app, runs) = numbered(&layer(&lab));
    send(&app, sent(ID, &now)).await.assert_first(201, "charge 1");
    send(&app, sent(&ID.to_uppercase(), &now)).await.assert_replay(201, "charge 1");
    assert_rejected(&send(&app, sent("8e03978e40d543e8bc936894a57f9324", &now)).await, "invalid-key", 400);
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn another_method_or_target_is_400() {
    let (lab, _, now) = lab();
    let (app, runs) = numbered(&layer(&lab));
    send(&app, sent(ID, &now)).await.assert_first(201, "charge 1");
    for (method, path) in [("PATCH", "/pay"), ("POST", "/refund"), ("POST", "/pay?really")] {
        let mut request = sent(ID, &now);
        (*request.method_mut(), *request.uri_mut()) = (method.parse().unwrap(), path.parse().unwrap());
        assert_rejected(&send(&app, request).await, "key-reused", 400);
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn a_request_older_than_what_is_remembered_is_412_unless_it_is_known() {
    let (lab, clock, now) = lab();
    let (app, runs) = numbered(&layer(&lab));
    send(&app, sent(ID, &now)).await.assert_first(201, "charge 1");
    clock.advance(secs(DAY - 1));
    send(&app, sent(ID, &now)).await.assert_replay(201, "charge 1");
    clock.advance(secs(1));
    // On the edge of the window nothing can have been forgotten that was done by now.
    send(&app, sent(OTHER, &now)).await.assert_first(201, "charge 2");
    clock.advance(Duration::from_millis(1));
    for id in [ID, "22222222-2222-4333-8444-555555555555"] {
        assert_rejected(&send(&app, sent(id, &now)).await, "too-old", 412);
    }
    // It is known still.
    send(&app, sent(OTHER, &now)).await.assert_replay(201, "charge 2");
    let mut other = sent(OTHER, &now);
    *other.uri_mut() = "/refund".parse().unwrap();
    assert_rejected(&send(&app, other).await, "key-reused", 400);
    send(&app, sent(ID, &date(&clock))).await.assert_first(201, "charge 3");
    assert_eq!(runs.get(), 3);
}

#[tokio::test]
async fn an_old_request_that_was_not_finished_goes_on() {
    let (lab, clock, now) = lab();
    let app = serve(&lab.layer().resumable().oasis_repeatable_requests(), |request| async move {
        let number = crate::support::lab::operation(&request).attempt();
        Ok(if number == 1 { reply(503, "not now") } else { reply(201, "done") })
    });
    send(&app, sent(ID, &now)).await.assert_first(503, "not now");
    clock.advance(secs(2 * DAY));
    send(&app, sent(ID, &now)).await.assert_first(201, "done");
}

#[tokio::test]
async fn while_the_store_is_away_an_old_request_is_refused_as_any_other() {
    let (lab, clock, now) = lab();
    let (app, runs) = numbered(&layer(&lab));
    clock.advance(secs(2 * DAY));
    lab.store.down();
    assert_rejected(&send(&app, sent(ID, &now)).await, "store-unavailable", 503);
    assert_eq!(runs.get(), 0);
}

#[tokio::test]
async fn what_can_not_be_repeatable_is_501_and_does_not_run() {
    let (lab, _, now) = lab();
    let layer = layer(&lab).skip(|parts| parts.uri.path() == "/search");
    let (app, runs) = numbered(&layer);
    for (method, path) in [("PUT", "/pay"), ("DELETE", "/pay"), ("POST", "/search")] {
        let (mut request, before) = (sent(ID, &now), runs.get());
        (*request.method_mut(), *request.uri_mut()) = (method.parse().unwrap(), path.parse().unwrap());
        assert_rejected(&send(&app, request).await, "not-guarded", 501);
        assert_eq!((runs.get(), lab.store.len()), (before, 0), "{method} {path}");
        assert_eq!(send(&app, bare(method, path)).await.status, 201, "without the headers it runs");
    }
}

#[tokio::test]
async fn on_get_and_head_the_headers_are_ignored() {
    let (lab, _, _) = lab();
    let (app, _) = numbered(&layer(&lab));
    for method in [Method::GET, Method::HEAD] {
        let mut request = sent("no uuid", "no date");
        *request.method_mut() = method;
        let answer = send(&app, request).await;
        assert_eq!((answer.status.as_u16(), result(&answer)), (201, None));
    }
}

#[tokio::test]
async fn a_501_of_the_handlers_is_accepted() {
    let (lab, _, now) = lab();
    let app = serve(&layer(&lab), |_| async { Ok(reply(501, "not yet")) });
    for _ in 0..2 {
        let answer = send(&app, sent(ID, &now)).await;
        answer.assert_is(501, "not yet");
        assert_eq!(result(&answer), Some("accepted"));
    }
}

#[tokio::test]
async fn after_a_4xx_it_runs_again_and_the_rest_is_stored() {
    for (status, runs) in [(400, 2), (404, 2), (201, 1), (500, 1)] {
        let (lab, _, now) = lab();
        let (app, ran, gate) = gated(&layer(&lab), move |_| reply(status, "it"));
        gate.add_permits(2);
        for _ in 0..2 {
            send(&app, sent(ID, &now)).await.assert_is(status, "it");
        }
        assert_eq!(ran.get(), runs, "{status}");
    }
}

#[tokio::test]
async fn a_request_may_be_forgotten_and_so_may_one_that_is_unknown() {
    let (lab, clock, now) = lab();
    let layer = layer(&lab);
    let (app, _) = numbered(&layer);
    send(&app, sent(ID, &now)).await.assert_first(201, "charge 1");
    let forget = async |id: &str| {
        let request = bare("DELETE", &format!("/$RepeatableRequestWithRequestID/{id}"));
        let response = StatusService::new(&layer).grace(secs(1)).oneshot(request).await.unwrap();
        assert!(response.headers().get("repeatability-result").is_none());
        response.status().as_u16()
    };
    assert_eq!(forget(&ID.to_uppercase()).await, 204);
    assert_eq!(forget(OTHER).await, 204);
    clock.advance(secs(2));
    // It is as if it had never been sent, within the window.
    send(&app, sent(ID, &now)).await.assert_first(201, "charge 2");
}

/// Of any layer, and with a key in a field of its own.
#[tokio::test]
async fn the_time_may_be_asked_for_with_any_key_and_may_be_of_a_shorter_window() {
    let (lab, clock, now) = lab();
    let layer = lab.layer_with(|engine| engine.retention(secs(60))).first_sent(HeaderName::from_static("x-first-sent"));
    let app = serve(&layer, |_| async {
        let mut response = reply(201, "done");
        response.extensions_mut().insert(Retention::new(secs(600)));
        Ok(response)
    });
    let sent = |key: &str| with(crate::support::lab::post(key), "x-first-sent", &now);
    send(&app, sent("k")).await.assert_first(201, "done");
    clock.advance(secs(120));
    send(&app, sent("k")).await.assert_replay(201, "done");
    send(&app, sent("other")).await.assert_problem("too-old", 412);
}
