//! Bodies that can't be sent again, and responses that break off.

use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt};
use tower_idempotency::client::ClientErrorKind;

use crate::support::bodies::{Failure, Part, data, full, script};
use crate::support::lab::secs;
use crate::{Does, Remote, Upload, call, elapsed, layer, post, responds};

fn broken(parts: impl IntoIterator<Item = Part>) -> Does {
    Does::Responds(Response::new(script(parts)))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_sent_again_is_refused() {
    let remote = Remote::default();
    let of = |parts: Vec<Part>| {
        let (remote, small) = (remote.clone(), layer().request_limit(8));
        async move { call(&small, &remote, post().map(|_| Upload(script(parts)))).await.err() }
    };
    assert!(of(vec![data(b"1234"), data(b"5678")]).await.is_none());
    assert_eq!(remote.seen().len(), 1);
    let large = of(vec![data(b"1234"), data(b"5678"), data(b"9")]).await.unwrap();
    assert!(matches!(large.kind(), ClientErrorKind::RequestTooLarge));
    assert!(large.to_string().contains("nothing was sent; raise request_limit"), "{large}");
    let trailers = of(vec![data(b"1234"), Part::Trailers(HeaderMap::new())]).await.unwrap();
    assert!(matches!(trailers.kind(), ClientErrorKind::RequestTrailers), "{trailers}");
    let failed = of(vec![data(b"1234"), Part::Fail(Failure("no disk"))]).await.unwrap();
    assert!(matches!(failed.kind(), ClientErrorKind::RequestBody(_)) && failed.to_string().contains("no disk"));
    assert!(remote.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_or_hangs_is_asked_for_again() {
    let fails = || Part::Fail(Failure("reset"));
    for parts in [vec![fails()], vec![data(b"do"), fails()], vec![data(b"do"), Part::Stall]] {
        let remote = Remote::that([broken(parts)]);
        let got = call(&layer().try_timeout(secs(5)), &remote, post()).await.unwrap();
        assert_eq!((&*got.body, got.tries()), (b"done".as_slice(), 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_is_given_on_frame_by_frame() {
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let parts = vec![data(b"do"), data(b"ne"), Part::Trailers(trailers.clone())];
    let remote = Remote::that([broken(parts)]);
    let response = layer().layer(remote).oneshot(post()).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
    assert_eq!(collected.to_bytes(), "done");

    let whole = layer().layer(Remote::default()).oneshot(post()).await.unwrap();
    assert_eq!(http_body::Body::size_hint(whole.body()).exact(), Some(4));
    assert!(!http_body::Body::is_end_stream(whole.body()));
    let empty = layer().layer(Remote::that([responds(204, &[], "")])).oneshot(post()).await.unwrap();
    assert!(http_body::Body::is_end_stream(empty.body()));
}

#[tokio::test(start_paused = true)]
async fn a_large_response_and_a_stream_of_events_come_as_they_come() {
    let wait = || Part::Wait(secs(40));
    let large = Response::new(script([data(b"12345"), data(b"678"), wait(), data(b"9")]));
    let mut events = Response::new(script([wait(), data(b"data: 1\n\n")]));
    events.headers_mut().insert("content-type", "Text/Event-Stream; charset=utf-8".parse().unwrap());
    for (response, text) in [(large, "123456789"), (events, "data: 1\n\n")] {
        let remote = Remote::that([Does::Responds(response)]);
        let sent = layer().response_limit(6).layer(remote.clone()).oneshot(post());
        let (response, time) = elapsed(sent).await;
        assert!(time.is_zero(), "{time:?}");
        // Longer than a try may take: the caller reads it.
        assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), text);
        assert_eq!(remote.seen().len(), 1);
    }
    let remote = Remote::that([broken([data(b"1234567"), Part::Fail(Failure("reset"))])]);
    let response = layer().response_limit(6).layer(remote).oneshot(post()).await.unwrap();
    assert_eq!(response.into_body().collect().await.err(), Some(Failure("reset")));
}

/// The name of a problem is looked for in a body that was read.
#[tokio::test(start_paused = true)]
async fn a_problem_that_is_too_large_is_final() {
    let mut response = Response::new(full(r#"{"code":"in-progress"}"#));
    *response.status_mut() = http::StatusCode::CONFLICT;
    let got = call(&layer().response_limit(4), &Remote::that([Does::Responds(response)]), post()).await.unwrap();
    assert_eq!((got.status.as_u16(), &*got.body), (409, br#"{"code":"in-progress"}"#.as_slice()));
}
