//! What can't be read keeps no other operation waiting.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{Change, Fenced, Fingerprint, Key, Labels, Mode, Reached, StoredRequest, StoredResponse};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::conformance::{Damage, FaultyStore};
use tower_idempotency::store::{MemoryStore, Store, StoreErrorKind};
use tower_idempotency::{Engine, EventKind, IdempotencyLayer, Scope, Sweeper};

use super::{app, crashed, layer, once};
use crate::support::lab::{Lab, completer, reply, secs, stored_key};
use crate::support::store::{Call, Fault};

/// It can't be marked, as it is not overwritten; so it is told once, and left.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_is_told_once_and_the_others_go_on() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    let completer = completer(&layer, &app).concurrency(1);
    crashed(&lab, "damaged", Mode::Resumable, b"{}").await;
    clock.advance(secs(1));
    crashed(&lab, "k", Mode::Resumable, b"{}").await;
    clock.advance(secs(60));
    lab.store.fail_once(Call::Load, Fault::Before(StoreErrorKind::Corrupt));
    let report = once(&completer).await;
    assert_eq!((report.found, report.unreadable, report.failed, report.completed), (2, 1, 0, 1));
    for _ in 0..3 {
        assert_eq!(once(&completer).await.found, 0);
    }
    assert_eq!(lab.events.count("Unreadable"), 1);
}

/// A layer over a store that can be damaged, and how often it was told of it.
fn over_damage(store: &Arc<FaultyStore<MemoryStore>>) -> (IdempotencyLayer, Arc<std::sync::atomic::AtomicUsize>) {
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let layer = IdempotencyLayer::new(
        Engine::new(Arc::clone(store)).on_event(move |event| {
            if matches!(event.kind, EventKind::Unreadable { .. }) {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }),
        Scope::shared(),
    )
    .resumable();
    (layer, told)
}

/// Claims that lapse a minute later.
async fn claims(store: &Arc<FaultyStore<MemoryStore>>, keys: std::ops::Range<usize>) -> Vec<Key> {
    let ledger = Ledger::new(Arc::clone(store));
    let request = Request::post("/pay").body(()).unwrap().into_parts().0;
    let request = StoredRequest::capture(&request.method, &request.uri, &request.headers, Bytes::new());
    let fingerprint = Fingerprint::of([b"POST".as_slice(), b"/pay", b"", b"", b""]);
    let claim = tower_idempotency::core::Claim {
        fingerprint,
        mode: Mode::Resumable,
        lease: secs(60),
        request: Some(Arc::new(request)),
        labels: Labels::new(),
    };
    let keys: Vec<_> = keys.map(|n| stored_key(&n.to_string())).collect();
    for key in &keys {
        ledger.apply(key, None, claim.clone()).await.unwrap();
    }
    keys
}

async fn keeps_no_other(hidden: usize, by_scan: bool) {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    let store = Arc::new(FaultyStore::new(store));
    for key in claims(&store, 0..hidden).await {
        if by_scan {
            store.damage(key, Damage::NewerFormat);
        } else {
            store.damage_unseen(key, Damage::Corrupt);
        }
    }
    clock.advance(secs(1));
    claims(&store, hidden..hidden + 3).await;
    clock.advance(secs(60));
    let (layer, told) = over_damage(&store);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    let completer = completer(&layer, &app);
    let (mut completed, mut unreadable) = (0, 0);
    // A round starts a thousand.
    for _ in 0..=hidden / 1000 {
        let report = once(&completer).await;
        (completed, unreadable) = (completed + report.completed, unreadable + report.unreadable);
        assert_eq!(report.failed, 0, "{report:?}");
    }
    assert_eq!((completed, unreadable), (3, hidden));
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), hidden, "each is told once");
}

#[tokio::test]
async fn ten_thousand_that_a_scan_can_not_read_keep_no_other() {
    keeps_no_other(10_000, true).await;
}

#[tokio::test]
async fn ten_thousand_that_prove_unreadable_keep_no_other() {
    keeps_no_other(10_000, false).await;
}

/// More than are remembered: those that are forgotten are looked at again, and
/// what lies behind them has its turn.
#[tokio::test(start_paused = true)]
async fn more_unreadable_ones_than_are_remembered_keep_no_other() {
    let clock = ManualClock::new();
    let store = Arc::new(FaultyStore::new(MemoryStore::with_clock(clock.clone())));
    for key in claims(&store, 0..12_500).await {
        store.damage(key, Damage::Corrupt);
    }
    clock.advance(secs(1));
    claims(&store, 12_500..12_503).await;
    clock.advance(secs(60));
    let (layer, _) = over_damage(&store);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    let completer = completer(&layer, &app);
    let mut completed = 0;
    for _ in 0..14 {
        completed += once(&completer).await.completed;
    }
    assert_eq!(completed, 3);
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_goes_past_what_it_can_not_read() {
    let clock = ManualClock::new();
    let store = Arc::new(FaultyStore::new(MemoryStore::with_clock(clock.clone())));
    let keys = claims(&store, 0..250).await;
    let ledger = Ledger::new(Arc::clone(&store));
    for key in &keys {
        let record = store.load(key).await.unwrap().record.unwrap();
        let fence = tower_idempotency::core::Fence::of(record.version());
        let response = StoredResponse::capture(http::StatusCode::OK, &http::HeaderMap::new(), Some(Bytes::new()));
        let end = Change::Complete { response: Arc::new(response), retention: secs(60), reached: Reached::All };
        ledger.apply(key, None, Fenced { fence, changes: vec![end] }).await.unwrap().output.unwrap();
    }
    for key in &keys[..150] {
        store.damage(*key, Damage::NewerFormat);
    }
    for key in &keys[150..200] {
        store.damage_unseen(*key, Damage::Corrupt);
    }
    clock.advance(secs(120));
    let swept = Sweeper::new(Arc::clone(&store)).run_once().await.unwrap();
    assert_eq!((swept.removed, swept.unreadable), (50, 200));
    assert_eq!(store.inner().len(), 200, "what can't be read stays");
}
