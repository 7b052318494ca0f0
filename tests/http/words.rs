//! What the layer says, where it is told to say it otherwise.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tower::ServiceExt;
use tower_idempotency::{
    HeaderFilter, InProgressStatus, KeyReusedStatus, Operation, Operator, Refusal, ReplayMark, Retention, StatusService,
};

use crate::support::bodies::full;
use crate::support::lab::{
    Lab, gated, numbered, operation, post, post_body, reply, secs, send, serve, spawn, unkeyed, with,
};

#[tokio::test]
async fn a_key_that_was_used_already_is_refused_with_the_status_that_was_chosen() {
    for (status, number) in [
        (KeyReusedStatus::UnprocessableContent, 422),
        (KeyReusedStatus::BadRequest, 400),
        (KeyReusedStatus::Conflict, 409),
    ] {
        let (app, runs) = numbered(&Lab::new().layer().key_reused_status(status));
        send(&app, post("k")).await.assert_first(201, "charge 1");
        send(&app, post_body("k", "other")).await.assert_problem("key-reused", number);
        send(&app, post("k")).await.assert_replay(201, "charge 1");
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test]
async fn what_runs_already_is_refused_with_the_status_that_was_chosen() {
    for (status, number) in [(InProgressStatus::Conflict, 409), (InProgressStatus::Locked, 423)] {
        let (app, _, gate) = gated(&Lab::new().layer().in_progress_status(status), |_| reply(201, "done"));
        let first = spawn(&app, post("k"));
        crate::support::settle().await;
        send(&app, post("k")).await.assert_problem("in-progress", number);
        gate.add_permits(1);
        first.await.unwrap().unwrap().assert_first(201, "done");
    }
}

/// Made anew: nothing of the layer's own response is left.
fn teapot(text: String) -> Response<Bytes> {
    let response = Response::builder().status(StatusCode::IM_A_TEAPOT).header(CONTENT_TYPE, "text/plain");
    response.body(text.into()).unwrap()
}

/// Each place where the layer responds: without a key, before the body is read, after
/// it, and as a status resource.
#[tokio::test]
async fn a_hook_says_every_problem_in_its_own_form_and_nothing_else() {
    let layer = Lab::new().layer().required().request_limit(100).problems(|problem, _| {
        let key = problem.idempotency_key().unwrap_or("none");
        teapot(format!("{} {} {key} {}", problem.method(), problem.uri(), problem.refusal().name()))
    });
    let (app, _) = numbered(&layer);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    for (request, said, refusal) in [
        (unkeyed("POST"), "POST /pay none missing-key", Refusal::MissingKey),
        (post_body("large", vec![0; 101]), "POST /pay large body-too-large", Refusal::BodyTooLarge),
        (post_body("\"k\"", "other"), "POST /pay k key-reused", Refusal::KeyReused),
    ] {
        let answer = send(&app, request).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (418, said));
        assert_eq!(answer.refusal, Some(refusal), "layers outside see it");
        assert_eq!(answer.headers["content-type"], "text/plain");
    }
    let status = StatusService::new(&layer);
    let shown = status.oneshot(Request::get("/status/nothing").body(full("")).unwrap()).await.unwrap();
    assert_eq!(shown.status(), 418);
}

#[tokio::test]
async fn a_hook_sees_no_refusal_that_the_handler_passes_on() {
    let layer = Lab::new().layer().problems(|_, _| teapot("hook".to_owned()));
    let app = serve(&layer, |_| async {
        let mut response = reply(409, "an upstream's");
        response.extensions_mut().insert(Refusal::InProgress);
        Ok(response)
    });
    send(&app, post("k")).await.assert_is(409, "an upstream's");
}

#[tokio::test]
async fn a_replay_has_the_mark_that_was_chosen_and_no_first_response_has() {
    let mark = ReplayMark::new(HeaderName::from_static("x-replay"), HeaderValue::from_static("yes")).unwrap();
    let app = serve(&Lab::new().layer().replay_mark(mark), |_| async {
        let mut response = reply(201, "done");
        response.headers_mut().insert("x-replay", HeaderValue::from_static("yes"));
        Ok(response)
    });
    let first = send(&app, post("k")).await;
    assert!(!first.headers.contains_key("x-replay"), "{first:?}");
    let again = send(&app, post("k")).await;
    assert_eq!(again.headers.get_all("x-replay").iter().count(), 1);
    assert_eq!((again.headers["x-replay"].as_bytes(), again.is_replay()), (&b"yes"[..], false));
}

