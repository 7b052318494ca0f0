//! A TCP proxy that can be told to fail: the link between a client and a server.
//!
//! ```
//! use servers::{Fault, Proxy, Trap, Way};
//!
//! let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! let link = Proxy::to(server.local_addr().unwrap());
//! // Clients connect to `link.address()`.
//! link.apply(Fault::Lose(Way::Replies)); // requests arrive, replies are lost
//! link.heal();
//! // The commit reaches the server, its acknowledgement reaches nobody.
//! link.set_trap(Trap::after(Way::Requests, b"COMMIT", Fault::Lose(Way::Replies)));
//! ```

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From clients to the server.
    Requests,
    /// From the server to clients.
    Replies,
}

/// What goes wrong, until [`Proxy::heal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Connections are reset, those that come too.
    Cut,
    /// Connections are reset once; those that come are fine.
    Reset,
    /// Bytes of this way wait, and go on when it heals: a server may do late
    /// what its client gave up on.
    Hold(Way),
    /// Nothing goes either way, as with a cable pulled: bytes wait.
    HoldBoth,
    /// Bytes of this way are lost. What lost some is reset when it heals.
    Lose(Way),
    /// Bytes of both ways are lost. What lost some is reset when it heals.
    LoseBoth,
}

/// A fault that waits for bytes to pass. It springs once.
#[derive(Clone, Debug)]
pub struct Trap {
    way: Way,
    at: At,
    /// Whether the bytes that spring it still arrive.
    pass: bool,
    fault: Fault,
}

#[derive(Clone, Debug)]
enum At {
    Pattern(Vec<u8>),
    /// After so many more bytes, of all connections together.
    Bytes(u64),
}

impl Trap {
    /// When `pattern` was sent on: what came with it in one piece arrives, then
    /// comes the fault.
    pub fn after(way: Way, pattern: &[u8], fault: Fault) -> Self {
        Self { way, at: At::Pattern(pattern.to_vec()), pass: true, fault }
    }

    /// When `pattern` came: it is not sent on, what was before it is.
    pub fn before(way: Way, pattern: &[u8], fault: Fault) -> Self {
        Self { way, at: At::Pattern(pattern.to_vec()), pass: false, fault }
    }

    /// When `count` more bytes were sent on, and not one more.
    pub fn after_bytes(way: Way, count: u64, fault: Fault) -> Self {
        Self { way, at: At::Bytes(count), pass: false, fault }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Forward,
    Hold,
    Lose,
}

/// What holds for every connection.
#[derive(Clone, Copy, Debug)]
struct Rules {
    requests: Pass,
    replies: Pass,
    /// New connections are reset.
    refuse: bool,
    /// Connections that began before this many resets are reset.
    resets: u64,
    upstream: SocketAddr,
}

impl Rules {
    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => {
                self.refuse = true;
                self.resets += 1;
            }
            Fault::Reset => self.resets += 1,
            Fault::Hold(way) => *self.way(way) = Pass::Hold,
            Fault::Lose(way) => *self.way(way) = Pass::Lose,
            Fault::HoldBoth => (self.requests, self.replies) = (Pass::Hold, Pass::Hold),
            Fault::LoseBoth => (self.requests, self.replies) = (Pass::Lose, Pass::Lose),
        }
    }

    fn way(&mut self, way: Way) -> &mut Pass {
        match way {
            Way::Requests => &mut self.requests,
            Way::Replies => &mut self.replies,
        }
    }
}

#[derive(Debug)]
struct Shared {
    rules: watch::Sender<Rules>,
    trap: Mutex<Option<Trap>>,
    sprung: AtomicU64,
    open: AtomicU64,
    accepted: AtomicU64,
    requests: AtomicU64,
    replies: AtomicU64,
}

impl Shared {
    fn bytes(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Requests => &self.requests,
            Way::Replies => &self.replies,
        }
    }

    /// Whether the trap springs on `chunk`, and how much of it goes on before
    /// the fault does its work. The fault holds when this returns.
    fn spring(&self, way: Way, seen: &mut Vec<u8>, chunk: &[u8]) -> Option<usize> {
        let mut slot = self.trap.lock().unwrap();
        let trap = slot.as_mut().filter(|trap| trap.way == way)?;
        let through = match &mut trap.at {
            At::Bytes(left) if *left <= chunk.len() as u64 => *left as usize,
            At::Bytes(left) => {
                *left -= chunk.len() as u64;
                return None;
            }
            At::Pattern(pattern) => {
                let before = seen.len();
                seen.extend_from_slice(chunk);
                let at = seen.windows(pattern.len()).position(|window| window == pattern);
                let Some(at) = at else {
                    // What may be the start of it.
                    seen.drain(..seen.len().saturating_sub(pattern.len() - 1));
                    return None;
                };
                seen.clear();
                if trap.pass { chunk.len() } else { at.saturating_sub(before) }
            }
        };
        let fault = trap.fault;
        *slot = None;
        drop(slot);
        self.rules.send_modify(|rules| rules.apply(fault));
        self.sprung.fetch_add(1, Ordering::SeqCst);
        Some(through)
    }
}

