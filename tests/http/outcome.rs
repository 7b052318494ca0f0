//! What an answer means for the next attempt, by mode, status and word of the
//! handler.

use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_idempotency::{IdempotencyLayer, Outcome};

use crate::support::Count;
use crate::support::bodies::Failure;
use crate::support::lab::{App, Inner, Lab, grpc, operation, post, reply, request, send, serve, stored_key, try_send};

/// What a retry meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The same answer, and no second run.
    Replay,
    /// A run as if there had been none.
    RunsAnew,
    /// A second attempt.
    Resumes,
    /// A problem, and no second run.
    Unknown,
}

/// A service that always answers the same, and says which attempt it is.
pub(crate) fn always(layer: &IdempotencyLayer, status: u16, said: Option<Outcome>) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |request| {
        let number = count.up();
        let attempt = operation(&request).attempt();
        async move {
            let mut response = reply(status, format!("run {number} attempt {attempt}"));
            if let Some(said) = said {
                response.extensions_mut().insert(said);
            }
            Ok(response)
        }
    });
    (app, runs)
}

pub(crate) async fn assert_retry(layer: &IdempotencyLayer, status: u16, said: Option<Outcome>, expected: Retry) {
    let (app, runs) = always(layer, status, said);
    // The client always gets the true answer.
    send(&app, post("k")).await.assert_first(status, "run 1 attempt 1");
    let retry = send(&app, post("k")).await;
    let case = format!("{status} {said:?}: {retry:?}");
    match expected {
        Retry::Replay => assert!(retry.is_replay() && retry.text() == "run 1 attempt 1", "{case}"),
        Retry::RunsAnew => assert_eq!(retry.text(), "run 2 attempt 1", "{case}"),
        Retry::Resumes => assert_eq!(retry.text(), "run 2 attempt 2", "{case}"),
        Retry::Unknown => retry.assert_problem("outcome-unknown", 500),
    }
    let again = matches!(expected, Retry::RunsAnew | Retry::Resumes);
    assert_eq!(runs.get(), 1 + usize::from(again), "{case}");
}

pub(crate) const DID_NOT_START: [u16; 8] = [307, 308, 401, 403, 407, 421, 425, 429];
pub(crate) const FAILED: [u16; 7] = [408, 500, 501, 502, 503, 504, 599];
pub(crate) const FINAL: [u16; 14] = [200, 201, 202, 299, 301, 303, 400, 402, 404, 409, 410, 412, 418, 422];

/// Peer bugs 4 and 57, and faults C6 to C9.
#[tokio::test]
async fn at_most_once_every_answer_is_final_but_those_that_mean_did_not_start() {
    for status in DID_NOT_START {
        assert_retry(&Lab::new().layer(), status, None, Retry::RunsAnew).await;
    }
    for status in FAILED.into_iter().chain(FINAL) {
        assert_retry(&Lab::new().layer(), status, None, Retry::Replay).await;
    }
}

#[tokio::test]
async fn resumable_a_failure_is_retried_a_4xx_frees_the_key_and_all_else_is_final() {
    for status in DID_NOT_START {
        assert_retry(&Lab::new().layer().resumable(), status, None, Retry::RunsAnew).await;
    }
    for status in FAILED {
        assert_retry(&Lab::new().layer().resumable(), status, None, Retry::Resumes).await;
    }
    for status in FINAL {
        let retry = if (400..500).contains(&status) { Retry::RunsAnew } else { Retry::Replay };
        assert_retry(&Lab::new().layer().resumable(), status, None, retry).await;
    }
}

/// Peer bug 57: whatever the status, the handler knows better.
#[tokio::test]
async fn what_the_handler_says_counts_more_than_its_status() {
    for status in [200, 401, 409, 500, 503] {
        let amo = || Lab::new().layer();
        let resumable = || Lab::new().layer().resumable();
        assert_retry(&amo(), status, Some(Outcome::Final), Retry::Replay).await;
        assert_retry(&amo(), status, Some(Outcome::Retryable), Retry::Unknown).await;
        assert_retry(&amo(), status, Some(Outcome::NothingHappened), Retry::RunsAnew).await;
        assert_retry(&resumable(), status, Some(Outcome::Final), Retry::Replay).await;
        assert_retry(&resumable(), status, Some(Outcome::Retryable), Retry::Resumes).await;
        assert_retry(&resumable(), status, Some(Outcome::NothingHappened), Retry::RunsAnew).await;
    }
}

