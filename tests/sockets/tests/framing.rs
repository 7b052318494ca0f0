//! A client sees exactly what it sees without the layer, whatever the body
//! does and however much of it was read ahead.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::fmt;

use bytes::Bytes;
use http::Request;
use sockets::{Handler, Message, Part, Protocol, Script, Seen, Server, Stream, exchange, messages};
use tower_idempotency::IdempotencyLayer;

const UNAVAILABLE: &str = "idempotency-replay-unavailable";

/// One answer, one way to ask for it, and one layer.
#[derive(Clone)]
struct Case {
    name: String,
    handler: Handler,
    version: &'static str,
    te: bool,
    resumable: bool,
    limit: usize,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, handler, version, te, resumable, limit } = self;
        write!(f, "{name}, {version}, te {te}, resumable {resumable}, limit {limit}: {handler:?}")
    }
}

/// What the body does, and how the answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// As announced.
    Well,
    /// Not as announced.
    Ill,
}

impl Case {
    fn layer(&self, layer: IdempotencyLayer) -> IdempotencyLayer {
        let layer = layer.response_limit(self.limit);
        if self.resumable { layer.resumable() } else { layer }
    }

    fn request(&self, path: &str) -> Vec<u8> {
        let te = if self.te { "te: trailers\r\n" } else { "" };
        let head = format!("POST {path} {}\r\nhost: test\r\nidempotency-key: k\r\ncontent-length: 2\r\n", self.version);
        format!("{head}{te}\r\n{{}}").into_bytes()
    }

    /// The request, and a second one behind it.
    fn pipelined(&self) -> Vec<u8> {
        let last = format!("GET /next {}\r\nhost: test\r\nconnection: close\r\n\r\n", self.version);
        [self.request("/").as_slice(), last.as_bytes()].concat()
    }

    fn length(&self) -> usize {
        self.handler.body.bytes().len()
    }

    fn ends(&self) -> Ends {
        let Handler { status, headers, body } = &self.handler;
        if body.parts.contains(&Part::Fail) {
            return Ends::Ill;
        }
        let length = self.length().to_string();
        let told = headers.iter().filter(|(name, _)| *name == "content-length");
        let keeps = told.map(|(_, value)| value.clone()).chain(body.size.map(|size| size.to_string()));
        let mut keeps = keeps.map(|told| told == length);
        if [204, 304].contains(status) || keeps.all(|keeps| keeps) { Ends::Well } else { Ends::Ill }
    }

    /// What is said in the place of a replay, if there is none.
    fn unavailable(&self) -> Option<&'static str> {
        let Handler { headers, body, .. } = &self.handler;
        let events = headers.iter().any(|(name, value)| *name == "content-type" && value.starts_with("text/event"));
        let (mut read, mut waited) = (body.size.unwrap_or(0), 0);
        if read > self.limit as u64 && !(body.says_end && body.parts.is_empty()) {
            return Some("size-exceeded");
        }
        read = 0;
        for part in &body.parts {
            match *part {
                Part::Wait(seconds) => waited += seconds,
                Part::Data(length) => read += length as u64,
                Part::Trailer(name, value) => read += (name.len() + value.len()) as u64,
                Part::Empty => {}
                Part::Fail => return Some("incomplete"),
            }
            if waited > if events { 0 } else { 5 } {
                return Some("streaming");
            }
            if read > self.limit as u64 {
                return Some("size-exceeded");
            }
        }
        (self.ends() == Ends::Ill).then_some("incomplete")
    }

    /// Whether a retry runs the handler again.
    fn runs_again(&self) -> bool {
        self.resumable && self.unavailable() == Some("incomplete")
    }
}

const SUM: Part = Part::Trailer("x-sum", "17");
const BROKEN: &[Part] = &[Part::Data(10), Part::Data(12), Part::Fail];
const BROKEN_LATER: &[Part] = &[Part::Data(10), Part::Wait(1), Part::Data(12), Part::Wait(1), Part::Fail];
const BROKEN_AFTER_A_PAUSE: &[Part] = &[Part::Data(10), Part::Wait(1), Part::Data(12), Part::Fail];
const BROKEN_MUCH_LATER: &[Part] = &[Part::Data(22), Part::Wait(60), Part::Fail];

