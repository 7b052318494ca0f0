//! Settings for how the layer words its responses.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body::Body;

use crate::core::{IdempotencyKey, Reference};
use crate::http::acceptance::AcceptanceMark;
use crate::http::body::ResponseBody;
use crate::http::first_request::FirstRequest;
use crate::http::head::Head;
use crate::http::problem::{About, grpc_status, instance};
use crate::http::replay_hook::ReplayHook;
use crate::http::replay_mark::ReplayMark;
use crate::telemetry::refusal::Refusal;

/// The status of [`Refusal::KeyReused`]: the key was used for a different request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyReusedStatus {
    /// 422, as in the IETF draft §2.7.
    #[default]
    UnprocessableContent,
    /// 400, as in Amazon's and Zalando's APIs.
    BadRequest,
    /// 409, as in older APIs.
    Conflict,
}

impl KeyReusedStatus {
    pub(crate) const fn code(self) -> StatusCode {
        match self {
            Self::UnprocessableContent => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Conflict => StatusCode::CONFLICT,
        }
    }
}

/// The status of [`Refusal::InProgress`]: the first request with the key is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InProgressStatus {
    /// 409, as in the IETF draft §2.7.
    #[default]
    Conflict,
    /// 423 (RFC 4918 §11.3).
    Locked,
}

impl InProgressStatus {
    pub(crate) const fn code(self) -> StatusCode {
        match self {
            Self::Conflict => StatusCode::CONFLICT,
            Self::Locked => StatusCode::LOCKED,
        }
    }
}

/// Which header fields of a response retries get, see
/// [`IdempotencyLayer::replay_headers`](crate::IdempotencyLayer::replay_headers).
///
/// `Content-Type`, `Content-Encoding` and the fields of gRPC are always among them:
/// without these a client can't read the response.
#[derive(Clone, Debug)]
#[must_use]
pub struct HeaderFilter {
    names: Arc<[HeaderName]>,
    is_only: bool,
}

impl HeaderFilter {
    /// These fields, and no others.
    pub fn only(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self { names: names.into_iter().collect(), is_only: true }
    }

    /// All fields but these.
    pub fn except(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self { names: names.into_iter().collect(), is_only: false }
    }

    pub(crate) fn lets_through(&self, name: &HeaderName) -> bool {
        let is_needed = *name == CONTENT_TYPE || *name == CONTENT_ENCODING || name.as_str().starts_with("grpc-");
        is_needed || self.names.contains(name) == self.is_only
    }
}

/// A refusal that is about to be sent, as a [hook](crate::IdempotencyLayer::problems)
/// sees it.
pub struct Problem<'a> {
    head: &'a Head,
    refusal: Refusal,
    about: Option<About>,
}

impl Problem<'_> {
    /// The request's method.
    pub const fn method(&self) -> &Method {
        &self.head.method
    }

    /// The request's target, as the layer got it.
    pub const fn uri(&self) -> &Uri {
        &self.head.uri
    }

    /// The request's headers, with its credentials: a problem must not show those.
    pub const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The client's key, without quotes. `None` if it sent no valid one.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.head.key.as_ref().map(IdempotencyKey::as_str)
    }

    /// Why the layer responds itself.
    pub const fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// Whether the same request may succeed later: the response has a `Retry-After`.
    pub const fn is_retryable(&self) -> bool {
        self.refusal.text().retryable
    }

    /// What the refusal is, as one short sentence in English.
    pub const fn title(&self) -> &'static str {
        self.refusal.text().title
    }

    /// The operation that the problem is about, as a URI (RFC 9457 §3.1.5). Its last part
    /// is what [`Operator::find_by_hash`](crate::Operator::find_by_hash) takes. `None` if
    /// the layer refused before it had a key.
    pub fn instance(&self) -> Option<String> {
        self.about.as_ref().map(|about| instance(&about.key))
    }

    /// The attempt that the problem is about, as its member `reference` names it and
    /// [`Operator::find_by_reference`](crate::Operator::find_by_reference) finds it. `None` of
    /// problems that do not carry it: see [the guide](crate::guide::problems#references).
    pub fn reference(&self) -> Option<Reference> {
        self.about?.reference
    }

    /// The response with the same members as `application/json`, for clients that do not
    /// know `application/problem+json`.
    pub fn json(&self, mut response: Response<Bytes>) -> Response<Bytes> {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// The response with a line of plain text for its body: the code, the title, and the
    /// reference if there is one.
    pub fn plain_text(&self, mut response: Response<Bytes>) -> Response<Bytes> {
        let reference = self.reference().map(|reference| format!(" (reference {reference})")).unwrap_or_default();
        let line = format!("{}: {}{reference}\n", self.refusal.name(), self.title());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response.map(|body| if body.is_empty() { body } else { line.into() })
    }
}

impl fmt::Debug for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

type Hook = dyn Fn(&Problem<'_>, Response<Bytes>) -> Response<Bytes> + Send + Sync;

/// The settings that differ from the default.
#[derive(Clone, Default)]
pub(crate) struct Words {
    /// What marks a replay.
    pub(crate) replayed: ReplayMark,
    pub(crate) kept: Option<HeaderFilter>,
    /// How replays name the request that ran.
    pub(crate) first_request: Option<FirstRequest>,
    pub(crate) echo: bool,
    /// What says whether a request with a key was taken.
    pub(crate) acceptance: Option<AcceptanceMark>,
    /// Whether clients are told how much longer a response is kept.
    pub(crate) expiry: bool,
    pub(crate) hook: Option<Arc<Hook>>,
    /// What makes of a replay what the client gets.
    pub(crate) replay: Option<Arc<ReplayHook>>,
}

/// What is done to a response last.
pub(crate) struct Exit {
    /// The line that has the key.
    pub(crate) echo: Option<(HeaderName, HeaderValue)>,
    pub(crate) hook: Option<(Arc<Hook>, Head)>,
    /// What says whether the request was taken.
    pub(crate) acceptance: Option<AcceptanceMark>,
    /// A refusal is a status of gRPC.
    pub(crate) is_grpc: bool,
}

impl Exit {
    pub(crate) fn leave<B: Body>(self, response: Response<ResponseBody<B>>) -> Response<ResponseBody<B>> {
        let refusal = response.extensions().get::<Refusal>().copied();
        let about = response.extensions().get::<About>().copied();
        let mut response = match (&self.hook, refusal) {
            (Some((hook, head)), Some(refusal)) => reworded(&**hook, &Problem { head, refusal, about }, response),
            (None, Some(refusal)) if self.is_grpc => grpc_status(refusal, response),
            _ => response,
        };
        if let Some(mark) = self.acceptance {
            mark.tell(response.headers_mut(), refusal);
        }
        if let Some((name, value)) = self.echo {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

fn reworded<B: Body>(
    hook: &Hook,
    problem: &Problem<'_>,
    response: Response<ResponseBody<B>>,
) -> Response<ResponseBody<B>> {
    let (parts, body) = response.into_parts();
    let mut response = hook(problem, Response::from_parts(parts, body.own())).map(ResponseBody::full);
    // Layers outside of this one look for it.
    response.extensions_mut().insert(problem.refusal);
    response
}
