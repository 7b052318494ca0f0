//! What clients do that only a real connection has: two protocols, resets at any
//! time, streams, upgrades.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use sockets::{Handler, Message, Part, Protocol, Script, Seen, Server, Stream, exchange, messages};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, RequestBody, Scope};

fn layer() -> IdempotencyLayer {
    IdempotencyLayer::new(MemoryStore::new(), Scope::shared())
}

fn post(key: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post("http://test/").header("idempotency-key", key).body(body.into()).unwrap()
}

/// Status code, and whether it is a replay.
fn told(seen: &Seen) -> (u16, bool) {
    assert_eq!(seen.reset, None, "{seen:?}");
    (seen.status(), seen.header("idempotent-replayed") == Some("true"))
}

async fn over_http_1(server: &Server, key: &str, body: &str) -> Message {
    let length = body.len();
    let head = format!("POST / HTTP/1.1\r\nhost: test\r\nidempotency-key: {key}\r\ncontent-length: {length}\r\n");
    let request = format!("{head}connection: close\r\n\r\n{body}");
    messages(&exchange(server.addr, request.as_bytes()).await).remove(0)
}

/// Requirements H01 and H02: what belongs to one protocol's delivery is in no replay
/// over the other.
#[tokio::test]
async fn an_answer_of_one_protocol_is_replayed_over_the_other() {
    let headers = [("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("x-kept", "1")];
    let headers = headers.map(|(name, value)| (name, value.to_owned())).to_vec();
    // Of unknown size: chunked over HTTP/1.1.
    let handler = Handler { status: 201, headers, body: Script::new([Part::Data(10), Part::Data(12)]) };
    let server = Server::guarded(Protocol::Either, &handler, |layer| layer).await;
    let mut stream = Stream::connect(server.addr).await;
    let body = handler.body.bytes();

    let first = over_http_1(&server, "one", "{}").await;
    assert_eq!((first.header("transfer-encoding"), first.header("x-hop")), (Some("chunked"), Some("1")));
    let replay = stream.exchange(post("one", "{}")).await;
    assert_eq!((told(&replay), &replay.body), ((201, true), &body));
    assert_eq!((replay.header("x-kept"), replay.header("x-hop")), (Some("1"), None));

    let first = stream.exchange(post("two", "{}")).await;
    assert_eq!((told(&first), &first.body), ((201, false), &body));
    let again = stream.exchange(post("two", "{}")).await;
    assert_eq!((told(&again), &again.body), ((201, true), &body));
    for key in ["one", "two"] {
        let replay = over_http_1(&server, key, "{}").await;
        assert_eq!((replay.status(), replay.header("idempotent-replayed")), (201, Some("true")), "{replay:?}");
        assert_eq!((replay.whole, &replay.body), (Some(true), &body));
        for name in ["x-hop", "keep-alive", "transfer-encoding"] {
            assert_eq!(replay.header(name), None, "{name}");
        }
        assert_eq!((replay.header("content-length"), replay.header("x-kept")), (Some("22"), Some("1")));
    }
    // Another body is another request over either.
    assert_eq!(over_http_1(&server, "two", "[]").await.status(), 422);
    assert_eq!(told(&stream.exchange(post("one", "[]")).await), (422, false));
    assert_eq!(server.runs(), 2);
}

/// Requirements K06 and K18.
#[tokio::test]
async fn a_key_that_came_twice_or_is_no_ascii_is_refused_over_http_2() {
    let handler = Handler { status: 201, headers: vec![], body: Script::new([Part::Data(10)]) };
    let server = Server::guarded(Protocol::H2, &handler, |layer| layer).await;
    let mut stream = Stream::connect(server.addr).await;
    let lines: [&[&[u8]]; 6] =
        [&[b"a", b"b"], &[b"a", b"a"], &[b"\"a", b"b\""], &[b"cl\xc3\xa9"], &[b"\"\x80\xff\""], &[b""]];
    for lines in lines {
        let mut request = Request::post("http://test/").body(Bytes::from_static(b"{}")).unwrap();
        for line in lines {
            request.headers_mut().append("idempotency-key", HeaderValue::from_bytes(line).unwrap());
        }
        let seen = stream.exchange(request).await;
        assert_eq!(told(&seen), (400, false), "{lines:?}");
        let problem: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        assert!(problem["type"].as_str().unwrap().ends_with("invalid-key"), "{problem}");
    }
    assert_eq!(server.runs(), 0);
    assert_eq!(told(&stream.exchange(post("a", "{}")).await), (201, false));
}

/// A frame of HTTP/2, on its first stream or on none.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A header field as HPACK has it (RFC 7541 §6.2.2), without index and compression.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name, &[length(value)], value].concat()
}

/// Requirement K04, byte by byte: no client library sends such a thing.
#[tokio::test]
async fn a_key_with_control_characters_over_http_2_runs_nothing() {
    let handler = Handler { status: 201, headers: vec![], body: Script::new([Part::Data(10)]) };
    let server = Server::guarded(Protocol::H2, &handler, |layer| layer).await;
    let keys: [&[u8]; 7] = [b"good", b"a\0b", b"a\r\nx: y", b"\"a\nb\"", b"\"a\x7f\"", b"\"a\x1fb\"", b"\"a\tb\""];
    for key in keys {
        let fields: [(&[u8], &[u8]); 5] = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/"),
            (b":authority", b"test"),
            (b"idempotency-key", key),
        ];
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
        // Settings; the head, which ends it (END_HEADERS, END_STREAM); and a farewell.
        let frames = [frame(4, 0, 0, &[]), frame(1, 5, 1, &block), frame(7, 0, 0, &[0; 8])].concat();
        let seen = exchange(server.addr, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frames].concat()).await;
        assert!(!seen.is_empty(), "{key:?}");
        assert_eq!(server.runs(), 1, "{key:?}");
    }
    // The server goes on.
    assert_eq!(told(&Stream::connect(server.addr).await.exchange(post("a", "{}")).await), (201, false));
}

