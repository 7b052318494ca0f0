//! Records as bytes: a small head and write-once parts, readable at 3 a.m.
//!
//! Every piece is one line that names the format and a checksum, one line of
//! JSON, and the raw bytes of the body or value:
//!
//! ```text
//! tower-idempotency/1 9f86d081884c7d65
//! {"status":201,"headers":[["content-type","application/json"]]}
//! {"payment_id":"p-17"}
//! ```
//!
//! A higher number is a newer format, anything else is corrupt: neither is
//! ever taken for "no record".

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::callback::Callback;
use super::history::{Kept, Moment, Past, What};
use super::key::Hex;
use super::record::{Fence, Hold, Mode, Point, Progress, Record, Step, Timestamp, Version};
use super::seal::{open, seal};
use super::{Fingerprint, KeyForm, NotRetained, StoredRequest, StoredResponse};

/// The format that is written, and the newest that is read.
pub const WIRE_FORMAT: u32 = 1;

/// Names one part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "a store must keep all of them")]
pub enum PartId {
    /// The stored request.
    Request,
    /// The stored response.
    Response,
    /// The n-th step.
    Step(u32),
}

/// A record as bytes: the head, and the parts that are new in this version.
///
/// `Debug` shows how much there is of it, and not what.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "taken apart by stores")]
pub struct Encoded {
    /// The head; small, and another one in every version.
    pub head: Bytes,
    /// The parts that were written in this version. Older parts stay as they
    /// are, and the head says which there are.
    pub fresh: Vec<(PartId, Bytes)>,
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fresh: Vec<_> = self.fresh.iter().map(|(id, bytes)| (id, bytes.len())).collect();
        f.debug_struct("Encoded").field("head_len", &self.head.len()).field("fresh_len", &fresh).finish()
    }
}

