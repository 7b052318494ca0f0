//! What only the memory store promises: its bounds.

use std::time::Duration;

use bytes::Bytes;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{Change, Claim, Fingerprint, Key, Labels, Mode, Reached, StoredResponse};
use tower_idempotency::store::conformance::{Holder, assert_same};
use tower_idempotency::store::{MemoryStore, Store, StoreErrorKind, Swap};

use std::sync::Arc;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn key(n: u32) -> Key {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Key::from_bytes(bytes)
}

fn claim() -> Claim {
    Claim { fingerprint: Fingerprint::of([]), mode: Mode::Resumable, lease: DAY, request: None, labels: Labels::new() }
}

fn answer(body: &[u8], retention: Duration) -> Change {
    let body = Bytes::copy_from_slice(body);
    let response = StoredResponse::capture(http::StatusCode::OK, &http::HeaderMap::new(), Some(body));
    Change::Complete { response: Arc::new(response), retention, reached: Reached::All }
}

async fn pending(store: &Arc<MemoryStore>, n: u32) -> Holder {
    let mut hand = Holder::new(Arc::clone(store) as Arc<dyn Store>, key(n));
    hand.claim(claim()).await;
    hand
}

async fn completed(store: &Arc<MemoryStore>, n: u32, body: &[u8]) -> Holder {
    let mut hand = pending(store, n).await;
    hand.change([answer(body, DAY)]).await;
    hand
}

/// Whether the store still has what this hand wrote.
async fn is_kept(hand: &Holder) -> bool {
    let found = hand.load().await.record;
    if found.is_some() {
        assert_same(found.as_ref(), Some(hand.record()));
    }
    found.is_some()
}

/// What a claim of `key(n)` is answered, as a first request makes it.
async fn claim_kind(store: &MemoryStore, n: u32) -> Result<&'static str, StoreErrorKind> {
    // Any first record does: here one that was written elsewhere.
    let elsewhere = Arc::new(MemoryStore::new());
    let next = pending(&elsewhere, n).await.record().clone();
    match store.swap(&key(n), None, &next).await {
        Ok(Swap::Stored) => Ok("stored"),
        Ok(Swap::Conflict(_)) => Ok("conflict"),
        Err(error) => Err(error.kind()),
    }
}

#[tokio::test]
async fn full_of_answers_it_drops_answers_and_nothing_else() {
    let store = Arc::new(MemoryStore::new().max_entries(10));
    let (mut unfinished, mut done) = (Vec::new(), Vec::new());
    for n in 0..5 {
        unfinished.push(pending(&store, n).await);
        done.push(completed(&store, 100 + n, b"answer").await);
    }
    for n in 0..5 {
        unfinished.push(pending(&store, 200 + n).await);
        assert_eq!(store.len(), 10);
    }
    for hand in &unfinished {
        hand.check().await;
    }
    for hand in &done {
        assert!(!is_kept(hand).await);
    }
}

#[tokio::test]
async fn full_of_unfinished_work_it_refuses_new_work_only() {
    let store = Arc::new(MemoryStore::new().max_entries(3));
    let mut hands = Vec::new();
    for n in 0..3 {
        hands.push(pending(&store, n).await);
    }
    assert_eq!(claim_kind(&store, 9).await, Err(StoreErrorKind::Full));
    for hand in &mut hands {
        hand.check().await;
        hand.change([Change::Save { step: "a".into(), value: Bytes::from_static(b"1") }]).await;
        hand.check().await;
    }
    hands[0].change([answer(b"done", DAY)]).await;
    assert_eq!(claim_kind(&store, 9).await, Ok("stored"));
    assert_eq!(claim_kind(&store, 10).await, Err(StoreErrorKind::Full));
}

#[tokio::test]
async fn full_it_still_shows_a_retry_what_is_there() {
    let store = Arc::new(MemoryStore::new().max_entries(2));
    let busy = pending(&store, 1).await;
    let done = completed(&store, 2, b"answer").await;
    for _ in 0..3 {
        assert_eq!(claim_kind(&store, 1).await, Ok("conflict"));
        assert_eq!(claim_kind(&store, 2).await, Ok("conflict"), "a retry pushed out its own answer");
    }
    assert!(is_kept(&busy).await && is_kept(&done).await);
}