/// A 403 after a charge is not "did not start".
#[tokio::test]
async fn nothing_happened_is_not_believed_once_a_step_was_begun_or_done() {
    for (resumable, retry) in [(true, "resumed"), (false, "unknown")] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let charges = Count::default();
        let count = charges.clone();
        let app = serve(&layer, move |request| {
            let (op, count) = (operation(&request), count.clone());
            async move {
                op.pay("charge", |_| async move { Ok::<_, Failure>(count.up()) }).await.unwrap();
                Ok(if op.is_resumed() { reply(200, "resumed") } else { reply(403, "limit reached") })
            }
        });
        send(&app, post("k")).await.assert_first(403, "limit reached");
        let answer = send(&app, post("k")).await;
        match retry {
            "resumed" => answer.assert_first(200, "resumed"),
            _ => answer.assert_problem("outcome-unknown", 500),
        }
        assert_eq!(charges.get(), 1);
    }
}

/// Peer bug 4: an error of the inner service is not "nothing happened".
#[tokio::test]
async fn an_error_of_the_inner_service_passes_through_and_is_no_answer() {
    for resumable in [false, true] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let runs = Count::default();
        let count = runs.clone();
        let app = serve(&layer, move |_| {
            let number = count.up();
            async move { if number == 1 { Err(Failure("inner")) } else { Ok(reply(200, "second")) } }
        });
        assert_eq!(try_send(&app, post("k")).await.unwrap_err(), Failure("inner"));
        let retry = send(&app, post("k")).await;
        if resumable {
            retry.assert_first(200, "second");
        } else {
            retry.assert_problem("outcome-unknown", 500);
            assert_eq!(runs.get(), 1);
        }
    }
}

/// Peer bug 58: ours and the handler's can be told apart.
#[tokio::test]
async fn a_handlers_own_409_is_not_ours() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(409, "sold out")) });
    send(&app, post("k")).await.assert_first(409, "sold out");
    send(&app, post("k")).await.assert_replay(409, "sold out");
}

/// A route that moves between modes keeps the stricter promise.
#[tokio::test]
async fn an_attempt_is_resumed_only_if_both_sides_are_resumable() {
    let lab = Lab::new();
    let (amo, _) = always(&lab.layer(), 503, Some(Outcome::Retryable));
    let (resumable, runs) = always(&lab.layer().resumable(), 200, None);
    send(&amo, post("k")).await;
    send(&resumable, post("k")).await.assert_problem("outcome-unknown", 500);
    let (resumable_first, _) = always(&lab.layer().resumable(), 503, None);
    send(&resumable_first, post("k2")).await;
    let (amo, amo_runs) = always(&lab.layer(), 200, None);
    send(&amo, post("k2")).await.assert_problem("outcome-unknown", 500);
    assert_eq!((runs.get(), amo_runs.get()), (0, 0));
}

/// A redirect that repeats the request elsewhere is routing: nothing is stored, so
/// that the same key can be followed there, whatever the method and the target.
#[tokio::test]
async fn a_redirect_can_be_followed_with_the_same_key() {
    for (resumable, status) in [(false, 307), (false, 308), (true, 307), (true, 308), (false, 421)] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let app = serve(&layer, move |request| async move {
            Ok(if request.uri() == "/pay" { reply(status, "over there") } else { reply(201, "paid") })
        });
        send(&app, post("k")).await.assert_first(status, "over there");
        assert!(lab.store.peek(&stored_key("k")).await.is_none(), "{status}");
        let there = || request("POST", "/v2/pay", "k", "{\"amount\":100}");
        send(&app, there()).await.assert_first(201, "paid");
        send(&app, there()).await.assert_replay(201, "paid");
    }
}

