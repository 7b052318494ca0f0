//! Tells a caller how far its operations are.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use percent_encoding::percent_decode_str;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};
use tower_service::Service;

use crate::core::{
    Acknowledge, HistoryEntry, HistoryEvent, Hold, IdempotencyKey, Intake, Key, NotAcknowledged, Record, Reference,
    Rest, Status, StoredResponse, Timestamp, Work, quoted,
};
use crate::http::background::Background;
use crate::http::body::ResponseBody;
use crate::http::guarded::Shared;
use crate::http::guarded::respond::unavailable;
use crate::http::layer::IdempotencyLayer;
use crate::http::problem::{acknowledged, not_modified, status};
use crate::http::route::Route;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;

type StatusResponse = Response<ResponseBody<String>>;

/// A status resource: how far a caller's operations are, by their idempotency
/// key, as JSON.
///
/// The key is the last segment of the path, percent-encoded, or the
/// `Idempotency-Key` header if there is one. Where keys count
/// [per route](crate::Scope::per_route), the query names method and route, as the
/// `Location` of the 202 does. `GET` and `HEAD` show the
/// operation; `DELETE` acknowledges its response, see [`grace`](Self::grace).
///
/// ```
/// use axum::{Router, body::Body, http::Request, routing::{any_service, post}};
/// use tower_idempotency::{Background, IdempotencyLayer, Scope, StatusService, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::header("x-user".parse()?))
///     .resumable()
///     .background(Background::at("/operations"));
/// let app: Router = Router::new()
///     .route("/orders", post(|| async { "ordered" }))
///     .layer(layer.clone())
///     // Beside the guarded routes, and inside authentication as they are.
///     .route("/operations/{key}", any_service(StatusService::new(&layer)));
/// // let app = app.layer(authentication);
///
/// # use tower::ServiceExt;
/// let request = Request::get("/operations/order-17").header("x-user", "ann").body(Body::empty())?;
/// assert_eq!(app.oneshot(request).await?.status(), 404);
/// # Ok(()) }
/// ```
///
/// The guide has [the fields](crate::guide::background).
///
/// # Caveats
///
/// - It must see what the layer's [`Scope`](crate::Scope) looks at, so put it behind
///   the same authentication as the guarded routes. An operation
///   of another caller gets a 404, like one that never existed.
/// - It shows a JSON result as it is, byte for byte: a caller that parses
///   the document reads its numbers as it reads any others.
/// - It shows the reason why an operation is parked as the handler or operator wrote it.
#[derive(Clone)]
#[must_use]
pub struct StatusService {
    shared: Arc<Shared>,
    grace: Duration,
}

impl StatusService {
    /// For the operations of this layer.
    pub fn new(layer: &IdempotencyLayer) -> Self {
        Self { shared: Arc::clone(layer.shared()), grace: Duration::from_secs(10 * 60) }
    }

    /// How long a response stays after its client acknowledged it, for duplicates that
    /// are still on their way: 10 minutes by default. A duplicate after that
    /// runs anew.
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    async fn serve(self, parts: Parts) -> StatusResponse {
        if let Some(rest) = self.rest(&parts).await {
            self.shared.engine.emit_unkeyed(|| EventKind::Refused { refusal: Refusal::Maintenance });
            return self.leave(&parts, self.shared.policy.problems.maintenance(&rest.notice, self.reference(&parts)));
        }
        let served = match parts.method {
            Method::GET => self.show(&parts, true).await,
            Method::HEAD => self.show(&parts, false).await,
            Method::DELETE => self.acknowledge(&parts).await,
            _ => Err(Refusal::MethodNotAllowed),
        };
        served.unwrap_or_else(|refusal| {
            let policy = &self.shared.policy;
            self.shared.engine.emit_unkeyed(|| EventKind::Refused { refusal });
            let reference = self.reference(&parts).filter(|_| refusal.status().is_server_error());
            self.leave(&parts, policy.problems.refuse_for(refusal, Duration::ZERO, reference))
        })
    }

    /// The problem, as the layer words it.
    fn leave(&self, parts: &Parts, problem: StatusResponse) -> StatusResponse {
        let policy = &self.shared.policy;
        let key = policy.coverage.key_of(&parts.headers).and_then(Result::ok);
        match policy.exit_of(key.as_ref(), parts) {
            None => problem,
            Some(exit) => exit.leave(problem),
        }
    }