#[test]
fn a_field_that_has_a_meaning_marks_no_replay() {
    for name in ["content-length", "transfer-encoding", "set-cookie", "access-control-allow-origin", "grpc-status"] {
        let mark = ReplayMark::new(HeaderName::from_static(name), HeaderValue::from_static("true"));
        let said = mark.unwrap_err().to_string();
        assert!(said.contains(name) && said.contains("choose a name"), "{said}");
    }
}

#[tokio::test]
async fn problems_in_plain_text_or_plain_json_are_ready_made() {
    let layer = Lab::new().layer().required();
    for (layer, form, body) in [
        (
            layer.clone().problems(|problem, response| problem.plain_text(response)),
            "text/plain; charset=utf-8",
            "missing-key: ",
        ),
        (layer.problems(|problem, response| problem.json(response)), "application/json", r#"{"type":"#),
    ] {
        let answer = send(&numbered(&layer).0, unkeyed("POST")).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["content-type"]), (400, &HeaderValue::from_static(form)));
        assert!(answer.text().starts_with(body), "{}", answer.text());
    }
}

/// What a hook says of a retry is what the layer says: there is a `Retry-After`.
#[tokio::test]
async fn a_hook_knows_whether_a_retry_may_help() {
    let lab = Lab::new();
    let layer = lab.layer().required().problems(|problem, mut response| {
        *response.body_mut() = problem.is_retryable().to_string().into();
        response
    });
    let (app, _) = numbered(&layer);
    let missing = send(&app, unkeyed("POST")).await;
    send(&app, post("k")).await;
    let reused = send(&app, post_body("k", "other")).await;
    lab.store.down();
    let away = send(&app, post("another")).await;
    for (answer, refusal, may_help) in [
        (missing, Refusal::MissingKey, false),
        (reused, Refusal::KeyReused, false),
        (away, Refusal::StoreUnavailable, true),
    ] {
        assert_eq!((answer.refusal, answer.text().as_str()), (Some(refusal), may_help.to_string().as_str()));
        assert_eq!(answer.headers.contains_key("retry-after"), may_help, "{refusal:?}");
    }
}

/// The problem says where an operator looks; a hook has the same at hand.
#[tokio::test]
async fn a_problem_names_the_operation_that_it_is_about() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    let problem: serde_json::Value = serde_json::from_str(&send(&app, post_body("k", "other")).await.text()).unwrap();
    let hash = problem["instance"].as_str().unwrap().strip_prefix("urn:tower-idempotency:operation:").unwrap();
    let shown = Operator::new(&lab.layer()).find_by_hash(hash).await.unwrap();
    assert_eq!(shown.key.to_string(), hash);

    let hooked = lab.layer().problems(|problem, _| teapot(problem.instance().unwrap_or_default()));
    let (app, _) = numbered(&hooked);
    assert_eq!(send(&app, post_body("k", "other")).await.text(), problem["instance"].as_str().unwrap());
    assert_eq!(send(&app, post("\"half")).await.text(), "", "it was refused before it had a key");
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_how_much_longer_its_key_is_remembered() {
    let lab = Lab::new();
    let app = serve(&lab.layer().tell_expiry(), |_| async {
        let mut response = reply(201, "done");
        response.extensions_mut().insert(Retention::new(secs(90)));
        response.headers_mut().insert("idempotency-expires-in", HeaderValue::from_static("an upstream's"));
        Ok(response)
    });
    assert_eq!(send(&app, post("k")).await.headers["idempotency-expires-in"], "90");
    tokio::time::sleep(secs(60)).await;
    let again = send(&app, post("k")).await;
    again.assert_replay(201, "done");
    assert_eq!(again.headers["idempotency-expires-in"], "30");
    assert_eq!(again.headers.get_all("idempotency-expires-in").iter().count(), 1);
    tokio::time::sleep(secs(30)).await;
    assert!(!send(&app, post("k")).await.is_replay());

    let silent = numbered(&Lab::new().layer()).0;
    assert!(!send(&silent, post("k")).await.headers.contains_key("idempotency-expires-in"));
}

