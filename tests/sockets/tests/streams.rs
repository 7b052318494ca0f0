//! Streams on the wire: the first of them is there before the handler has written the rest,
//! and no retry runs anything.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use sockets::{Protocol, Server, Stream, messages};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tower::{Layer, service_fn};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, RequestBody, Scope, Streaming};

/// How a response says that it is a stream.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// By its type: events.
    Type,
    /// By its handler's word: NDJSON.
    Mark,
}

const KINDS: [(Says, &str); 2] = [(Says::Type, "text/event-stream"), (Says::Mark, "application/x-ndjson")];

/// A server whose one response is what the test writes, line by line.
async fn writing(protocol: Protocol, says: Says, kind: &'static str) -> (Server, mpsc::Sender<Bytes>) {
    let (write, lines) = mpsc::channel(1);
    let (runs, lines) = (<Arc<AtomicUsize>>::default(), Arc::new(Mutex::new(Some(lines))));
    let count = Arc::clone(&runs);
    let handler = service_fn(move |_: Request<RequestBody<Incoming>>| {
        let (lines, count) = (Arc::clone(&lines), Arc::clone(&count));
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            let lines = lines.lock().await.take().expect("one run");
            let body = ReceiverStream::new(lines).map(|line| Ok::<_, Infallible>(Frame::data(line)));
            let mut response = Response::builder().header("content-type", kind).body(StreamBody::new(body)).unwrap();
            if matches!(says, Says::Mark) {
                response.extensions_mut().insert(Streaming);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared());
    (Server::serving(protocol, &runs, layer.layer(handler)).await, write)
}

fn post(body: &'static [u8]) -> Request<Bytes> {
    Request::post("http://test/").header("idempotency-key", "k").body(Bytes::from_static(body)).unwrap()
}

#[tokio::test]
async fn over_http_2_a_stream_comes_line_by_line_and_is_not_kept() {
    for (says, kind) in KINDS {
        let (server, write) = writing(Protocol::H2, says, kind).await;
        let mut stream = Stream::connect(server.addr).await;
        let mut asked = stream.begin(post(b"{")).await;
        asked.send(Bytes::from_static(b"}"));
        let mut answer = asked.head().await;
        assert_eq!(answer.headers["idempotency-replay-unavailable"], "streaming", "{says:?}");
        for line in ["1\n", "2\n"] {
            write.send(line.into()).await.unwrap();
            assert_eq!(answer.data().await.unwrap(), line, "{says:?}");
        }
        drop(write);
        assert_eq!(answer.data().await, None);
        let retry = stream.exchange(post(b"{}")).await;
        assert_eq!((retry.status(), retry.header("idempotency-replay-unavailable")), (200, Some("streaming")));
        assert_eq!((retry.header("content-type"), server.runs()), (Some("application/problem+json"), 1));
    }
}

#[tokio::test]
async fn over_http_1_a_stream_comes_line_by_line_and_is_not_kept() {
    for (says, kind) in KINDS {
        let (server, write) = writing(Protocol::H1, says, kind).await;
        let head = "POST / HTTP/1.1\r\nhost: test\r\nidempotency-key: k\r\ncontent-length: 2\r\n";
        let request = format!("{head}connection: close\r\n\r\n{{}}");
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        for line in ["\r\n\r\n", "1\n", "2\n"] {
            if !line.starts_with('\r') {
                write.send(line.into()).await.unwrap();
            }
            while !read.windows(line.len()).any(|window| window == line.as_bytes()) {
                assert!(
                    stream.read_buf(&mut read).await.unwrap() > 0,
                    "{says:?}: {:?}",
                    String::from_utf8_lossy(&read)
                );
            }
        }
        drop(write);
        while stream.read_buf(&mut read).await.unwrap() > 0 {}
        let seen = messages(&read).remove(0);
        assert_eq!((seen.whole, seen.body.as_slice()), (Some(true), b"1\n2\n".as_slice()));
        assert_eq!(seen.header("idempotency-replay-unavailable"), Some("streaming"));
        let retry = messages(&sockets::exchange(server.addr, request.as_bytes()).await).remove(0);
        assert_eq!(retry.header("idempotency-replay-unavailable"), Some("streaming"));
        assert_eq!((retry.header("content-type"), server.runs()), (Some("application/problem+json"), 1));
    }
}
