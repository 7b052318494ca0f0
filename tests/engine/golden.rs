//! Records of every released format still load.
//!
//! `tests/golden/v2` has one file for each head and each part of a handful of
//! records, as format 2 writes them. `GOLDEN_REGENERATE=1` writes the files
//! anew; a change to one is a change to the format. Format 1 was not released, and
//! `v1` has what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use tower_idempotency::core::{
    Change, Claim, Command, DecodeError, Fence, Fenced, Fingerprint, Label, Labels, Mode, Next, NotRetained, PartId,
    Reached, Record, Resolution, Resolve, Stamp, StoredRequest, StoredResponse, Submit, Times, Timestamp, Version,
};
use tower_idempotency::store::KeptRecord;
use tower_idempotency::store::conformance::assert_same;

const TIMES: Times = Times { created: Timestamp::from_millis(5), written: Timestamp::from_millis(7) };

fn folder(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format)
}

/// The pieces of a record by the name of their file.
pub(crate) type Pieces = BTreeMap<String, Bytes>;

pub(crate) fn file_name(record: &str, part: Option<PartId>) -> String {
    match part {
        None => format!("{record}.head"),
        Some(PartId::Request) => format!("{record}.request"),
        Some(PartId::Response) => format!("{record}.response"),
        Some(PartId::Step(n)) => format!("{record}.step-{n}"),
    }
}

fn claim_of(mode: Mode) -> Claim {
    let fingerprint = Fingerprint::of([b"POST".as_slice(), b"/payments"]);
    Claim { fingerprint, mode, lease: Duration::from_millis(30_500), request: None, labels: Labels::new() }
}

/// One record in the making, and what a store has of it.
struct Writer {
    name: &'static str,
    record: Option<Record>,
    nonce: u64,
    /// Who writes, and wants to be called.
    by: Option<&'static str>,
    pieces: Pieces,
}

impl Writer {
    fn new(name: &'static str) -> Self {
        Self { name, record: None, nonce: 0xfeed_0000_0000_0000, by: None, pieces: Pieces::new() }
    }

    fn by(mut self, instance: &'static str) -> Self {
        self.by = Some(instance);
        self
    }

    fn write(mut self, command: &impl Command) -> Self {
        self.nonce += 1;
        let now = Timestamp::from_millis(7 + 60_000 * (self.nonce & 0xff));
        let called = self.by.is_some();
        let stamp = Stamp { by: self.by, callback: called, ..Stamp::new(now, Version::new(self.nonce)) };
        let Next::Put(next) = command.apply(self.record.as_ref(), stamp).next else { panic!("{}", self.name) };
        let encoded = next.encode();
        self.pieces.insert(file_name(self.name, None), encoded.head);
        let fresh = encoded.fresh.into_iter().map(|(id, bytes)| (file_name(self.name, Some(id)), bytes));
        self.pieces.extend(fresh);
        self.record = Some(next.stamped(TIMES.written));
        self
    }

    fn claim(self, mode: Mode, request: Option<StoredRequest>) -> Self {
        self.write(&Claim { request: request.map(Arc::new), ..claim_of(mode) })
    }

    fn change(self, changes: Vec<Change>) -> Self {
        let fence = Fence::of(Version::new(0xfeed_0000_0000_0001));
        self.write(&Fenced { fence, changes })
    }

    /// The record, and the pieces of which it is made.
    fn finish(mut self) -> (&'static str, Record, Pieces) {
        let record = self.record.unwrap();
        let ids = Record::parts_of(&self.pieces[&file_name(self.name, None)]).unwrap();
        let mut names: Vec<_> = ids.map(|id| file_name(self.name, Some(id))).collect();
        names.push(file_name(self.name, None));
        self.pieces.retain(|name, _| names.contains(name));
        (self.name, record, self.pieces)
    }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("application/json"));
    headers.append("link", HeaderValue::from_static("<b>; rel=\"next\""));
    headers.append("link", HeaderValue::from_static("<a>; rel=prev"));
    headers.append("x-latin-1", HeaderValue::from_bytes(b"caf\xe9 \x80\xff").unwrap());
    headers
}

