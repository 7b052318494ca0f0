//! The guarded service and its future: whether a request is guarded, and by what, and
//! that its body is read before its claim.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::engine::content::Content;
use crate::engine::handoff::ClaimHandoff;
use crate::engine::operation::Operation;
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::guarded::admit::Driven;
use crate::http::guarded::run::{GuardedRequest, Worked};
use crate::http::guarded::unread::{Decision, Unread};
use crate::http::guarded::{RequestContext, Shared};
use crate::http::upload::Upload;
use crate::http::words::Exit;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;
use crate::util::detached::Detached;

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

    fn refuse<ReqBody, ResBody>(
        &self,
        refusal: Refusal,
        mut exit: Option<Box<Exit>>,
    ) -> ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<RequestBody<ReqBody>>>,
        ReqBody: Body,
        ResBody: Body,
    {
        self.shared.engine.emit_unkeyed(|| EventKind::Refused { refusal });
        ResponseFuture::refused(leave(&mut exit, self.shared.policy.problems.refuse(refusal)))
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
            if self.shared.policy.coverage.refuses(&request) {
                let exit = self.shared.policy.exit_unkeyed(&request);
                return self.refuse(Refusal::NotGuarded, exit);
            }
            return ResponseFuture::inner(self.inner.call(request.map(RequestBody::inner)));
        }
        let coverage = &self.shared.policy.coverage;
        if coverage.may_have_key_in_body(&mut request) {
            return self.read_first(request);
        }
        let idempotency_key = match self.shared.key_of(&mut request) {
            Ok(Some(idempotency_key)) => idempotency_key,
            Ok(None) => return ResponseFuture::inner(self.inner.call(request.map(RequestBody::inner))),
            Err(refusal) => {
                let exit = self.shared.policy.exit_unkeyed(&request);
                return self.refuse(refusal, exit);
            }
        };
        let (mut parts, body) = request.into_parts();
        match self.shared.admit(&idempotency_key, &mut parts) {
            Ok(None) => {
                let request = Request::from_parts(parts, RequestBody::inner(body));
                ResponseFuture::inner(self.inner.call(request))
            }
            Err(refusal) => {
                let exit = self.shared.policy.exit_of(Some(&idempotency_key), &parts);
                self.refuse(refusal, exit)
            }
            Ok(Some((context, upload))) => {
                let service = self.take_polled();
                let exit = self.shared.policy.exit_of(Some(&idempotency_key), &parts);
                let request = GuardedRequest::new(service, parts, context, Some(idempotency_key));
                ResponseFuture::reading(body, upload, request, exit)
            }
        }
    }
}

impl<S: Clone> Idempotency<S> {
    /// The clone goes back, the service that was polled ready is used:
    /// <https://docs.rs/tower/latest/tower/trait.Service.html#be-careful-when-cloning-inner-services>
    #[inline]
    fn take_polled(&mut self) -> S {
        let clone = self.inner.clone();
        std::mem::replace(&mut self.inner, clone)
    }
}

impl<S> Idempotency<S> {
    /// For a request whose key may be in its body.
    fn read_first<ReqBody, ResBody>(&mut self, request: Request<ReqBody>) -> ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone,
        ReqBody: Body,
        ResBody: Body,
    {
        let (parts, body) = request.into_parts();
        match self.shared.head(&parts) {
            Ok((head, upload)) => {
                let service = self.take_polled();
                let unread = Some(Unread::new(service, parts, &self.shared, head));
                ResponseFuture { kind: Kind::Unread { body, upload, unread } }
            }
            Err(Refusal::ScopeUnknown) if Driven::passes(&parts, &self.shared.policy.scope) => {
                ResponseFuture::inner(self.inner.call(Request::from_parts(parts, RequestBody::inner(body))))
            }
            Err(refusal) => {
                let exit = self.shared.policy.exit_of(None, &parts);
                self.refuse(refusal, exit)
            }
        }
    }

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
            // probe, which has its response already.
            return ResponseFuture::refused(self.shared.policy.problems.refuse(Refusal::InProgress));
        };
        let service = self.take_polled();
        let (shared, key) = (Arc::clone(&self.shared), *work.attempt.key());
        let context = RequestContext { shared, key, later: None, seldom: None, rest: None, is_driven: true };
        let (mut parts, _) = request.into_parts();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        parts.extensions.insert(Driven { key, scope: self.shared.policy.scope.clone(), method, uri });
        let admitted = GuardedRequest::new(service, parts, context, None);
        ResponseFuture::attached(admitted.run_granted(work))
    }
}

