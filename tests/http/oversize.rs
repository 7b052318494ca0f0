//! Answers that can't be kept: delivered as they are, and never a reason to
//! run again. (Peer bugs 5, 6, 52 and 72, faults C3 to C5.)

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Body;
use tower::ServiceExt;
use tower_idempotency::{IdempotencyLayer, ResponseBody};

use crate::support::Count;
use crate::support::bodies::{Failure, Part, TestBody, data, full, script};
use crate::support::lab::{App, Lab, post, reply, secs, send, serve, try_send};

fn counting(layer: &IdempotencyLayer, body: impl Fn() -> TestBody + Clone + Send + Sync + 'static) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |_| {
        count.up();
        let mut response = Response::new(body());
        *response.status_mut() = http::StatusCode::CREATED;
        response.headers_mut().insert("location", "/orders/17".parse().unwrap());
        async { Ok(response) }
    });
    (app, runs)
}

async fn assert_not_retained(app: &App, runs: &Count, why: &str) {
    for _ in 0..2 {
        let retry = send(app, post("k")).await;
        retry.assert_problem("not-retained", 201);
        assert_eq!(retry.unavailable(), Some(why));
        assert_eq!(retry.headers["location"], "/orders/17");
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn a_body_of_the_cap_is_kept_and_one_byte_more_is_delivered_and_not_kept() {
    for chunked in [false, true] {
        for (length, is_kept) in [(1024, true), (1025, false), (5000, false)] {
            let lab = Lab::new();
            let body = move || {
                let bytes = Bytes::from(vec![b'x'; length]);
                let pieces = || script([Part::Data(bytes.slice(..500)), Part::Data(bytes.slice(500..))]);
                if chunked { pieces() } else { full(bytes.clone()) }
            };
            let (app, runs) = counting(&lab.layer().response_limit(1024), body);
            let first = send(&app, post("k")).await;
            assert_eq!((first.status.as_u16(), first.body.len()), (201, length));
            assert!(first.refusal.is_none() && !first.is_replay());
            assert_eq!(first.unavailable(), Some("size-exceeded").filter(|_| !is_kept));
            if is_kept {
                let replay = send(&app, post("k")).await;
                assert!(replay.is_replay() && replay.body.len() == length);
            } else {
                assert_not_retained(&app, &runs, "size-exceeded").await;
            }
        }
    }
}

#[tokio::test]
async fn a_status_without_content_has_none_even_as_a_problem() {
    // A 304 whose body claims to be huge is not possible; the problem that
    // stands for it must not be either.
    for status in [204, 205, 304] {
        let lab = Lab::new();
        let app = serve(&lab.layer().response_limit(1), move |_| async move {
            Ok(Response::builder().status(status).body(script([data(b"not"), data(b" allowed")])).unwrap())
        });
        send(&app, post("k")).await;
        let retry = send(&app, post("k")).await;
        assert_eq!((retry.status.as_u16(), retry.body.len()), (status, 0));
    }
}

async fn next(body: &mut ResponseBody<TestBody>) -> Option<Result<Bytes, Failure>> {
    let frame = body.frame().await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

/// Peer bug 52.
#[tokio::test(start_paused = true)]
async fn an_event_stream_is_not_held_back() {
    let lab = Lab::new();
    let (app, runs) = {
        let runs = Count::default();
        let count = runs.clone();
        let app = serve(&lab.layer(), move |_| {
            count.up();
            let parts = [data(b"data: 1\n\n"), Part::Wait(secs(3)), data(b"data: 2\n\n"), Part::Wait(secs(1 << 20))];
            let mut response = Response::new(script(parts));
            *response.status_mut() = http::StatusCode::CREATED;
            response.headers_mut().insert("content-type", "Text/Event-Stream; charset=utf-8".parse().unwrap());
            response.headers_mut().insert("location", "/orders/17".parse().unwrap());
            async { Ok(response) }
        });
        (app, runs)
    };
    let started = tokio::time::Instant::now();
    let response = app.clone().oneshot(post("k")).await.unwrap();
    assert_eq!(response.headers()["idempotency-replay-unavailable"], "streaming");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: 1\n\n");
    assert!(started.elapsed() < secs(1), "the first event did not wait for the second");
    // While the stream is still open, a retry is told and nothing is run.
    assert_not_retained(&app, &runs, "streaming").await;
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: 2\n\n");
    assert_eq!(started.elapsed().as_secs(), 3);
    assert!(!body.is_end_stream());
}

/// A stream that never says what it is: it is given some seconds.
#[tokio::test(start_paused = true)]
async fn a_body_that_falls_silent_is_delivered_as_it_comes() {
    let lab = Lab::new();
    let (app, runs) = counting(&lab.layer(), || script([data(b"one "), Part::Wait(secs(60)), data(b"two")]));
    let started = tokio::time::Instant::now();
    let response = app.clone().oneshot(post("k")).await.unwrap();
    assert!(started.elapsed() <= secs(6));
    assert_eq!(response.headers()["idempotency-replay-unavailable"], "streaming");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "one ");
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "two");
    assert!(next(&mut body).await.is_none());
    assert_not_retained(&app, &runs, "streaming").await;
}

#[tokio::test]
async fn an_endless_body_that_never_pauses_is_cut_at_the_cap_for_the_record_only() {
    use std::pin::Pin;
    use std::task::{Context, Poll};
    /// As good as: a test that reads it to the end fails, and does not hang.
    struct Endless(usize);
    impl Body for Endless {
        type Data = Bytes;
        type Error = Failure;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Failure>>> {
            self.0 += 1;
            let frame = hyper::body::Frame::data(Bytes::from_static(&[b'x'; 100]));
            Poll::Ready(Some(Ok(frame)).filter(|_| self.0 < 10_000))
        }
    }
    let lab = Lab::new();
    let (app, runs) = counting(&lab.layer().response_limit(1000), || Endless(0).boxed_unsync());
    let mut body = app.clone().oneshot(post("k")).await.unwrap().into_body();
    let mut read = 0;
    while read < 10_000 {
        read += next(&mut body).await.unwrap().unwrap().len();
    }
    assert_not_retained(&app, &runs, "size-exceeded").await;
}

fn breaking(lab: &Lab, resumable: bool) -> (App, Count) {
    let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&layer, move |_| {
        let number = count.up();
        async move {
            if number > 1 {
                return Ok(reply(200, "whole"));
            }
            Ok(Response::new(script([data(b"ha"), data(b"lf"), Part::Fail(Failure("broken"))])))
        }
    });
    (app, runs)
}

