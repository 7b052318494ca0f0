//! What the proxy costs, beside a bare reverse proxy of hyper with the same connection pool:
//! the same service behind both, the same load, the memory store.
//!
//! ```text
//! cargo build --profile dist -p idempotency
//! cargo run --profile dist -p tower-idempotency-benches --bin proxy -- --seconds 30
//! ```
//!
//! `dist` is the profile of the program that is shipped, and the bare proxy is compiled with it
//! too: what is measured is the program beside this one, in `target/dist`. With `--release` in
//! place of `--profile dist` both are built sooner, and are slower.
//!
//! Load, proxies and service are processes of their own on this machine, over keep-alive
//! connections. Rounds alternate; printed are medians with the extremes, of the throughput's
//! ratio to that of the bare proxy with the same requests in the same round, and of the CPU time of the proxy's
//! process.
//!
//! Like is compared with like: both get the same requests, the bare one with keys that it passes on
//! like any other header. Neither writes an access log (`--access-log` lets the proxy write
//! its own, to `/dev/null`). The proxy's store is full before anything is measured, so that each new
//! record takes the place of an old one, as in a proxy that has run for a while: else much of a
//! first request would be the kernel's, for pages that the process never had.
//!
//! `--before PATH` measures another build of the program in the same rounds.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONNECTION;
use http::uri::Authority;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tower_idempotency_benches::{argument, fresh, report, seconds};

const ROUNDS: u32 = 9;
/// How many records the proxy's store has once it is full.
const KEPT: u64 = 100_000;
static ANSWER: [u8; 318] = [b'a'; 318];
static ASKED: [u8; 200] = [b'q'; 200];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    None,
    Fresh,
    Known,
}

/// A process of this machine, which ends with this guard.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// This program in another role. It prints where it listens.
    fn own(role: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program).args(role).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        Self { child, address: line.trim().parse().expect("an address") }
    }

    fn proxy(program: &Path, upstream: SocketAddr) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut command = Command::new(program);
        command.arg("proxy").args((!has_argument("--access-log")).then_some("--no-access-log"));
        command.args(["--store", "memory:", "--preset", "ietf", "--scope-header", "x-user"]);
        command.args(["--trusted-peer", "127.0.0.1", "--listen", &address.to_string()]);
        command.args(["--upstream", &format!("http://{upstream}")]);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = started
            .unwrap_or_else(|error| panic!("{}: {error}; build it as the docs of this file say", program.display()));
        let process = Self { child, address };
        while std::net::TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        process
    }

    /// For how long its threads have been on a CPU, in nanoseconds (Linux).
    fn cpu(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a Linux kernel");
        let of = |task: PathBuf| std::fs::read_to_string(task.join("schedstat")).ok();
        let all = tasks.filter_map(|task| of(task.ok()?.path()));
        all.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// The service behind.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(body.len(), ASKED.len());
    let mut response = Response::new(Full::new(Bytes::from_static(&ANSWER)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// As the proxy's own connections are, and nothing but the target changes.
async fn pass(
    client: Client<HttpConnector, Incoming>,
    upstream: Authority,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    let path = request.uri().path_and_query().expect("a path").clone();
    let target = Uri::builder().scheme("http").authority(upstream).path_and_query(path);
    *request.uri_mut() = target.build().expect("a target");
    request.headers_mut().remove(CONNECTION);
    client.request(request).await
}

fn bare_client() -> Client<HttpConnector, Incoming> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(1));
    builder.build(connector)
}

/// Serves as the proxy does, for ever.
async fn listen(upstream: Option<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address"));
    let (client, upstream) = (bare_client(), upstream.map(|address| address.parse::<Authority>().expect("an address")));
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (client, upstream) = (client.clone(), upstream.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
            let stream = TokioIo::new(stream);
            let _ = match upstream {
                None => builder.serve_connection_with_upgrades(stream, service_fn(answer)).await,
                Some(upstream) => {
                    let pass = service_fn(move |request| pass(client.clone(), upstream.clone(), request));
                    builder.serve_connection_with_upgrades(stream, pass).await
                }
            };
        });
    }
}

/// Where a whole response ends that begins here, if it is there.
fn end(response: &[u8]) -> Option<usize> {
    let head = response.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&response[..head]).expect("text");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let end = head + length.parse::<usize>().expect("a number");
    (response.len() >= end).then_some(end)
}

