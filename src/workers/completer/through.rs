//! The service through which a completer drives requests, with its types forgotten.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, StatusCode};
use tower_service::Service;

use super::body::StoredBody;
use crate::core::judged;
use crate::util::signal::lock;

pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A service with its types forgotten. Its response is on record, so only
/// the status is of use, and only if it did not come from the layer.
pub(super) type Drive = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<Option<StatusCode>> + Send + Sync>;

/// An [`http::Response`], whatever its body.
pub trait HttpResponse {
    /// The status code by which it is judged: its own, or what stands for the
    /// `grpc-status` in its head.
    fn status_code(&self) -> StatusCode;
}

impl<B> HttpResponse for http::Response<B> {
    fn status_code(&self) -> StatusCode {
        judged(self.status(), self.headers(), None)
    }
}

pub(super) fn through<S>(service: S) -> Drive
where
    S: Service<Request<StoredBody>> + Clone + Send + 'static,
    S::Response: HttpResponse,
    S::Future: Send,
{
    let service = Mutex::new(service);
    Arc::new(move |request| {
        let mut service = lock(&service).clone();
        Box::pin(async move {
            // An error is the service's own, and leaves the operation unfinished.
            poll_fn(|cx| service.poll_ready(cx)).await.ok()?;
            service.call(request.map(StoredBody::from)).await.ok().map(|response| response.status_code())
        })
    })
}