/// Peer bug 6: never an empty or a half success.
#[tokio::test]
async fn a_body_that_breaks_off_is_delivered_as_far_as_it_goes_with_its_error() {
    for resumable in [false, true] {
        let lab = Lab::new();
        let (app, _) = breaking(&lab, resumable);
        let mut body = app.clone().oneshot(post("k")).await.unwrap().into_body();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "half");
        assert_eq!(next(&mut body).await.unwrap().unwrap_err(), Failure("broken"));
        assert!(next(&mut body).await.is_none());
    }
}

#[tokio::test]
async fn at_most_once_a_broken_answer_is_complete_and_not_retained() {
    let lab = Lab::new();
    let (app, runs) = breaking(&lab, false);
    assert_eq!(try_send(&app, post("k")).await.unwrap_err(), Failure("broken"));
    let retry = send(&app, post("k")).await;
    retry.assert_problem("not-retained", 200);
    assert_eq!(retry.unavailable(), Some("incomplete"));
    assert!(retry.text().contains("broke off"));
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn resumable_a_broken_answer_is_made_anew() {
    let lab = Lab::new();
    let (app, runs) = breaking(&lab, true);
    assert_eq!(try_send(&app, post("k")).await.unwrap_err(), Failure("broken"));
    send(&app, post("k")).await.assert_first(200, "whole");
    send(&app, post("k")).await.assert_replay(200, "whole");
    assert_eq!(runs.get(), 2);
}

/// A body of unknown length, whose head says that it has 100 bytes.
fn misfit(lab: &Lab, resumable: bool, length: usize) -> (App, Count) {
    let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&layer, move |_| {
        let is_first = count.up() == 1;
        let length = if is_first { length } else { 100 };
        let mut response = Response::new(script([Part::Data(vec![b'x'; length].into())]));
        response.headers_mut().insert("content-length", "100".parse().unwrap());
        async { Ok(response) }
    });
    (app, runs)
}

