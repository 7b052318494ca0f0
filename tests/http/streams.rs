//! When a response counts as a stream: its client gets it as it comes, and no retry does.

use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_idempotency::{Outcome, Streaming};

use crate::support::Count;
use crate::support::bodies::{Failure, Part, TestBody, data, full, script};
use crate::support::lab::{App, Lab, post, reply, secs, send, send_now, serve};

fn marked(mut response: Response<TestBody>) -> Response<TestBody> {
    response.extensions_mut().insert(Streaming);
    response
}

/// A service whose responses are all like this one.
fn serving(
    layer: &tower_idempotency::IdempotencyLayer,
    response: impl Fn() -> Response<TestBody> + Clone + Send + Sync + 'static,
) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |_| {
        count.up();
        let response = response();
        async { Ok::<_, Failure>(response) }
    });
    (app, runs)
}

fn pausing(pause: Duration) -> Response<TestBody> {
    Response::new(script([data(b"one"), Part::Wait(pause), data(b"two")]))
}

#[tokio::test(start_paused = true)]
async fn a_response_is_held_back_for_as_long_as_was_set() {
    let set = [None, Some(secs(0)), Some(secs(2)), Some(secs(30))];
    for (stream_after, limit) in set.into_iter().zip([5, 0, 2, 30].map(secs)) {
        for pause in [1, 4, 20, 60].map(secs) {
            let layer = Lab::new().layer();
            let layer = match stream_after {
                None => layer,
                Some(pause) => layer.stream_after(pause),
            };
            let (app, runs) = serving(&layer, move || pausing(pause));
            let asked = Instant::now();
            let response = app.clone().oneshot(post("k")).await.unwrap();
            // The clock moves on only while all wait.
            assert_eq!(asked.elapsed(), pause.min(limit), "{pause:?} of {stream_after:?}");
            let is_kept = pause < limit;
            assert_eq!(response.headers().contains_key("idempotency-replay-unavailable"), !is_kept);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "onetwo");
            let retry = send(&app, post("k")).await;
            if is_kept {
                retry.assert_replay(200, "onetwo");
            } else {
                retry.assert_problem("not-retained", 200);
                assert_eq!(retry.unavailable(), Some("streaming"));
            }
            assert_eq!(runs.get(), 1);
        }
    }
}

#[tokio::test]
async fn what_is_there_at_once_is_kept_however_short_the_time() {
    let (app, _) = serving(&Lab::new().layer().stream_after(Duration::ZERO), || reply(201, "whole"));
    send(&app, post("k")).await.assert_first(201, "whole");
    send(&app, post("k")).await.assert_replay(201, "whole");
}

/// As NDJSON: the first line comes before the last one is written.
#[tokio::test]
async fn what_says_that_it_is_a_stream_starts_at_once_and_is_not_kept() {
    for layer in [Lab::new().layer(), Lab::new().layer().resumable()] {
        let lines = || marked(Response::new(script([data(b"{}\n"), Part::Stall])));
        let (app, runs) = serving(&layer, lines);
        let asked = tokio::spawn(app.clone().oneshot(post("k")));
        crate::support::settle().await;
        assert!(asked.is_finished(), "it was held back");
        let response = asked.await.unwrap().unwrap();
        assert_eq!(response.headers()["idempotency-replay-unavailable"], "streaming");
        // It is said of this record, and of none of a guarded handler that passes it on.
        assert!(response.extensions().get::<Streaming>().is_none());
        let first = response.into_body().frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "{}\n");
        let retry = send_now(&app, post("k")).await;
        retry.assert_problem("not-retained", 200);
        assert_eq!((retry.unavailable(), runs.get()), (Some("streaming"), 1));
    }
}

#[tokio::test]
async fn what_says_that_it_is_a_stream_is_not_kept_if_it_is_short() {
    for body in [|| full("whole"), || full("")] {
        let (app, runs) = serving(&Lab::new().layer(), move || marked(Response::new(body())));
        let first = send(&app, post("k")).await;
        assert_eq!(
            (first.body, first.headers["idempotency-replay-unavailable"].as_bytes()),
            (body().collect().await.unwrap().to_bytes(), b"streaming".as_slice())
        );
        send(&app, post("k")).await.assert_problem("not-retained", 200);
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test]
async fn a_stream_that_is_not_final_says_nothing_of_replays() {
    let failing = || {
        let mut response = marked(reply(503, "later"));
        response.extensions_mut().insert(Outcome::Retryable);
        response
    };
    let (app, runs) = serving(&Lab::new().layer().resumable(), failing);
    for _ in 0..2 {
        send(&app, post("k")).await.assert_first(503, "later");
    }
    assert_eq!(runs.get(), 2);
}
