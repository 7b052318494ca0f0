//! Load over sockets, from one thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::LocalSet;

use crate::Failure;

/// Which key a request has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    None,
    /// One that no request had.
    Fresh,
    /// The same one for all.
    One,
    /// One of so many, in no order that a cache could like.
    OneOf(u64),
    /// Each of so many, once.
    Each(u64),
}

/// A number that no other request of this run has.
pub(crate) fn fresh() -> u64 {
    static FRESH: AtomicU64 = AtomicU64::new(1_000_000);
    FRESH.fetch_add(1, Ordering::Relaxed)
}

/// Where the requests go, and with which keys.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) server: SocketAddr,
    pub(crate) path: String,
    pub(crate) keys: Keys,
    pub(crate) connections: usize,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// In microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Seen {
    fn of(mut took: Vec<Duration>, elapsed: Duration) -> Result<Self, Failure> {
        took.sort_unstable();
        let at = |part: f64| took.get((took.len().max(1) as f64 * part) as usize).map(|took| took.as_secs_f64() * 1e6);
        let (Some(p50), Some(p99)) = (at(0.5), at(0.99)) else { return Err("no request was answered".into()) };
        Ok(Self { requests: took.len() as u64, seconds: elapsed.as_secs_f64(), p50, p99 })
    }
}

/// How long to go on.
#[derive(Clone, Copy)]
enum Until {
    Time(Instant),
    /// All of them together.
    Count(u64),
}

impl Load {
    /// Keeps its connections busy for about `slice`.
    pub(crate) fn run(&self, runtime: &Runtime, slice: Duration) -> Result<Seen, Failure> {
        self.until(runtime, Until::Time(Instant::now() + slice))
    }

    /// So many requests.
    pub(crate) fn count(&self, runtime: &Runtime, requests: u64) -> Result<Seen, Failure> {
        self.until(runtime, Until::Count(requests))
    }

    fn until(&self, runtime: &Runtime, until: Until) -> Result<Seen, Failure> {
        let sent = Arc::new(AtomicU64::new(0));
        let (took, elapsed) = self.connect(runtime, || busy(self.clone(), until, Arc::clone(&sent)))?;
        Seen::of(took, elapsed)
    }

    /// What each request took, over all connections, and all of them together.
    fn connect<F>(&self, runtime: &Runtime, connection: impl Fn() -> F) -> Result<(Vec<Duration>, Duration), Failure>
    where
        F: Future<Output = Result<Vec<Duration>, Failure>> + 'static,
    {
        let (tasks, begin) = (LocalSet::new(), Instant::now());
        let connections: Vec<_> = (0..self.connections).map(|_| tasks.spawn_local(connection())).collect();
        let took = tasks.block_on(runtime, async {
            let mut took = Vec::new();
            for connection in connections {
                took.append(&mut connection.await??);
            }
            Ok::<_, Failure>(took)
        })?;
        Ok((took, begin.elapsed()))
    }

    /// From each of so many requests, one after another, until the operation that it asked for has run; for about
    /// `most` at the longest. `/runs` says how many have.
    pub(crate) fn until_done(&self, runtime: &Runtime, requests: u32, most: Duration) -> Result<Seen, Failure> {
        let begin = Instant::now();
        let took = runtime.block_on(async {
            let (mut connection, mut looks) = (Connection::open(self).await?, Looks::at(self.server).await?);
            let (mut took, mut done) = (Vec::new(), looks.runs().await?);
            while took.len() < requests as usize && begin.elapsed() < most {
                let asked = Instant::now();
                connection.ask(fresh()).await?.ok()?;
                done += 1;
                while looks.runs().await? < done {
                    if asked.elapsed() > 10 * most {
                        return Err("an accepted operation is not done".into());
                    }
                }
                took.push(asked.elapsed());
            }
            Ok::<_, Failure>(took)
        })?;
        Seen::of(took, begin.elapsed())
    }

    /// All connections send the same new key at the same moment, again and again. Whatever
    /// the answers say counts. Also says how many keys there were.
    pub(crate) fn bursts(&self, runtime: &Runtime, slice: Duration) -> Result<(Seen, u64), Failure> {
        let end = Instant::now() + slice;
        let all = Arc::new(Barrier::new(self.connections));
        let key = Arc::new(AtomicU64::new(0));
        let (took, elapsed) = self.connect(runtime, || burst(self.clone(), end, Arc::clone(&all), Arc::clone(&key)))?;
        let keys = (took.len() / self.connections) as u64;
        Ok((Seen::of(took, elapsed)?, keys))
    }
}

