//! Every answer the layer makes up itself: refusals, and replays.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK,
    LOCATION, RETRY_AFTER,
};
use http::{Response, StatusCode};

use crate::body::{Content, ResponseBody};
use crate::core::{NotRetained, StoredResponse};
use crate::policy::Outcome;

/// `Idempotent-Replayed: true` is on replays, and on nothing else.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// On a first answer that no retry gets, and on what retries get instead; its
/// value says why.
pub(crate) const REPLAY_UNAVAILABLE: HeaderName = HeaderName::from_static("idempotency-replay-unavailable");

/// RFC 7240 §3.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The rules that the problems link to, unless the policy names other ones.
const DRAFT: &str = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07";

/// Why the layer answered a request itself. In the response's extensions, so
/// that layers outside this one can see it.
///
/// As problem details (RFC 9457) each has a `type` of its own; titles and
/// details of the first three are those of the IETF draft, §2.7.
///
/// ```
/// use http::{Response, StatusCode};
/// use tower_idempotency::Refusal;
///
/// // In a layer outside, say for metrics:
/// fn label<B>(response: &Response<B>) -> &'static str {
///     response.extensions().get::<Refusal>().map_or("served", |refusal| refusal.name())
/// }
/// # assert_eq!(label(&Response::new(())), "served");
/// assert_eq!(Refusal::InProgress.status(), StatusCode::CONFLICT);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: the route requires a key.
    MissingKey,
    /// 422: the key was used for another request.
    KeyReused,
    /// 409: the first request with this key is still running.
    InProgress,
    /// 400: the header is not an idempotency key, or came twice.
    InvalidKey,
    /// 400: the request's body ended early.
    BodyIncomplete,
    /// 408: the request's body took longer than
    /// [`upload_timeout`](crate::IdempotencyLayer::upload_timeout) allows.
    BodyTimeout,
    /// 413: the request's body is larger than may be fingerprinted.
    BodyTooLarge,
    /// 403: the scope can't tell whose request this is.
    ScopeUnknown,
    /// 500: an attempt, of this request or of one before it, ended without an
    /// answer, and what it did is not known. The handler is not started again
    /// until an operator or the [reconciler](crate::Completer::reconcile) decides.
    OutcomeUnknown,
    /// 500: this attempt broke off. A retry resumes it.
    Interrupted,
    /// The stored status code: the answer was sent once, and could not be kept,
    /// see [the guide](crate::guide::problems#answers-that-are-not-retained).
    NotRetained,
    /// 500: the stored record is damaged.
    RecordCorrupt,
    /// 409: the stored record was written by a newer release.
    RecordNewer,
    /// 503: the store can't be asked, or has no room.
    StoreUnavailable,
    /// 503: too many guarded requests are running, or wait to be run.
    Overloaded,
    /// 503: the request bodies that are being read hold all of the
    /// [`upload_budget`](crate::IdempotencyLayer::upload_budget), or of the
    /// caller's [share](crate::IdempotencyLayer::upload_budget_per_scope).
    UploadOverload,
    /// 404: the caller has no such operation.
    NoSuchOperation,
    /// 409: the operation has no answer that could be acknowledged yet.
    Unfinished,
    /// 405: a status resource has no such method.
    MethodNotAllowed,
}

/// What a refusal looks like.
struct Look {
    name: &'static str,
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
    /// Whether trying again, as it is, may help.
    again: bool,
}

const fn look(name: &'static str, status: StatusCode, again: bool, title: &'static str, detail: &'static str) -> Look {
    Look { name, status, title, detail, again }
}

