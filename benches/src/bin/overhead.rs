//! What the layer adds to a request in process: the same tower service with
//! and without it, a 200-byte body, the memory store, one thread.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin overhead -- --seconds 20
//! ```
//!
//! CPU time of the one thread (Linux: `/proc/thread-self/schedstat`). Rounds of
//! all variants alternate; printed are medians with the extremes, and what each
//! adds to the bare service of the same round.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::client::{RetryLayer, Server};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{FingerprintRules, IdempotencyLayer, RequestBody, Scope};

const ROUNDS: u32 = 15;
static ANSWER: [u8; 318] = [b'a'; 318];
static ASKED: [u8; 200] = [b'q'; 200];

async fn answer<B: http_body::Body>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B::Error: std::fmt::Debug,
{
    let body = request.into_body().collect().await.expect("a body in memory").to_bytes();
    assert_eq!(body.len(), ASKED.len());
    let mut response = Response::new(Full::new(Bytes::from_static(&ANSWER)));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn request(key: Option<u64>) -> Request<Full<Bytes>> {
    let request = Request::post("/charge").header("content-type", "application/json").header("host", "localhost");
    let request = match key {
        Some(key) => request.header("idempotency-key", format!("01234567-89ab-4cde-8000-{key:012}")),
        None => request.header("x-another-header", format!("01234567-89ab-4cde-8000-{:012}", 17)),
    };
    request.body(Full::new(Bytes::from_static(&ASKED))).expect("a valid request")
}

/// Nanoseconds a request, over about `slice`.
async fn time<S, B>(mut service: S, slice: Duration, mut key: impl FnMut() -> Option<u64>) -> f64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: std::fmt::Debug>,
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let (started, before) = (Instant::now(), cpu_nanos());
    let mut requests = 0_u32;
    while started.elapsed() < slice {
        for _ in 0..64 {
            let ready = service.ready().await.expect("ready");
            let response = ready.call(request(key())).await.expect("a response");
            assert_eq!(response.status(), 200);
            std::hint::black_box(response.into_body().collect().await.expect("a body").to_bytes());
            requests += 1;
        }
    }
    (cpu_nanos() - before) / f64::from(requests)
}

/// Nanoseconds a fingerprint of 4 KiB of JSON, over about `slice`.
fn time_fingerprint(rules: &FingerprintRules, slice: Duration) -> f64 {
    let position = r#"{"id": 1017, "name": "a\u0062c", "price": 19.99, "tags": ["x", null, true]}"#;
    let body = format!(r#"{{"to": "a", "positions": [{}]}}"#, vec![position; 53].join(", "));
    let request = Request::post("/charge").header("content-type", "application/json");
    let request = request.body(Bytes::from(body)).expect("a valid request");
    let (started, before) = (Instant::now(), cpu_nanos());
    let mut fingerprints = 0_u32;
    while started.elapsed() < slice {
        for _ in 0..16 {
            assert!(rules.same(std::hint::black_box(&request), &request));
            fingerprints += 2;
        }
    }
    (cpu_nanos() - before) / f64::from(fingerprints)
}

/// How long this thread has been on a CPU.
fn cpu_nanos() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux kernel with schedstat");
    schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds on the CPU")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let seconds: f64 = std::env::args()
        .skip_while(|argument| argument != "--seconds")
        .nth(1)
        .map_or(12.0, |seconds| seconds.parse().expect("--seconds takes a number"));
    let slice = Duration::from_secs_f64(seconds / f64::from(8 * ROUNDS));
    let bare = service_fn(answer::<Full<Bytes>>);
    let guarded =
        |store| IdempotencyLayer::new(store, Scope::shared()).layer(service_fn(answer::<RequestBody<Full<Bytes>>>));
    let full = guarded(MemoryStore::new().max_entries(20_000));
    let client = RetryLayer::new(Server::in_process_honours_keys()).layer(bare);
    let mut fresh = 0;
    let mut rounds = [const { Vec::new() }; 8];
    for _ in 0..ROUNDS {
        rounds[0].push(time(bare, slice, || Some(17)).await);
        // Room for the round, so that nothing has to be evicted in it.
        let roomy = guarded(MemoryStore::new().max_entries(10_000_000).max_bytes(usize::MAX));
        let mut next = || {
            fresh += 1;
            Some(fresh)
        };
        rounds[1].push(time(roomy.clone(), slice, || None).await);
        rounds[2].push(time(roomy.clone(), slice, &mut next).await);
        rounds[3].push(time(full.clone(), slice, &mut next).await);
        rounds[4].push(time(roomy.clone(), slice, || Some(fresh)).await);
        rounds[5].push(time_fingerprint(&FingerprintRules::new(), slice));
        rounds[6].push(time_fingerprint(&FingerprintRules::new().canonical_json(), slice));
        rounds[7].push(time(client.clone(), slice, || None).await);
    }
    let above = |of: usize, less: usize| {
        rounds[of].iter().zip(&rounds[less]).map(|(with, bare)| with - bare).collect::<Vec<_>>()
    };
    let added = |of: usize| above(of, 0);
    report("bare service", rounds[0].clone(), "");
    report("unguarded, added", added(1), "goal: nothing to see");
    report("first request, added", added(2), "goal: 2500 or less");
    report("  in a full store, added", added(3), "each evicts another");
    report("replay, added", added(4), "goal: 1000 or less");
    report("client, added", added(7), "goal: 1000 or less");
    report("4 KiB of JSON, hashed", rounds[5].clone(), "as it came");
    report("  canonical, added", above(6, 5), "goal: 30000 or less");
}

fn report(what: &str, mut nanos: Vec<f64>, goal: &str) {
    nanos.sort_by(f64::total_cmp);
    let (least, median, most) = (nanos[0], nanos[nanos.len() / 2], nanos[nanos.len() - 1]);
    println!("{what:<24}{median:>9.0} ns   ({least:.0} to {most:.0})   {goal}");
}