/// 301 and 302 turn a POST into a GET, and leave any other method what it is (Fetch
/// §4.4, `curl -X`): then it is followed with the same key.
#[tokio::test]
async fn a_patch_that_is_redirected_can_be_followed() {
    for (resumable, status) in [false, true].into_iter().flat_map(|mode| [301, 302, 307, 308].map(|to| (mode, to))) {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let app = serve(&layer, move |request: Inner| async move {
            Ok(if request.uri() == "/orders/17" { reply(status, "over there") } else { reply(200, "changed") })
        });
        send(&app, request("PATCH", "/orders/17", "k", "{}")).await.assert_first(status, "over there");
        assert!(lab.store.peek(&stored_key("k")).await.is_none(), "{status}");
        let there = || request("PATCH", "/orders/17/", "k", "{}");
        send(&app, there()).await.assert_first(200, "changed");
        send(&app, there()).await.assert_replay(200, "changed");
        // 303 is a result, to be read with GET; and a handler may say so of any other.
        for (status, said) in [(303, None), (status, Some(Outcome::Final))] {
            let lab = Lab::new();
            let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
            let (app, _) = always(&layer, status, said);
            send(&app, request("PATCH", "/orders/17", "k", "{}")).await.assert_first(status, "run 1 attempt 1");
            send(&app, request("PATCH", "/orders/17", "k", "{}")).await.assert_replay(status, "run 1 attempt 1");
        }
    }
}

/// A service that always answers the same in gRPC, and says which run and which
/// attempt it is.
fn always_grpc(layer: &IdempotencyLayer, answer: impl Fn() -> Answer + Clone + Send + Sync + 'static) -> App {
    let runs = Count::default();
    serve(layer, move |request| {
        let said = format!("run {} attempt {}", runs.up(), operation(&request).attempt());
        let mut answer = answer();
        answer.headers_mut().insert("x-said", said.parse().unwrap());
        async move { Ok(answer) }
    })
}

type Answer = http::Response<crate::support::bodies::TestBody>;

/// All that a client sees of an answer, less the mark of a replay; and what it said.
async fn seen(app: &App) -> (String, String) {
    let (mut parts, body) = app.clone().oneshot(post("k")).await.unwrap().into_parts();
    let said = parts.headers["x-said"].to_str().unwrap().to_owned();
    let body = body.collect().await.unwrap();
    let is_replay = parts.headers.remove("idempotent-replayed").is_some();
    let (trailers, bytes) = (body.trailers().cloned(), body.to_bytes());
    let what = format!("{} {:?} {bytes:?} {trailers:?}", parts.status, parts.headers);
    (what, if is_replay { format!("replay of {said}") } else { said })
}

async fn assert_grpc_retry(
    layer: &IdempotencyLayer,
    answer: impl Fn() -> Answer + Clone + Send + Sync + 'static,
    retry: Retry,
    case: &str,
) {
    let app = always_grpc(layer, answer);
    let (first, said) = seen(&app).await;
    assert_eq!(said, "run 1 attempt 1");
    let (second, said) = seen(&app).await;
    let expected = match retry {
        Retry::Replay => "replay of run 1 attempt 1",
        Retry::RunsAnew => "run 2 attempt 1",
        Retry::Resumes => "run 2 attempt 2",
        Retry::Unknown => unreachable!("a problem has no such header"),
    };
    assert_eq!(said, expected, "{case}");
    // Byte for byte, whatever it counts as.
    if retry == Retry::Replay {
        assert_eq!(first, second, "{case}");
    }
}

/// HTTP says 200 whatever happened.
#[tokio::test]
async fn a_status_of_grpc_counts_as_the_one_of_http_that_stands_for_it() {
    let table: [(&[&'static str], _, _); 4] = [
        (&["7", "8", "16"], Retry::RunsAnew, Retry::RunsAnew),
        (&["1", "2", "4", "12", "13", "14", "15", "17", "00", "x", ""], Retry::Replay, Retry::Resumes),
        (&["3", "5", "6", "9", "10", "11"], Retry::Replay, Retry::RunsAnew),
        (&["0"], Retry::Replay, Retry::Replay),
    ];
    for (status, once, resumable) in
        table.into_iter().flat_map(|(statuses, once, resumable)| statuses.iter().map(move |s| (*s, once, resumable)))
    {
        for alone in [true, false] {
            let case = format!("{status:?} {alone}");
            assert_grpc_retry(&Lab::new().layer(), move || grpc(status, alone), once, &case).await;
            assert_grpc_retry(&Lab::new().layer().resumable(), move || grpc(status, alone), resumable, &case).await;
        }
    }
}

#[tokio::test]
async fn only_a_200_of_grpc_is_judged_by_its_grpc_status() {
    let typed = |kind: &'static str, alone| {
        move || {
            let mut answer = grpc("14", alone);
            answer.headers_mut().insert("content-type", kind.parse().unwrap());
            answer
        }
    };
    for (kind, retry) in [
        ("application/grpc+proto", Retry::Resumes),
        ("Application/GRPC; charset=x", Retry::Resumes),
        ("application/grpc-web+proto", Retry::Resumes),
        ("application/grp", Retry::Replay),
        ("application/json", Retry::Replay),
    ] {
        for alone in [true, false] {
            assert_grpc_retry(&Lab::new().layer().resumable(), typed(kind, alone), retry, kind).await;
        }
    }
    let with_status = |status: u16, said: &'static str| {
        move || {
            let mut answer = grpc(said, true);
            *answer.status_mut() = status.try_into().unwrap();
            answer
        }
    };
    // What HTTP says itself is not made better, nor worse.
    for (answer, retry) in [
        (with_status(503, "0"), Retry::Resumes),
        (with_status(401, "0"), Retry::RunsAnew),
        (with_status(404, "14"), Retry::RunsAnew),
        (with_status(201, "14"), Retry::Replay),
    ] {
        assert_grpc_retry(&Lab::new().layer().resumable(), answer, retry, "of HTTP").await;
    }
    // One that says both has failed.
    let both = || {
        let mut answer = grpc("14", false);
        answer.headers_mut().insert("grpc-status", "0".parse().unwrap());
        answer
    };
    assert_grpc_retry(&Lab::new().layer().resumable(), both, Retry::Resumes, "both").await;
}