impl Refusal {
    #[rustfmt::skip]
    const fn look(self) -> Look {
        match self {
            Self::MissingKey => look("missing-key", StatusCode::BAD_REQUEST, false,
                "Idempotency-Key is missing",
                "This operation is idempotent and it requires correct usage of Idempotency Key."),
            Self::KeyReused => look("key-reused", StatusCode::UNPROCESSABLE_ENTITY, false,
                "Idempotency-Key is already used",
                "This operation is idempotent and it requires correct usage of Idempotency Key. Idempotency Key MUST not be reused across different payloads of this operation."),
            Self::InProgress => look("in-progress", StatusCode::CONFLICT, true,
                "A request is outstanding for this Idempotency-Key",
                "A request with the same Idempotency-Key for the same operation is being processed or is outstanding."),
            Self::InvalidKey => look("invalid-key", StatusCode::BAD_REQUEST, false,
                "Idempotency-Key is not valid",
                "Send one Idempotency-Key header: a quoted string (RFC 9651) or a bare token of 1 to 255 visible ASCII characters."),
            Self::BodyIncomplete => look("body-incomplete", StatusCode::BAD_REQUEST, false,
                "The request body is incomplete",
                "The request body ended early. Nothing was run or stored."),
            Self::BodyTimeout => look("body-timeout", StatusCode::REQUEST_TIMEOUT, true, "The request body took too long",
                "The request body did not arrive in time. Nothing was run or stored. Retry with the same Idempotency-Key."),
            Self::BodyTooLarge => look("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, false,
                "The request body is too large",
                "The request body is larger than this operation accepts. Nothing was run or stored."),
            Self::ScopeUnknown => look("scope-unknown", StatusCode::FORBIDDEN, false,
                "The caller is unknown",
                "Idempotency keys belong to a caller, and this request does not say who that is. Nothing was run or stored."),
            Self::OutcomeUnknown => look("outcome-unknown", StatusCode::INTERNAL_SERVER_ERROR, false,
                "The outcome is unknown",
                "An attempt with this Idempotency-Key ended without an answer, and it is not known what it did. It will not be run again until an operator has looked into it. Do not retry with a new key."),
            Self::Interrupted => look("interrupted", StatusCode::INTERNAL_SERVER_ERROR, true,
                "The operation was interrupted",
                "The operation broke off half-way. Retry with the same Idempotency-Key: it resumes where it stopped."),
            Self::NotRetained => look("not-retained", StatusCode::OK, false,
                "The response was not retained",
                "The operation is complete, and was not run again. Its response was sent once, and could not be kept."),
            Self::RecordCorrupt => look("record-corrupt", StatusCode::INTERNAL_SERVER_ERROR, false,
                "The stored record is damaged",
                "What is stored under this Idempotency-Key can't be read. Nothing was run. Do not retry with a new key."),
            Self::RecordNewer => look("record-newer", StatusCode::CONFLICT, true,
                "The stored record is newer than this server",
                "What is stored under this Idempotency-Key was written by a newer release. Nothing was run. Retry later with the same key."),
            Self::StoreUnavailable => look("store-unavailable", StatusCode::SERVICE_UNAVAILABLE, true,
                "The idempotency store is unavailable",
                "The operation was not run, because it can't be protected now. Retry with the same Idempotency-Key."),
            Self::Overloaded => look("overloaded", StatusCode::SERVICE_UNAVAILABLE, true,
                "Too many operations are running",
                "The operation was not run. Retry with the same Idempotency-Key."),
            Self::UploadOverload => look("upload-overload", StatusCode::SERVICE_UNAVAILABLE, true, "Too many uploads are in progress",
                "There is no room for this request's body now. Nothing was run or stored. Retry with the same Idempotency-Key."),
            Self::NoSuchOperation => look("no-such-operation", StatusCode::NOT_FOUND, false, "There is no such operation",
                "You have no operation under this Idempotency-Key, or its answer is forgotten by now."),
            Self::Unfinished => look("unfinished", StatusCode::CONFLICT, true, "The operation is not complete",
                "An operation can be acknowledged once it has its answer."),
            Self::MethodNotAllowed => look("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, false, "The method is not allowed",
                "A status resource can be read (GET, HEAD) and acknowledged (DELETE)."),
        }
    }

    /// The last part of the problem's `type`.
    pub const fn name(self) -> &'static str {
        self.look().name
    }

    /// The status code; that of [`NotRetained`](Self::NotRetained) is the
    /// stored one instead.
    pub const fn status(self) -> StatusCode {
        self.look().status
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.look().title)
    }
}

/// Where the problems' types and links point.
#[derive(Clone, Debug)]
pub(crate) struct Problems {
    types: String,
    link: HeaderValue,
}

