//! The service behind: requests go out here.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::uri::{self, Authority, InvalidUriParts, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tower::Service;
use tower_idempotency::{Operation, Outcome, RequestBody};

use super::answer::Trouble;
use super::arrival::Arrival;
use super::config::values::Upstream as Address;
use super::forward;
use super::lanes::{self, OfEach};
use super::upload::{Upload, Wait};

/// How long a connection may take to be made, with the look-up of its name. At most half of what the upstream has
/// for its response: a request that was not sent must not count as one that may have been.
const CONNECT: Duration = Duration::from_secs(5);

/// For how long a connection is kept that is not used. Shorter than what services allow: if one
/// closes a connection just when a request goes out on it, the outcome of that is not known.
const IDLE: Duration = Duration::from_secs(1);

/// The name of the only step there is, of which the upstream gets the key.
const STEP: &str = "upstream";

type Sent = Upload<RequestBody<Incoming>>;
pub(crate) type Answered = Either<Incoming, Full<Bytes>>;

type BoxError = Box<dyn Error + Send + Sync>;

/// Connections to one service. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    /// One for each lane: a connection is used only where it is driven.
    clients: Arc<OfEach<Kind>>,
    /// By which the pool knows the service. It hashes and compares it for each request, byte by
    /// byte; as there is no other, it is short, but for HTTP/2, where it is sent.
    authority: Authority,
    /// For a request without one.
    host: HeaderValue,
    is_http2: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(Client<InTime<HttpConnector>, Sent>),
    Unix(Client<InTime<UnixConnector>, Sent>),
}

impl Connections {
    /// `timeout` is the shortest that an upstream has for its response.
    pub(crate) fn to(address: &Address, timeout: Duration) -> Self {
        let limit = CONNECT.min(timeout / 2);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let is_http2 = matches!(address, Address::H2c(_));
        builder.http2_only(is_http2);
        let client = || match address {
            Address::Http(authority) | Address::H2c(authority) => {
                let mut connector = HttpConnector::new();
                connector.set_nodelay(true);
                // It has all the parts that it needs.
                let to = at(authority.clone(), PathAndQuery::from_static("/")).unwrap_or_default();
                Kind::Tcp(builder.build(InTime { connector, limit, to }))
            }
            Address::Unix(path) => {
                let (connector, to) = (UnixConnector(path.clone()), Uri::default());
                Kind::Unix(builder.build(InTime { connector, limit, to }))
            }
        };
        let clients = Arc::new(OfEach::new(client));
        let host = match address {
            Address::Http(authority) | Address::H2c(authority) => authority.clone(),
            Address::Unix(_) => Authority::from_static("localhost"),
        };
        let authority = if is_http2 { host.clone() } else { Authority::from_static("s") };
        // The text of an authority is always that of a header.
        let host = HeaderValue::from_str(host.as_str()).unwrap_or(HeaderValue::from_static("localhost"));
        Self { clients, authority, host, is_http2 }
    }

    fn request(&self, request: Request<Sent>) -> ResponseFuture {
        match self.clients.here() {
            Kind::Tcp(client) => client.request(request),
            Kind::Unix(client) => client.request(request),
        }
    }

    /// The same path and query, at the service.
    fn target(&self, uri: &Uri) -> Result<Uri, Trouble> {
        let path = uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
        at(self.authority.clone(), path.ok_or(Trouble::NoTarget)?.clone()).map_err(|_| Trouble::NoTarget)
    }
}

fn at(authority: Authority, path: PathAndQuery) -> Result<Uri, InvalidUriParts> {
    let mut parts = uri::Parts::default();
    (parts.scheme, parts.authority, parts.path_and_query) = (Some(Scheme::HTTP), Some(authority), Some(path));
    Uri::from_parts(parts)
}

/// Connects to a socket of this machine.
#[derive(Clone, Debug)]
struct UnixConnector(PathBuf);

impl Service<Uri> for UnixConnector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}

/// Connects to the service, and gives up what takes longer.
#[derive(Clone, Debug)]
struct InTime<C> {
    connector: C,
    limit: Duration,
    to: Uri,
}

impl<C> Service<Uri> for InTime<C>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connected = tokio::time::timeout(self.limit, self.connector.call(self.to.clone()));
        Box::pin(async move { connected.await?.map_err(Into::into) })
    }
}

/// How the requests of one route are sent.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) timeout: Duration,
    /// What a client says in these does not get to the upstream.
    pub(crate) hidden: Vec<HeaderName>,
    /// The upstream responds so where nothing happened.
    pub(crate) nothing_happened: Vec<StatusCode>,
    /// The header that has the key of the step, where the upstream goes by it.
    pub(crate) step_key: Option<HeaderName>,
}

/// The service behind, for one route. Cloned a few times for each request.
#[derive(Clone, Debug)]
pub(crate) struct Upstream(Arc<Behind>);

#[derive(Debug)]
struct Behind {
    connections: Connections,
    manner: Manner,
}

