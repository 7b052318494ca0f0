//! The service that the layer makes.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderName, Request, Response, Uri};
use http_body::Body;
use tower_service::Service;

use super::body::ReceivedBody;
use super::call::{RetryFuture, call};
use super::error::{BoxError, ClientError, ClientErrorKind};
use super::policy::Policy;

/// A client that sends requests until they have a final response: see
/// [`RetryLayer`](super::RetryLayer).
///
/// # Cancellation
///
/// A future that is dropped sends nothing more. What the server got goes on; the same call
/// with the same key finds out.
#[derive(Clone)]
#[must_use]
pub struct Retry<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S> Retry<S> {
    pub(super) const fn new(inner: S, policy: Arc<Policy>) -> Self {
        Self { inner, policy }
    }

    /// Whether requests to this place may be sent again.
    pub(crate) fn serves(&self, uri: &Uri) -> bool {
        self.policy.serves(uri)
    }

    /// The field in which it sends the key.
    pub(crate) fn key_header(&self) -> HeaderName {
        self.policy.key_header.clone()
    }
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + From<Bytes> + Send + Unpin + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<ReceivedBody<R>>;
    type Error = ClientError;
    type Future = RetryFuture<R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let failed = |error: S::Error| ClientError::new(ClientErrorKind::Service(error.into()));
        self.inner.poll_ready(cx).map_err(failed)
    }

    fn call(&mut self, request: Request<B>) -> RetryFuture<R> {
        // The one that is ready goes with the request.
        let other = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, other);
        call(ready, Arc::clone(&self.policy), request)
    }
}

impl<S> fmt::Debug for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("policy", &self.policy).finish_non_exhaustive()
    }
}
