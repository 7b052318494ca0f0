//! What the proxy itself responds: the only place that makes responses.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tower_idempotency::Outcome;

use super::scope::Denied;

/// Why a request did not get a response of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No connection: nothing was sent.
    Unreachable,
    /// The upstream gave the request back without having begun it.
    NotTaken,
    /// The connection ended before the response began.
    BrokenOff,
    /// The response did not begin in time.
    TooSlow,
    /// The rest of a request without a key did not come in time.
    Stalled,
    /// A request that no reverse proxy can pass on.
    NoTarget,
    /// It has several `Host`s, or none.
    NotOneHost,
    /// Its body is encoded as only the one who sent it may know.
    UnknownCoding,
}

impl Trouble {
    const fn texts(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::Unreachable => (
                StatusCode::BAD_GATEWAY,
                "upstream-unreachable",
                "The service behind can't be reached",
                "The request was not sent. Retry it, with the same idempotency key if it has one.",
            ),
            Self::NotTaken => (
                StatusCode::SERVICE_UNAVAILABLE,
                "upstream-refused",
                "The service behind did not begin this request",
                "Retry it, with the same idempotency key if it has one.",
            ),
            Self::BrokenOff => (
                StatusCode::BAD_GATEWAY,
                "upstream-broke-off",
                "The service behind broke off before its response",
                "Whether it did what was asked is not known. A retry with the same idempotency key says what is on record.",
            ),
            Self::TooSlow => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream-timeout",
                "The service behind did not respond in time",
                "Whether it did, or still does, what was asked is not known. A retry with the same idempotency key says \
                 what is on record.",
            ),
            Self::Stalled => (
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "The rest of the request did not come in time",
                "The service behind may have begun it. Send it again, all of it.",
            ),
            Self::NoTarget => (
                StatusCode::BAD_REQUEST,
                "no-target",
                "This is a reverse proxy",
                "Send a request for a path, as POST /payments.",
            ),
            Self::NotOneHost => (
                StatusCode::BAD_REQUEST,
                "host",
                "The request does not say which host it is for",
                "Send one line of Host.",
            ),
            Self::UnknownCoding => (
                StatusCode::NOT_IMPLEMENTED,
                "transfer-coding",
                "The transfer coding of the request is not known here",
                "Send the body with a Content-Length, or with Transfer-Encoding: chunked.",
            ),
        }
    }

    /// How it counts: the key is free only if the upstream can't have begun.
    const fn outcome(self) -> Outcome {
        match self {
            Self::Unreachable | Self::NotTaken | Self::NoTarget | Self::NotOneHost | Self::UnknownCoding => {
                Outcome::NothingHappened
            }
            Self::BrokenOff | Self::TooSlow | Self::Stalled => Outcome::Retryable,
        }
    }

    pub(crate) fn response(self) -> Response<Full<Bytes>> {
        let (status, code, title, detail) = self.texts();
        let mut response = problem(status, code, title, detail);
        response.extensions_mut().insert(self.outcome());
        response
    }
}

/// What a request gets whose client is not known; `None` where the layer says all there is.
pub(crate) fn denied(why: &Denied) -> Option<Response<Full<Bytes>>> {
    let unauthenticated =
        "Its idempotency key belongs to a client, and this request does not show which: authenticate.";
    match why {
        Denied::Unknown => None,
        Denied::NoToken => {
            let title = "There is no token, or none that is valid";
            let mut response = problem(StatusCode::UNAUTHORIZED, "unauthenticated", title, unauthenticated);
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            Some(response)
        }
        Denied::Rejected(status, challenges) => {
            let title = "The client was not let in";
            let mut response = problem(*status, "unauthenticated", title, unauthenticated);
            for challenge in challenges {
                response.headers_mut().append(WWW_AUTHENTICATE, challenge.clone());
            }
            Some(response)
        }
        Denied::NoAnswer => Some(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "authentication-unavailable",
            "Whose request it is can't be found out now",
            "Nothing was run or stored. Retry it with the same idempotency key.",
        )),
    }
}

fn problem(status: StatusCode, code: &str, title: &str, detail: &str) -> Response<Full<Bytes>> {
    let name = format!("urn:tower-idempotency:proxy:{code}");
    let text = json!({ "type": name, "code": code, "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(Full::from(text.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