#[tokio::test]
async fn a_key_is_sent_back_as_it_came_with_every_response() {
    let other = HeaderName::from_static("x-request-key");
    let names = [HeaderName::from_static("idempotency-key"), other];
    let (app, _) = numbered(&Lab::new().layer().echo_key().key_headers(names));
    for (request, echo) in [(post("\"k\""), "\"k\""), (post("k"), "k"), (post_body("k", "other"), "k")] {
        assert_eq!(send(&app, request).await.headers["idempotency-key"], echo);
    }
    let elsewhere = send(&app, with(unkeyed("POST"), "x-request-key", "k")).await;
    assert_eq!(elsewhere.headers["x-request-key"], "k");
    assert!(!elsewhere.headers.contains_key("idempotency-key"));
    let (only, _) = numbered(&Lab::new().layer().echo_key().key_headers([HeaderName::from_static("x-request-key")]));
    let both = send(&only, with(post("ignored"), "x-request-key", "k")).await;
    assert_eq!(both.headers["x-request-key"], "k");
    assert!(!both.headers.contains_key("idempotency-key"), "it is not the key");
    for request in [unkeyed("POST"), post("\"half")] {
        assert!(!send(&app, request).await.headers.contains_key("idempotency-key"));
    }
}

#[tokio::test]
async fn retries_get_the_header_fields_that_were_chosen_and_the_first_client_all() {
    let few = HeaderFilter::only([LOCATION, SET_COOKIE]);
    let most = HeaderFilter::except([HeaderName::from_static("x-trace"), CONTENT_TYPE]);
    for (filter, kept) in
        [(few, &["content-type", "location"][..]), (most, &["content-type", "location", "x-part", "x-part"])]
    {
        let app = serve(&Lab::new().layer().replay_headers(filter), |_| async {
            let mut response = reply(201, "done");
            for (name, value) in [
                ("content-type", "text/plain"),
                ("location", "/1"),
                ("x-trace", "t"),
                ("x-part", "a"),
                ("x-part", "b"),
                ("set-cookie", "s=1"),
            ] {
                response.headers_mut().append(name, HeaderValue::from_static(value));
            }
            Ok(response)
        });
        let first = send(&app, post("k")).await;
        assert_eq!(first.headers.len(), 6, "{first:?}");
        let again = send(&app, post("k")).await;
        let names: Vec<_> = again.headers.keys().map(HeaderName::as_str).filter(|name| name.len() < 13).collect();
        let mut lines: Vec<_> =
            names.iter().flat_map(|name| again.headers.get_all(*name).iter().map(|_| *name)).collect();
        lines.sort_unstable();
        assert_eq!(lines, kept, "credentials are left out in any case");
    }
}

#[tokio::test]
async fn no_choice_of_header_fields_keeps_those_of_a_connection() {
    let names = ["connection", "x-hop", "x-part"].map(HeaderName::from_static);
    let app = serve(
        &Lab::new().layer().replay_headers(HeaderFilter::only([names[1].clone(), names[2].clone()])),
        |_| async {
            let mut response = reply(201, "done");
            for (name, value) in [("connection", "x-hop"), ("x-hop", "1"), ("x-part", "a")] {
                response.headers_mut().append(name, HeaderValue::from_static(value));
            }
            Ok(response)
        },
    );
    send(&app, post("k")).await;
    let again = send(&app, post("k")).await;
    assert_eq!(names.map(|name| again.headers.contains_key(name)), [false, false, true]);
}

#[tokio::test]
async fn a_response_is_kept_for_as_long_as_its_handler_says() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (lab.layer_with(|engine| engine.retention(secs(1000))), crate::support::Count::default());
    let count = runs.clone();
    let app = serve(&layer, move |_| {
        let number = count.up();
        async move {
            let mut response = reply(201, format!("charge {number}"));
            response.extensions_mut().insert(Retention::new(secs(10)));
            Ok(response)
        }
    });
    send(&app, post("k")).await.assert_first(201, "charge 1");
    clock.advance(secs(9));
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    clock.advance(secs(2));
    send(&app, post("k")).await.assert_first(201, "charge 2");
}

/// What an inner layer keeps for so long the outer one keeps as it does itself.
#[tokio::test]
async fn what_was_said_of_one_record_is_not_said_of_another() {
    let layer = Lab::new().layer();
    let app = serve(&layer, |request| async move {
        let _: Operation = operation(&request);
        let mut response = reply(201, "done");
        response.extensions_mut().insert(Retention::new(secs(10)));
        Ok(response)
    });
    let response = app.oneshot(post("k")).await.unwrap();
    assert!(response.extensions().get::<Retention>().is_none());
}
