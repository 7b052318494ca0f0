//! Requests a second over loopback HTTP: the same axum server with and without
//! the layer, memory store, 32 connections that are kept alive.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin http -- --seconds 30
//! ```
//!
//! The servers have one worker thread, the client has another. Rounds of all
//! variants alternate; printed are medians with the extremes, and the ratios
//! to the bare server of the same round.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 9;
static FRESH: AtomicU64 = AtomicU64::new(1_000_000);

async fn charge(Json(body): Json<Value>) -> Json<Value> {
    Json(json!({ "id": "ch_0123456789abcdef", "amount": body["amount"], "note": "n".repeat(250) }))
}

fn main() {
    let seconds: f64 = std::env::args()
        .skip_while(|argument| argument != "--seconds")
        .nth(1)
        .map_or(12.0, |seconds| seconds.parse().expect("--seconds takes a number"));
    let slice = Duration::from_secs_f64(seconds / (3 * ROUNDS) as f64);
    let bare = serve(Router::new().route("/charge", post(charge)));
    let store = MemoryStore::new().max_entries(50_000);
    let layer = IdempotencyLayer::new(store, Scope::shared());
    let guarded = serve(Router::new().route("/charge", post(charge)).layer(layer));

    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let fresh = || FRESH.fetch_add(1, Ordering::Relaxed);
    let (mut plain, mut first, mut replay) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(client.block_on(load(bare, slice, fresh)));
        first.push(client.block_on(load(guarded, slice, fresh)));
        replay.push(client.block_on(load(guarded, slice, || 17)));
    }
    let ratio = |of: &[f64]| of.iter().zip(&plain).map(|(with, bare)| with / bare).collect::<Vec<_>>();
    report("bare, requests/s", plain.clone(), "");
    report("first request : bare", ratio(&first), "goal: 0.70 or more");
    report("replay : bare", ratio(&replay), "goal: 1.05 or more");
}

/// Starts a server with a thread of its own.
fn serve(app: Router) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            tell.send(listener.local_addr().expect("an address")).expect("main waits");
            axum::serve(listener, app).await.expect("the server runs");
        });
    });
    told.recv().expect("the server starts")
}

/// Requests a second over all connections.
async fn load(server: SocketAddr, slice: Duration, key: impl Fn() -> u64 + Copy + 'static) -> f64 {
    let started = Instant::now();
    let tasks = tokio::task::LocalSet::new();
    let connections = (0..CONNECTIONS).map(|_| tasks.spawn_local(connection(server, started + slice, key)));
    let connections: Vec<_> = connections.collect();
    let mut requests = 0;
    tasks
        .run_until(async {
            for connection in connections {
                requests += connection.await.expect("a connection");
            }
        })
        .await;
    f64::from(requests) / started.elapsed().as_secs_f64()
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

fn report(what: &str, mut figures: Vec<f64>, goal: &str) {
    figures.sort_by(f64::total_cmp);
    let (least, median, most) = (figures[0], figures[figures.len() / 2], figures[figures.len() - 1]);
    println!("{what:<24}{median:>10.2}   ({least:.2} to {most:.2})   {goal}");
}