    /// The maintenance window for which it rests. Which path an operation has is on record, so
    /// that a window for a path does not stop it.
    async fn rest(&self, parts: &Parts) -> Option<Rest> {
        let engine = &self.shared.engine;
        if !engine.may_rest() {
            return None;
        }
        let scope = self.shared.scope_of(parts).ok()?;
        let rest = engine.rest_of(Work::Operation { route: None, scope: Some(&scope) }).await?;
        (rest.intake == Intake::Closed).then_some(rest)
    }

    fn key(&self, parts: &Parts) -> Result<Key, Refusal> {
        let key = match self.shared.policy.coverage.key_of(&parts.headers) {
            Some(key) => key.map_err(Refusal::InvalidKey)?,
            None => self.shared.policy.coverage.folded(in_path(parts.uri.path()).ok_or(Refusal::NoSuchOperation)?),
        };
        let scope = self.shared.scope_of(parts)?;
        if !self.shared.policy.scope.is_per_route() {
            return Ok(Key::new(&scope, &key));
        }
        let route = Route::in_query(parts.uri.query()).ok_or(Refusal::NoSuchOperation)?;
        Ok(route.key(&scope, &key))
    }

    /// The operation that is asked for, of which no attempt is known.
    fn reference(&self, parts: &Parts) -> Option<Reference> {
        Some(Reference { key: self.key(parts).ok()?, attempt: 0 })
    }

    async fn show(&self, parts: &Parts, shown: bool) -> Result<StatusResponse, Refusal> {
        let found = self.shared.engine.look(&self.key(parts)?).await.map_err(|error| unavailable(&error))?;
        let record = found.record.filter(|record| !record.is_expired(found.now)).ok_or(Refusal::NoSuchOperation)?;
        let state = state(&record, found.now);
        let unfinished = record.status() != Status::Complete;
        let pause = self.shared.policy.background.as_ref().map_or(Duration::ZERO, Background::retry_in);
        let retry_after = unfinished.then_some(pause);
        // The state also depends on the time: a lease expires without a write.
        let tag = HeaderValue::try_from(format!("\"{:x}-{state}\"", record.version().get())).ok();
        let unchanged = tag.clone().filter(|tag| is_known(&parts.headers, tag));
        Ok(match unchanged {
            Some(tag) => not_modified(tag, retry_after),
            None => status(document(&record, state), tag, retry_after, shown),
        })
    }

    async fn acknowledge(&self, parts: &Parts) -> Result<StatusResponse, Refusal> {
        let (key, command) = (self.key(parts)?, Acknowledge { grace: self.grace });
        let done = self.shared.engine.apply(&key, None, command).await.map_err(|error| unavailable(&error))?;
        match done.output {
            Ok(()) => Ok(acknowledged()),
            Err(NotAcknowledged::Absent) => Err(Refusal::NoSuchOperation),
            Err(NotAcknowledged::Unfinished) => Err(Refusal::Unfinished),
        }
    }
}

impl<B> Service<Request<B>> for StatusService {
    type Response = StatusResponse;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<StatusResponse, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let service = self.clone();
        Box::pin(async move { Ok(service.serve(parts).await) })
    }
}

impl fmt::Debug for StatusService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusService").field("grace", &self.grace).finish_non_exhaustive()
    }
}

/// The key that is the last segment of a path.
fn in_path(path: &str) -> Option<IdempotencyKey> {
    let segment = path.rsplit('/').next()?;
    // Keys of dots alone: see `background::segment`.
    let segment = if matches!(segment, "(.)" | "(..)") { segment.trim_matches(['(', ')']) } else { segment };
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    // As a quoted string, in which every key can be written.
    IdempotencyKey::parse(quoted(&decoded).as_bytes()).ok()
}

/// Whether the caller has this version (RFC 9110 §13.1.2).
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes);
    let mut tags = lists.flat_map(|list| list.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    tags.any(|known| known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes())
}

fn state(record: &Record, now: Timestamp) -> &'static str {
    match (record.status(), record.hold()) {
        (Status::Complete, _) => "complete",
        (_, Hold::Parked { .. }) => "parked",
        (_, Hold::Leased { .. }) if record.due() > now => "running",
        _ if record.attempts() == 0 => "queued",
        _ => "waiting",
    }
}