/// Listens on a port of its own, and passes on to a server what it gets.
///
/// Works in a thread of its own, so it can be used with `async` and without.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// A proxy in front of `upstream`, which need not be there yet.
    pub fn to(upstream: SocketAddr) -> Self {
        let forward = Pass::Forward;
        let rules = Rules { requests: forward, replies: forward, refuse: false, resets: 0, upstream };
        let (rules, _) = watch::channel(rules);
        let [sprung, open, accepted, requests, replies] = [0; 5].map(AtomicU64::new);
        let shared = Shared { rules, trap: Mutex::new(None), sprung, open, accepted, requests, replies };
        let shared = Arc::new(shared);
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, address, runtime: Some(runtime) }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that come from now on go to `upstream`.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.shared.rules.send_modify(|rules| rules.upstream = upstream);
    }

    /// Fails so from now on. Faults add up.
    pub fn apply(&self, fault: Fault) {
        self.shared.rules.send_modify(|rules| rules.apply(fault));
    }

    /// All is well from now on, and no trap is set. What was held goes on; what
    /// lost bytes is reset.
    pub fn heal(&self) {
        *self.shared.trap.lock().unwrap() = None;
        self.shared.rules.send_modify(|rules| {
            (rules.requests, rules.replies, rules.refuse) = (Pass::Forward, Pass::Forward, false);
        });
    }

    /// Sets a trap, in place of one that did not spring.
    pub fn set_trap(&self, trap: Trap) {
        *self.shared.trap.lock().unwrap() = Some(trap);
    }

    /// How many traps have sprung.
    pub fn sprung(&self) -> u64 {
        self.shared.sprung.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many connections ever came, refused ones included.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes came this way, lost ones included.
    pub fn bytes(&self, way: Way) -> u64 {
        self.shared.bytes(way).load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Does not wait, so that it may be dropped inside a runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener for tokio");
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            let _closed = Closed(&shared);
            let _ = connect(client, &shared).await;
        });
    }
}

struct Closed<'s>(&'s Shared);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connect(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut changes = shared.rules.subscribe();
    let rules = *changes.borrow_and_update();
    // Closing sends a reset, whichever way this ends but the last.
    client.set_zero_linger()?;
    if rules.refuse {
        return Ok(());
    }
    let mut server = TcpStream::connect(rules.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let born = rules.resets;
    let gently = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let mut requests = Pump::new(Way::Requests, shared, from_client, to_server);
        let mut replies = Pump::new(Way::Replies, shared, from_server, to_client);
        loop {
            requests.flush().await?;
            replies.flush().await?;
            let rules = *changes.borrow_and_update();
            let healed = requests.healed(rules.requests) || replies.healed(rules.replies);
            if rules.resets > born || healed {
                break false;
            }
            if requests.over && replies.over {
                break true;
            }
            tokio::select! {
                // A fault goes first.
                biased;
                change = changes.changed() => if change.is_err() { break false },
                done = requests.turn(rules.requests) => done?,
                done = replies.turn(rules.replies) => done?,
            }
        }
    };
    if gently {
        socket_linger(&client)?;
    }
    Ok(())
}

/// Closes as usual after all.
fn socket_linger(client: &TcpStream) -> std::io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client, None::<Duration>)?;
    Ok(())
}

/// One way of one connection.
struct Pump<'c> {
    way: Way,
    shared: &'c Shared,
    from: ReadHalf<'c>,
    to: WriteHalf<'c>,
    chunk: Vec<u8>,
    /// How much of `chunk` was sent on.
    at: usize,
    /// How much of it is sent on whatever the rules say.
    through: usize,
    /// For a pattern that comes in pieces.
    seen: Vec<u8>,
    lost: bool,
    ended: bool,
    over: bool,
}

impl<'c> Pump<'c> {
    fn new(way: Way, shared: &'c Shared, from: ReadHalf<'c>, to: WriteHalf<'c>) -> Self {
        let (chunk, seen) = (Vec::with_capacity(64 << 10), Vec::new());
        let (lost, ended, over) = (false, false, false);
        Self { way, shared, from, to, chunk, at: 0, through: 0, seen, lost, ended, over }
    }

    /// Whether bytes are missing that would now be missed.
    fn healed(&self, pass: Pass) -> bool {
        self.lost && pass != Pass::Lose
    }

    /// One read or one write. Dropped between polls, it has done nothing.
    async fn turn(&mut self, pass: Pass) -> std::io::Result<()> {
        if self.over {
            return std::future::pending().await;
        }
        let waiting = self.at < self.chunk.len();
        match pass {
            Pass::Hold if waiting || self.ended => std::future::pending().await,
            Pass::Lose if waiting || self.ended => {
                self.lost = true;
                self.at = self.chunk.len();
                self.over = self.ended;
                Ok(())
            }
            Pass::Forward if waiting => {
                self.at += self.to.write(&self.chunk[self.at..]).await?;
                Ok(())
            }
            Pass::Forward if self.ended => {
                self.over = true;
                self.to.shutdown().await
            }
            _ => self.read().await,
        }
    }

    /// What goes on before the fault that it sprang, whatever the rules say.
    async fn flush(&mut self) -> std::io::Result<()> {
        if self.at < self.through {
            self.to.write_all(&self.chunk[self.at..self.through]).await?;
            self.at = self.through;
        }
        Ok(())
    }

    async fn read(&mut self) -> std::io::Result<()> {
        self.chunk.clear();
        (self.at, self.through) = (0, 0);
        let count = self.from.read_buf(&mut self.chunk).await?;
        self.ended = count == 0;
        self.shared.bytes(self.way).fetch_add(count as u64, Ordering::SeqCst);
        if let Some(through) = self.shared.spring(self.way, &mut self.seen, &self.chunk) {
            self.through = through;
        }
        Ok(())
    }
}
