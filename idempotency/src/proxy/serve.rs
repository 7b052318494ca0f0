//! Connections of clients.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::arrival::{Arrival, Peer};
use super::lanes::Lanes;
use super::log::Log;
use super::table::{Given, Table};
use super::tls;

/// How long a client may take for the head of a request, and for the first byte.
const HEAD: Duration = Duration::from_secs(30);

/// How long what is being sent may take at least, once nothing new is accepted.
const CLOSING: Duration = Duration::from_secs(5);

/// After an error of `accept`, such as too many open files, something has to end first.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Server {
    table: Arc<RwLock<Arc<Table>>>,
    log: Log,
    lanes: Lanes,
}

impl Server {
    pub(crate) fn new(table: Table, log: Log, lanes: Lanes) -> Self {
        Self { table: Arc::new(RwLock::new(Arc::new(table))), log, lanes }
    }

    /// Requests that come from now on meet this table.
    pub(crate) fn replace(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long what runs may take to end when the proxy stops.
    pub(crate) fn drain(&self) -> Duration {
        self.table().drain()
    }

    /// Serves until `stopped` resolves, to how long requests that have no key may still take; then
    /// sends what is being sent.
    pub(crate) async fn run(&self, listener: TcpListener, stopped: impl Future<Output = Duration>) {
        let connections = GracefulShutdown::new();
        let mut stopped = std::pin::pin!(stopped);
        let left = loop {
            tokio::select! {
                left = &mut stopped => break left,
                accepted = listener.accept() => {
                    if let Err(error) = accepted.and_then(|(stream, peer)| self.connect(stream, peer, &connections)) {
                        self.log.event("accept-failed", error.to_string());
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                }
            }
        };
        drop(listener);
        let left = left.max(CLOSING);
        self.log.event("closing", format!("what has no key, or is being sent, has {} seconds", left.as_secs()));
        // A client that never reads must not keep the process.
        if tokio::time::timeout(left, connections.shutdown()).await.is_err() {
            self.log.event("cut-off", "not all of it had ended");
        }
    }

    fn connect(&self, stream: TcpStream, peer: SocketAddr, connections: &GracefulShutdown) -> io::Result<()> {
        let (server, watcher) = (self.clone(), connections.watcher());
        let peer = peer.ip().to_canonical();
        // It is waited for in another runtime from now on.
        let stream = stream.into_std()?;
        self.lanes.serve(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => server.begin(stream, peer, watcher).await,
                Err(error) => server.log.event("accept-failed", error.to_string()),
            }
        })
    }

    async fn begin(self, stream: TcpStream, peer: IpAddr, watcher: Watcher) {
        let _ = stream.set_nodelay(true);
        // Which protocol it is, shows in the first bytes.
        if !matches!(tokio::time::timeout(HEAD, stream.readable()).await, Ok(Ok(()))) {
            return;
        }
        let Some(acceptor) = self.table().tls().cloned() else {
            return self.connected(stream, Peer::new(peer, false, None), watcher).await;
        };
        if let Ok(Ok((stream, names))) = tokio::time::timeout(HEAD, tls::accept(&acceptor, stream)).await {
            self.connected(stream, Peer::new(peer, true, names), watcher).await;
        }
    }

    async fn connected<S>(self, stream: S, peer: Peer, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
        builder.http2().timer(TokioTimer::new());
        let peer = Arc::new(peer);
        let service = service_fn(move |request| self.clone().serve(Arc::clone(&peer), request));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        // How a connection ends is the client's affair.
        let _ = watcher.watch(connection.into_owned()).await;
    }

    async fn serve(self, peer: Arc<Peer>, request: Request<Incoming>) -> Result<Response<Given>, Infallible> {
        let table = self.table();
        let served = table.is_logged().then(|| self.log.request(peer.address, &request));
        let arrival = Arrival { is_trusted: table.trusts(peer.address), peer, version: request.version() };
        let response = table.serve(arrival, request).await;
        if let Some(served) = served {
            served.responded(&response);
        }
        Ok(response)
    }
}