#[tokio::test]
async fn a_new_answer_displaces_the_one_before() {
    // With room for one. Among several the order is only by age within a
    // shard, which depends on a random hash.
    let store = Arc::new(MemoryStore::new().max_entries(1));
    let mut last = completed(&store, 0, b"answer").await;
    for n in 1..200 {
        let next = completed(&store, n, b"answer").await;
        assert!(!is_kept(&last).await, "the older answer outlived the newer one");
        assert!(is_kept(&next).await);
        last = next;
    }
}

#[tokio::test]
async fn it_keeps_within_its_bytes() {
    let body = vec![7; 10_000];
    let store = Arc::new(MemoryStore::new().max_bytes(100_000));
    let mut last = None;
    for n in 0..100 {
        last = Some(completed(&store, n, &body).await);
        assert!(store.len() <= 11, "{} answers of 10,000 bytes in 100,000", store.len());
    }
    assert!(store.len() >= 8, "only {} answers of 10,000 bytes in 100,000", store.len());
    assert!(is_kept(&last.unwrap()).await);
}

#[tokio::test]
async fn a_single_record_that_is_too_large_is_refused() {
    let store = Arc::new(MemoryStore::new().max_bytes(16));
    assert_eq!(claim_kind(&store, 1).await, Err(StoreErrorKind::Full));
    assert!(store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn accounting_returns_to_zero() {
    let clock = ManualClock::new();
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    for round in 0..3 {
        for n in 0..50 {
            let mut hand = pending(&store, n).await;
            let step = Change::Save { step: "a".into(), value: Bytes::from(vec![0; 100 * n as usize]) };
            hand.change([Change::Begin { step: "b".into() }, step]).await;
            hand.change([Change::Clear { step: "b".into() }]).await;
            if n % 2 == round % 2 {
                hand.change([answer(&vec![1; 10 * n as usize], DAY)]).await;
            }
            hand.remove().await;
        }
        assert!(store.is_empty());
        assert_eq!(format!("{store:?}"), "MemoryStore { entries: 0, bytes: 0, .. }");
    }
}

#[tokio::test(start_paused = true)]
async fn expired_answers_make_room_as_others_are_written() {
    let clock = ManualClock::new();
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let most = 64 * 4;
    for n in 0..2_000 {
        let mut hand = pending(&store, n).await;
        hand.change([answer(b"short", Duration::from_secs(1))]).await;
        clock.advance(Duration::from_secs(2));
        assert!(store.len() <= most, "{} records are kept, all but one expired", store.len());
    }
}

/// Which answers share a part of the store depends on a random hash. There are
/// 64 parts, so a hundred answers that go are a few of each part's forty.
#[tokio::test]
async fn full_it_drops_those_that_expire_first() {
    let (answers, new) = (64 * 40, 100);
    let store = Arc::new(MemoryStore::new().max_entries(answers as usize));
    let mut done = Vec::new();
    for n in 0..answers {
        let mut hand = pending(&store, n).await;
        // Neither the order of the keys nor that of the writes.
        let rank = n * 1_009 % answers;
        hand.change([answer(b"answer", DAY * (1 + rank))]).await;
        done.push((rank, hand));
    }
    for n in 0..new {
        pending(&store, answers + n).await;
    }
    let mut dropped = Vec::new();
    for (rank, hand) in &done {
        if !is_kept(hand).await {
            dropped.push(*rank);
        }
    }
    assert_eq!(dropped.len(), new as usize);
    assert!(dropped.iter().all(|rank| *rank < answers * 3 / 4), "of {answers}, by expiry: {dropped:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_that_live_long_keep_no_expired_ones_alive() {
    let clock = ManualClock::new();
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    let mut long = Vec::new();
    for n in 0..500 {
        long.push(completed(&store, n, b"long").await);
    }
    for n in 500..2_500 {
        let mut hand = pending(&store, n).await;
        hand.change([answer(b"short", Duration::from_secs(1))]).await;
        clock.advance(Duration::from_secs(2));
        assert!(store.len() <= 500 + 64 * 4, "{} records are kept, of which 501 have not expired", store.len());
    }
    for hand in &long {
        assert!(is_kept(hand).await, "a long-lived answer was dropped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_at_a_full_store_lose_no_unfinished_work() {
    let store = Arc::new(MemoryStore::new().max_entries(64));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16_u32 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let held = pending(&store, task).await;
            for n in 0..200 {
                completed(&store, 1_000 + task * 1_000 + n, b"answer").await;
                tokio::task::yield_now().await;
            }
            held
        });
    }
    for hand in tasks.join_all().await {
        hand.check().await;
    }
    // Between making room and taking it, each task may be one too many.
    assert!(store.len() <= 64 + 16, "{} records in 64", store.len());
}
