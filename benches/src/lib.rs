//! What the benchmarks over loopback HTTP share: servers, load, reports.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

static FRESH: AtomicU64 = AtomicU64::new(1_000_000);

/// A key that nobody used yet.
pub fn fresh() -> u64 {
    FRESH.fetch_add(1, Ordering::Relaxed)
}

/// The work: an answer of some 300 bytes.
pub fn receipt(body: &Value) -> Value {
    json!({ "id": "ch_0123456789abcdef", "amount": body["amount"], "note": "n".repeat(250) })
}

/// The handler that the layer is put around.
pub async fn charge(Json(body): Json<Value>) -> Json<Value> {
    Json(receipt(&body))
}

/// `--seconds N`, or so many.
pub fn seconds(default: f64) -> f64 {
    argument("--seconds", default)
}

/// The number behind this argument, or this one.
pub fn argument<N: FromStr<Err: Debug>>(name: &str, default: N) -> N {
    let argument = std::env::args().skip_while(|argument| argument != name).nth(1);
    argument.map_or(default, |number| number.parse().expect("a number"))
}

/// What one round saw.
#[derive(Debug)]
pub struct Load {
    /// Requests a second.
    pub rate: f64,
    /// How many there were.
    pub requests: f64,
    /// Nanoseconds of the server's thread on a CPU, a request.
    pub cpu: f64,
}

/// A server with a thread of its own.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    schedstat: PathBuf,
}

impl Server {
    /// Starts one with this app, which is made in its runtime.
    pub fn start(name: &str, app: impl AsyncFnOnce() -> Router + Send + 'static) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        // Named, so that a profiler can tell them apart.
        let thread = std::thread::Builder::new().name(name.to_owned());
        let serve = move || {
            let thread = std::fs::read_link("/proc/thread-self").expect("Linux");
            let schedstat = PathBuf::from("/proc").join(thread).join("schedstat");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let address = listener.local_addr().expect("an address");
                tell.send(Self { address, schedstat }).expect("main waits");
                axum::serve(listener, app().await).await.expect("the server runs");
            });
        };
        thread.spawn(serve).expect("a thread");
        told.recv().expect("the server starts")
    }

    fn cpu_nanos(&self) -> f64 {
        let schedstat = std::fs::read_to_string(&self.schedstat).expect("a kernel with schedstat");
        schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds on the CPU")
    }

    /// Keeps so many connections busy for about `slice`.
    pub async fn load(&self, connections: usize, slice: Duration, key: impl Fn() -> u64 + Copy + 'static) -> Load {
        let (started, before) = (Instant::now(), self.cpu_nanos());
        let tasks = tokio::task::LocalSet::new();
        let connect = |_| tasks.spawn_local(connection(self.address, started + slice, key));
        let connections: Vec<_> = (0..connections).map(connect).collect();
        let mut requests = 0;
        tasks
            .run_until(async {
                for connection in connections {
                    requests += connection.await.expect("a connection");
                }
            })
            .await;
        let requests = f64::from(requests);
        let rate = requests / started.elapsed().as_secs_f64();
        Load { rate, requests, cpu: (self.cpu_nanos() - before) / requests }
    }
}

async fn connection(server: SocketAddr, until: Instant, key: impl Fn() -> u64) -> u32 {
    let mut stream = TcpStream::connect(server).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    let body = format!("{{\"amount\":1999,\"pad\":\"{}\"}}", "p".repeat(176));
    let mut answer = vec![0; 4096];
    let mut requests = 0;
    while Instant::now() < until {
        let request = format!(
            "POST /charge HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             idempotency-key: 01234567-89ab-4cde-8000-{:012}\r\n\r\n{body}",
            body.len(),
            key()
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        read_answer(&mut stream, &mut answer).await;
        requests += 1;
    }
    requests
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut read = 0;
    loop {
        let more = stream.read(&mut buffer[read..]).await.expect("the server answers");
        assert!(more > 0, "the server hung up");
        read += more;
        let Some(head) = buffer[..read].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).expect("an ASCII head");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if read == head + 4 + length.parse::<usize>().expect("a number") {
            return;
        }
    }
}

/// Prints the median and the extremes.
pub fn report(what: &str, mut figures: Vec<f64>, goal: &str) {
    figures.sort_by(f64::total_cmp);
    let (least, median, most) = (figures[0], figures[figures.len() / 2], figures[figures.len() - 1]);
    println!("{what:<24}{median:>10.2}   ({least:.2} to {most:.2})   {goal}");
}
