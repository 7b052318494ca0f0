//! Trailers belong to the message: of requests and of answers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Collected};
use hyper::body::Body;
use tower::ServiceExt;
use tower_idempotency::{IdempotencyLayer, Refusal};

use crate::support::Count;
use crate::support::bodies::{Failure, Part, TestBody, data, script};
use crate::support::lab::{App, Inner, Lab, completer, post, reply, secs, send, serve, stored_key, unkeyed};

fn lines(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

/// Answers "one two", and then these trailers.
fn trailing(layer: &IdempotencyLayer, trailers: &[(&'static str, &'static str)]) -> (App, Count) {
    let runs = Count::default();
    let (count, trailers) = (runs.clone(), lines(trailers));
    let app = serve(layer, move |_| {
        count.up();
        let mut response = Response::new(script([data(b"one "), data(b"two"), Part::Trailers(trailers.clone())]));
        let names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
        response.headers_mut().insert("trailer", names.join(", ").parse().unwrap());
        async { Ok(response) }
    });
    (app, runs)
}

async fn collected(app: &App) -> (http::response::Parts, Collected<Bytes>) {
    let (parts, body) = app.clone().oneshot(post("k")).await.unwrap().into_parts();
    assert_eq!(body.size_hint().exact(), None, "a Content-Length would leave no place for trailers");
    (parts, body.collect().await.unwrap())
}

#[tokio::test]
async fn trailers_of_an_answer_are_delivered_and_replayed() {
    for resumable in [false, true] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let (app, runs) = trailing(&layer, &[("grpc-status", "0"), ("x-sum", "1"), ("x-sum", "2")]);
        for is_replay in [false, true] {
            let (head, body) = collected(&app).await;
            let expected = lines(&[("grpc-status", "0"), ("x-sum", "1"), ("x-sum", "2")]);
            assert_eq!(body.trailers(), Some(&expected));
            assert_eq!(body.to_bytes(), "one two");
            // On HTTP/1.1 only those go out that the head names.
            assert_eq!(head.headers["trailer"], "grpc-status, x-sum");
            assert_eq!(head.headers.contains_key("idempotent-replayed"), is_replay);
        }
        assert_eq!(runs.get(), 1);
    }
}

/// The same are kept as of headers.
#[tokio::test]
async fn trailers_that_belong_to_one_delivery_are_not_kept() {
    let lab = Lab::new();
    let (app, _) = trailing(&lab.layer(), &[("x-sum", "1"), ("set-cookie", "secret"), ("server-timing", "db;dur=53")]);
    assert_eq!(collected(&app).await.1.trailers().unwrap().len(), 3);
    assert_eq!(collected(&app).await.1.trailers().unwrap(), &lines(&[("x-sum", "1")]));
    let stored = lab.store.peek(&stored_key("k")).await.unwrap();
    assert!(!format!("{stored:?}").contains("secret"), "{stored:?}");
}

/// Of an answer whose trailers are all left out nothing is announced.
#[tokio::test]
async fn an_answer_without_kept_trailers_is_replayed_without_a_trailer_field() {
    let lab = Lab::new();
    let (app, _) = trailing(&lab.layer(), &[("set-cookie", "secret")]);
    collected(&app).await;
    let replay = send(&app, post("k")).await;
    replay.assert_replay(200, "one two");
    assert!(!replay.headers.contains_key("trailer"));
}

#[tokio::test]
async fn trailers_count_for_the_limit() {
    // Seven bytes of body, and nine of trailers.
    for (limit, is_kept) in [(16, true), (15, false)] {
        let lab = Lab::new();
        let (app, runs) = trailing(&lab.layer().response_limit(limit), &[("x-sum", "1234")]);
        let (head, body) = collected(&app).await;
        assert_eq!(body.trailers(), Some(&lines(&[("x-sum", "1234")])), "delivered in any case");
        assert_eq!(head.headers.contains_key("idempotency-replay-unavailable"), !is_kept);
        let retry = send(&app, post("k")).await;
        if is_kept {
            retry.assert_replay(200, "one two")
        } else {
            retry.assert_problem("not-retained", 200)
        }
        assert_eq!(runs.get(), 1);
    }
}

/// Answers with the trailers that the request has.
fn telling(layer: &IdempotencyLayer) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |request: Inner| {
        let number = count.up();
        async move {
            assert!(!request.body().is_end_stream());
            let announced = request.headers().get("trailer").map(|names| names.to_str().unwrap().to_owned());
            let body = request.into_body().collect().await.unwrap();
            let mut said: Vec<_> =
                body.trailers().into_iter().flatten().map(|(name, value)| format!("{name}={value:?}")).collect();
            said.sort();
            let said = format!("{} {:?} {said:?}", String::from_utf8(body.to_bytes().to_vec()).unwrap(), announced);
            Ok(if number == 1 && said.contains("fail") { reply(503, said) } else { reply(200, said) })
        }
    });
    (app, runs)
}

