//! How long a request's body may take, and what all of them may hold.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, Request};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tower_idempotency::{IdempotencyLayer, Scope};

use crate::support::bodies::{Failure, Part, TestBody, data, script};
use crate::support::lab::{Answer, App, Events, Lab, post, post_body, reply, secs, send, send_now, serve, spawn, with};
use crate::support::{Count, settle};

const KIB: usize = 1 << 10;
const USER: HeaderName = HeaderName::from_static("x-user");

fn counting(layer: &IdempotencyLayer) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |_| {
        count.up();
        async { Ok(reply(200, "ran")) }
    });
    (app, runs)
}

fn upload(key: &str, parts: impl IntoIterator<Item = Part>) -> Request<TestBody> {
    let mut request = post(key);
    *request.body_mut() = script(parts);
    request
}

/// Sends so many bytes and then nothing, for ever.
fn stalled(key: &str, length: usize) -> Request<TestBody> {
    upload(key, [Part::Data(Bytes::from(vec![b'x'; length])), Part::Stall])
}

/// A body that has to be waited for, a little.
fn slow(key: &str, length: usize) -> Request<TestBody> {
    let bytes = Bytes::from(vec![b'x'; length]);
    let wait = || Part::Wait(Duration::from_millis(2));
    upload(key, [Part::Data(bytes.slice(..length / 2)), wait(), Part::Data(bytes.slice(length / 2..)), wait()])
}

