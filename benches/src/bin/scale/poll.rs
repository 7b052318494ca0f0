//! What a poll of the completer takes, where much is unfinished.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tower_idempotency::core::{
    Claim, Command, Fingerprint, Labels, Mode, Next, Record, Stamp, StoredRequest, Timestamp, Version,
};
use tower_idempotency::store::{Filter, Query};

use crate::Size;
use crate::bed::Bed;
use crate::load::{LONG, fill};
use crate::report::Report;

const HELD: usize = 1 << 42;
const DUE: usize = 1 << 43;
const POLLS: usize = 40;
/// As many as a page of the completer has.
const PAGE: usize = 100;

pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) {
    eprintln!("{}: {} unfinished records", bed.name, size.unfinished);
    bed.hurry(true);
    fill(&bed.many, HELD..HELD + size.unfinished, vec![unfinished(LONG)]).await;
    bed.hurry(false);
    let none = polls(bed, 0).await;
    report.single(bed.name, &format!("poll, ms, {} unfinished, none due", size.unfinished), none, Some(5.0));
    bed.hurry(true);
    fill(&bed.many, DUE..DUE + size.unfinished, vec![unfinished(Duration::from_millis(10))]).await;
    bed.hurry(false);
    match &bed.clock {
        Some(clock) => clock.advance(Duration::from_secs(1)),
        None => tokio::time::sleep(Duration::from_secs(1)).await,
    }
    let due = polls(bed, PAGE).await;
    report.single(bed.name, &format!("poll, ms, {} due as well: a page", size.unfinished), due, None);
}

/// Milliseconds, the median.
async fn polls(bed: &Bed, found: usize) -> f64 {
    let mut took = Vec::new();
    for _ in 0..POLLS {
        let begin = Instant::now();
        let page = bed.many.scan(&Query::new(Filter::Lapsed, PAGE)).await.expect("a page");
        took.push(begin.elapsed());
        assert_eq!(page.found.len(), found);
    }
    took.sort_unstable();
    took[POLLS / 2].as_secs_f64() * 1000.0
}

fn unfinished(lease: Duration) -> Record {
    let body = Bytes::from_static(&[b'q'; 200]);
    let target = "/payments".parse().expect("a target");
    let request = Some(Arc::new(StoredRequest::capture(&Method::POST, &target, &HeaderMap::new(), body)));
    let fingerprint = Fingerprint::of([b"x".as_slice()]);
    let claim = Claim { fingerprint, mode: Mode::Resumable, lease, request, labels: Labels::new() };
    match claim.apply(None, Stamp::new(Timestamp::default(), Version::new(1))).next {
        Next::Put(record) => record,
        Next::Keep | Next::Remove => panic!("nothing to store"),
    }
}