/// Requirement B12: as without the layer, each time.
#[tokio::test]
async fn a_head_request_with_a_key_passes_and_has_no_content() {
    let headers = vec![("content-length", "10".to_owned())];
    let handler = Handler { status: 200, headers, body: Script::new([Part::Data(10)]) };
    let key = "idempotency-key: k\r\n";
    let one = format!("HEAD / HTTP/1.1\r\nhost: test\r\n{key}\r\n");
    let last = "GET /next HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    let requests = [one.as_str(), &one, last].concat();
    let plain = Server::plain(Protocol::H1, &handler).await;
    let guarded = Server::guarded(Protocol::H1, &handler, IdempotencyLayer::required).await;
    let expected = exchange(plain.addr, requests.as_bytes()).await;
    let text = String::from_utf8(expected.clone()).unwrap();
    assert!(text.matches("HTTP/1.1 200").count() == 3 && text.ends_with("\r\nabcd\r\n0\r\n\r\n"), "{text:?}");
    assert_eq!(String::from_utf8(exchange(guarded.addr, requests.as_bytes()).await).unwrap(), text);
    assert_eq!(guarded.runs(), 2);

    // Over HTTP/2 it is left to the handler to give no body.
    let handler = Handler { body: Script::new([]), ..handler };
    let plain = Server::plain(Protocol::H2, &handler).await;
    let guarded = Server::guarded(Protocol::H2, &handler, IdempotencyLayer::required).await;
    let head = || Request::head("http://test/").header("idempotency-key", "k").body(Bytes::new()).unwrap();
    let expected = Stream::connect(plain.addr).await.exchange(head()).await;
    assert_eq!((expected.status(), expected.header("content-length")), (200, Some("10")));
    let mut stream = Stream::connect(guarded.addr).await;
    for _ in 0..2 {
        assert_eq!(stream.exchange(head()).await, expected);
    }
    assert_eq!(guarded.runs(), 2);
}