impl Upstream {
    pub(crate) fn new(connections: Connections, manner: Manner) -> Self {
        Self(Arc::new(Behind { connections, manner }))
    }
}

impl Behind {
    /// Begins to send it. Not in the future that waits for the response: whatever is moved into
    /// one is copied.
    fn send(self: Arc<Self>, mut request: Request<RequestBody<Incoming>>) -> Result<Sending, Trouble> {
        // Of a guarded request all has come.
        let wait = request.extensions().get::<Operation>().is_none().then(Wait::begin);
        let upgrade = self.prepare(&mut request)?;
        let client = upgrade.then(|| hyper::upgrade::on(&mut request));
        let sent = self.connections.request(request.map(|body| Upload::new(body, wait.clone())));
        Ok(Sending { behind: self, sent, wait, client })
    }

    /// Makes it the request to the service; whether it asks for another protocol.
    fn prepare<B>(&self, request: &mut Request<B>) -> Result<bool, Trouble> {
        let uri = std::mem::replace(request.uri_mut(), Uri::from_static("/"));
        *request.uri_mut() = self.connections.target(&uri)?;
        let operation = request.extensions_mut().remove::<Operation>();
        let arrival = request.extensions_mut().remove::<Arrival>().ok_or(Trouble::NoTarget)?;
        let upgrade = forward::wanted_upgrade(request.headers(), arrival.version);
        let upgrade = upgrade.filter(|_| operation.is_none() && !self.connections.is_http2);
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        forward::request(headers, &uri, &arrival);
        for name in &self.manner.hidden {
            headers.remove(name);
        }
        if self.connections.is_http2 {
            // It would contradict `:authority`, which is the upstream's: RFC 9113, section 8.3.1.
            headers.remove(HOST);
        } else if !headers.contains_key(HOST) {
            headers.insert(HOST, self.connections.host.clone());
        }
        if let Some(operation) = operation {
            headers.insert(forward::ATTEMPT, operation.attempt().into());
            if let Some(name) = &self.manner.step_key {
                let key = HeaderValue::from_str(operation.step_key(STEP).to_uuid().as_str());
                headers.insert(name, key.map_err(|_| Trouble::NoTarget)?);
            }
        }
        let upgrades = upgrade.is_some();
        if let Some(protocol) = upgrade {
            headers.insert(UPGRADE, protocol);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        Ok(upgrades)
    }
}

/// A request that is on its way.
struct Sending {
    behind: Arc<Behind>,
    sent: ResponseFuture,
    /// Of one that is not guarded.
    wait: Option<Wait>,
    /// Of one that asks for another protocol.
    client: Option<OnUpgrade>,
}

impl Sending {
    async fn response(self) -> Result<Response<Incoming>, Trouble> {
        let Self { behind, sent, wait, client } = self;
        let sent = match wait {
            Some(wait) => wait.at_most(behind.manner.timeout, sent).await,
            None => tokio::time::timeout(behind.manner.timeout, sent).await.map_err(|_| Trouble::TooSlow),
        };
        let mut response = sent?.map_err(|error| trouble(&error))?;
        let switched =
            (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| response.headers_mut().remove(UPGRADE));
        forward::strip(response.headers_mut());
        match (switched.flatten(), client) {
            (Some(protocol), Some(client)) => {
                let server = hyper::upgrade::on(&mut response);
                let left = lanes::one_more();
                tokio::spawn(async move {
                    let _left = left;
                    tunnel(client, server).await;
                });
                response.headers_mut().insert(UPGRADE, protocol);
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
            (None, _) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {}
            // A switch that was not asked for.
            _ => return Err(Trouble::BrokenOff),
        }
        // Each connection has a version of its own (RFC 9110, section 2.5).
        *response.version_mut() = Version::HTTP_11;
        if behind.manner.nothing_happened.contains(&response.status()) {
            response.extensions_mut().insert(Outcome::NothingHappened);
        }
        Ok(response)
    }
}

/// Both sides speak another protocol now: what comes from one goes to the other, to the end.
async fn tunnel(client: OnUpgrade, server: OnUpgrade) {
    if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
        // That one of them left is how it ends.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
    }
}

/// What an error says of the request: only if it can't have arrived is the key free.
fn trouble(error: &ClientError) -> Trouble {
    if error.is_connect() {
        return Trouble::Unreachable;
    }
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        let refused = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason);
        if refused == Some(h2::Reason::REFUSED_STREAM) {
            return Trouble::NotTaken;
        }
        cause = error.source();
    }
    Trouble::BrokenOff
}

impl Service<Request<RequestBody<Incoming>>> for Upstream {
    type Response = Response<Answered>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Incoming>>) -> Self::Future {
        let sending = Arc::clone(&self.0).send(request);
        Box::pin(async move {
            let response = match sending {
                Ok(sending) => sending.response().await,
                Err(trouble) => Err(trouble),
            };
            Ok(match response {
                Ok(response) => response.map(Either::Left),
                Err(trouble) => trouble.response().map(Either::Right),
            })
        })
    }
}