/// As it is with HTTP.
#[tokio::test]
async fn what_the_handler_says_counts_more_than_its_grpc_status() {
    for status in ["0", "5", "14", "16"] {
        for (said, retry) in [
            (Outcome::Final, Retry::Replay),
            (Outcome::Retryable, Retry::Resumes),
            (Outcome::NothingHappened, Retry::RunsAnew),
        ] {
            let answer = move || {
                let mut answer = grpc(status, false);
                answer.extensions_mut().insert(said);
                answer
            };
            assert_grpc_retry(&Lab::new().layer().resumable(), answer, retry, status).await;
        }
    }
}

/// Whatever a step did before it, the redirect frees nothing then.
#[tokio::test]
async fn a_redirect_after_a_step_frees_no_key() {
    for (resumable, status) in [(true, 307), (true, 421), (false, 308)] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let charges = Count::default();
        let count = charges.clone();
        let app = serve(&layer, move |request| {
            let (op, count) = (operation(&request), count.clone());
            async move {
                op.pay("charge", |_| async move { Ok::<_, Failure>(count.up()) }).await.unwrap();
                Ok(reply(status, "over there"))
            }
        });
        send(&app, post("k")).await.assert_first(status, "over there");
        let elsewhere = request("POST", "/v2/pay", "k", "{\"amount\":100}");
        send(&app, elsewhere).await.assert_problem("key-reused", 422);
        send(&app, post("k")).await;
        assert_eq!(charges.get(), 1);
    }
}

/// A 101 has started something that can't be given twice.
#[tokio::test]
async fn a_switch_of_protocols_is_complete_and_never_replayed() {
    for resumable in [false, true] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let runs = Count::default();
        let count = runs.clone();
        let app = serve(&layer, move |_| {
            count.up();
            async {
                let mut response = reply(101, "");
                response.headers_mut().insert("upgrade", http::HeaderValue::from_static("chat"));
                Ok(response)
            }
        });
        let first = send(&app, post("k")).await;
        assert_eq!((first.status.as_u16(), &first.headers["upgrade"]), (101, &http::HeaderValue::from_static("chat")));
        let retry = send(&app, post("k")).await;
        retry.assert_problem("not-retained", 200);
        assert_eq!(runs.get(), 1);
    }
}

/// A first answer is none of ours that was given before, whatever an upstream says.
#[tokio::test]
async fn a_handler_can_not_call_a_first_answer_a_replay() {
    for (resumable, status) in [(false, 201), (true, 201), (false, 503), (true, 503), (false, 401)] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let app = serve(&layer, move |_| async move {
            let mut response = reply(status, "from upstream");
            response.headers_mut().append("idempotent-replayed", http::HeaderValue::from_static("true"));
            Ok(response)
        });
        send(&app, post("k")).await.assert_first(status, "from upstream");
        let record = lab.store.peek(&stored_key("k")).await;
        assert!(!format!("{record:?}").contains("replayed"), "nor is it stored");
    }
}
