//! What a hook changes of a request or a response before it is stored.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri};

use crate::http::body::weight;

/// A request that is about to be stored, as a
/// [hook](crate::IdempotencyLayer::redact_request) may change it.
#[non_exhaustive]
pub struct RequestToStore<'a> {
    /// The method. It can't be changed.
    pub method: &'a Method,
    /// The target. A completer drives the request to it.
    pub uri: Uri,
    /// The header lines.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailer lines.
    pub trailers: HeaderMap,
}

/// A response that is about to be stored, as a
/// [hook](crate::IdempotencyLayer::redact_response) may change it.
#[non_exhaustive]
pub struct ResponseToStore<'a> {
    /// The status. It can't be changed.
    pub status: StatusCode,
    /// The extensions, where a handler may say which parts the hook should remove.
    pub extensions: &'a Extensions,
    /// The header lines.
    pub headers: HeaderMap,
    /// The body; `None` if it is not retained. If the hook removes it, retries get
    /// `not-retained`, with the reason
    /// [`NotRetained::Redacted`](crate::core::NotRetained::Redacted). A hook can't put back a
    /// body that is not there.
    pub body: Option<Bytes>,
    /// The trailer lines.
    pub trailers: HeaderMap,
}

/// What clients and handlers say is not for logs: only its size is shown.
impl fmt::Debug for RequestToStore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestToStore").field("body_len", &self.body.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseToStore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_ref().map(Bytes::len);
        f.debug_struct("ResponseToStore").field("status", &self.status).field("body_len", &body).finish_non_exhaustive()
    }
}

type RequestHook = dyn Fn(&mut RequestToStore<'_>) + Send + Sync;
type ResponseHook = dyn Fn(&mut ResponseToStore<'_>) + Send + Sync;

/// The hooks, where there are any.
#[derive(Clone, Default)]
pub(crate) struct Redaction {
    pub(crate) request: Option<Arc<RequestHook>>,
    pub(crate) response: Option<Arc<ResponseHook>>,
}

/// Whether the hook came to its end. If not, nothing that it was to look at may be stored.
pub(crate) fn redacted<T>(hook: &(impl Fn(&mut T) + ?Sized), message: &mut T) -> bool {
    catch_unwind(AssertUnwindSafe(|| hook(message))).is_ok()
}

/// Whether a body with its trailers is within a limit.
pub(crate) fn fits(body: &Bytes, trailers: &HeaderMap, limit: usize) -> bool {
    body.len().saturating_add(weight(trailers)) <= limit
}
