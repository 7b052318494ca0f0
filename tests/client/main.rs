//! The client's side: what is sent again, with which key, and when a call ends. Over scripted
//! services, and over the layer itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod follow;
mod keys;
mod outbox;
mod retries;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_idempotency::Backoff;
use tower_idempotency::client::{ClientError, ReceivedBody, RetryLayer, Sent, Server};

use crate::support::bodies::{Failure, TestBody, full};

/// The body of a request, such as a client's service takes.
pub(crate) struct Upload(pub(crate) TestBody);

impl From<Bytes> for Upload {
    fn from(bytes: Bytes) -> Self {
        Self(full(bytes))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// What a server does with a request.
pub(crate) enum Does {
    Responds(Response<TestBody>),
    Fails,
    /// It never responds.
    Hangs,
}

pub(crate) fn responds(status: u16, headers: &[(&str, &str)], body: &'static str) -> Does {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Does::Responds(response.body(full(body)).unwrap())
}

/// A problem of this crate, of this name.
pub(crate) fn problem(status: u16, name: &str) -> Does {
    let body = format!(r#"{{"type":"urn:tower-idempotency:problem:{name}","code":"{name}","status":{status}}}"#);
    let response = Response::builder().status(status).header("content-type", "application/problem+json");
    Does::Responds(response.body(full(body)).unwrap())
}

/// What came to the server, and when.
pub(crate) struct Seen {
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
}

impl Seen {
    pub(crate) fn key(&self) -> Option<&str> {
        self.head.headers.get("idempotency-key").map(|key| key.to_str().unwrap())
    }
}

/// A server that follows a script, and then responds 200.
#[derive(Clone, Default)]
pub(crate) struct Remote {
    script: Arc<Mutex<VecDeque<Does>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Remote {
    pub(crate) fn that(script: impl IntoIterator<Item = Does>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), ..Self::default() }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Service<Request<Upload>> for Remote {
    type Response = Response<TestBody>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Response<TestBody>, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Upload>) -> Self::Future {
        let remote = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            remote.seen.lock().unwrap().push(Seen { head, body, at: Instant::now() });
            let does = remote.script.lock().unwrap().pop_front();
            match does.unwrap_or_else(|| responds(200, &[], "done")) {
                Does::Responds(response) => Ok(response),
                Does::Fails => Err(Failure("the connection was reset")),
                Does::Hangs => std::future::pending().await,
            }
        })
    }
}

pub(crate) const ORIGIN: &str = "https://api.example.com";

/// Pauses of up to 10 ms.
pub(crate) fn layer() -> RetryLayer {
    RetryLayer::new(Server::honours_keys(ORIGIN).unwrap())
        .backoff(Backoff::new(Duration::from_millis(10), Duration::from_millis(10)))
}

pub(crate) fn request(method: Method) -> Request<Upload> {
    Request::builder()
        .method(method)
        .uri(format!("{ORIGIN}/payments"))
        .header("authorization", "Bearer secret")
        .header("content-type", "text/plain")
        .body(Upload(full("1999")))
        .unwrap()
}

pub(crate) fn post() -> Request<Upload> {
    request(Method::POST)
}

/// What the caller got.
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) extensions: http::Extensions,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn tries(&self) -> u32 {
        self.extensions.get::<Sent>().unwrap().tries()
    }
}

pub(crate) async fn got<R: Body<Data = Bytes> + Unpin>(response: Response<ReceivedBody<R>>) -> Got
where
    R::Error: std::fmt::Debug,
{
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Got { status: parts.status, headers: parts.headers, extensions: parts.extensions, body }
}

pub(crate) async fn call(layer: &RetryLayer, remote: &Remote, request: Request<Upload>) -> Result<Got, ClientError> {
    let response = layer.layer(remote.clone()).oneshot(request).await?;
    Ok(got(response).await)
}

/// With how long it took.
pub(crate) async fn elapsed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = work.await;
    (output, start.elapsed())
}
