//! A replay is the first answer, byte for byte, less what belonged to its
//! delivery. (Peer bugs 48 to 56.)

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_idempotency::ResponseBody;

use crate::support::bodies::{Part, TestBody, data, full, script};
use crate::support::lab::{Answer, App, Lab, post, secs, send, serve};

/// A service that gives these headers and this body.
fn giving(lab: &Lab, status: u16, headers: &[(&'static str, &'static [u8])], body: Bytes) -> App {
    let headers: Vec<_> = headers.to_vec();
    serve(&lab.layer(), move |_| {
        let mut response = Response::new(full(body.clone()));
        *response.status_mut() = status.try_into().unwrap();
        for (name, value) in &headers {
            response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        async { Ok(response) }
    })
}

async fn twice(app: &App) -> (Answer, Answer) {
    let first = send(app, post("k")).await;
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let replay = send(app, post("k")).await;
    assert!(replay.is_replay());
    assert_eq!((first.status, &first.body), (replay.status, &replay.body));
    (first, replay)
}

fn lines(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Peer bugs 49, 50 and 56.
#[tokio::test]
async fn headers_keep_their_order_their_duplicates_and_their_bytes() {
    let lab = Lab::new();
    let headers: [(&str, &[u8]); 11] = [
        ("x-last", b"1"),
        // Only HTTP/2 has such a name.
        ("x-\"quoted\"", b"1"),
        ("link", b"<a>; rel=next"),
        ("content-type", b"application/vnd.x+json; charset=utf-8"),
        ("link", b"<b>; rel=prev"),
        ("location", b"/orders/17"),
        ("etag", b"\"v1\""),
        ("x-latin", b"caf\xe9 \xff\x80"),
        ("vary", b"accept"),
        ("vary", b"origin"),
        ("x-empty", b""),
    ];
    let (first, replay) = twice(&giving(&lab, 201, &headers, Bytes::from_static(b"{}"))).await;
    let mut expected = lines(&first.headers);
    expected.push((HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true")));
    assert_eq!(lines(&replay.headers), expected);
    assert_eq!(replay.headers.get_all("link").iter().count(), 2);
}

/// Peer bugs 48 and 53, and faults J8 and J9.
#[tokio::test]
async fn what_belongs_to_one_delivery_is_given_once_and_not_replayed() {
    let lab = Lab::new();
    let once: [(&str, &[u8]); 25] = [
        ("connection", b"x-hop, close"),
        ("connection", b"X-Other-Hop"),
        ("x-hop", b"1"),
        ("x-other-hop", b"1"),
        ("keep-alive", b"timeout=5"),
        ("proxy-connection", b"close"),
        ("transfer-encoding", b"chunked"),
        ("te", b"trailers"),
        ("trailer", b"x-checksum"),
        ("upgrade", b"h2c"),
        ("proxy-authenticate", b"Basic"),
        ("content-length", b"2"),
        ("date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ("age", b"17"),
        ("set-cookie", b"session=secret"),
        ("set-cookie", b"other=secret"),
        ("authorization", b"secret"),
        ("www-authenticate", b"Basic"),
        ("authentication-info", b"secret"),
        ("request-id", b"1"),
        ("x-request-id", b"1"),
        ("x-correlation-id", b"1"),
        ("traceparent", b"00-1-1-01"),
        ("tracestate", b"a=b"),
        ("server-timing", b"db;dur=53"),
    ];
    let mut headers = once.to_vec();
    headers.push(("x-kept", b"1"));
    let (first, replay) = twice(&giving(&lab, 200, &headers, Bytes::from_static(b"{}"))).await;
    for (name, _) in once {
        assert!(first.headers.contains_key(name), "the first client gets {name}");
        assert!(!replay.headers.contains_key(name), "the second does not get {name}");
    }
    assert_eq!(replay.headers["x-kept"], "1");
    let stored = lab.store.peek(&crate::support::lab::stored_key("k")).await.unwrap();
    assert!(!format!("{stored:?}").contains("secret"), "nor does the store");
}

/// Requirements H06 and H07: an application that wants no cache to keep an answer
/// still wants its retries to be answered.
#[tokio::test]
async fn what_caches_are_told_is_replayed_and_binds_caches_alone() {
    let lab = Lab::new();
    let headers: [(&str, &[u8]); 6] = [
        ("cache-control", b"no-cache, no-store"),
        ("content-location", b"/orders/17"),
        ("last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ("expires", b"0"),
        ("pragma", b"no-cache"),
        ("vary", b"*"),
    ];
    let (first, replay) = twice(&giving(&lab, 201, &headers, Bytes::from_static(b"{}"))).await;
    let mut expected = lines(&first.headers);
    expected.push((HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true")));
    assert_eq!((lines(&first.headers).len(), lines(&replay.headers)), (6, expected));
    // Nor is freshness added where the handler says nothing of it.
    let lab = Lab::new();
    let (_, replay) = twice(&giving(&lab, 201, &[], Bytes::from_static(b"{}"))).await;
    assert_eq!(replay.headers.len(), 1, "{:?}", replay.headers);
}

/// A handler can't pass its answer off as a replay later on.
#[tokio::test]
async fn the_replay_header_is_ours_alone() {
    let lab = Lab::new();
    let app = giving(&lab, 200, &[("idempotent-replayed", b"false")], Bytes::new());
    send(&app, post("k")).await;
    let replay = send(&app, post("k")).await;
    assert!(replay.is_replay(), "{:?}", replay.headers);
}

/// Peer bug 51.
#[tokio::test]
async fn any_bytes_replay_as_they_were() {
    let all: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..1 << 20).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for body in [vec![], vec![0], all, large, vec![0xff; 3], b"\x1f\x8b\x08gzip".to_vec()] {
        let lab = Lab::new();
        let (_, replay) = twice(&giving(&lab, 200, &[], body.clone().into())).await;
        assert!(replay.body == body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_in_many_frames_replays_whole() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async {
        let slow = Part::Wait(secs(1));
        let parts =
            [data(b"one "), data(b""), data(b"two "), slow, data(b"three "), Part::Wait(secs(3)), data(b"four")];
        Ok(Response::new(script(parts)))
    });
    let (first, _) = twice(&app).await;
    assert_eq!(first.text(), "one two three four");
}

/// Peer bug 53 and requirement P12.
#[tokio::test]
async fn an_answer_without_content_replays_without_content() {
    for status in [204, 304] {
        let lab = Lab::new();
        let (_, replay) = twice(&giving(&lab, status, &[("etag", b"\"v1\"")], Bytes::new())).await;
        assert!(replay.body.is_empty());
        assert!(!replay.headers.contains_key("content-length"));
        assert_eq!(replay.headers["etag"], "\"v1\"");
    }
}

#[tokio::test]
async fn every_status_replays() {
    // Those that the table of outcomes lets through as final.
    for status in (200..=599).filter(|status| ![307, 308, 401, 403, 407, 421, 425, 429].contains(status)) {
        let lab = Lab::new();
        let body = if status == 204 || status == 304 { Bytes::new() } else { Bytes::from_static(b"x") };
        twice(&giving(&lab, status, &[], body)).await;
    }
}

/// Whoever frames the message is told of the first answer what the handler's
/// body says, and of a replay how long it is.
#[tokio::test]
async fn a_first_answer_knows_as_much_of_its_length_as_the_handler_said_and_a_replay_knows_it() {
    use hyper::body::Body;
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(Response::new(script([data(b"one "), data(b"two")]))) });
    for known in [None, Some(7)] {
        let body = app.clone().oneshot(post("k")).await.unwrap().into_body();
        assert_eq!(body.size_hint().exact(), known);
    }
}

/// What a time-out layer outside answers with.
#[tokio::test]
async fn the_body_by_default_is_empty() {
    let body = ResponseBody::<TestBody>::default();
    assert!(http_body::Body::is_end_stream(&body));
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
}
