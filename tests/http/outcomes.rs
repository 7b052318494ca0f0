//! Which responses free the key, are stored or are retried: by default where it depends
//! on the attempt, and by what a layer was told.

use http::Request;
use http_body_util::BodyExt;
use tower_idempotency::core::Mode;
use tower_idempotency::{Background, IdempotencyLayer, Outcome, Outcomes};

use crate::outcome::{DID_NOT_START, FAILED, FINAL, Retry, always, assert_retry};
use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{
    App, Inner, Lab, completer, operation, post, post_body, reply, send, serve, spawn, stored_key, with,
};
use crate::support::settle;

/// A handler that takes bodies of some length, and says so.
fn validating(layer: &IdempotencyLayer) -> App {
    serve(layer, |request: Inner| async move {
        let length = request.into_body().collect().await.unwrap().to_bytes().len();
        Ok(if length > 2 { reply(201, "paid") } else { reply(422, "too short") })
    })
}

#[tokio::test]
async fn a_corrected_request_runs_under_its_key() {
    for layer in
        [|lab: &Lab| lab.layer().resumable(), |lab: &Lab| lab.layer().outcomes(Outcomes::free_validation_failures())]
    {
        let lab = Lab::new();
        let app = validating(&layer(&lab));
        send(&app, post_body("k", "{}")).await.assert_first(422, "too short");
        assert!(lab.store.peek(&stored_key("k")).await.is_none());
        assert_eq!(lab.events.count("Withdrawn"), 1);
        send(&app, post_body("k", "{\"amount\":17}")).await.assert_first(201, "paid");
        send(&app, post_body("k", "{\"amount\":17}")).await.assert_replay(201, "paid");
        send(&app, post_body("k", "{}")).await.assert_problem("key-reused", 422);
    }
}

/// A declined card stays declined: what the step did is on record.
#[tokio::test]
async fn once_a_step_was_reached_a_4xx_is_stored() {
    for outcomes in [Outcomes::new, Outcomes::free_validation_failures] {
        for resumable in [true, false] {
            let lab = Lab::new();
            let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
            let app = serve(&layer.outcomes(outcomes()), |request| async move {
                let charge = operation(&request).step("charge", |_| async { Ok::<_, Failure>(17) }).await;
                Ok(reply(422, format!("declined {}", charge.unwrap())))
            });
            send(&app, post("k")).await.assert_first(422, "declined 17");
            send(&app, post("k")).await.assert_replay(422, "declined 17");
        }
    }
}

/// A step that failed left nothing on record. It was reached all the same, and may have
/// acted.
#[tokio::test]
async fn a_step_that_failed_was_reached() {
    let lab = Lab::new();
    let app = serve(&lab.layer().resumable(), |request| async move {
        let failed = operation(&request).step("look", |_| async { Err::<u8, _>(Failure("no")) }).await;
        assert!(failed.is_err());
        Ok(reply(404, "no such order"))
    });
    send(&app, post("k")).await.assert_first(404, "no such order");
    send(&app, post("k")).await.assert_replay(404, "no such order");
}

/// In the first attempt a 503, in any later one a 422.
fn invalid_later(layer: &IdempotencyLayer) -> App {
    serve(layer, |request| async move {
        Ok(if operation(&request).is_resumed() { reply(422, "invalid") } else { reply(503, "later") })
    })
}

#[tokio::test]
async fn after_another_attempt_a_4xx_is_stored() {
    let lab = Lab::new();
    let app = invalid_later(&lab.layer().resumable());
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(422, "invalid");
    send(&app, post("k")).await.assert_replay(422, "invalid");
}

#[tokio::test(start_paused = true)]
async fn a_4xx_that_a_completer_met_is_stored() {
    let lab = Lab::new();
    let layer = lab.layer().resumable();
    let app = invalid_later(&layer);
    send(&app, post("k")).await.assert_first(503, "later");
    tokio::time::advance(std::time::Duration::from_secs(60 * 60)).await;
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
    send(&app, post("k")).await.assert_replay(422, "invalid");
}

fn accepted(key: &str) -> Request<TestBody> {
    with(post(key), "prefer", "respond-async")
}

#[tokio::test]
async fn what_was_accepted_stands_whoever_runs_it() {
    for is_driven in [true, false] {
        let lab = Lab::new();
        let layer = lab.layer().resumable().background(Background::at("/operations"));
        let (app, _) = always(&layer, 422, None);
        assert_eq!(send(&app, accepted("k")).await.status, 202);
        if is_driven {
            assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
        } else {
            send(&app, post("k")).await.assert_first(422, "run 1 attempt 1");
        }
        send(&app, post("k")).await.assert_replay(422, "run 1 attempt 1");
    }
}

/// Its client did not see the 4xx, and gets it when it comes back.
#[tokio::test]
async fn a_4xx_whose_client_left_is_stored() {
    let lab = Lab::new();
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let door = gate.clone();
    let app = serve(&lab.layer().resumable(), move |_| {
        let door = door.clone();
        async move {
            door.acquire().await.unwrap().forget();
            Ok(reply(422, "invalid"))
        }
    });
    let client = spawn(&app, post("k"));
    settle().await;
    client.abort();
    settle().await;
    // One for a second run, too: there is none.
    gate.add_permits(2);
    settle().await;
    send(&app, post("k")).await.assert_replay(422, "invalid");
}

const VALIDATION: [u16; 10] = [400, 404, 405, 411, 412, 413, 415, 422, 428, 431];

fn layer(mode: Mode, outcomes: Outcomes) -> IdempotencyLayer {
    let layer = Lab::new().layer().outcomes(outcomes);
    if mode == Mode::Resumable { layer.resumable() } else { layer }
}

