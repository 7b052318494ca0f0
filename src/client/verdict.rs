//! What a response says: final, again later, or elsewhere.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use http::{HeaderName, Method, StatusCode, Uri};
use httpdate::parse_http_date;
use serde_json::Value;

use super::origin::{Origin, resolve};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Fields by which servers like Stripe say whether a retry may help, where the status can't.
const ADVICE: [HeaderName; 2] =
    [HeaderName::from_static("stripe-should-retry"), HeaderName::from_static("x-should-retry")];

/// The problems that say "the same request, later" under a status that does not: this crate's,
/// and Stripe's `idempotency_key_in_use`.
const LATER: [&str; 5] = ["in-progress", "record-newer", "unfinished", "interrupted", "idempotency_key_in_use"];

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Final,
    /// After this time, if the server said one.
    Retry(Option<Duration>),
    /// The same request, to this place.
    Elsewhere(Uri),
    /// It runs later, and this resource says how far it is.
    Accepted(Uri),
}

/// What a response says to a request that went to `uri`. `body` is asked for only where the
/// status leaves it open.
pub(crate) fn verdict(
    status: StatusCode,
    headers: &HeaderMap,
    uri: &Uri,
    body: impl FnOnce() -> Option<Bytes>,
) -> Verdict {
    if let Some(verdict) = moved(status, headers, uri) {
        return verdict;
    }
    if !status.is_client_error() && !status.is_server_error() {
        return Verdict::Final;
    }
    let may_help = advice(headers).unwrap_or_else(|| match status.as_u16() {
        408 | 425 | 429 | 502..=504 => true,
        409 | 423 | 500 => body().is_some_and(|body| is_for_later(&body)),
        _ => false,
    });
    if may_help { Verdict::Retry(retry_after(headers)) } else { Verdict::Final }
}

/// What keys and credentials may follow: another place at the same origin.
fn moved(status: StatusCode, headers: &HeaderMap, uri: &Uri) -> Option<Verdict> {
    let place = || resolve(uri, headers.get(LOCATION)?).filter(|place| Origin::of(uri).is_of(place));
    match status.as_u16() {
        307 | 308 => Some(place().map_or(Verdict::Final, Verdict::Elsewhere)),
        202 if is_async(headers) => Some(place().map_or(Verdict::Final, Verdict::Accepted)),
        _ => None,
    }
}

fn is_async(headers: &HeaderMap) -> bool {
    let applied = headers.get_all(PREFERENCE_APPLIED).iter().filter_map(|line| line.to_str().ok());
    applied.flat_map(|line| line.split(',')).any(|one| one.trim().eq_ignore_ascii_case("respond-async"))
}

fn advice(headers: &HeaderMap) -> Option<bool> {
    let said = ADVICE.iter().find_map(|name| headers.get(name))?;
    match said.as_bytes() {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// Whether the problem is one that passes. Its name is the member `code`, or the end of its
/// `type`; a Stripe-like server has it in `error`.
fn is_for_later(body: &[u8]) -> bool {
    problem_of(body).is_some_and(|name| LATER.contains(&&*name))
}

/// The name of the problem that a body is, if it is one.
pub(crate) fn problem_of(body: &[u8]) -> Option<String> {
    let problem = serde_json::from_slice::<Value>(body).ok()?;
    let own = problem.get("code").or_else(|| problem.get("error")?.get("code")).and_then(Value::as_str);
    let kind = || problem.get("type")?.as_str()?.rsplit([':', '#', '/']).next();
    own.or_else(kind).map(str::to_owned)
}

/// Seconds, or a date (RFC 9110 §10.2.3), which is compared with the server's own clock if the
/// response shows it.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits are too long for any limit.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = parse_http_date(text).ok()?;
    let date = headers.get(DATE).and_then(|date| parse_http_date(date.to_str().ok()?).ok());
    Some(until.duration_since(date.unwrap_or_else(SystemTime::now)).unwrap_or_default())
}

/// Whether a request with this method needs a key to be sent twice (RFC 9110 §9.2.2).
pub(super) fn needs_key(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::refusal::ALL;

    /// What the server says may be tried again, the client does, and nothing else.
    #[test]
    fn each_problem_of_this_crate_is_known() {
        for refusal in ALL {
            let body = Bytes::from(format!(r#"{{"code":"{}"}}"#, refusal.name()));
            let uri = Uri::from_static("https://api.example.com/payments");
            let said = verdict(refusal.status(), &HeaderMap::new(), &uri, || Some(body));
            let is_retryable = [10, 14].contains(&refusal.grpc_status());
            let expected = if is_retryable { Verdict::Retry(None) } else { Verdict::Final };
            assert!(said == expected, "{refusal:?}");
        }
    }
}