fn bodies() -> Vec<(&'static str, Vec<Part>)> {
    use Part::{Data, Empty, Fail, Wait};
    vec![
        ("whole", vec![Data(100)]),
        ("whole in pieces", vec![Data(50), Data(25), Data(25)]),
        ("whole, slowly", vec![Data(50), Wait(1), Data(50)]),
        ("whole, very slowly", vec![Data(50), Wait(60), Data(50)]),
        ("whole, then silent", vec![Data(100), Wait(1)]),
        ("whole, with an empty frame", vec![Data(100), Empty]),
        ("broken", BROKEN.to_vec()),
        ("broken later", BROKEN_LATER.to_vec()),
        ("broken after a pause", BROKEN_AFTER_A_PAUSE.to_vec()),
        ("broken much later", BROKEN_MUCH_LATER.to_vec()),
        ("broken at once", vec![Fail]),
        ("broken at once, later", vec![Wait(1), Fail]),
        ("broken at its end", vec![Data(100), Fail]),
        ("ended early", vec![Data(22)]),
        ("ended early, slowly", vec![Data(10), Wait(1), Data(12), Wait(1)]),
        ("ended early, very slowly", vec![Data(22), Wait(60)]),
        ("ended at once", vec![]),
        ("ended at once, later", vec![Wait(1)]),
        ("an empty frame", vec![Empty]),
        ("too long", vec![Data(122)]),
        ("too long, slowly", vec![Data(90), Wait(1), Data(32)]),
        ("trailers", vec![Data(100), SUM]),
        ("trailers, slowly", vec![Data(50), Wait(1), Data(50), Wait(1), SUM]),
        ("trailers only", vec![SUM]),
        ("trailers, too early", vec![Data(22), SUM]),
    ]
}

/// Every body, with every way to announce its length.
fn handlers() -> Vec<(String, Handler)> {
    let mut handlers = Vec::new();
    let lengths = [(None, None), (Some(100), None), (None, Some(100)), (Some(100), Some(100)), (Some(100), Some(22))];
    for (name, parts) in bodies() {
        for (header, size) in lengths {
            for says_end in [false, true] {
                for kind in ["text/plain", "text/event-stream"] {
                    let mut headers = vec![("content-type", kind.to_owned()), ("x-kept", "1".to_owned())];
                    headers.extend(header.map(|length: u64| ("content-length", length.to_string())));
                    let trailers = parts.iter().any(|part| matches!(part, Part::Trailer(..)));
                    headers.extend(trailers.then(|| ("trailer", "x-sum".to_owned())));
                    let body = Script { parts: parts.clone(), size, says_end };
                    let name = format!("{name}, header {header:?}, size {size:?}, says {says_end}, {kind}");
                    handlers.push((name, Handler { status: 201, headers, body }));
                }
            }
        }
    }
    for status in [204, 304] {
        for parts in [vec![], vec![Part::Data(100)], vec![Part::Data(22), Part::Fail]] {
            for header in [None, Some(100)] {
                let headers = header.map(|length: u64| ("content-length", length.to_string())).into_iter().collect();
                let name = format!("{status} {parts:?}, header {header:?}");
                handlers.push((name, Handler { status, headers, body: Script::new(parts.clone()) }));
            }
        }
    }
    handlers
}

fn cases(versions: &[&'static str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, handler) in handlers() {
        let trailers = handler.headers.iter().any(|(name, _)| *name == "trailer");
        for &version in versions {
            for te in [false, true].into_iter().filter(|te| trailers || !te) {
                for (resumable, limit) in [(false, 1 << 20), (true, 1 << 20), (false, 21)] {
                    let (name, handler) = (name.clone(), handler.clone());
                    cases.push(Case { name, handler, version, te, resumable, limit });
                }
            }
        }
    }
    cases
}

/// Says how many of the cases differ, and how one does.
#[track_caller]
fn assert_none(different: &[String], of: usize) {
    assert!(different.is_empty(), "{} of {of} differ, as\n{}", different.len(), different[0]);
}

