//! A run that is a request to a service, such as the application itself.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;

use http::header::HeaderValue;
use http::{HeaderName, Request, Response, StatusCode};
use tower_service::Service;

use super::timing::Period;
use crate::engine::operation::Operation;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Work that is a request: it sends what `request` makes of the period to `service`, such as
/// the application's own router, with an `Idempotency-Key` that is the same however often the
/// run is tried. So the work may stand behind an [`IdempotencyLayer`](crate::IdempotencyLayer),
/// here or, with an HTTP client for a service, in another process and another language.
///
/// A 2xx is the end of the run, 202 included: the service that accepted it finishes it. With any other
/// status, or an error of the service, the run has failed, and is tried again as the
/// [`Schedule`](super::Schedule) says.
///
/// ```
/// use axum::{Router, body::Body, http::Request, routing::post};
/// use tower_idempotency::schedule::{Schedule, Scheduler, Timing, send};
/// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).required();
/// let app = Router::new().route("/exports", post(|day: String| async move { day })).layer(layer.clone());
/// let nightly = Schedule::new("daily-export", Timing::daily("Europe/Zurich", "02:00")?);
/// let request = |period: &_| Request::post("/exports").body(Body::from(format!("{period}"))).expect("a request");
/// let scheduler = Scheduler::new(&layer).schedule(nightly, send(app, request))?;
/// # drop(scheduler);
/// # Ok(()) }
/// ```
///
/// # Caveats
///
/// - A service that has no idempotency runs once more each time the run is tried.
/// - A service that still works on an earlier try responds 409, which counts as a try: let
///   [`max_tries`](super::Schedule::max_tries) and [`backoff`](super::Schedule::backoff) last longer
///   than its work, or have it respond 202.
/// - A [`deadline`](super::Schedule::deadline) that cuts a request off says nothing of what the service
///   does about it.
/// - An HTTP client that follows redirects may make a `GET` of the request, and a 200 for a page of
///   another kind: have it follow none.
pub fn send<S, B, R, F>(service: S, request: F) -> impl Fn(Period, Operation) -> Sending + Send + Sync + 'static
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Error: fmt::Display,
    S::Future: Send,
    F: Fn(&Period) -> Request<B> + Send + Sync + 'static,
    B: Send + 'static,
    R: Send,
{
    let request = Arc::new(request);
    move |period, operation| {
        let (mut service, request) = (service.clone(), Arc::clone(&request));
        Box::pin(async move {
            let mut request = request(&period);
            if let Ok(key) = HeaderValue::try_from(format!("\"{}\"", operation.step_key("request"))) {
                request.headers_mut().insert(KEY, key);
            }
            let failed = |error: S::Error| SendError::Service(error.to_string());
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
            match service.call(request).await.map_err(failed)?.status() {
                status if status.is_success() => Ok(()),
                status => Err(SendError::Status(status)),
            }
        })
    }
}

type Sending = std::pin::Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>>;

/// Why a request of a schedule was not the end of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The service failed, with this error.
    Service(String),
    /// It responded with this status.
    Status(StatusCode),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => f.write_str(error),
            Self::Status(status) => write!(f, "the service responded {status}"),
        }
    }
}

impl std::error::Error for SendError {}
