//! One server for one handler, with or without the layer.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{Background, IdempotencyLayer, RequestBody, Scope, StatusService};

use crate::body::{Broken, Playing, Script};

/// Which protocol a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and 1.0.
    H1,
    /// HTTP/2, with prior knowledge.
    H2,
    /// Both on one port, as the client begins.
    Either,
}

/// What a handler answers.
#[derive(Clone, Debug)]
pub struct Handler {
    /// The status code.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Script,
}

impl Handler {
    fn answer(&self) -> Response<Playing> {
        let mut response = Response::new(self.body.clone().play());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(value).unwrap();
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
        response
    }
}

/// The answer to a second request on the same connection.
fn next() -> Response<Playing> {
    let mut response = Response::new(Script::new([crate::Part::Data(4)]).play());
    response.headers_mut().insert("x-next", HeaderValue::from_static("secret"));
    response
}

/// A server on a port of its own. It takes no connections any more once the last clone of this
/// is dropped: each layer looks at its store every few seconds, and thousands that linger would
/// leave a test of many servers no time.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is.
    pub addr: SocketAddr,
    runs: Arc<AtomicUsize>,
    _accepting: Arc<AbortOnDropHandle<()>>,
}

impl Server {
    /// The handler at `/`, and another answer at `/next`.
    pub async fn plain(protocol: Protocol, handler: &Handler) -> Self {
        let (runs, answer) = answering(handler);
        Self::start(protocol, runs, service_fn(move |request: Request<Incoming>| answer(request.uri().path()))).await
    }

    /// The same under the layer.
    pub async fn guarded(
        protocol: Protocol,
        handler: &Handler,
        set: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer,
    ) -> Self {
        let (runs, answer) = answering(handler);
        let layer = set(IdempotencyLayer::new(MemoryStore::new(), Scope::shared()));
        let service = service_fn(move |request: Request<RequestBody<Incoming>>| answer(request.uri().path()));
        Self::start(protocol, runs, layer.layer(service)).await
    }

    /// The same with a status resource beside it, under `/operations`. No
    /// completer runs what is accepted.
    pub async fn with_status(protocol: Protocol, handler: &Handler) -> Self {
        let (runs, answer) = answering(handler);
        let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).resumable();
        let layer = layer.background(Background::at("/operations"));
        let service = service_fn(move |request: Request<RequestBody<Incoming>>| answer(request.uri().path()));
        let (guarded, status) = (layer.layer(service), StatusService::new(&layer));
        let service = service_fn(move |request: Request<Incoming>| {
            let (guarded, status) = (guarded.clone(), status.clone());
            async move {
                if request.uri().path().starts_with("/operations") {
                    let response = status.oneshot(request).await?;
                    return Ok(response.map(|body| boxed(body.map_err(|_| Broken))));
                }
                Ok(guarded.oneshot(request).await?.map(boxed))
            }
        });
        Self::start(protocol, runs, service).await
    }

    /// How often the handler ran.
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Any service; it counts its runs itself.
    pub async fn serving<S, B>(protocol: Protocol, runs: &Arc<AtomicUsize>, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::start(protocol, Arc::clone(runs), service).await
    }

    async fn start<S, B>(protocol: Protocol, runs: Arc<AtomicUsize>, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (io, service) = (TokioIo::new(stream), TowerToHyperService::new(service.clone()));
                // A connection that ends in an error is what many tests want.
                match protocol {
                    Protocol::H1 => {
                        let http = http1::Builder::new().auto_date_header(false).serve_connection(io, service);
                        tokio::spawn(async { drop(http.with_upgrades().await) });
                    }
                    Protocol::H2 => {
                        let mut http = http2::Builder::new(TokioExecutor::new());
                        let http = http.auto_date_header(false).serve_connection(io, service);
                        tokio::spawn(async { drop(http.await) });
                    }
                    Protocol::Either => {
                        let mut http = auto::Builder::new(TokioExecutor::new());
                        http.http1().auto_date_header(false).http2().auto_date_header(false);
                        tokio::spawn(async move { drop(http.serve_connection(io, service).await) });
                    }
                }
            }
        });
        Self { addr, runs, _accepting: Arc::new(AbortOnDropHandle::new(accepting)) }
    }
}

fn boxed(body: impl Body<Data = Bytes, Error = Broken> + Send + 'static) -> UnsyncBoxBody<Bytes, Broken> {
    body.boxed_unsync()
}

type Answer = std::future::Ready<Result<Response<Playing>, Infallible>>;

fn answering(handler: &Handler) -> (Arc<AtomicUsize>, impl Fn(&str) -> Answer + Clone + Send + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let (count, handler) = (Arc::clone(&runs), handler.clone());
    let answer = move |path: &str| {
        if path == "/next" {
            return std::future::ready(Ok(next()));
        }
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(handler.answer()))
    };
    (runs, answer)
}