fn differs<T: fmt::Debug + PartialEq>(case: &Case, seen: &T, expected: &T) -> Option<String> {
    (seen != expected).then(|| format!("{case:?}\nexpected: {expected:#?}\nfound: {seen:#?}"))
}

#[tokio::test(start_paused = true)]
async fn over_http_1_a_client_sees_what_it_sees_without_the_layer() {
    let (mut framing, mut marks) = (Vec::new(), Vec::new());
    let cases = cases(&["HTTP/1.1", "HTTP/1.0"]);
    assert!(cases.len() > 1000);
    for case in &cases {
        let plain = Server::plain(Protocol::H1, &case.handler).await;
        let guarded = Server::guarded(Protocol::H1, &case.handler, |layer| case.layer(layer)).await;
        let plain = messages(&exchange(plain.addr, &case.pipelined()).await);
        let seen = messages(&exchange(guarded.addr, &case.pipelined()).await);
        let mark = seen.iter().find_map(|message| message.header(UNAVAILABLE).map(str::to_owned));
        let expected = case.unavailable().filter(|_| !case.runs_again() && !plain.is_empty());
        marks.extend(differs(case, &mark.as_deref(), &expected));
        let seen: Vec<_> = seen.into_iter().map(|message| message.without(UNAVAILABLE)).collect();
        framing.extend(differs(case, &seen, &plain));
    }
    assert_none(&framing, cases.len());
    assert_none(&marks, cases.len());
}

/// What a retry gets: the answer, or that there is none, or a new one.
#[tokio::test(start_paused = true)]
async fn over_http_1_a_retry_gets_the_whole_answer_or_is_told_that_there_is_none() {
    let mut different = Vec::new();
    let cases = cases(&["HTTP/1.1"]);
    for case in &cases {
        let server = Server::guarded(Protocol::H1, &case.handler, |layer| case.layer(layer)).await;
        let first = messages(&exchange(server.addr, &case.pipelined()).await);
        let retry = messages(&exchange(server.addr, &case.pipelined()).await);
        assert_eq!(server.runs(), if case.runs_again() { 2 } else { 1 }, "{case:?}");
        let shown = |retry: &Message| {
            let header = |name: &str| retry.header(name).map(str::to_owned);
            let marks = (header("idempotent-replayed"), header(UNAVAILABLE));
            (marks, header("content-type"), retry.whole, retry.body.clone(), retry.trailers.clone())
        };
        if case.runs_again() {
            different.extend(differs(case, &retry, &first));
            continue;
        }
        let (retry, next) = (&retry[0], &retry[1]);
        assert_eq!((retry.status(), next.body.as_slice()), (case.handler.status, b"abcd".as_slice()), "{case:?}");
        let mut expected = shown(&retry.clone());
        match case.unavailable() {
            None => {
                let kind = case.handler.headers.iter().find(|(name, _)| *name == "content-type");
                let empty = [204, 304].contains(&case.handler.status);
                let trailers = case.handler.body.parts.contains(&SUM) && case.te;
                let sum = trailers.then(|| "x-sum: 17".to_owned());
                let body = if empty { vec![] } else { case.handler.body.bytes() };
                let kind = kind.map(|(_, value)| value.clone());
                expected = ((Some("true".to_owned()), None), kind, Some(true), body, Vec::from_iter(sum));
            }
            Some(why) => {
                expected.0 = (None, Some(why.to_owned()));
                expected.1 = Some("application/problem+json".to_owned());
                expected.2 = Some(true);
            }
        }
        different.extend(differs(case, &shown(retry), &expected));
    }
    assert_none(&different, cases.len());
}

