//! Requests a second over loopback HTTP: the same axum server with and without
//! the layer, memory store, 32 connections that are kept alive.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin http -- --seconds 30
//! ```
//!
//! The servers have one worker thread each, the client has another. Rounds of
//! all variants alternate; printed are medians with the extremes, and the ratios
//! to the bare server of the same round. The CPU time of the server's thread
//! (Linux: `schedstat`) tells what the ratio would be on a machine of one's own.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};
use tower_idempotency_benches::{Load, Server, charge, fresh, report, seconds};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 9;

fn main() {
    let slice = Duration::from_secs_f64(seconds(12.0) / (3 * ROUNDS) as f64);
    let bare = Server::start("bare", async || Router::new().route("/charge", post(charge)));
    let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared());
    let guarded = Server::start("guarded", async || Router::new().route("/charge", post(charge)).layer(layer));

    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut plain, mut first, mut replay) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(client.block_on(bare.load(CONNECTIONS, slice, fresh)));
        first.push(client.block_on(guarded.load(CONNECTIONS, slice, fresh)));
        replay.push(client.block_on(guarded.load(CONNECTIONS, slice, || 17)));
    }
    let rate = |of: &[Load]| of.iter().zip(&plain).map(|(with, bare)| with.rate / bare.rate).collect::<Vec<_>>();
    let cpu = |of: &[Load]| of.iter().zip(&plain).map(|(with, bare)| bare.cpu / with.cpu).collect::<Vec<_>>();
    report("bare, requests/s", plain.iter().map(|load| load.rate).collect(), "");
    report("bare, server CPU ns", plain.iter().map(|load| load.cpu).collect(), "");
    report("first request : bare", rate(&first), "goal: 0.70 or more");
    report("  by the server's CPU", cpu(&first), "");
    report("replay : bare", rate(&replay), "goal: 1.05 or more");
    report("  by the server's CPU", cpu(&replay), "");
}
