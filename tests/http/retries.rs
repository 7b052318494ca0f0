//! What those that try again are told: whether that may help, and whose response it was.

use http::{HeaderName, HeaderValue, Response};
use tower_idempotency::{FirstRequest, HeaderFilter, Outcome, Outcomes, RetryAdvice};

use crate::support::bodies::TestBody;
use crate::support::lab::{Answer, Lab, gated, numbered, post, post_body, reply, send, serve, spawn};

const ADVICE: &str = "x-should-retry";

fn advice() -> RetryAdvice {
    RetryAdvice::new(HeaderName::from_static(ADVICE)).unwrap()
}

/// What it says, and `None` where it says nothing; never twice.
fn said(answer: &Answer) -> Option<&str> {
    let lines: Vec<_> = answer.headers.get_all(ADVICE).iter().map(|line| line.to_str().unwrap()).collect();
    assert!(lines.len() < 2, "{lines:?}");
    lines.first().copied()
}

fn with_outcome(status: u16, outcome: Outcome) -> Response<TestBody> {
    let mut response = reply(status, "no");
    response.extensions_mut().insert(outcome);
    response
}

#[tokio::test]
async fn problems_say_whether_a_retry_may_help() {
    for (only_yes, no) in [(false, Some("false")), (true, None)] {
        let advice = if only_yes { advice().only_yes() } else { advice() };
        let lab = Lab::new();
        let (app, _, gate) = gated(&lab.layer().required().retry_advice(advice), |_| reply(201, "done"));
        let first = spawn(&app, post("k"));
        crate::support::settle().await;
        assert_eq!(said(&send(&app, post("k")).await), Some("true"), "in progress");
        assert_eq!(said(&send(&app, post_body("k", "other")).await), no, "key reused");
        gate.add_permits(1);
        assert_eq!(said(&first.await.unwrap().unwrap()), None, "it was no failure");
        assert_eq!(said(&send(&app, post("k")).await), None, "its replay neither");
        lab.store.down();
        assert_eq!(said(&send(&app, post("other")).await), Some("true"), "store unavailable");
    }
}

#[tokio::test]
async fn failures_say_it_and_their_replays_say_the_same() {
    use Outcome::{Final, NothingHappened, Retryable};
    for (status, outcome, at_most_once, resumable) in [
        (503, Final, Some("false"), Some("false")),
        (402, Final, Some("false"), Some("false")),
        (503, Retryable, Some("false"), Some("true")),
        (503, NothingHappened, Some("true"), Some("true")),
        (429, NothingHappened, Some("true"), Some("true")),
        (422, NothingHappened, None, None),
        (201, Final, None, None),
    ] {
        for (layer, expected) in [(Lab::new().layer(), at_most_once), (Lab::new().layer().resumable(), resumable)] {
            let layer = layer.replay_headers(HeaderFilter::only([])).retry_advice(advice());
            let app = serve(&layer, move |_| async move { Ok(with_outcome(status, outcome)) });
            assert_eq!(said(&send(&app, post("k")).await), expected, "{status} {outcome:?}");
            let again = send(&app, post("k")).await;
            assert_eq!(again.is_replay(), outcome == Final);
            if again.is_replay() {
                assert_eq!(said(&again), expected, "the replay of {status} {outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_the_handler_says_of_a_retry_counts_and_is_replayed() {
    let layer = Lab::new().layer().outcomes(Outcomes::store_everything()).retry_advice(advice());
    let app = serve(&layer, |_| async {
        let mut response = reply(503, "no");
        response.headers_mut().insert(ADVICE, HeaderValue::from_static("perhaps"));
        Ok(response)
    });
    for _ in 0..2 {
        assert_eq!(said(&send(&app, post("k")).await), Some("perhaps"));
    }
}

#[tokio::test]
async fn a_replay_names_the_first_request_and_no_first_response_does() {
    let [id, first] = ["x-request-id", "x-first-request-id"].map(HeaderName::from_static);
    let rule = FirstRequest::new(id.clone(), first.clone()).unwrap();
    for layer in [Lab::new().layer(), Lab::new().layer().replay_headers(HeaderFilter::only([]))] {
        let app = serve(&layer.first_request(rule.clone()), |_| async {
            let mut response = reply(201, "done");
            response.headers_mut().insert("x-request-id", HeaderValue::from_static("req-1"));
            Ok(response)
        });
        let answer = send(&app, post("k")).await;
        assert_eq!(answer.headers[&id], "req-1");
        assert_eq!(answer.headers.get(&first), None);
        let again = send(&app, post("k")).await;
        again.assert_replay(201, "done");
        assert_eq!(again.headers.get_all(&first).iter().collect::<Vec<_>>(), ["req-1"]);
        assert_eq!(again.headers.get(&id), None, "it may have one of its own");
    }
    let (app, _) = numbered(&Lab::new().layer().first_request(rule));
    send(&app, post("k")).await;
    assert_eq!(send(&app, post("k")).await.headers.get(&first), None, "the first one had none");
}