/// Requirement H13. The clock moves on only while all wait: what is written is read
/// before the next event is due.
#[tokio::test(start_paused = true)]
async fn an_event_stream_reaches_its_client_before_it_ends() {
    let headers = vec![("content-type", "text/event-stream".to_owned())];
    let body = Script::new([Part::Data(10), Part::Wait(60), Part::Data(12)]);
    let handler = Handler { status: 200, headers, body };
    let server = Server::guarded(Protocol::H1, &handler, |layer| layer).await;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: test\r\nidempotency-key: k\r\ncontent-length: 2\r\nconnection: close\r\n";
    stream.write_all(format!("{head}\r\n{{}}").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.windows(10).any(|window| window == b"abcdefghij") {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{:?}", String::from_utf8_lossy(&read));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "held back for {:?}", begun.elapsed());
    while stream.read_buf(&mut read).await.unwrap() > 0 {}
    let seen = messages(&read).remove(0);
    assert_eq!((seen.whole, seen.body.len()), (Some(true), 22));
    assert_eq!(seen.header("idempotency-replay-unavailable"), Some("streaming"));
    assert_eq!(over_http_1(&server, "k", "{}").await.header("idempotency-replay-unavailable"), Some("streaming"));
    assert_eq!(server.runs(), 1);
}

/// Requirement H12: the connection is the new protocol's, and a retry gets none.
#[tokio::test]
async fn an_upgrade_with_a_key_passes_with_its_connection() {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let echo = service_fn(move |mut request: Request<RequestBody<Incoming>>| {
        count.fetch_add(1, Ordering::SeqCst);
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let switch = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let switch = switch.header("connection", "upgrade").header("upgrade", "echo");
        async { Ok::<_, Infallible>(switch.body(Full::new(Bytes::new())).unwrap()) }
    });
    let server = Server::serving(Protocol::H1, &runs, layer().layer(echo)).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: test\r\nidempotency-key: k\r\ncontent-length: 0\r\n";
    let request = format!("{head}connection: upgrade\r\nupgrade: echo\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{:?}", String::from_utf8_lossy(&read));
    }
    let answer = messages(&read).remove(0);
    assert_eq!((answer.status(), answer.header("upgrade")), (101, Some("echo")));
    stream.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");

    let retry = over_http_1(&server, "k", "").await;
    assert_eq!((retry.status(), retry.header("idempotency-replay-unavailable").is_some()), (200, true));
    assert_eq!(server.runs(), 1);
}

/// A server whose handlers wait, and are counted.
struct Held {
    server: Server,
    /// Opens for each handler that may end.
    gate: Arc<Semaphore>,
    /// How many requests have come to the layer.
    asked: Arc<AtomicUsize>,
    /// Has a permit for each handler that began.
    begun: Arc<Semaphore>,
    /// The most handlers that ran at once.
    most: Arc<AtomicUsize>,
}

const LARGE: usize = 200_000;

impl Held {
    async fn new(protocol: Protocol, layer: &IdempotencyLayer) -> Self {
        let (runs, most, running) = (<Arc<AtomicUsize>>::default(), <Arc<AtomicUsize>>::default(), AtomicUsize::new(0));
        let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let all = (Arc::clone(&runs), Arc::clone(&most), Arc::new(running), Arc::clone(&gate), Arc::clone(&begun));
        let wait = service_fn(move |_: Request<RequestBody<Incoming>>| {
            let (runs, most, running, gate, begun) = all.clone();
            async move {
                let number = runs.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                begun.add_permits(1);
                gate.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                // More than a client takes that does not read.
                let body = Bytes::from(vec![b'0' + u8::try_from(number % 10).unwrap(); LARGE]);
                Ok::<_, Infallible>(Response::new(Full::new(body)))
            }
        });
        let asked = <Arc<AtomicUsize>>::default();
        let count = Arc::clone(&asked);
        let service = layer.layer(wait).map_request(move |request| {
            count.fetch_add(1, Ordering::SeqCst);
            request
        });
        let server = Server::serving(protocol, &runs, service).await;
        Self { server, gate, asked, begun, most }
    }

    async fn has_begun(&self) {
        timeout(PATIENCE, self.begun.acquire()).await.expect("a handler that begins").unwrap().forget();
    }
}

/// Longer than any answer takes here, and shorter than a lease.
const PATIENCE: Duration = Duration::from_secs(10);

/// What comes while a handler may wait for its gate.
async fn answer(stream: &mut Stream, key: &str) -> Seen {
    timeout(PATIENCE, stream.exchange(post(key, "{}"))).await.expect("an answer, and no handler")
}

/// Asks until it gets something else than one of these: what runs behind a reset is
/// seen from outside by that alone.
async fn until_not(stream: &mut Stream, key: &str, statuses: &[u16]) -> Seen {
    let asking = async {
        loop {
            let seen = answer(stream, key).await;
            if !statuses.contains(&seen.status()) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asking).await.expect("something else")
}

/// Requirement D17 and peer bug 3: RST_STREAM says that the client has gone, and
/// nothing of whether the work is to be done.
#[tokio::test]
async fn a_reset_in_any_phase_of_http_2_runs_once_and_is_replayed() {
    let held = Held::new(Protocol::H2, &layer()).await;
    let mut stream = Stream::connect(held.server.addr).await;

    // In the upload: nothing ran, and the key is free for another body too.
    stream.begin(post("upload", "{")).await.reset();
    held.gate.add_permits(1);
    assert_eq!(told(&stream.exchange(post("upload", "[]")).await), (200, false));
    held.has_begun().await;
    assert_eq!(held.server.runs(), 1);

    // While the handler runs.
    let mut running = stream.begin(post("handler", "{")).await;
    running.send(Bytes::from_static(b"}"));
    held.has_begun().await;
    running.reset();
    assert_eq!(told(&answer(&mut stream, "handler").await), (409, false));
    held.gate.add_permits(1);
    let replay = until_not(&mut stream, "handler", &[409]).await;
    assert_eq!((told(&replay), replay.body == vec![b'2'; LARGE]), ((200, true), true));

    // While the answer is sent, of which the client has taken a part.
    let mut answered = stream.begin(post("answer", "{")).await;
    answered.send(Bytes::from_static(b"}"));
    held.gate.add_permits(1);
    assert_eq!(answered.reset_in_the_answer().await, 200);
    let replay = until_not(&mut stream, "answer", &[409]).await;
    assert_eq!((told(&replay), replay.body == vec![b'3'; LARGE]), ((200, true), true));
    assert_eq!(held.server.runs(), 3);
}

/// The same over HTTP/1.1, where it is the connection that is reset.
#[tokio::test]
async fn a_reset_in_any_phase_of_http_1_runs_once_and_is_replayed() {
    let held = Held::new(Protocol::H1, &layer()).await;
    let begin = async |bytes: String| {
        let mut stream = TcpStream::connect(held.server.addr).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    };
    let head = |key: &str| format!("POST / HTTP/1.1\r\nhost: test\r\nidempotency-key: {key}\r\ncontent-length: 2\r\n");
    let whole = |key: &str| format!("{}\r\n{{}}", head(key));

    // In the head, and in the upload: nothing ran, and the key is free.
    for bytes in [head("upload"), format!("{}\r\n{{", head("upload"))] {
        begin(bytes).await.set_zero_linger().unwrap();
    }
    held.gate.add_permits(1);
    let first = over_http_1(&held.server, "upload", "[]").await;
    assert_eq!((first.status(), first.header("idempotent-replayed")), (200, None));
    held.has_begun().await;
    assert_eq!(held.server.runs(), 1);

    // While the handler runs.
    let stream = begin(whole("handler")).await;
    held.has_begun().await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let busy = timeout(PATIENCE, over_http_1(&held.server, "handler", "{}")).await.expect("an answer, and no handler");
    assert_eq!(busy.status(), 409);
    held.gate.add_permits(1);
    replayed_over_http_1(&held, "handler", b'2').await;

    // While the answer is sent, of which the client has taken a part.
    let mut stream = begin(whole("answer")).await;
    held.gate.add_permits(1);
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    stream.set_zero_linger().unwrap();
    drop(stream);
    replayed_over_http_1(&held, "answer", b'3').await;
    assert_eq!(held.server.runs(), 3);
}

async fn replayed_over_http_1(held: &Held, key: &str, byte: u8) {
    let asking = async {
        loop {
            let seen = over_http_1(&held.server, key, "{}").await;
            if seen.status() != 409 {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let replay = timeout(PATIENCE, asking).await.expect("something else");
    assert_eq!((replay.status(), replay.header("idempotent-replayed")), (200, Some("true")));
    assert!(replay.whole == Some(true) && replay.body == vec![byte; LARGE], "{key}");
}

/// The attack that is called rapid reset: a stream that is reset makes room for the
/// next one on its connection, while its handler goes on. Fresh keys, so that none
/// is the duplicate of another.
#[tokio::test]
async fn rapid_resets_with_fresh_keys_run_no_more_at_once_than_the_cap() {
    const CAP: usize = 4;
    let held = Held::new(Protocol::H2, &layer().max_running(CAP)).await;
    let mut stream = Stream::connect(held.server.addr).await;
    for number in 0..CAP {
        let mut attack = stream.begin(post(&format!("first-{number}"), "{")).await;
        attack.send(Bytes::from_static(b"}"));
        held.has_begun().await;
        attack.reset();
    }
    // Those that wait for an answer are refused, and those that reset at once are not run.
    for connection in 0..5 {
        let mut stream = Stream::connect(held.server.addr).await;
        for number in 0..10 {
            let key = format!("fresh-{connection}-{number}");
            let asked = held.asked.load(Ordering::SeqCst);
            let mut attack = stream.begin(post(&key, "{")).await;
            attack.send(Bytes::from_static(b"}"));
            // As soon as the server has it: sooner, and it is not even sent.
            while held.asked.load(Ordering::SeqCst) == asked {
                tokio::task::yield_now().await;
            }
            attack.reset();
        }
        let seen = answer(&mut stream, &format!("fresh-{connection}")).await;
        assert_eq!(told(&seen), (503, false));
        assert!(seen.header("retry-after").is_some());
    }
    assert_eq!((held.server.runs(), held.most.load(Ordering::SeqCst)), (CAP, CAP));
    // What ran is kept, and there is room again.
    held.gate.add_permits(CAP + 1);
    for number in 0..CAP {
        assert_eq!(told(&until_not(&mut stream, &format!("first-{number}"), &[409, 503]).await), (200, true));
    }
    assert_eq!(told(&until_not(&mut stream, "after", &[503]).await), (200, false));
    assert_eq!((held.server.runs(), held.most.load(Ordering::SeqCst)), (CAP + 1, CAP));
}