fn request(keys: Keys, known: u64) -> Vec<u8> {
    let key = match keys {
        Keys::None => String::new(),
        Keys::Fresh => format!("idempotency-key: \"01234567-89ab-4cde-8000-{:012}\"\r\n", fresh()),
        Keys::Known => format!("idempotency-key: \"01234567-89ab-4cde-8000-{known:012}\"\r\n"),
    };
    let head = format!(
        "POST /charge HTTP/1.1\r\nhost: localhost\r\nx-user: ann\r\ncontent-type: application/json\r\n{key}\
         content-length: {}\r\n\r\n",
        ASKED.len()
    );
    [head.as_bytes(), &ASKED].concat()
}

/// One connection's requests, as long as `goes_on` says so of how many there were; that number.
async fn send(address: SocketAddr, keys: Keys, known: u64, goes_on: impl Fn(u64) -> bool) -> u64 {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let (mut count, mut read) = (0, vec![0; 4096]);
    while goes_on(count) {
        stream.write_all(&request(keys, known)).await.expect("sent");
        let mut filled = 0;
        loop {
            let more = stream.read(&mut read[filled..]).await.expect("a response");
            assert_ne!(more, 0, "the connection ended");
            filled += more;
            if let Some(end) = end(&read[..filled]) {
                assert_eq!(end, filled, "one response a request");
                break;
            }
        }
        count += 1;
    }
    count
}

/// Requests with new keys, until the store has no room for more.
async fn fill(process: &Process, connections: u64) {
    let each = KEPT * 6 / 5 / connections;
    let all = (0..connections).map(|known| send(process.address, Keys::Fresh, known, move |count| count < each));
    all.collect::<JoinSet<_>>().join_all().await;
}

/// Requests a second, and microseconds of the process's CPU for each.
async fn measure(process: &Process, keys: Keys, connections: u64, slice: Duration) -> [f64; 2] {
    let (started, before) = (Instant::now(), process.cpu());
    let until = started + slice;
    let all = (0..connections).map(|known| send(process.address, keys, known, move |_| Instant::now() < until));
    let requests = all.collect::<JoinSet<_>>().join_all().await.into_iter().sum::<u64>() as f64;
    [requests / started.elapsed().as_secs_f64(), (process.cpu() - before) / requests / 1000.0]
}

fn has_argument(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

fn text_argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

async fn compare() {
    let connections = argument("--connections", 32);
    let here = std::env::current_exe().expect("this program");
    let mut programs = vec![here.with_file_name("idempotency")];
    programs.extend(text_argument("--before").map(PathBuf::from));
    let upstream = Process::own(&["upstream"]);
    let bare = Process::own(&["bare", &upstream.address.to_string()]);
    let proxies: Vec<_> = programs.iter().map(|program| Process::proxy(program, upstream.address)).collect();
    let kinds = [Keys::None, Keys::Fresh, Keys::Known];
    let slices = ROUNDS * u32::try_from((1 + proxies.len()) * kinds.len()).expect("a few");
    let slice = Duration::from_secs_f64(seconds(20.0) / f64::from(slices));
    for proxy in &proxies {
        fill(proxy, connections).await;
    }
    // Connections to the service are there, and known keys have their responses.
    for process in proxies.iter().chain([&bare]) {
        measure(process, Keys::Known, connections, slice / 2).await;
    }
    let mut of_bare = [const { Vec::new() }; 2];
    let mut figures = vec![[const { [const { Vec::new() }; 2] }; 3]; proxies.len()];
    for _ in 0..ROUNDS {
        for (at, kind) in kinds.into_iter().enumerate() {
            let [rate, cpu] = measure(&bare, kind, connections, slice).await;
            of_bare[0].push(rate);
            of_bare[1].push(cpu);
            for (proxy, figures) in proxies.iter().zip(&mut figures) {
                let [own, cpu] = measure(proxy, kind, connections, slice).await;
                figures[at][0].push(own / rate);
                figures[at][1].push(cpu);
            }
        }
    }
    let [rates, cpus] = of_bare;
    report("bare, requests/s", rates, "");
    report("  CPU, µs a request", cpus, "");
    for (program, figures) in programs.iter().zip(figures) {
        println!("{}", program.display());
        let names = [("no key : bare", ""), ("first : bare", "bar: 0.60"), ("replay : bare", "bar: 1.5")];
        for ((name, goal), [ratios, cpus]) in names.into_iter().zip(figures) {
            report(name, ratios, goal);
            report("  CPU, µs a request", cpus, "");
        }
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("upstream") => listen(None).await,
        Some("bare") => listen(Some(arguments[1].clone())).await,
        _ => compare().await,
    }
}