impl Problems {
    /// Types and links under the page `url`, or under the draft's.
    pub(crate) fn new(url: Option<&str>) -> Self {
        let page = url.unwrap_or(DRAFT);
        let types = url.map_or_else(|| "urn:tower-idempotency:problem:".to_owned(), |url| format!("{url}#"));
        // What is no URL, and could say more than where to look, is not linked to.
        let linkable = |page: &&str| page.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte));
        let page = Some(page).filter(linkable).unwrap_or(DRAFT);
        let link = format!("<{page}>; rel=\"describedby\"; type=\"text/html\"");
        let link = HeaderValue::try_from(link).unwrap_or_else(|_| HeaderValue::from_static("<about:blank>"));
        Self { types: serde_json::Value::from(types).to_string(), link }
    }

    pub(crate) fn refuse<B: http_body::Body>(&self, refusal: Refusal) -> Response<ResponseBody<B>> {
        self.refuse_for(refusal, Duration::ZERO)
    }

    /// The problem that stands for a stored answer whose body is gone.
    pub(crate) fn not_retained<B: http_body::Body>(
        &self,
        stored: &StoredResponse,
        why: NotRetained,
    ) -> Response<ResponseBody<B>> {
        let detail = match why {
            NotRetained::TooLarge => {
                "The operation is complete, and was not run again. Its response was sent once, and was too large to be kept."
            }
            NotRetained::Streamed => {
                "The operation is complete, and was not run again. Its response was sent once, as a stream that was not kept."
            }
            NotRetained::Incomplete => {
                "The operation is complete, and was not run again. Its response broke off when it was first sent, or had another length than announced, and was not kept."
            }
        };
        let reason = format!(r#","reason":"{}""#, why.name());
        // Nothing follows on a 1xx: it can't be what answers a retry.
        let status = Some(stored.status()).filter(|status| !status.is_informational()).unwrap_or_default();
        let mut response = self.problem(Refusal::NotRetained, status, detail, &reason);
        let location = stored.headers().iter().filter(|(name, _)| *name == LOCATION);
        for (name, value) in location {
            response.headers_mut().append(name.clone(), value.clone());
        }
        response.headers_mut().insert(REPLAY_UNAVAILABLE, HeaderValue::from_static(why.name()));
        response
    }

    /// `more` is what else there is to say, as members of a JSON object.
    fn problem<B: http_body::Body>(
        &self,
        refusal: Refusal,
        status: StatusCode,
        detail: &str,
        more: &str,
    ) -> Response<ResponseBody<B>> {
        let Look { name, title, .. } = refusal.look();
        // `types` is a JSON string already, less its closing quote; names,
        // titles and details are ours and need no escaping.
        let types = self.types.trim_end_matches('"');
        let number = status.as_u16();
        let body =
            format!(r#"{{"type":{types}{name}","title":"{title}","status":{number},"detail":"{detail}"{more}}}"#);
        let bodyless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        let body = if bodyless { Bytes::new() } else { Bytes::from(body) };
        let mut response = Response::new(ResponseBody::whole(body));
        *response.status_mut() = status;
        response.extensions_mut().insert(refusal);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(LINK, self.link.clone());
        response
    }

    /// The same, where something will change in that time.
    pub(crate) fn refuse_for<B: http_body::Body>(&self, refusal: Refusal, time: Duration) -> Response<ResponseBody<B>> {
        let Look { status, detail, again, .. } = refusal.look();
        let mut response = self.problem(refusal, status, detail, "");
        let headers = response.headers_mut();
        if again {
            let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if refusal == Refusal::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, DELETE"));
        }
        response
    }
}

/// 202: it is on record, and will be run. The same for every duplicate.
pub(crate) fn accepted<B: http_body::Body>(location: &HeaderValue, again_after: Duration) -> Response<ResponseBody<B>> {
    // Percent-encoded, so it needs no escaping.
    let place = location.to_str().unwrap_or_default();
    let mut response = json(format!(r#"{{"state":"accepted","location":"{place}"}}"#), Some(again_after));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location.clone());
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    response
}

/// What a status resource shows; its body only if `shown`.
pub(crate) fn status<B: http_body::Body>(
    text: Vec<u8>,
    tag: Option<HeaderValue>,
    again_after: Option<Duration>,
    shown: bool,
) -> Response<ResponseBody<B>> {
    let length = text.len();
    let mut response = json(if shown { text } else { Vec::new() }, again_after);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    tag.into_iter().for_each(|tag| drop(headers.insert(ETAG, tag)));
    response
}

/// 304: it is as it was.
pub(crate) fn not_modified<B: http_body::Body>(
    tag: HeaderValue,
    again_after: Option<Duration>,
) -> Response<ResponseBody<B>> {
    let mut response = json(String::new(), again_after);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().remove(CONTENT_TYPE);
    response.headers_mut().insert(ETAG, tag);
    response
}

/// 204: acknowledged.
pub(crate) fn acknowledged<B: http_body::Body>() -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn json<B: http_body::Body>(text: impl Into<Bytes>, again_after: Option<Duration>) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::whole(text.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = again_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

/// The handler's answer, for its first client: marked, if no retry gets it.
pub(crate) fn first<B: http_body::Body>(
    mut parts: http::response::Parts,
    body: ResponseBody<B>,
    lost: Option<NotRetained>,
) -> Response<ResponseBody<B>> {
    // These marks are ours alone, whatever an upstream of the handler said. A
    // look at all names costs less than hashing these two.
    if parts.headers.keys().any(|name| name == REPLAYED || name == REPLAY_UNAVAILABLE) {
        parts.headers.remove(REPLAYED);
        parts.headers.remove(REPLAY_UNAVAILABLE);
    }
    // Said of this record, and not of that of a guarded handler that passes it on.
    parts.extensions.remove::<Outcome>();
    parts.extensions.remove::<Refusal>();
    if let Some(why) = lost {
        parts.headers.insert(REPLAY_UNAVAILABLE, HeaderValue::from_static(why.name()));
    }
    Response::from_parts(parts, body)
}

/// A stored answer, byte for byte: as a replay, or to its first client.
pub(crate) fn given<B: http_body::Body>(stored: &StoredResponse, is_replay: bool) -> Response<ResponseBody<B>> {
    let body = stored.body().cloned().unwrap_or_default();
    let mut response = Response::new(ResponseBody::whole(Content::of(body, stored.trailers())));
    *response.status_mut() = stored.status();
    let headers = response.headers_mut();
    // A hint: what is too much to reserve may still fit.
    let _ = headers.try_reserve(stored.headers().len() + 1);
    for (name, value) in stored.headers() {
        headers.append(name.clone(), value.clone());
    }
    if is_replay {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
