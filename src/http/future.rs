//! The future of a guarded service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::http::body::{RequestBody, ResponseBody};
use crate::http::guarded::run::GuardedRequest;
use crate::http::upload::Upload;
use crate::util::detached::Detached;

pin_project! {
    /// The future of [`Idempotency`](crate::Idempotency).
    ///
    /// Dropped before the claim, it stops. Dropped after it, the operation
    /// goes on in a task of its own, and a retry gets its answer.
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
        Theirs { #[pin] future: S::Future },
        Refused { response: Option<Response<ResponseBody<ResBody>>> },
        /// The body is read before the claim: a slow upload holds no lease.
        Reading { #[pin] body: ReqBody, upload: Upload, request: Option<Box<GuardedRequest<S>>> },
        Working { work: Detached<Result<Response<ResponseBody<ResBody>>, S::Error>> },
    }
}

impl<S, ReqBody, ResBody> ResponseFuture<S, ReqBody, ResBody>
where
    S: Service<Request<RequestBody<ReqBody>>>,
    ReqBody: Body,
    ResBody: Body,
{
    pub(crate) const fn theirs(future: S::Future) -> Self {
        Self { kind: Kind::Theirs { future } }
    }

    pub(crate) const fn refused(response: Response<ResponseBody<ResBody>>) -> Self {
        Self { kind: Kind::Refused { response: Some(response) } }
    }

    /// For work that ends with the completer that waits for it.
    pub(crate) fn attached<F>(work: F) -> Self
    where
        F: Future<Output = Result<Response<ResponseBody<ResBody>>, S::Error>> + Send + 'static,
        S::Error: Send + 'static,
        ResBody: Send + 'static,
        ResBody::Data: Send,
        ResBody::Error: Send,
    {
        Self { kind: Kind::Working { work: Detached::attached(work) } }
    }

    pub(crate) const fn reading(body: ReqBody, upload: Upload, request: Box<GuardedRequest<S>>) -> Self {
        Self { kind: Kind::Reading { body, upload, request: Some(request) } }
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
                KindProj::Theirs { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(response.map(ResponseBody::theirs)));
                }
                KindProj::Refused { response } => {
                    return response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                KindProj::Working { work } => return Pin::new(work).poll(cx),
                KindProj::Reading { body, upload, request } => {
                    let read = ready!(upload.poll(body, cx));
                    let Some(request) = request.take() else { return Poll::Pending };
                    match read {
                        Ok(content) => Kind::Working { work: Detached::new(request.work(content)) },
                        Err(refusal) => Kind::Refused { response: Some(request.refuse(refusal)) },
                    }
                }
            };
            self.as_mut().project().kind.set(next);
        }
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