/// What a retry meets, by mode and status.
async fn assert_table(outcomes: Outcomes, expected: impl Fn(Mode, u16) -> Retry) {
    let more = [226, 300, 399, 499];
    for status in DID_NOT_START.into_iter().chain(FAILED).chain(FINAL).chain(VALIDATION).chain(more) {
        for mode in [Mode::AtMostOnce, Mode::Resumable] {
            assert_retry(&layer(mode, outcomes.clone()), status, None, expected(mode, status)).await;
        }
    }
}

/// What a retry meets by default.
fn by_default(mode: Mode, status: u16) -> Retry {
    match mode {
        _ if DID_NOT_START.contains(&status) => Retry::RunsAnew,
        Mode::AtMostOnce => Retry::Replay,
        Mode::Resumable if status >= 500 || status == 408 => Retry::Resumes,
        Mode::Resumable if status >= 400 => Retry::RunsAnew,
        Mode::Resumable => Retry::Replay,
    }
}

const fn not_final(mode: Mode) -> Retry {
    match mode {
        Mode::AtMostOnce => Retry::Unknown,
        Mode::Resumable => Retry::Resumes,
    }
}

#[tokio::test]
async fn each_ready_made_rule_does_as_its_table_says() {
    assert_table(Outcomes::new(), by_default).await;
    assert_table(Outcomes::store_everything(), |_, _| Retry::Replay).await;
    let free = |mode, status| if VALIDATION.contains(&status) { Retry::RunsAnew } else { by_default(mode, status) };
    assert_table(Outcomes::free_validation_failures(), free).await;
    let success_only = |mode, status| match (by_default(mode, status), mode) {
        (usual, _) if (200..300).contains(&status) => usual,
        (Retry::Replay, Mode::AtMostOnce) => Retry::Unknown,
        (Retry::Replay, Mode::Resumable) => Retry::RunsAnew,
        (usual, _) => usual,
    };
    assert_table(Outcomes::success_only(), success_only).await;
    let rerun = |_, status| if (200..300).contains(&status) { Retry::Replay } else { Retry::RunsAnew };
    assert_table(Outcomes::rerun_failures_unprotected(), rerun).await;
}

#[tokio::test]
async fn server_errors_are_stored_or_not_whatever_the_rule() {
    let failed = |status| status >= 500 || status == 408;
    let stored = |mode, status| if failed(status) { Retry::Replay } else { by_default(mode, status) };
    assert_table(Outcomes::new().store_server_errors(), stored).await;
    let retried = |mode, status| if failed(status) { not_final(mode) } else { by_default(mode, status) };
    assert_table(Outcomes::new().retry_server_errors(), retried).await;
    let rule = |mode, status| if failed(status) { not_final(mode) } else { Retry::Replay };
    assert_table(Outcomes::store_everything().retry_server_errors(), rule).await;
}

/// At most once: what failed after a step is not run again by any rule.
#[tokio::test]
async fn no_rule_runs_anything_again_once_a_step_was_done() {
    for outcomes in [
        Outcomes::free_validation_failures(),
        Outcomes::success_only(),
        Outcomes::rerun_failures_unprotected(),
        Outcomes::by(|_| Outcome::NothingHappened),
    ] {
        let lab = Lab::new();
        let app = serve(&lab.layer().outcomes(outcomes), |request| async move {
            operation(&request).pay("charge", |_| async { Ok::<_, Failure>(17) }).await.unwrap();
            Ok(reply(500, "after the charge"))
        });
        send(&app, post("k")).await.assert_first(500, "after the charge");
        let retry = send(&app, post("k")).await;
        assert!(retry.is_replay() || retry.refusal.is_some(), "{retry:?}");
    }
}

#[tokio::test]
async fn what_the_handler_says_counts_more_than_any_rule() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        for outcomes in [
            Outcomes::store_everything(),
            Outcomes::rerun_failures_unprotected(),
            Outcomes::success_only().store_server_errors(),
        ] {
            let layer = || layer(mode, outcomes.clone());
            assert_retry(&layer(), 503, Some(Outcome::Final), Retry::Replay).await;
            assert_retry(&layer(), 503, Some(Outcome::Retryable), not_final(mode)).await;
            assert_retry(&layer(), 201, Some(Outcome::NothingHappened), Retry::RunsAnew).await;
        }
    }
}

#[tokio::test]
async fn a_rule_of_ones_own_sees_the_response_and_how_it_came_about() {
    let lab = Lab::new();
    let outcomes = Outcomes::by(|response| {
        assert_eq!((response.mode(), response.is_to_post()), (Mode::Resumable, true));
        assert_eq!(response.reached_step(), response.status() == 202);
        assert_eq!(response.can_free_key(), response.status() != 202);
        let transient = response.headers().get("x-transient").is_some();
        if transient { Outcome::NothingHappened } else { response.by_default() }
    });
    let app = serve(&lab.layer().resumable().outcomes(outcomes), |request: Inner| async move {
        let (path, operation) = (request.uri().path().to_owned(), operation(&request));
        if path == "/step" {
            operation.step("step", |_| async { Ok::<_, Failure>(1) }).await.unwrap();
            return Ok(reply(202, "done"));
        }
        let mut response = reply(if path == "/pay" { 409 } else { 200 }, "busy");
        response.headers_mut().insert("x-transient", "true".parse().unwrap());
        Ok(response)
    });
    for (path, key) in [("/pay", "a"), ("/other", "b")] {
        let request = || crate::support::lab::request("POST", path, key, "");
        let status = send(&app, request()).await.status.as_u16();
        send(&app, request()).await.assert_first(status, "busy");
    }
    let stepped = || crate::support::lab::request("POST", "/step", "c", "");
    send(&app, stepped()).await.assert_first(202, "done");
    send(&app, stepped()).await.assert_replay(202, "done");
}