pin_project! {
    /// The future of [`Idempotency`](crate::Idempotency).
    ///
    /// If you drop it before the claim, it stops. If you drop it after the claim, the
    /// operation continues in a task of its own, and a retry gets its response.
    pub struct ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<RequestBody<ReqBody>>>,
        ReqBody: Body,
        ResBody: Body,
    {
        #[pin]
        kind: Kind<S, ReqBody, ResBody>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<S, ReqBody, ResBody>
    where
        S: Service<Request<RequestBody<ReqBody>>>,
        ReqBody: Body,
        ResBody: Body,
    {
        /// Not guarded: no allocation, no task.
        Inner { #[pin] future: S::Future },
        /// Refused, or answered by what the store had at once.
        Refused { response: Option<Response<ResponseBody<ResBody>>> },
        /// The body is read before the claim: a slow upload holds no lease.
        Reading { #[pin] body: ReqBody, upload: Upload, request: Option<Box<GuardedRequest<S>>>, exit: Option<Box<Exit>> },
        /// The body is read before it is known whether there is a key.
        Unread { #[pin] body: ReqBody, upload: Upload, unread: Option<Box<Unread<S>>>},
        Working { work: Detached<Result<Response<ResponseBody<ResBody>>, S::Error>>, exit: Option<Box<Exit>> },
    }
}

impl<S, ReqBody, ResBody> ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<RequestBody<ReqBody>>>,
    ReqBody: Body,
    ResBody: Body,
{
    const fn inner(future: S::Future) -> Self {
        Self { kind: Kind::Inner { future } }
    }

    const fn refused(response: Response<ResponseBody<ResBody>>) -> Self {
        Self { kind: Kind::Refused { response: Some(response) } }
    }

    /// For work that ends with the completer that waits for it.
    fn attached<F>(work: F) -> Self
    where
        F: Future<Output = Result<Response<ResponseBody<ResBody>>, S::Error>> + Send + 'static,
        S::Error: Send + 'static,
        ResBody: Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Send,
    {
        Self { kind: Kind::Working { work: Detached::attached(work), exit: None } }
    }

    const fn reading(body: ReqBody, upload: Upload, request: Box<GuardedRequest<S>>, exit: Option<Box<Exit>>) -> Self {
        Self { kind: Kind::Reading { body, upload, request: Some(request), exit } }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    ReqBody: Body<Data = Bytes> + Send + 'static,
    ResBody: Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Send,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project().kind.project() {
                KindProj::Inner { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
                KindProj::Refused { response } => {
                    return response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                KindProj::Working { work, exit } => {
                    let response = Pin::new(work).poll(cx);
                    return if exit.is_none() { response } else { response.map_ok(|response| leave(exit, response)) };
                }
                KindProj::Unread { body, upload, unread } => {
                    let read = ready!(upload.poll(body, cx));
                    let Some(unread) = unread.take() else { return Poll::Pending };
                    decided(*unread, read)
                }
                KindProj::Reading { body, upload, request, exit } => {
                    let read = ready!(upload.poll(body, cx));
                    let Some(request) = request.take() else { return Poll::Pending };
                    match read {
                        Ok(content) => worked(request.work(content), exit.take()),
                        Err(refusal) => Kind::Refused { response: Some(leave(exit, request.refuse(refusal))) },
                    }
                }
            };
            self.as_mut().project().kind.set(next);
        }
    }
}

/// A function of its own: it is seldom.
fn decided<S, ReqBody, ResBody>(unread: Unread<S>, read: Result<Content, Refusal>) -> Kind<S, ReqBody, ResBody>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    ReqBody: Body<Data = Bytes> + Send + 'static,
    ResBody: Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Send,
{
    match unread.decide(read) {
        Decision::Pass(mut service, request) => Kind::Inner { future: service.call(request.map(RequestBody::read)) },
        Decision::Guard(request, content, exit) => worked(request.work(content), exit),
        Decision::Refuse(shared, refusal, mut exit) => {
            Kind::Refused { response: Some(leave(&mut exit, shared.policy.problems.refuse(refusal))) }
        }
    }
}

fn worked<S, ReqBody, ResBody>(
    work: Worked<ResBody, S::Error>,
    mut exit: Option<Box<Exit>>,
) -> Kind<S, ReqBody, ResBody>
where
    S: Service<Request<RequestBody<ReqBody>>>,
    ReqBody: Body,
    ResBody: Body,
{
    match work {
        Worked::Over(response) => Kind::Refused { response: Some(leave(&mut exit, response)) },
        Worked::GoesOn(work) => Kind::Working { work: work.into(), exit },
    }
}

fn leave<B: Body>(exit: &mut Option<Box<Exit>>, response: Response<ResponseBody<B>>) -> Response<ResponseBody<B>> {
    match exit.take() {
        None => response,
        Some(exit) => exit.leave(response),
    }
}

impl<S, ReqBody, ResBody> fmt::Debug for ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<RequestBody<ReqBody>>>,
    ReqBody: Body,
    ResBody: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
