//! First requests and replays in a store of many records, beside one of few.

use std::sync::Arc;

use tower_idempotency::Engine;
use tower_idempotency::store::Store;

use crate::Size;
use crate::bed::Bed;
use crate::load::{LONG, Seen, Slice, What, fill, forget, layer, plan, sample};
use crate::report::Report;

/// Keys of first requests are of their own.
pub(crate) const FRESH: usize = 1 << 40;

pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) {
    eprintln!("{}: {} and {} records", bed.name, size.few, size.records);
    bed.hurry(true);
    for (store, records) in [(&bed.few, size.few), (&bed.many, size.records)] {
        fill(store, 0..records, vec![sample(LONG).await]).await;
    }
    bed.hurry(false);
    let (mut first, mut replay) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    // The first round warms up.
    for round in 0..=size.rounds {
        for (n, (store, records)) in [(&bed.few, size.few), (&bed.many, size.records)].into_iter().enumerate() {
            let seen = [slice(bed, store, What::First(FRESH)).await, slice(bed, store, What::Replay(0..records)).await];
            let (requests, _) = plan(bed);
            forget(store, FRESH..FRESH + requests).await;
            if round > 0 {
                first[n].push(seen[0]);
                replay[n].push(seen[1]);
            }
        }
    }
    for (what, [few, many]) in [("first request", first), ("replay", replay)] {
        let cpu = |seen: &Seen| seen.cpu;
        let p50 = |seen: &Seen| seen.p50;
        let sizes = format!("{} : {} records", size.records, size.few);
        report.ratio(bed.name, &format!("{what}, CPU, {sizes}"), &many, &few, cpu, Some(1.1));
        report.ratio(bed.name, &format!("{what}, p50, {sizes}"), &many, &few, p50, None);
    }
}

async fn slice(bed: &Bed, store: &Arc<dyn Store>, what: What) -> Seen {
    let (requests, callers) = plan(bed);
    let layers = vec![layer(Engine::new(Arc::clone(store)))];
    Slice { layers, callers, requests, what }.run(bed).await
}