/// The times a store keeps beside a record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "these two are all there is")]
pub struct Times {
    /// When the record was first stored.
    pub created: Timestamp,
    /// When it was last stored.
    pub written: Timestamp,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are damaged, cut short, or something else.
    Corrupt(&'static str),
    /// They were written by a newer release, in this format.
    Newer(u32),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(what) => write!(f, "the stored record is damaged: {what}"),
            Self::Newer(format) => {
                write!(f, "the stored record has format {format}, this release reads up to {WIRE_FORMAT}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

const CORRUPT_HEAD: DecodeError = DecodeError::Corrupt("its head does not parse");
const CORRUPT_PART: DecodeError = DecodeError::Corrupt("one of its parts does not parse");
const MISSING_PART: DecodeError = DecodeError::Corrupt("one of its parts is missing");

#[derive(Serialize, Deserialize)]
struct WireHead {
    version: u64,
    mode: WireMode,
    fingerprint: String,
    hold: WireHold,
    progress: WireProgress,
    attempts: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    forgiven: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    retry_in_ms: u64,
    request: bool,
    steps: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<WireMoment>,
    #[serde(default, skip_serializing_if = "is_zero")]
    dropped: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    accepted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callback: Option<WireCallback>,
    /// The fingerprint's scheme, where it is not the first, and what it adds: at
    /// the end, for what is before has its short forms in a squeezed head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// Of what was dropped, how many steps were done.
    #[serde(default, skip_serializing_if = "is_zero")]
    dropped_done: u32,
    /// Of the fingerprint, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trailers: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WireCallback {
    Wanted,
    Owed { id: u64, tries: u32, rest_ms: u64 },
    Made { id: u64 },
    GivenUp { id: u64 },
}

/// Attempt, what, when, text, by whom.
#[derive(Serialize, Deserialize)]
struct WireMoment(u32, String, u64, Option<String>, Option<String>);

/// What most records do without is not written.
fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireMode {
    AtMostOnce,
    Resumable,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireHold {
    Leased { fence: u64, lease_ms: u64 },
    Free,
    Parked { why: String },
    Cleared,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireProgress {
    Pending,
    Paid,
    Complete { retention_ms: u64 },
}

#[derive(Serialize, Deserialize)]
struct WireRequest<'a> {
    method: String,
    uri: String,
    headers: Headers<'a>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trailers: Headers<'a>,
}

#[derive(Serialize, Deserialize)]
struct WireResponse<'a> {
    status: u16,
    headers: Headers<'a>,
    retained: bool,
    /// Why not, unless it was too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trailers: Headers<'a>,
}

type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

#[derive(Serialize, Deserialize)]
struct WireStep {
    name: String,
    point: WirePoint,
    attempt: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    after_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    uuid: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    paid: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WirePoint {
    Begun,
    Saved,
    Failed,
}

impl Record {
    /// The record as bytes, as a store is to keep it.
    ///
    /// The parts are those that the swap to this version has to write. A store
    /// that starts from nothing (`expected` is `None`) gets all of them. Parts
    /// that the former head names and this one does not are to be deleted: they
    /// must not come back with a later record.
    ///
    /// The times are not among the bytes: a store keeps [`Times`] beside them,
    /// and the time of creation stays unless [`is_first`](Self::is_first).
    pub fn encode(&self) -> Encoded {
        let head = WireHead {
            version: self.version.get(),
            mode: match self.mode {
                Mode::AtMostOnce => WireMode::AtMostOnce,
                Mode::Resumable => WireMode::Resumable,
            },
            fingerprint: Hex(self.fingerprint.as_bytes()).to_string(),
            hold: wire_hold(&self.hold),
            progress: match &self.progress {
                Progress::Pending => WireProgress::Pending,
                Progress::Paid => WireProgress::Paid,
                Progress::Complete { retention, .. } => WireProgress::Complete { retention_ms: millis(*retention) },
            },
            attempts: self.attempts,
            forgiven: self.forgiven,
            retry_in_ms: millis(self.retry_in),
            request: self.request.is_some(),
            steps: u32::try_from(self.steps.len()).unwrap_or(u32::MAX),
            by: self.by().map(str::to_owned),
            past: self.past.moments().iter().map(wire_moment).collect(),
            dropped: self.past.dropped(),
            accepted: self.accepted,
            callback: self.callback.as_deref().map(Callback::wire),
            scheme: Some(self.fingerprint.scheme()).filter(|scheme| *scheme > 1),
            authority: self.fingerprint.authority_hex(),
            content: self.fingerprint.content_hex(),
            dropped_done: self.past.dropped_done(),
            trailers: self.fingerprint.trailers_hex(),
        };
        Encoded { head: seal(&head, &[]), fresh: self.fresh_parts() }
    }

    fn fresh_parts(&self) -> Vec<(PartId, Bytes)> {
        let mut fresh = Vec::new();
        // The request comes with the first claim and never changes.
        if let Some(request) = self.request.as_ref().filter(|_| self.is_first()) {
            fresh.push((PartId::Request, encode_request(request)));
        }
        if let Some(response) = self.response() {
            fresh.push((PartId::Response, encode_response(response)));
        }
        for (index, step) in (0..).zip(&self.steps) {
            if step.written == self.version {
                fresh.push((PartId::Step(index), encode_step(step)));
            }
        }
        fresh
    }

    /// The parts that a head refers to, in the order [`Record::decode`] asks
    /// for them.
    ///
    /// # Errors
    ///
    /// As [`Record::decode`].
    pub fn parts_of(head: &[u8]) -> Result<Vec<PartId>, DecodeError> {
        let (head, _) = open::<WireHead>(head, &CORRUPT_HEAD)?;
        Ok(part_ids(&head))
    }

    /// A record from its bytes.
    ///
    /// `part` is asked for each part the head refers to.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if anything is damaged, missing or newer. The record is
    /// then to be kept as it is and reported, and never to be overwritten.
    pub fn decode(
        times: Times,
        head: &[u8],
        mut part: impl FnMut(PartId) -> Option<Bytes>,
    ) -> Result<Self, DecodeError> {
        let (head, _) = open::<WireHead>(head, &CORRUPT_HEAD)?;
        let (mut request, mut response, mut steps) = (None, None, Vec::new());
        for id in part_ids(&head) {
            let bytes = part(id).ok_or(MISSING_PART)?;
            match id {
                PartId::Request => request = Some(Arc::new(decode_request(&bytes)?)),
                PartId::Response => response = Some(Arc::new(decode_response(&bytes)?)),
                PartId::Step(_) => steps.push(Arc::new(decode_step(&bytes)?)),
            }
        }
        Ok(Self {
            version: Version::new(head.version),
            mode: match head.mode {
                WireMode::AtMostOnce => Mode::AtMostOnce,
                WireMode::Resumable => Mode::Resumable,
            },
            fingerprint: Fingerprint::read(
                &head.fingerprint,
                head.scheme,
                head.authority.as_deref(),
                head.content.as_deref(),
                head.trailers.as_deref(),
            )
            .ok_or(CORRUPT_HEAD)?,
            hold: parse_hold(head.hold),
            progress: match (head.progress, response) {
                (WireProgress::Complete { retention_ms }, Some(response)) => {
                    Progress::Complete { response, retention: Duration::from_millis(retention_ms) }
                }
                (WireProgress::Complete { .. }, None) => return Err(MISSING_PART),
                (WireProgress::Paid, _) => Progress::Paid,
                (WireProgress::Pending, _) => Progress::Pending,
            },
            attempts: head.attempts,
            forgiven: head.forgiven,
            retry_in: Duration::from_millis(head.retry_in_ms),
            past: Past::new(Kept {
                by: head.by.map(Arc::from),
                moments: head.past.into_iter().map(parse_moment).collect::<Option<_>>().ok_or(CORRUPT_HEAD)?,
                dropped: head.dropped,
                dropped_done: head.dropped_done,
            }),
            accepted: head.accepted,
            callback: head.callback.map(|callback| Box::new(callback.into())),
            request,
            steps,
            created_at: Some(times.created),
            written_at: times.written,
        })
    }
}

fn part_ids(head: &WireHead) -> Vec<PartId> {
    let request = head.request.then_some(PartId::Request);
    let response = matches!(head.progress, WireProgress::Complete { .. }).then_some(PartId::Response);
    request.into_iter().chain(response).chain((0..head.steps).map(PartId::Step)).collect()
}

fn wire_moment(moment: &Moment) -> WireMoment {
    let owned = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let what = moment.what.name().to_owned();
    WireMoment(moment.attempt, what, moment.at.as_millis(), owned(&moment.text), owned(&moment.by))
}

fn parse_moment(WireMoment(attempt, what, at, text, by): WireMoment) -> Option<Moment> {
    let (text, by) = (text.map(Arc::from), by.map(Arc::from));
    Some(Moment { attempt, what: What::named(&what)?, text, by, at: Timestamp::from_millis(at) })
}

fn wire_hold(hold: &Hold) -> WireHold {
    match hold {
        Hold::Leased { fence, lease } => WireHold::Leased { fence: fence.version().get(), lease_ms: millis(*lease) },
        Hold::Free => WireHold::Free,
        Hold::Parked { why } => WireHold::Parked { why: why.to_string() },
        Hold::Cleared => WireHold::Cleared,
    }
}

fn parse_hold(hold: WireHold) -> Hold {
    match hold {
        WireHold::Leased { fence, lease_ms } => {
            Hold::Leased { fence: Fence::of(Version::new(fence)), lease: Duration::from_millis(lease_ms) }
        }
        WireHold::Free => Hold::Free,
        WireHold::Parked { why } => Hold::Parked { why: why.into() },
        WireHold::Cleared => Hold::Cleared,
    }
}

fn encode_request(request: &StoredRequest) -> Bytes {
    let wire = WireRequest {
        method: request.method().to_string(),
        uri: request.uri().to_string(),
        headers: wire_headers(request.headers()),
        trailers: wire_headers(request.trailers()),
    };
    seal(&wire, request.body())
}

fn decode_request(bytes: &Bytes) -> Result<StoredRequest, DecodeError> {
    let (wire, body) = open::<WireRequest<'_>>(bytes, &CORRUPT_PART)?;
    let method = Method::from_bytes(wire.method.as_bytes()).map_err(|_| CORRUPT_PART)?;
    let uri: Uri = wire.uri.parse().map_err(|_| CORRUPT_PART)?;
    let (headers, trailers) = (parse_headers(&wire.headers)?, parse_headers(&wire.trailers)?);
    Ok(StoredRequest::from_parts(method, uri, headers, bytes.slice_ref(body), trailers))
}

fn encode_response(response: &StoredResponse) -> Bytes {
    let wire = WireResponse {
        status: response.status().as_u16(),
        headers: wire_headers(response.headers()),
        retained: response.body().is_some(),
        reason: response.not_retained().filter(|why| *why != NotRetained::default()).map(|why| why.name().into()),
        trailers: wire_headers(response.trailers()),
    };
    seal(&wire, response.body().map_or(&[], |body| body))
}

fn decode_response(bytes: &Bytes) -> Result<StoredResponse, DecodeError> {
    let (wire, body) = open::<WireResponse<'_>>(bytes, &CORRUPT_PART)?;
    let status = StatusCode::from_u16(wire.status).map_err(|_| CORRUPT_PART)?;
    let (headers, trailers) = (parse_headers(&wire.headers)?, parse_headers(&wire.trailers)?);
    let body = if wire.retained { Ok(bytes.slice_ref(body)) } else { Err(NotRetained::named(wire.reason.as_deref())) };
    Ok(StoredResponse::from_parts(status, headers, body, trailers))
}

impl StoredResponse {
    /// As a part of a record has it, for what keeps an answer elsewhere.
    pub(crate) fn to_bytes(&self) -> Bytes {
        encode_response(self)
    }

    pub(crate) fn from_bytes(bytes: &Bytes) -> Option<Self> {
        decode_response(bytes).ok()
    }
}

fn encode_step(step: &Step) -> Bytes {
    let (point, value): (_, &[u8]) = match &step.point {
        Point::Begun => (WirePoint::Begun, &[]),
        Point::Saved(value) => (WirePoint::Saved, value),
        Point::Failed(error) => (WirePoint::Failed, error),
    };
    let wire = WireStep {
        name: step.name.to_string(),
        point,
        attempt: step.attempt,
        after_ms: millis(step.after),
        input: step.input,
        uuid: step.key == KeyForm::Uuid,
        paid: step.paid,
    };
    seal(&wire, value)
}

fn decode_step(bytes: &Bytes) -> Result<Step, DecodeError> {
    let (wire, value) = open::<WireStep>(bytes, &CORRUPT_PART)?;
    let value = bytes.slice_ref(value);
    let point = match wire.point {
        WirePoint::Begun => Point::Begun,
        WirePoint::Saved => Point::Saved(value),
        WirePoint::Failed => Point::Failed(value),
    };
    let after = Duration::from_millis(wire.after_ms);
    let WireStep { name, attempt, input, paid, uuid, .. } = wire;
    let key = if uuid { KeyForm::Uuid } else { KeyForm::Hex };
    Ok(Step { name: name.into(), point, written: Version::new(0), attempt, after, input, key, paid })
}

/// Header values need not be UTF-8, JSON must be: one character per byte.
fn wire_headers(headers: &[(HeaderName, HeaderValue)]) -> Headers<'_> {
    let text = |value: &'_ HeaderValue| value.as_bytes().iter().map(|&byte| char::from(byte)).collect();
    let text = |value| HeaderValue::to_str(value).map_or_else(|_| Cow::Owned(text(value)), Cow::Borrowed);
    headers.iter().map(|(name, value)| (name.as_str().into(), text(value))).collect()
}

fn parse_headers(headers: &Headers<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, DecodeError> {
    headers.iter().map(|(name, value)| parse_header(name, value).ok_or(CORRUPT_PART)).collect()
}

fn parse_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    if value.is_ascii() {
        return Some((name, value.parse().ok()?));
    }
    let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
    Some((name, HeaderValue::from_bytes(&bytes?).ok()?))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