fn request() -> StoredRequest {
    let uri = Uri::from_static("/payments?dry=%20&x");
    StoredRequest::capture(&Method::PATCH, &uri, &headers(), Bytes::from_static(b"{\"amount\":1}\n"))
}

fn answer(status: StatusCode, body: Option<&'static [u8]>) -> Change {
    complete(StoredResponse::capture(status, &headers(), body.map(Bytes::from_static)))
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.append("grpc-status", HeaderValue::from_static("0"));
    trailers.append("x-sum", HeaderValue::from_bytes(b"\"caf\xe9\"").unwrap());
    trailers.append("x-sum", HeaderValue::from_static("2"));
    trailers
}

fn with_trailer_field() -> HeaderMap {
    let mut headers = headers();
    headers.append("trailer", HeaderValue::from_static("x-sum"));
    headers
}

fn request_with_trailers() -> StoredRequest {
    let (uri, body) = (Uri::from_static("/payments"), Bytes::from_static(b"{}"));
    StoredRequest::capture_with_trailers(&Method::POST, &uri, &with_trailer_field(), body, &trailers())
}

fn complete(response: StoredResponse) -> Change {
    Change::Complete {
        response: Arc::new(response),
        retention: Duration::from_millis(86_400_001),
        reached: Reached::All,
    }
}