/// The example that was found: one caller must not see another one's headers.
#[tokio::test(start_paused = true)]
async fn what_follows_a_broken_answer_on_the_connection_is_not_read_as_its_rest() {
    for parts in [vec![Part::Data(22), Part::Fail], vec![Part::Data(22)], vec![Part::Data(22), Part::Wait(1)]] {
        for resumable in [false, true] {
            let headers = vec![("content-length", "100".to_owned())];
            let handler = Handler { status: 200, headers, body: Script::new(parts.clone()) };
            let case = Case { name: String::new(), handler, version: "HTTP/1.1", te: false, resumable, limit: 1 << 20 };
            let server = Server::guarded(Protocol::H1, &case.handler, |layer| case.layer(layer)).await;
            let seen = exchange(server.addr, &case.pipelined()).await;
            let seen = String::from_utf8(seen).unwrap();
            assert!(!seen.contains("secret"), "the connection goes on: {seen:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_answer_without_a_length_is_not_given_one() {
    let handler = Handler { status: 200, headers: vec![], body: Script::new(BROKEN_LATER) };
    let case = Case { name: String::new(), handler, version: "HTTP/1.1", te: false, resumable: false, limit: 1 << 20 };
    let server = Server::guarded(Protocol::H1, &case.handler, |layer| layer).await;
    let seen = messages(&exchange(server.addr, &case.pipelined()).await);
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].header("content-length"), seen[0].header("transfer-encoding")), (None, Some("chunked")));
    assert_eq!((seen[0].body.len(), seen[0].whole), (22, Some(false)));
}

/// hyper is built without its debug assertions here, and frames a body that
/// contradicts its head as it does in a release: it believes both.
#[tokio::test(start_paused = true)]
async fn hyper_frames_as_a_release_does() {
    let headers = vec![("content-length", "100".to_owned())];
    let body = Script { parts: vec![Part::Data(22)], size: Some(22), says_end: true };
    let handler = Handler { status: 200, headers, body };
    let case = Case { name: String::new(), handler, version: "HTTP/1.1", te: false, resumable: false, limit: 1 << 20 };
    let server = Server::plain(Protocol::H1, &case.handler).await;
    let seen = messages(&exchange(server.addr, &case.pipelined()).await);
    let text = String::from_utf8(seen[0].body.clone()).unwrap();
    assert!(seen[0].header("content-length") == Some("100") && text.contains("HTTP/1.1 200 OK"), "{seen:#?}");
}

fn post(te: bool) -> Request<Bytes> {
    let request = Request::post("http://test/").header("idempotency-key", "k").header("content-length", "2");
    let request = if te { request.header("te", "trailers") } else { request };
    request.body(Bytes::from_static(b"{}")).unwrap()
}

fn get_next() -> Request<Bytes> {
    Request::get("http://test/next").body(Bytes::new()).unwrap()
}

/// The request, and a second one on the same connection.
async fn both(server: &Server, te: bool) -> [Seen; 2] {
    let mut stream = Stream::connect(server.addr).await;
    [stream.exchange(post(te)).await, stream.exchange(get_next()).await]
}

#[tokio::test(start_paused = true)]
async fn over_http_2_a_client_sees_what_it_sees_without_the_layer() {
    let (mut framing, mut retries) = (Vec::new(), Vec::new());
    let cases = cases(&["HTTP/2"]);
    assert!(cases.len() > 500);
    for case in &cases {
        let plain = Server::plain(Protocol::H2, &case.handler).await;
        let guarded = Server::guarded(Protocol::H2, &case.handler, |layer| case.layer(layer)).await;
        let plain = both(&plain, case.te).await;
        let seen = both(&guarded, case.te).await.map(|seen| seen.without(UNAVAILABLE));
        framing.extend(differs(case, &seen, &plain));

        let [retry, _] = both(&guarded, case.te).await;
        let marks = (retry.header("idempotent-replayed"), retry.header(UNAVAILABLE));
        let expected = match case.unavailable() {
            _ if case.runs_again() => (None, None),
            None => (Some("true"), None),
            why => (None, why),
        };
        retries.extend(differs(case, &marks, &expected));
        if expected.0.is_some() && ![204, 304].contains(&case.handler.status) {
            let content = |seen: &Seen| (seen.body.clone(), seen.trailers.clone(), seen.reset);
            retries.extend(differs(case, &content(&retry), &content(&plain[0])));
        }
    }
    assert_none(&framing, cases.len());
    assert_none(&retries, cases.len());
}