/// A server believes an exact size, even against the head: then the rest of the
/// connection is taken for the rest of the body.
#[tokio::test]
async fn what_was_read_ahead_promises_no_more_than_the_handler_did() {
    for resumable in [false, true] {
        for length in [22, 122] {
            let (app, _) = misfit(&Lab::new(), resumable, length);
            let body = app.clone().oneshot(post("k")).await.unwrap().into_body();
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (None, false));
        }
        let (app, _) = breaking(&Lab::new(), resumable);
        let mut body = app.clone().oneshot(post("k")).await.unwrap().into_body();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (None, false));
        next(&mut body).await.unwrap().unwrap();
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (None, false));
    }
}

#[tokio::test]
async fn at_most_once_an_answer_of_another_length_than_announced_is_complete_and_not_retained() {
    for length in [0, 22, 99, 101] {
        let lab = Lab::new();
        let (app, runs) = misfit(&lab, false, length);
        let first = send(&app, post("k")).await;
        assert_eq!((first.body.len(), first.unavailable()), (length, Some("incomplete")));
        let retry = send(&app, post("k")).await;
        retry.assert_problem("not-retained", 200);
        assert_eq!((retry.unavailable(), runs.get()), (Some("incomplete"), 1));
    }
}

#[tokio::test]
async fn resumable_an_answer_of_another_length_than_announced_is_made_anew() {
    for length in [0, 22, 99, 101] {
        let lab = Lab::new();
        let (app, runs) = misfit(&lab, true, length);
        let first = send(&app, post("k")).await;
        assert_eq!((first.body.len(), first.unavailable()), (length, None), "it is no final answer");
        for _ in 0..2 {
            assert_eq!(send(&app, post("k")).await.body.len(), 100);
        }
        assert_eq!(runs.get(), 2);
    }
}

/// What is not stored is not told to be lost: a retry runs again.
#[tokio::test]
async fn a_large_answer_that_is_not_final_carries_no_mark() {
    let lab = Lab::new();
    let layer = lab.layer().resumable().response_limit(1);
    let app = serve(&layer, |_| async { Ok(reply(503, "later")) });
    assert_eq!(send(&app, post("k")).await.unavailable(), None);
}

/// The mark is ours alone, as the one of replays is.
#[tokio::test]
async fn a_handler_can_not_say_that_its_answer_is_not_retained() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async {
        let mut response = reply(200, "kept");
        response.headers_mut().insert("idempotency-replay-unavailable", "streaming".parse().unwrap());
        Ok(response)
    });
    send(&app, post("k")).await.assert_first(200, "kept");
    let replay = send(&app, post("k")).await;
    replay.assert_replay(200, "kept");
    assert_eq!(replay.unavailable(), None);
}

/// Resumable, and too large: it is complete all the same, or each retry would
/// make it again.
#[tokio::test]
async fn resumable_an_oversize_answer_is_complete() {
    let lab = Lab::new();
    let (app, runs) = counting(&lab.layer().resumable().response_limit(10), || full(vec![b'x'; 11]));
    assert_eq!(send(&app, post("k")).await.unavailable(), Some("size-exceeded"));
    assert_not_retained(&app, &runs, "size-exceeded").await;
}

/// A frame takes a hundred bytes of memory, whatever is in it.
#[tokio::test(start_paused = true)]
async fn what_was_read_of_a_body_in_single_bytes_is_kept_in_one_piece() {
    let lab = Lab::new();
    let bytes = || script((0..5000).map(|_| data(b"x")).chain([Part::Stall]));
    let (app, _) = counting(&lab.layer(), bytes);
    let mut response = app.clone().oneshot(post("k")).await.unwrap();
    assert_eq!(next(response.body_mut()).await.unwrap().unwrap().len(), 5000);
}

#[tokio::test]
async fn a_body_that_says_nothing_without_end_is_not_waited_for() {
    struct Empty(usize);
    impl Body for Empty {
        type Data = Bytes;
        type Error = Failure;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Failure>>> {
            self.0 += 1;
            assert!(self.0 < 1_000_000, "read without end");
            std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::new()))))
        }
    }
    let lab = Lab::new();
    let (app, runs) = counting(&lab.layer(), || Empty(0).boxed_unsync());
    assert_eq!(app.clone().oneshot(post("k")).await.unwrap().status(), 201);
    assert_not_retained(&app, &runs, "streaming").await;
}