fn upload(key: &str, body: &'static [u8], trailers: &[(&'static str, &'static str)]) -> Request<TestBody> {
    let mut request = post(key);
    request.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
    *request.body_mut() = script([data(body), Part::Trailers(lines(trailers))]);
    request
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_handler() {
    for resumable in [false, true] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let (app, _) = telling(&layer);
        let expected = r#"body Some("x-sum") ["x-sum=\"17\""]"#;
        send(&app, upload("k", b"body", &[("x-sum", "17")])).await.assert_first(200, expected);
        // They may be lost on the way, and are no other request, unless that is asked for.
        send(&app, upload("k", b"body", &[])).await.assert_replay(200, expected);
        send(&app, upload("k", b"body", &[("x-sum", "18")])).await.assert_replay(200, expected);
        send(&app, upload("k", b"other", &[("x-sum", "17")])).await.assert_problem("key-reused", 422);
    }
}

#[tokio::test]
async fn trailers_of_a_request_without_a_body_reach_the_handler() {
    let lab = Lab::new();
    let (app, _) = telling(&lab.layer());
    let mut request = upload("k", b"", &[]);
    *request.body_mut() = script([Part::Trailers(lines(&[("x-sum", "17")]))]);
    send(&app, request).await.assert_first(200, r#" Some("x-sum") ["x-sum=\"17\""]"#);
}

#[tokio::test]
async fn trailers_of_a_request_count_for_its_limit() {
    let lab = Lab::new();
    let (app, runs) = telling(&lab.layer().request_limit(13));
    send(&app, upload("k", b"four", &[("x-sum", "12345")])).await.assert_problem("body-too-large", 413);
    assert_eq!(runs.get(), 0);
    assert_eq!(send(&app, upload("k", b"four", &[("x-sum", "1234")])).await.status, 200);
}

/// Whoever goes on with the request sees what the first attempt saw, less what
/// may be a credential.
#[tokio::test(start_paused = true)]
async fn a_completer_runs_a_request_with_its_trailers() {
    let (lab, clock) = Lab::manual();
    let layer = lab.layer().resumable();
    let (app, runs) = telling(&layer);
    let trailers = [("x-sum", "17"), ("x-secret", "hidden")];
    assert_eq!(send(&app, upload("k", b"fail", &trailers)).await.status, 503);
    let stored = lab.store.peek(&stored_key("k")).await.unwrap();
    assert!(!format!("{stored:?}").contains("hidden"), "{stored:?}");
    clock.advance(secs(60 * 60));
    completer(&layer, &app).run_once().await.unwrap();
    let expected = r#"fail Some("x-sum") ["x-sum=\"17\""]"#;
    send(&app, upload("k", b"fail", &trailers)).await.assert_replay(200, expected);
    assert_eq!(runs.get(), 2);
}

/// One that says how long it is, and then has trailers all the same.
struct Announced(TestBody, u64);

impl Body for Announced {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Failure>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        let mut size = hyper::body::SizeHint::new();
        size.set_lower(self.1);
        size
    }
}

/// Our marks are ours alone, wherever they stand: those of an upstream never pass,
/// whether the answer is kept, or too large to be, or slow, or not final.
#[tokio::test(start_paused = true)]
async fn a_handler_can_not_call_its_answer_a_replay_in_a_trailer() {
    let kinds = [
        ("empty", 200),
        ("short", 200),
        ("short", 503),
        ("short", 401),
        ("too large", 200),
        ("known to be too large", 200),
        ("slow", 200),
    ];
    for resumable in [false, true] {
        for (kind, status) in kinds {
            let lab = Lab::new();
            let layer = lab.layer().response_limit(100);
            let layer = if resumable { layer.resumable() } else { layer };
            let app = serve(&layer, move |_: Inner| async move { Ok(marked(kind, status)) });
            for _ in 0..2 {
                let response = app.clone().oneshot(post("k")).await.unwrap();
                let is_problem = response.extensions().get::<Refusal>().is_some();
                let is_first = !is_problem && !response.headers().contains_key("idempotent-replayed");
                let trailers = response.into_body().collect().await.unwrap().trailers().cloned().unwrap_or_default();
                let names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
                let kept = kind == "empty" || kind == "short";
                let expected = if is_first || kept { vec!["x-sum"] } else { vec![] };
                assert_eq!(names, expected, "{kind} {status} resumable {resumable}, first {is_first}");
            }
        }
    }
    // Without a key the layer is not there.
    let app = serve(&Lab::new().layer(), move |_: Inner| async move { Ok(marked("short", 200)) });
    let response = app.oneshot(unkeyed("POST")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().trailers().unwrap().len(), 3);
}

fn marked(kind: &str, status: u16) -> Response<TestBody> {
    let trailers = Part::Trailers(lines(&[
        ("idempotent-replayed", "true"),
        ("x-sum", "1"),
        ("idempotency-replay-unavailable", "incomplete"),
    ]));
    let large = || Part::Data(Bytes::from(vec![b'x'; 200]));
    let body = match kind {
        "empty" => script([trailers]),
        "short" => script([data(b"abc"), trailers]),
        "too large" => script([large(), data(b"more"), trailers]),
        "known to be too large" => Announced(script([large(), trailers]), 200).boxed_unsync(),
        _ => script([data(b"abc"), Part::Wait(secs(60)), trailers]),
    };
    Response::builder().status(status).body(body).unwrap()
}