/// Every name and every value that the format has a number for.
fn usual_lines() -> StoredResponse {
    let names = [
        "content-type",
        "location",
        "etag",
        "cache-control",
        "vary",
        "content-language",
        "content-encoding",
        "content-location",
        "content-disposition",
        "last-modified",
        "expires",
        "link",
        "retry-after",
        "server",
        "x-content-type-options",
        "strict-transport-security",
        "access-control-allow-origin",
        "accept",
        "accept-encoding",
        "accept-language",
        "user-agent",
        "host",
        "origin",
        "referer",
    ];
    let values = [
        "application/json",
        "application/json; charset=utf-8",
        "text/plain; charset=utf-8",
        "text/html; charset=utf-8",
        "application/octet-stream",
        "application/grpc",
        "no-store",
        "*/*",
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in names.into_iter().zip(values.into_iter().cycle()) {
        headers.append(name, HeaderValue::from_static(value));
    }
    StoredResponse::capture(StatusCode::OK, &headers, Some(Bytes::new()))
}

fn lost(why: NotRetained) -> Change {
    complete(StoredResponse::capture_head(StatusCode::OK, &headers(), why))
}

fn begin(step: &str) -> Change {
    Change::Begin { step: step.into() }
}

fn save(step: &str, value: &'static [u8]) -> Change {
    Change::Save { step: step.into(), value: Bytes::from_static(value) }
}

fn undo(steps: &[&str]) -> Change {
    let answer = StoredResponse::capture(StatusCode::CONFLICT, &headers(), Some(Bytes::from_static(b"sold out")));
    Change::Undo { steps: steps.iter().map(|step| Box::from(*step)).collect(), response: Arc::new(answer) }
}

pub(crate) fn records() -> Vec<(&'static str, Record, Pieces)> {
    let fail = Change::Fail { step: "\u{1f9fe} \"\\\n\u{0}".into(), error: Bytes::from_static(b"declined") };
    let steps = vec![save("order", b"{\"id\":17}"), begin("charge"), save("", b""), fail];
    let (once, resumable) = (Mode::AtMostOnce, Mode::Resumable);
    let cleared = Resolve { resolution: Resolution::DidNotHappen { step: "charge".into() }, seen: None, why: None };
    [
        Writer::new("claimed").claim(resumable, Some(request())),
        Writer::new("bare").claim(once, None),
        Writer::new("steps").claim(resumable, Some(request())).change(steps.clone()),
        Writer::new("paid").claim(resumable, None).change(steps.clone()).change(vec![save("charge", b"\x00\xff\n")]),
        Writer::new("paid-step")
            .claim(resumable, None)
            .change(vec![begin("charge")])
            .change(vec![save("charge", b"1")]),
        Writer::new("free").claim(resumable, None).change(vec![save("order", b"null"), Change::Release]),
        Writer::new("parked").claim(once, None).change(vec![Change::Park { why: "why\n\"\u{e9}\"".into() }]),
        Writer::new("cleared").claim(resumable, None).change(steps).change(vec![Change::Release]).write(&cleared),
        Writer::new("complete")
            .claim(once, Some(request()))
            .change(vec![answer(StatusCode::CREATED, Some(b"{\"id\":17}\n"))]),
        Writer::new("empty").claim(once, None).change(vec![answer(StatusCode::NO_CONTENT, Some(b""))]),
        Writer::new("inputs").claim(resumable, None).change(vec![
            save("order", b"17"),
            Change::Input { step: "order".into(), hash: u64::MAX },
            begin("charge"),
            Change::Input { step: "charge".into(), hash: 1 },
        ]),
        Writer::new("authority").write(&Claim {
            fingerprint: Fingerprint::of([b"POST".as_slice(), b"/payments"]).scheme_2(Some(b"shop.example"), []),
            ..claim_of(once)
        }),
        Writer::new("content")
            .write(&Claim {
                fingerprint: Fingerprint::of([]).scheme_2(None, [b"text/plain".as_slice(), b"\0", b"gzip"]),
                ..claim_of(once)
            })
            .change(vec![answer(StatusCode::OK, Some(b"{}"))]),
        Writer::new("request-that-trails").write(&Claim {
            fingerprint: Fingerprint::of([b"POST".as_slice()])
                .scheme_2(None, [])
                .with_trailers([(b"x-sum".as_slice(), b"1".as_slice()), (b"x-to", b"caf\xe9")]),
            ..claim_of(once)
        }),
        Writer::new("rules").write(&Claim {
            fingerprint: Fingerprint::of([b"POST".as_slice()]).with_rules(0x1020_3040, [b"{}".as_slice()]),
            ..claim_of(once)
        }),
        Writer::new("rules-of-the-default").write(&Claim {
            fingerprint: Fingerprint::of([b"POST".as_slice()]).with_rules(0, [b"multipart".as_slice()]),
            ..claim_of(once)
        }),
        // A plan of what is undone is the part behind the steps.
        Writer::new("undoing")
            .claim(resumable, Some(request()))
            .change(vec![save("flight", b"17"), begin("hotel")])
            .change(vec![save("hotel", b"18"), undo(&["flight", "hotel"])]),
        Writer::new("undone")
            .claim(resumable, None)
            .change(vec![begin("taxi"), save("flight", b"17"), save("hotel", b"18"), undo(&["flight", "hotel"])])
            .change(vec![Change::Clear { step: "taxi".into() }, Change::Undone { step: "hotel".into() }]),
        Writer::new("all-undone")
            .claim(resumable, Some(request()))
            .change(vec![save("flight", b"17"), undo(&["flight"])])
            .change(vec![Change::Undone { step: "flight".into() }, answer(StatusCode::OK, Some(b"another"))]),
        // More than a history keeps.
        Writer::new("many-steps").claim(resumable, None).change(
            (0..40).map(|n| save(&format!("step-{n}"), b"17")).chain([answer(StatusCode::OK, Some(b"{}"))]).collect(),
        ),
        Writer::new("not-retained").claim(once, None).change(vec![answer(StatusCode::OK, None)]),
        Writer::new("incomplete").claim(once, None).change(vec![lost(NotRetained::Incomplete)]),
        Writer::new("streamed").claim(once, None).change(vec![lost(NotRetained::Streamed)]),
        Writer::new("request-trailers").claim(resumable, Some(request_with_trailers())),
        Writer::new("trailers").claim(once, None).change(vec![complete(StoredResponse::capture_with_trailers(
            StatusCode::OK,
            &with_trailer_field(),
            Bytes::from_static(b"\0\0\0\0\0"),
            &trailers(),
        ))]),
        Writer::new("called").by("pod-7").claim(once, None),
        Writer::new("owed").by("pod-7").claim(once, None).change(vec![answer(StatusCode::OK, Some(b"{}"))]),
        // As the layer makes it of a request: method, path, query, type, body.
        Writer::new("over-http")
            .write(&Claim {
                fingerprint: Fingerprint::of([b"POST".as_slice(), b"/pay", b"", b"", b"{\"amount\":100}"])
                    .scheme_2(Some(b""), []),
                ..claim_of(once)
            })
            .change(vec![answer(StatusCode::CREATED, Some(b"{\"id\":17}\n"))]),
        Writer::new("principal").claim(resumable, Some(request().with_principal(*b"{\"id\":17}"))),
        Writer::new("labels")
            .write(&Claim { labels: Labels::new().with("route", "/payments"), ..claim_of(once) })
            .change(vec![
                Change::Label { label: Label::new("order", "caf\u{e9}") },
                answer(StatusCode::OK, Some(b"{}")),
            ]),
        Writer::new("reason")
            .by("pod-7")
            .claim(resumable, None)
            .change(vec![Change::Reason { why: "status 503; step charge: no".into() }, Change::Release]),
        Writer::new("reasons")
            .claim(resumable, None)
            .change(vec![Change::Reason { why: "status 502".into() }, Change::Release])
            .claim(resumable, None),
        Writer::new("outgoing").write(&Submit {
            fingerprint: Fingerprint::of([b"outbox".as_slice()]),
            mode: resumable,
            request: Arc::new(request()),
            labels: Labels::new().with("outbox", "mail"),
            room: true,
            lease: None,
            outgoing: true,
        }),
        Writer::new("usual-lines").claim(once, None).change(vec![complete(usual_lines())]),
    ]
    .map(Writer::finish)
    .into()
}

pub(crate) fn golden(name: &str) -> Bytes {
    let path = folder("v2").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

#[test]
fn golden_records_load_as_what_they_are() {
    for (name, expected, _) in records() {
        let part = |id| Some(golden(&file_name(name, Some(id))));
        let found = Record::decode(TIMES, &golden(&file_name(name, None)), part).unwrap();
        assert_same(Some(&found), Some(&expected));
        assert_eq!((found.created_at(), found.written_at()), (Some(TIMES.created), TIMES.written), "{name}");
        // And it is written again as it was read.
        let encoded = found.encode();
        assert_eq!(encoded.head, golden(&file_name(name, None)), "{name}");
        for (id, bytes) in encoded.fresh {
            assert_eq!(bytes, golden(&file_name(name, Some(id))), "{name} {id:?}");
        }
    }
}

/// It was JSON, and no release wrote it.
#[test]
fn format_1_is_refused() {
    let mut refused = 0;
    for file in fs::read_dir(folder("v1")).unwrap() {
        let bytes: Bytes = fs::read(file.unwrap().path()).unwrap().into();
        let error = DecodeError::Unreleased(1);
        assert_eq!(Record::parts_of(&bytes).err(), Some(error.clone()));
        assert_eq!(Record::decode(TIMES, &bytes, |_| None), Err(error.clone()));
        // And as a part.
        let head = golden("complete.head");
        assert_eq!(Record::decode(TIMES, &head, |_| Some(bytes.clone())), Err(error));
        refused += 1;
    }
    assert!(refused >= 4, "{refused} files");
}

#[test]
fn records_are_written_as_they_always_were() {
    let mut expected: Vec<String> = Vec::new();
    for (_, _, pieces) in records() {
        for (name, bytes) in pieces {
            if env::var_os("GOLDEN_REGENERATE").is_some() {
                fs::create_dir_all(folder("v2")).unwrap();
                fs::write(folder("v2").join(&name), &bytes).unwrap();
            }
            assert_eq!(bytes, golden(&name), "{name}");
            expected.push(name);
        }
    }
    let there = fs::read_dir(folder("v2")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut there: Vec<_> = there.collect();
    there.sort();
    expected.sort();
    assert_eq!(there, expected, "a file that nothing reads, or none where one is read");
}
