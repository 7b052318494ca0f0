//! Every response that the layer makes itself: refusals, and replays.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LINK,
    LOCATION, RETRY_AFTER,
};
use http::{Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::core::{InvalidKey, Key, Maintenance, NotRetained, Reference, StoredResponse};
use crate::engine::content::Content;
use crate::engine::outcome::{Outcome, Retention};
use crate::http::body::ResponseBody;
use crate::http::header::REPLAY_UNAVAILABLE;
use crate::http::replay_mark::ReplayMark;
use crate::http::retry_advice::RetryAdvice;
use crate::telemetry::refusal::{ProblemText, Refusal};

/// What may stay as it is in a `grpc-message`: visible ASCII and spaces, but no percent
/// sign (gRPC over HTTP/2, *Responses*).
const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// RFC 7240 §3.
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The rules that the problems link to, unless the policy names other ones.
const DRAFT: &str = "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07";

/// In the extensions of a problem: what it is about.
#[derive(Clone, Copy)]
pub(crate) struct About {
    pub(crate) key: Key,
    /// If it tells the client by what an operator finds the attempt.
    pub(crate) reference: Option<Reference>,
}

impl About {
    /// Of what a client may ask an operator for help, it tells the reference.
    fn of(refusal: Refusal, status: StatusCode, reference: Reference) -> Self {
        let is_for_operators =
            matches!(refusal, Refusal::OutcomeUnknown | Refusal::InProgress) || status.is_server_error();
        Self { key: reference.key, reference: is_for_operators.then_some(reference) }
    }

    /// As members of a JSON object.
    fn members(&self) -> String {
        let reference = self.reference.map(|reference| format!(r#","reference":"{reference}""#)).unwrap_or_default();
        format!(r#","instance":"{}"{reference}"#, instance(&self.key))
    }
}

/// The operation as a URI. An operator finds it by its last part, the hash of scope and
/// client's key: nothing of it is stored, and nothing can be read back from it.
pub(crate) fn instance(key: &Key) -> String {
    format!("urn:tower-idempotency:operation:{key}")
}

/// Where the problems' types and links point.
#[derive(Clone, Debug)]
pub(crate) struct Problems {
    types: String,
    link: HeaderValue,
    pub(crate) key_reused: StatusCode,
    pub(crate) in_progress: StatusCode,
    pub(crate) advice: Option<RetryAdvice>,
}

impl Problems {
    /// Types and links under the page `url`, or under the draft's.
    pub(crate) fn new(url: Option<&str>) -> Self {
        let page = url.unwrap_or(DRAFT);
        let types = url.map_or_else(|| "urn:tower-idempotency:problem:".to_owned(), |url| format!("{url}#"));
        // A text that is not a URL could inject more than a link, so the layer does not link to it.
        let linkable = |page: &&str| page.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(&byte));
        let page = Some(page).filter(linkable).unwrap_or(DRAFT);
        let link = format!("<{page}>; rel=\"describedby\"; type=\"text/html\"");
        let link = HeaderValue::try_from(link).unwrap_or_else(|_| HeaderValue::from_static("<about:blank>"));
        let (key_reused, in_progress) = (Refusal::KeyReused.status(), Refusal::InProgress.status());
        Self { types: serde_json::Value::from(types).to_string(), link, key_reused, in_progress, advice: None }
    }

    /// The same under this page.
    pub(crate) fn set_page(&mut self, url: &str) {
        let Self { types, link, .. } = Self::new(Some(url));
        (self.types, self.link) = (types, link);
    }

    const fn status(&self, refusal: Refusal) -> StatusCode {
        match refusal {
            Refusal::KeyReused => self.key_reused,
            Refusal::InProgress => self.in_progress,
            other => other.status(),
        }
    }

    pub(crate) fn refuse<B: http_body::Body>(&self, refusal: Refusal) -> Response<ResponseBody<B>> {
        self.refuse_for(refusal, Duration::ZERO, None)
    }

    /// The problem that stands for a stored response whose body is gone.
    pub(crate) fn not_retained<B: http_body::Body>(
        &self,
        stored: &StoredResponse,
        why: NotRetained,
        reference: Reference,
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
            NotRetained::Redacted => {
                "The operation is complete, and was not run again. Its response was sent once, and is not to be kept."
            }
        };
        let reason = format!(r#","reason":"{}""#, why.name());
        // Nothing follows on a 1xx: it can't be the response to a retry.
        let status = Some(stored.status()).filter(|status| !status.is_informational()).unwrap_or_default();
        let mut response = self.problem(Refusal::NotRetained, status, detail, Some(reference), &reason);
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
        reference: Option<Reference>,
        more: &str,
    ) -> Response<ResponseBody<B>> {
        let ProblemText { name, title, retryable, .. } = refusal.text();
        // `types` is a JSON string already, less its closing quote; names, titles and
        // details are ours and need no escaping, except for what a rule of the user's says.
        let escaped = match refusal {
            Refusal::InvalidKey(InvalidKey::Rejected(why)) => serde_json::Value::from(why).to_string(),
            _ => format!("\"{detail}\""),
        };
        let types = self.types.trim_end_matches('"');
        let number = status.as_u16();
        let about = reference.map(|reference| About::of(refusal, status, reference));
        let members = about.as_ref().map(About::members).unwrap_or_default();
        let body = format!(
            r#"{{"type":{types}{name}","code":"{name}","title":"{title}","status":{number},"detail":{escaped}{members}{more}}}"#
        );
        let bodyless = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        let body = if bodyless { Bytes::new() } else { Bytes::from(body) };
        let mut response = Response::new(ResponseBody::full(body));
        *response.status_mut() = status;
        response.extensions_mut().insert(refusal);
        about.map(|about| response.extensions_mut().insert(about));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(LINK, self.link.clone());
        if let Some(advice) = &self.advice {
            advice.tell(headers, retryable);
        }
        response
    }

    /// The same, where something will change in that time; about this attempt, the number 0 if
    /// none is known.
    pub(crate) fn refuse_for<B: http_body::Body>(
        &self,
        refusal: Refusal,
        time: Duration,
        reference: Option<Reference>,
    ) -> Response<ResponseBody<B>> {
        let ProblemText { detail, retryable, .. } = refusal.text();
        let mut response = self.problem(refusal, self.status(refusal), detail, reference, "");
        let headers = response.headers_mut();
        if retryable {
            let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if refusal == Refusal::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, DELETE"));
        }
        response
    }
}

impl Problems {
    /// A maintenance window covers the request.
    pub(crate) fn maintenance<B: http_body::Body>(
        &self,
        notice: &Maintenance,
        reference: Option<Reference>,
    ) -> Response<ResponseBody<B>> {
        let mut response = self.refuse_for(Refusal::Maintenance, notice.left, reference);
        response.extensions_mut().insert(notice.clone());
        response
    }
}

/// What a refusal is for a call of gRPC: a response of trailers alone, which are its head.
/// What else the problem says in its head stays, as metadata.
pub(crate) fn grpc_status<B: http_body::Body>(
    refusal: Refusal,
    problem: Response<ResponseBody<B>>,
) -> Response<ResponseBody<B>> {
    let (mut parts, _) = problem.into_parts();
    parts.status = StatusCode::OK;
    let headers = &mut parts.headers;
    headers.remove(CONTENT_LANGUAGE);
    headers.remove(LINK);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(refusal.grpc_status()));
    let message = utf8_percent_encode(refusal.text().detail, GRPC_MESSAGE).to_string();
    headers.insert("grpc-message", HeaderValue::try_from(message).unwrap_or(HeaderValue::from_static("")));
    headers.insert("idempotency-problem", HeaderValue::from_static(refusal.name()));
    let reference = parts.extensions.get::<About>().and_then(|about| about.reference);
    if let Some(Ok(reference)) = reference.map(|reference| HeaderValue::try_from(reference.to_string())) {
        headers.insert("idempotency-reference", reference);
    }
    let seconds = headers.remove(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse::<u64>().ok());
    if let Some(seconds) = seconds {
        headers.insert("grpc-retry-pushback-ms", HeaderValue::from(seconds.saturating_mul(1000)));
    }
    Response::from_parts(parts, ResponseBody::full(Bytes::new()))
}

/// 202: it is on record, and will be run. The same for every duplicate.
pub(crate) fn accepted<B: http_body::Body>(location: &HeaderValue, retry_after: Duration) -> Response<ResponseBody<B>> {
    // Percent-encoded, so it needs no escaping.
    let place = location.to_str().unwrap_or_default();
    let mut response = json(format!(r#"{{"state":"accepted","location":"{place}"}}"#), Some(retry_after));
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
    retry_after: Option<Duration>,
    shown: bool,
) -> Response<ResponseBody<B>> {
    let length = text.len();
    let mut response = json(if shown { text } else { Vec::new() }, retry_after);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    tag.into_iter().for_each(|tag| drop(headers.insert(ETAG, tag)));
    response
}

/// 304: it is as it was.
pub(crate) fn not_modified<B: http_body::Body>(
    tag: HeaderValue,
    retry_after: Option<Duration>,
) -> Response<ResponseBody<B>> {
    let mut response = json(String::new(), retry_after);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().remove(CONTENT_TYPE);
    response.headers_mut().insert(ETAG, tag);
    response
}

/// 204: acknowledged.
pub(crate) fn acknowledged<B: http_body::Body>() -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn json<B: http_body::Body>(text: impl Into<Bytes>, retry_after: Option<Duration>) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::full(text.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

/// The handler's response, for its first client: marked, if no retry gets it. `replayed`
/// is what marks a replay.
pub(crate) fn first<B: http_body::Body>(
    mut parts: http::response::Parts,
    body: ResponseBody<B>,
    lost: Option<NotRetained>,
    replayed: &HeaderName,
) -> Response<ResponseBody<B>> {
    // These marks are ours alone, whatever an upstream of the handler said. A
    // look at all names costs less than hashing these two.
    if parts.headers.keys().any(|name| name == replayed || name == REPLAY_UNAVAILABLE) {
        parts.headers.remove(replayed);
        parts.headers.remove(REPLAY_UNAVAILABLE);
    }
    // Said of this record, and not of that of a guarded handler that passes it on.
    parts.extensions.remove::<Outcome>();
    parts.extensions.remove::<Refusal>();
    parts.extensions.remove::<Retention>();
    if let Some(why) = lost {
        parts.headers.insert(REPLAY_UNAVAILABLE, HeaderValue::from_static(why.name()));
    }
    Response::from_parts(parts, body)
}

/// A stored response, byte for byte: as a replay, with its mark, or to its first client.
pub(crate) fn restore<B: http_body::Body>(
    stored: &StoredResponse,
    ReplayMark { name, value }: &ReplayMark,
    is_replay: bool,
) -> Response<ResponseBody<B>> {
    let body = stored.body().cloned().unwrap_or_default();
    let mut response = Response::new(ResponseBody::full(Content::of(body, stored.trailers())));
    *response.status_mut() = stored.status();
    let headers = response.headers_mut();
    // A hint: what is too much to reserve may still fit.
    let _ = headers.try_reserve(stored.headers().len() + 1);
    for (name, value) in stored.headers() {
        headers.append(name.clone(), value.clone());
    }
    if is_replay {
        headers.insert(name.clone(), value.clone());
    } else {
        // It may have been stored as the handler gave it.
        headers.remove(name);
    }
    response
}

/// The type of the problem that a handler's response is (RFC 9457 §3.1.1), unless it is too large
/// to look for it.
pub(crate) fn problem_type(kind: &[u8], body: &[u8]) -> Option<String> {
    const PROBLEM: &[u8] = b"application/problem+json";
    const LARGEST: usize = 64 << 10;
    let is_problem = kind.get(..PROBLEM.len()).is_some_and(|start| start.eq_ignore_ascii_case(PROBLEM));
    if !is_problem || body.len() > LARGEST {
        return None;
    }
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    // What follows may name an account.
    let name = problem.get("type")?.as_str()?;
    Some(name.split(['?', '#']).next().unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_replay_has_the_mark_whatever_was_stored() {
        let mark = ReplayMark { name: HeaderName::from_static("x-replay"), value: HeaderValue::from_static("1") };
        let said = http::HeaderMap::from_iter([(mark.name.clone(), HeaderValue::from_static("an upstream's"))]);
        let stored = StoredResponse::capture(StatusCode::OK, &said, Some(Bytes::new()));
        for (is_replay, expected) in [(false, vec![]), (true, vec!["1"])] {
            let response = restore::<String>(&stored, &mark, is_replay);
            assert!(response.headers().get_all(&mark.name).iter().eq(expected.iter()), "{is_replay}: {response:?}");
        }
    }
}
