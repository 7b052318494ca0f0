//! Requests while a store lets go of what has expired, beside requests while it does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_idempotency::Engine;

use crate::Size;
use crate::bed::{Bed, Server};
use crate::grow::FRESH;
use crate::load::{Seen, Slice, What, fill, forget, layer, plan, sample};
use crate::report::Report;

/// Keys of what expires are of their own.
const EXPIRING: usize = 1 << 41;
/// How many rows Postgres sweeps by a call, as its documents have it.
const SWEPT_AT_ONCE: usize = 1000;

/// How long Redis keeps what expires: until the requests beside no sweep are over.
const KEPT_BY_REDIS: Duration = Duration::from_secs(15);

pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) {
    eprintln!("{}: {} more that expire", bed.name, size.records);
    if !expires_by_itself(bed) {
        fill_all(bed, size).await;
    }
    let (mut calm, mut swept) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..size.rounds {
        let expiring = if expires_by_itself(bed) { Some(Expiring::fill(bed, size, round).await) } else { None };
        for (n, what) in requests(size).into_iter().enumerate() {
            calm[n].push(slice(bed, what).await);
        }
        if let Some(clock) = &bed.clock {
            clock.advance(Duration::from_secs(60));
        }
        if let Some(expiring) = &expiring {
            expiring.begins().await;
        }
        for (n, what) in requests(size).into_iter().enumerate() {
            swept[n].push(while_swept(bed, what).await);
        }
        if let Some(expiring) = &expiring {
            expiring.goes_on();
        }
    }
    for (n, what) in ["first request", "replay"].into_iter().enumerate() {
        let name = format!("{what}, p99, during a sweep : without");
        report.ratio(bed.name, &name, &swept[n], &calm[n], |seen| seen.p99, Some(1.2));
    }
}

fn requests(size: Size) -> [What; 2] {
    [What::First(FRESH), What::Replay(0..size.records)]
}

/// Redis lets expired keys go when their time comes, and asks no store.
fn expires_by_itself(bed: &Bed) -> bool {
    matches!(bed.server, Server::Redis { .. })
}

/// Puts what is swept in all rounds, a part of it in each.
async fn fill_all(bed: &Bed, size: Size) {
    bed.hurry(true);
    let mut samples = Vec::new();
    for group in 0..size.rounds {
        samples.push(sample(bed.short(group)).await);
    }
    fill(&bed.many, EXPIRING..EXPIRING + size.records, samples).await;
    bed.hurry(false);
    if bed.clock.is_none() {
        // By the server's clock.
        tokio::time::sleep(bed.short(0)).await;
    }
}

/// What expires in a round, as evenly as it came.
struct Expiring {
    /// The first of it.
    from: Instant,
    until: Instant,
}

impl Expiring {
    async fn fill(bed: &Bed, size: Size, round: usize) -> Self {
        let (begun, each) = (Instant::now(), size.records / size.rounds);
        let keys = EXPIRING + round * each..EXPIRING + (round + 1) * each;
        fill(&bed.many, keys, vec![sample(KEPT_BY_REDIS).await]).await;
        Self { from: begun + KEPT_BY_REDIS, until: Instant::now() + KEPT_BY_REDIS }
    }

    async fn begins(&self) {
        assert!(self.from > Instant::now(), "some had expired before the requests beside no sweep were over");
        tokio::time::sleep_until(self.from.into()).await;
    }

    fn goes_on(&self) {
        assert!(self.until > Instant::now(), "the sweep was over before the requests");
    }
}

async fn slice(bed: &Bed, what: What) -> Seen {
    let (requests, callers) = plan(bed);
    let is_first = matches!(what, What::First(_));
    let layers = vec![layer(Engine::new(Arc::clone(&bed.many)))];
    let seen = Slice { layers, callers, requests, what }.run(bed).await;
    if is_first {
        forget(&bed.many, FRESH..FRESH + requests).await;
    }
    seen
}

/// Memory and SQLite sweep with their writes, Redis does beside them; Postgres is told to.
async fn while_swept(bed: &Bed, what: What) -> Seen {
    let Server::Postgres { many, .. } = &bed.server else { return slice(bed, what).await };
    let many = many.clone();
    let sweep = tokio::spawn(async move {
        loop {
            let swept = many.sweep(SWEPT_AT_ONCE).await.expect("a sweep");
            assert!(swept > 0, "more records are needed for so many rounds");
        }
    });
    let seen = slice(bed, what).await;
    assert!(!sweep.is_finished(), "the sweep was over before the requests");
    sweep.abort();
    seen
}