async fn busy(load: Load, until: Until, sent: Arc<AtomicU64>) -> Result<Vec<Duration>, Failure> {
    let mut connection = Connection::open(&load).await?;
    let mut took = Vec::new();
    loop {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let is_over = match until {
            Until::Time(end) => Instant::now() >= end,
            Until::Count(count) => number >= count,
        };
        if is_over {
            return Ok(took);
        }
        let key = match load.keys {
            Keys::None | Keys::Fresh => fresh(),
            Keys::One => 17,
            // A prime: it visits all of them.
            Keys::OneOf(count) => number.wrapping_mul(7919) % count,
            Keys::Each(count) => number % count,
        };
        let begin = Instant::now();
        connection.ask(key).await?.ok()?;
        took.push(begin.elapsed());
    }
}

async fn burst(load: Load, end: Instant, all: Arc<Barrier>, key: Arc<AtomicU64>) -> Result<Vec<Duration>, Failure> {
    let mut connection = Connection::open(&load).await?;
    let mut took = Vec::new();
    loop {
        // One of them says which key comes next, or that there is none.
        if all.wait().await.is_leader() {
            key.store(if Instant::now() < end { fresh() } else { 0 }, Ordering::Relaxed);
        }
        all.wait().await;
        let key = key.load(Ordering::Relaxed);
        if key == 0 {
            return Ok(took);
        }
        let begin = Instant::now();
        connection.ask(key).await?;
        took.push(begin.elapsed());
    }
}

/// What `GET path` says, as a number.
pub(crate) fn number(runtime: &Runtime, server: SocketAddr, path: &str) -> Result<u64, Failure> {
    let body = runtime.block_on(fetch(server, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")))?;
    Ok(body.parse()?)
}

/// The body of the answer to this request.
pub(crate) async fn fetch(server: SocketAddr, request: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; 64 * 1024];
    let answer = read_answer(&mut stream, &mut buffer).await?;
    answer.ok()?;
    Ok(answer.body.to_owned())
}

/// A connection that asks how often the handler has run.
struct Looks {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Looks {
    async fn at(server: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 1024] })
    }

    async fn runs(&mut self) -> Result<u64, Failure> {
        self.stream.write_all(b"GET /runs HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        let answer = read_answer(&mut self.stream, &mut self.buffer).await?;
        answer.ok()?;
        Ok(answer.body.parse()?)
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    /// Where in the request the digits of the key are.
    digits: [usize; 2],
    buffer: Vec<u8>,
}

const DIGITS: usize = 12;

impl Connection {
    async fn open(load: &Load) -> Result<Self, Failure> {
        let stream = TcpStream::connect(load.server).await?;
        stream.set_nodelay(true)?;
        let body = format!("{{\"amount\":1999,\"pad\":\"{}\"}}", "p".repeat(176));
        let key = match load.keys {
            Keys::None => "x-request-id",
            _ => "idempotency-key",
        };
        // The session, for who needs one, is as long as that of axum-idempotent.
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             cookie: session=############AAAAAAAAAA\r\n{key}: 01234567-89ab-4cde-8000-############\r\n\r\n{body}",
            load.path,
            body.len(),
        );
        let digits = [request.find('#'), request.rfind('#').map(|last| last + 1 - DIGITS)];
        let [Some(session), Some(key)] = digits else { return Err("no place for the key".into()) };
        Ok(Self { stream, request: request.into_bytes(), digits: [session, key], buffer: vec![0; 16 * 1024] })
    }

    async fn ask(&mut self, key: u64) -> Result<Answer<'_>, Failure> {
        for place in self.digits {
            let mut rest = key;
            for digit in self.request[place..place + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        self.stream.write_all(&self.request).await?;
        read_answer(&mut self.stream, &mut self.buffer).await
    }
}

struct Answer<'a> {
    head: &'a str,
    body: &'a str,
}

impl Answer<'_> {
    fn ok(&self) -> Result<(), Failure> {
        if self.head.as_bytes().get(9) == Some(&b'2') {
            return Ok(());
        }
        Err(format!("{}\n{}", self.head, self.body).into())
    }
}

async fn read_answer<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> Result<Answer<'a>, Failure> {
    let (mut read, mut whole) = (0, None);
    loop {
        let more = stream.read(&mut buffer[read..]).await?;
        if more == 0 {
            return Err("the server hung up".into());
        }
        read += more;
        if whole.is_none() {
            whole = ends(&buffer[..read])?;
        }
        if let Some((head, end)) = whole.filter(|(_, end)| *end <= read) {
            let text = std::str::from_utf8(&buffer[..end])?;
            return Ok(Answer { head: &text[..head], body: &text[head + 4..] });
        }
    }
}

/// Where the head of this answer ends, and where its body does.
fn ends(read: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let lines = std::str::from_utf8(&read[..head])?.lines();
    let lengths = lines.filter_map(|line| line.split_once(": "));
    let length = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value).next();
    let length: usize = length.ok_or("an answer without a length")?.parse()?;
    Ok(Some((head, head + 4 + length)))
}