/// The document as JSON. What is only passed on is not parsed into a tree, which
/// would take many times as much memory, but goes in as it is.
fn document(record: &Record, state: &str) -> Vec<u8> {
    let steps: Vec<_> = record.history().iter().filter_map(step).collect();
    let mut document = json!({
        "state": state,
        "status": match record.status() {
            Status::Pending => "pending",
            Status::Paid => "paid",
            Status::Complete => "complete",
        },
        "attempts": record.attempts(),
        "created_at_ms": record.created_at().map(Timestamp::as_millis),
        "updated_at_ms": record.written_at().as_millis(),
        "steps_done": record.steps_done(),
        "steps": steps,
    });
    if record.history_dropped() > 0 {
        document["steps_left_out"] = record.history_dropped().into();
    }
    if let Some(why) = record.parked_for() {
        document["parked"] = (&**why).into();
    }
    let mut text = document.to_string().into_bytes();
    if let Some(response) = record.response() {
        append(&mut text, "result", |text| result(text, response));
    }
    text
}

/// Appends a member to the object that `text` is.
fn append(text: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    text.pop();
    text.extend_from_slice(format!(",\"{name}\":").as_bytes());
    value(text);
    text.push(b'}');
}

fn step(entry: &HistoryEntry) -> Option<Value> {
    let state = match entry.event {
        HistoryEvent::StepBegun => "begun",
        HistoryEvent::StepSaved => "done",
        HistoryEvent::StepFailed => "failed",
        _ => return None,
    };
    let name = entry.text.as_deref()?;
    Some(json!({ "name": name, "state": state, "attempt": entry.attempt, "at_ms": entry.at.as_millis() }))
}

fn result(out: &mut Vec<u8>, response: &StoredResponse) {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let lines = |lines: &[(HeaderName, HeaderValue)]| -> Value {
        lines.iter().map(|(name, value)| json!([name.as_str(), text(value)])).collect()
    };
    let mut result = json!({ "status": response.status().as_u16(), "headers": lines(response.headers()) });
    if !response.trailers().is_empty() {
        result["trailers"] = lines(response.trailers());
    }
    if let Some(why) = response.not_retained() {
        result["reason"] = why.name().into();
    }
    let Some(body) = response.body() else {
        result["retained"] = false.into();
        return out.extend_from_slice(result.to_string().as_bytes());
    };
    out.extend_from_slice(result.to_string().as_bytes());
    let kind =
        response.headers().iter().find(|(name, _)| *name == CONTENT_TYPE).and_then(|(_, kind)| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let json = kind.ends_with("/json") || kind.ends_with("+json");
    match str::from_utf8(body) {
        Ok(text) if json && Checked::is_json(text) => append(out, "json", |out| {
            reserve(out, text.len());
            out.extend_from_slice(text.trim_ascii().as_bytes());
        }),
        Ok(text) => append(out, "text", |out| quote(out, text)),
        Err(_) => append(out, "base64", |out| encode(out, body)),
    }
}

/// Makes room for a value and what closes the objects around it.
fn reserve(out: &mut Vec<u8>, bytes: usize) {
    out.reserve_exact(bytes.saturating_add(16));
}

fn quote(out: &mut Vec<u8>, text: &str) {
    // Two characters for most that can't stand as they are, six for the others.
    let escaped = |byte: &u8| usize::from(matches!(byte, b'"' | b'\\')) + 5 * usize::from(*byte < b' ');
    reserve(out, text.len() + text.as_bytes().iter().map(escaped).sum::<usize>());
    // Memory takes every write.
    let _ = serde_json::to_writer(out, text);
}

fn encode(out: &mut Vec<u8>, body: &[u8]) {
    let Some(length) = base64::encoded_len(body.len(), true) else { return };
    reserve(out, length);
    out.push(b'"');
    let start = out.len();
    out.resize(start + length, 0);
    // The room for it was just made.
    let _ = BASE64_STANDARD.encode_slice(body, &mut out[start..]);
    out.push(b'"');
}

/// JSON that is looked at and not kept: what would parse into a tree, with the
/// bounds of one on its depth.
struct Checked;

impl Checked {
    fn is_json(text: &str) -> bool {
        serde_json::from_str::<Self>(text).is_ok()
    }
}

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}