#[track_caller]
fn assert_refused(events: &Events, name: &str, times: usize) {
    assert_eq!(events.count(&format!("Refused {name}")), times);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_too_long_is_408_and_told_and_nothing_runs() {
    let lab = Lab::new();
    let (app, runs) = counting(&lab.layer());
    let drip = |key, pieces: u64| upload(key, (0..pieces).flat_map(|_| [data(b"x"), Part::Wait(secs(5))]));
    // Both send something all the time; one is done after 25 seconds.
    send(&app, drip("k1", 5)).await.assert_first(200, "ran");
    send(&app, drip("k2", 7)).await.assert_problem("body-timeout", 408);
    send(&app, stalled("k3", 1)).await.assert_problem("body-timeout", 408);
    send(&app, upload("k4", [Part::Stall])).await.assert_problem("body-timeout", 408);
    assert_eq!((runs.get(), lab.store.len()), (1, 1));
    assert_refused(&lab.events, "body-timeout", 3);
    // The key is free: with more patience the same request runs.
    let (app, _) = counting(&lab.layer().upload_timeout(secs(60)));
    send(&app, drip("k2", 7)).await.assert_first(200, "ran");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_there_at_once_needs_no_time() {
    let lab = Lab::new();
    let (app, _) = counting(&lab.layer().upload_timeout(Duration::ZERO));
    send(&app, post("k1")).await.assert_first(200, "ran");
    send(&app, upload("k2", [data(b"a"), data(b"b")])).await.assert_first(200, "ran");
    send(&app, upload("k3", [data(b"a"), Part::Stall])).await.assert_problem("body-timeout", 408);
}

/// Resumable, and accepted for later: the body is read before either.
#[tokio::test(start_paused = true)]
async fn what_is_run_later_is_read_within_the_same_bounds() {
    let lab = Lab::new();
    let background = tower_idempotency::Background::at("/operations").always();
    let layer = lab.layer().resumable().background(background);
    let (app, _) = counting(&layer.request_limit(KIB).upload_budget(KIB));
    let held = spawn(&app, stalled("k1", KIB));
    settle().await;
    send(&app, slow("k2", 100)).await.assert_problem("upload-overload", 503);
    held.await.unwrap().unwrap().assert_problem("body-timeout", 408);
    assert_eq!(lab.store.len(), 0);
    assert_eq!(send(&app, slow("k2", 100)).await.status, 202);
}

#[tokio::test(start_paused = true)]
async fn above_the_budget_uploads_are_refused_and_told_until_others_are_over() {
    let lab = Lab::new();
    let (app, _) = counting(&lab.layer().request_limit(64 * KIB).upload_budget(256 * KIB));
    let held: Vec<_> = (0..4).map(|n| spawn(&app, stalled(&format!("held{n}"), 60 * KIB))).collect();
    settle().await;
    // 16 KiB are left.
    send(&app, slow("k1", 15 * KIB)).await.assert_first(200, "ran");
    let refused: Answer = send(&app, slow("k2", 60 * KIB)).await;
    refused.assert_problem("upload-overload", 503);
    assert_refused(&lab.events, "upload-overload", 1);
    // What is there at once never counts.
    send_now(&app, post_body("k3", vec![b'x'; 60 * KIB])).await.assert_first(200, "ran");
    // A client that leaves gives back what it held, and so does one that is told to.
    held[0].abort();
    settle().await;
    send(&app, slow("k2", 60 * KIB)).await.assert_first(200, "ran");
    for held in held {
        let timed_out = held.await;
        assert!(timed_out.is_err() || timed_out.unwrap().unwrap().status == 408);
    }
    let all: Vec<_> = (0..4).map(|n| spawn(&app, stalled(&format!("again{n}"), 64 * KIB))).collect();
    settle().await;
    assert!(all.iter().all(|client| !client.is_finished()), "something of the budget was not given back");
}

#[tokio::test(start_paused = true)]
async fn all_scopes_together_take_no_more_than_the_budget() {
    let layer = Lab::new().layer_for(Scope::header(USER)).request_limit(64 * KIB).upload_budget(256 * KIB);
    let (app, _) = counting(&layer);
    let of = |user: &str, request| with(request, "x-user", user);
    let held: Vec<_> = (0..4).map(|n| spawn(&app, of(&format!("user{n}"), stalled("k", 64 * KIB)))).collect();
    settle().await;
    send(&app, of("one more", slow("k", 1000))).await.assert_problem("upload-overload", 503);
    assert!(held.iter().all(|client| !client.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn one_scope_takes_no_more_than_its_share() {
    for (layer, share) in [
        (Lab::new().layer_for(Scope::header(USER)), 64),
        (Lab::new().layer_for(Scope::header(USER)).upload_budget_per_scope(128 * KIB), 128),
        // A share that no body fits into would be none.
        (Lab::new().layer_for(Scope::header(USER)).upload_budget_per_scope(1), 16),
    ] {
        let (app, _) = counting(&layer.request_limit(16 * KIB).upload_budget(256 * KIB));
        let of = |user: &str, request| with(request, "x-user", user);
        let held: Vec<_> =
            (0..share / 16).map(|n| spawn(&app, of("ann", stalled(&format!("held{n}"), 16 * KIB)))).collect();
        settle().await;
        send(&app, of("ann", slow("k1", 1000))).await.assert_problem("upload-overload", 503);
        send(&app, of("bob", slow("k1", 16 * KIB))).await.assert_first(200, "ran");
        assert!(held.iter().all(|client| !client.is_finished()), "share of {share} KiB");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_share_a_scope_may_take_the_whole_budget() {
    let lab = Lab::new();
    let (app, _) = counting(&lab.layer().request_limit(16 * KIB).upload_budget(256 * KIB).upload_budget_per_scope(1));
    let held: Vec<_> = (0..16).map(|n| spawn(&app, stalled(&format!("held{n}"), 16 * KIB))).collect();
    settle().await;
    assert!(held.iter().all(|client| !client.is_finished()));
    send(&app, slow("k", 1000)).await.assert_problem("upload-overload", 503);
}

/// No budget is so small that a body within the limit could never come in.
#[tokio::test(start_paused = true)]
async fn a_budget_holds_one_body_of_the_limit() {
    let lab = Lab::new();
    let (app, _) = counting(&lab.layer().request_limit(64 * KIB).upload_budget(0));
    send(&app, slow("k", 64 * KIB)).await.assert_first(200, "ran");
}

/// Has a frame ready whenever it is asked, with nothing in it; a test ends it.
struct Empty {
    /// One in so many frames has a byte.
    data: usize,
    trailers: bool,
    frames: usize,
    since: Instant,
}

impl Body for Empty {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.frames += 1;
        let frame = match self.frames {
            n if n % self.data == 0 => Frame::data(Bytes::from_static(b"x")),
            _ if self.trailers => Frame::trailers(http::HeaderMap::new()),
            _ => Frame::data(Bytes::new()),
        };
        Poll::Ready((self.since.elapsed() < secs(20)).then_some(Ok(frame)))
    }
}

/// It is as slow as one that says nothing: others go on meanwhile, and its time ends.
#[tokio::test]
async fn an_upload_of_empty_frames_has_an_end() {
    for (resumable, data, trailers) in [(false, usize::MAX, false), (true, usize::MAX, true), (false, 900, false)] {
        let lab = Lab::new();
        let layer = lab.layer().upload_timeout(Duration::from_millis(50));
        let (app, runs) = counting(&if resumable { layer.resumable() } else { layer });
        let ticks = Count::default();
        let others = ticks.clone();
        let ticking = tokio::spawn(async move {
            loop {
                others.up();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let body = Empty { data, trailers, frames: 0, since: Instant::now() };
        send(&app, post("k").map(|_| body.boxed_unsync())).await.assert_problem("body-timeout", 408);
        assert!(ticks.get() > 1, "nothing else ran meanwhile");
        assert_eq!((runs.get(), lab.store.len()), (0, 0));
        ticking.abort();
    }
}

/// Some are no sign of anything.
#[tokio::test(start_paused = true)]
async fn an_upload_with_some_empty_frames_is_read() {
    let lab = Lab::new();
    let (app, _) = counting(&lab.layer().upload_timeout(Duration::ZERO));
    let frames = (0..1000).map(|_| data(b"")).chain([data(b"x")]);
    send(&app, upload("k", frames)).await.assert_first(200, "ran");
    let (app, _) = counting(&lab.layer());
    let frames = (0..10_000).map(|_| data(b"")).chain([data(b"x")]);
    send(&app, upload("l", frames)).await.assert_first(200, "ran");
}
