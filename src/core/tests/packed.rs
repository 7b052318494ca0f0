//! A record is the same once it was packed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::core::record::NEVER;
use crate::core::{
    Change, Claim, Command, Fence, Fenced, Fingerprint, Hold, Labels, Mode, Next, NotRetained, Packed, Point, Reached,
    Record, Stamp, StoredResponse, Timestamp, Version,
};

fn packed(record: &Record) -> Option<Packed> {
    Packed::of(record, record.created_at(), record.written_at())
}

fn headers(lines: &[(&'static str, &'static [u8])]) -> HeaderMap {
    let value = |value| HeaderValue::from_bytes(value).unwrap();
    lines.iter().map(|(name, bytes)| (name.parse().unwrap(), value(bytes))).collect()
}

fn after(on: Option<&Record>, command: &impl Command, at: u64) -> Record {
    let stamp = Stamp::new(Timestamp::from_millis(at), Version::new(at));
    let Next::Put(next) = command.apply(on, stamp).next else { panic!("it writes") };
    next.stamped_over(on.and_then(Record::created_at), stamp.now)
}

fn claimed(fingerprint: Fingerprint, mode: Mode, labels: Labels) -> Record {
    let lease = Duration::new(30, 7);
    after(None, &Claim { fingerprint, mode, lease, request: None, labels }, 1_000)
}

fn completed(claimed: &Record, response: StoredResponse, retention: Duration) -> Record {
    let Hold::Leased { fence, .. } = *claimed.hold() else { panic!("it is claimed") };
    let response = Arc::new(response);
    let changes = vec![Change::Complete { response, retention, reached: Reached::All }];
    after(Some(claimed), &Fenced { fence, changes }, 2_345)
}

fn response() -> StoredResponse {
    let headers = headers(&[("content-type", b"text/plain"), ("x-own", b"\xff\xfe"), ("x-own", b""), ("x-last", b"1")]);
    StoredResponse::capture(StatusCode::CREATED, &headers, Some(Bytes::from_static(b"charge 1")))
}

/// With a name that `HeaderName::from_bytes` does not take, as h2 reads it from the wire.
fn of_http_2() -> StoredResponse {
    let mut headers = headers(&[("content-type", b"text/plain"), ("x-last", b"1")]);
    headers.insert(HeaderName::from_lowercase(b"a\"").unwrap(), HeaderValue::from_bytes(&[b'a'; 9004]).unwrap());
    StoredResponse::capture(StatusCode::OK, &headers, Some(Bytes::from_static(b"paid")))
}

fn plain() -> Fingerprint {
    Fingerprint::of([b"POST".as_slice()])
}

#[test]
fn it_comes_back_as_it_was() {
    let call = plain();
    let fingerprints = [call.clone(), call.clone().scheme_2(None, []), call.scheme_2(Some(b"a"), [b"b".as_slice()])];
    // Values that have a number, and one that is as long.
    let mut sensitive =
        headers(&[("content-type", b"application/json"), ("x-hidden", b"no-store"), ("x-shown", b"no-stare")]);
    sensitive.get_mut("x-hidden").unwrap().set_sensitive(true);
    let mut trailers = headers(&[("x-sum", b"17"), ("server", b"x")]);
    trailers.get_mut("x-sum").unwrap().set_sensitive(true);
    let responses = [
        response(),
        StoredResponse::capture(StatusCode::NO_CONTENT, &HeaderMap::new(), Some(Bytes::new())),
        StoredResponse::capture(StatusCode::OK, &sensitive, None),
        StoredResponse::capture_head(StatusCode::OK, &sensitive, NotRetained::Streamed),
        // Nothing is behind the last numbers.
        StoredResponse::capture_head(StatusCode::OK, &HeaderMap::new(), NotRetained::Streamed),
        StoredResponse::capture_with_trailers(StatusCode::OK, &sensitive, Bytes::from_static(b"x"), &trailers),
        StoredResponse::capture(StatusCode::OK, &sensitive, Some(vec![b'a'; 15 << 10].into())),
        of_http_2(),
    ];
    let retentions = [Duration::ZERO, Duration::new(86_400, 999_999_999), NEVER];
    for (at, response) in responses.iter().enumerate() {
        for fingerprint in &fingerprints {
            for mode in [Mode::AtMostOnce, Mode::Resumable] {
                let claimed = claimed(fingerprint.clone(), mode, Labels::new());
                let record = completed(&claimed, response.clone(), retentions[at % 3]);
                let packed = packed(&record).unwrap();
                let back = packed.record();
                assert_eq!((packed.version(), &back), (record.version(), &record));
                assert_eq!((back.due(), back.history()), (record.due(), record.history()));
                assert_eq!(packed.due(), (record.due(), record.is_kept_for_good()));
                assert_eq!(Some(packed.created_at()), record.created_at());
                let is_sensitive = |record: &Record| -> Vec<_> {
                    let response = record.response().unwrap();
                    let lines = response.headers().iter().chain(response.trailers());
                    lines.map(|(_, value)| value.is_sensitive()).collect()
                };
                assert_eq!(is_sensitive(&back), is_sensitive(&record));
            }
        }
    }
}

/// And the clock may have gone back since it was created.
#[test]
fn the_largest_numbers_come_back() {
    let (largest, longest) = (Version::new(u64::MAX), Duration::new(u64::MAX, 999_999_999));
    let fingerprint = plain().scheme_2(Some(b"a"), [b"b".as_slice()]);
    let mut record = completed(&claimed(fingerprint, Mode::Resumable, Labels::new()), response(), longest);
    (record.version, record.retry_in_ms) = (largest, u64::MAX);
    (record.attempts, record.attempts_before_reset) = (u32::MAX, u32::MAX);
    record.hold = Hold::Leased { fence: Fence::of(largest), lease: longest };
    record.created_at = Some(Timestamp::from_millis(u64::MAX));
    record.written_at = Timestamp::from_millis(1);
    let back = packed(&record).unwrap().record();
    assert_eq!((&back, back.created_at(), back.written_at()), (&record, record.created_at(), record.written_at()));
}

#[test]
fn one_that_has_more_than_most_have_is_not_packed() {
    let simple = claimed(plain(), Mode::Resumable, Labels::new());
    assert!(packed(&simple).is_none(), "it is not complete");
    let labelled = claimed(plain(), Mode::Resumable, Labels::new().with("order", 17));
    let ruled = claimed(plain().with_rules(1, [b"sum".as_slice()]), Mode::Resumable, Labels::new());
    let changes = vec![Change::Save { step: "charge".into(), value: Bytes::from_static(b"1") }];
    let step = after(Some(&simple), &Fenced { fence: Fence::of(simple.version()), changes }, 1_500);
    assert!(matches!(step.steps()[0].point, Point::Saved(_)));
    for claimed in [labelled, ruled] {
        assert!(packed(&completed(&claimed, response(), Duration::from_secs(60))).is_none());
    }
    // What its history has of a step.
    assert!(packed(&completed(&step, response(), Duration::from_secs(60))).is_none());
    let large = || vec![b'a'; (16 << 10) + 1];
    let body = StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some(large().into()));
    let mut lines = HeaderMap::new();
    lines.insert("x-large", HeaderValue::from_bytes(&large()).unwrap());
    let header = StoredResponse::capture(StatusCode::OK, &lines, None);
    for response in [body, header] {
        assert!(packed(&completed(&simple, response, Duration::from_secs(60))).is_none());
    }
}
