//! A proxy on one port that does with each connection what its schedule says.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::fault::{Action, Fault};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    listening: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// In front of this server. The first connections have these faults, later ones none.
    pub async fn in_front_of(server: SocketAddr, faults: impl IntoIterator<Item = Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let faults = Arc::new(Mutex::new(faults.into_iter().collect::<VecDeque<_>>()));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let listening = tokio::spawn(async move {
            // Those that are left end with the proxy.
            let mut tasks = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let fault = faults.lock().expect("no panic").pop_front();
                tasks.spawn(async move {
                    let _ = serve(client, server, fault).await;
                });
            }
        });
        Self { address, connections, listening }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A message as it came, and how long its head is.
struct Message {
    bytes: Vec<u8>,
    head: usize,
}

/// Reads one message with a `Content-Length`. `None` if it ends before.
async fn read(from: &mut TcpStream) -> io::Result<Option<Message>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if bytes.len() >= head + length.unwrap_or(0_usize) {
                return Ok(Some(Message { bytes, head }));
            }
        }
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// Requests on one connection: the fault is that of the first one.
async fn serve(mut client: TcpStream, server: SocketAddr, mut fault: Option<Fault>) -> io::Result<()> {
    let mut upstream = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    while let Some(request) = read(&mut client).await? {
        let Some(fault) = fault.take() else {
            upstream.write_all(&request.bytes).await?;
            let Some(response) = read(&mut upstream).await? else { return Ok(()) };
            client.write_all(&response.bytes).await?;
            continue;
        };
        if !exchange(&mut client, &mut upstream, &request, fault).await? {
            return end(client, upstream, fault.action).await;
        }
    }
    Ok(())
}

/// As far as the fault lets it come, or to its end if that is a mere delay.
async fn exchange(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    request: &Message,
    fault: Fault,
) -> io::Result<bool> {
    let mut random = fastrand::Rng::with_seed(fault.seed);
    let cut = fault.place.of_request(request.head, request.bytes.len(), &mut random);
    upstream.write_all(&request.bytes[..cut]).await?;
    if cut < request.bytes.len() {
        let Some(pause) = fault.pause() else { return Ok(false) };
        tokio::time::sleep(pause).await;
        upstream.write_all(&request.bytes[cut..]).await?;
    }
    let Some(response) = read(upstream).await? else { return Ok(false) };
    let cut = fault.place.of_response(response.head, response.bytes.len(), &mut random).unwrap_or(0);
    client.write_all(&response.bytes[..cut]).await?;
    let Some(pause) = fault.pause() else { return Ok(false) };
    tokio::time::sleep(pause).await;
    client.write_all(&response.bytes[cut..]).await?;
    Ok(true)
}

async fn end(mut client: TcpStream, upstream: TcpStream, action: Action) -> io::Result<()> {
    match action {
        Action::Reset => {
            for stream in [&client, &upstream] {
                stream.set_zero_linger()?;
            }
        }
        Action::Stall => {
            // Until the client gives up: then the server sees an end, too.
            let _ = tokio::time::timeout(PATIENCE, client.read(&mut [0; 64])).await;
        }
        Action::Says(status) => {
            let response = format!("HTTP/1.1 {status} Not Now\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            client.write_all(response.as_bytes()).await?;
        }
        Action::Close | Action::Delay(_) => {}
    }
    Ok(())
}
