//! The guarded service: whether a request is guarded, and by what.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::engine::handoff::ClaimHandoff;
use crate::engine::operation::Operation;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::future::ResponseFuture;
use crate::http::guarded::admit::Driven;
use crate::http::guarded::run::GuardedRequest;
use crate::http::guarded::{RequestContext, Shared};
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;

/// A service made idempotent; what [`IdempotencyLayer`](crate::IdempotencyLayer)
/// makes of the one it wraps.
///
/// See the [crate docs](crate) for an example.
#[derive(Clone, Debug)]
pub struct Idempotency<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Idempotency<S> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn refuse<ReqBody, ResBody>(&self, refusal: Refusal) -> ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<RequestBody<ReqBody>>>,
        ReqBody: Body,
        ResBody: Body,
    {
        self.shared.engine.emit_unkeyed(|| EventKind::Refused { refusal });
        ResponseFuture::refused(self.shared.policy.problems.refuse(refusal))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Idempotency<S>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    ReqBody: Body<Data = Bytes> + Send + 'static,
    ResBody: Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Send,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        // A completer's claim is met by the outermost layer; beyond that, it is spent.
        let extensions = request.extensions();
        let claim = extensions.get::<ClaimHandoff>().filter(|_| extensions.get::<Operation>().is_none());
        if let Some(claim) = claim.cloned() {
            return self.serve_claim(&claim, request);
        }
        if !self.shared.policy.coverage.covers(request.method()) {
            self.shared.tell_ignored_key(&request);
            return ResponseFuture::theirs(self.inner.call(request.map(RequestBody::theirs)));
        }
        let idempotency_key = match self.shared.key_of(&mut request) {
            Ok(Some(idempotency_key)) => idempotency_key,
            Ok(None) => return ResponseFuture::theirs(self.inner.call(request.map(RequestBody::theirs))),
            Err(refusal) => return self.refuse(refusal),
        };
        let (parts, body) = request.into_parts();
        match self.shared.admit(&idempotency_key, &parts) {
            Ok(None) => {
                let request = Request::from_parts(parts, RequestBody::theirs(body));
                ResponseFuture::theirs(self.inner.call(request))
            }
            Err(refusal) => self.refuse(refusal),
            Ok(Some((context, upload))) => {
                // The clone goes back, the service that was polled ready is used:
                // https://docs.rs/tower/latest/tower/trait.Service.html#be-careful-when-cloning-inner-services
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                let request = GuardedRequest::new(service, parts, context, Some(idempotency_key));
                ResponseFuture::reading(body, upload, request)
            }
        }
    }
}

impl<S> Idempotency<S> {
    /// Runs what a completer has claimed already. Dropped, it stops: the
    /// completer that waits for it decides how long it may take.
    fn serve_claim<ReqBody, ResBody>(
        &mut self,
        claim: &ClaimHandoff,
        request: Request<ReqBody>,
    ) -> ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        ReqBody: Body<Data = Bytes> + Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        let Some(work) = claim.meet(&self.shared.engine) else {
            // Served already: without its key it would run unprotected. Or a
            // question, which is answered by now.
            return ResponseFuture::refused(self.shared.policy.problems.refuse(Refusal::InProgress));
        };
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        let (shared, key) = (Arc::clone(&self.shared), *work.attempt.key());
        let context = RequestContext { shared, key, later: None, is_driven: true };
        let (mut parts, _) = request.into_parts();
        parts.extensions.insert(Driven { key, scope: self.shared.policy.scope.clone() });
        let admitted = GuardedRequest::new(service, parts, context, None);
        ResponseFuture::attached(admitted.run_granted(work))
    }
}
