//! What only shows from inside: damaged bytes, and how much is written.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::*;
use crate::core::{
    Change, Claim, Command, Fence, Fenced, Fingerprint, IdempotencyKey, Mode, Next, PartId, Reached, Stamp, Status,
    StoredRequest, StoredResponse, Timestamp,
};
use crate::nonce::fresh_nonce;
use crate::store::{Filter, StoreErrorKind};

fn key(name: &str) -> Key {
    Key::new("test", &IdempotencyKey::parse(name.as_bytes()).unwrap())
}

fn put(next: Next) -> Record {
    match next {
        Next::Put(record) => record,
        other => panic!("no record but {other:?}"),
    }
}

fn stamp() -> Stamp<'static> {
    Stamp::new(Timestamp::default(), fresh_nonce())
}

fn claim(request: Option<Bytes>) -> Record {
    let capture = |body| StoredRequest::capture(&Method::POST, &Uri::from_static("/"), &HeaderMap::new(), body);
    let request = request.map(capture).map(Arc::new);
    let lease = Duration::from_secs(60);
    let fingerprint = Fingerprint::of([b"POST".as_slice()]);
    put(Claim { fingerprint, mode: Mode::Resumable, lease, request }.apply(None, stamp()).next)
}

fn change(record: &Record, fence: Version, change: Change) -> Record {
    put(Fenced { fence: Fence::of(fence), changes: vec![change] }.apply(Some(record), stamp()).next)
}

fn complete(record: &Record) -> Record {
    let response = StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some(Bytes::from_static(b"ok")));
    let retention = Duration::from_secs(60);
    change(
        record,
        record.version(),
        Change::Complete { response: Arc::new(response), retention, reached: Reached::All },
    )
}

async fn stored(store: &FileStore, key: &Key, expected: Option<Version>, next: &Record) {
    assert!(matches!(store.swap(key, expected, next).await, Ok(Swap::Stored)));
}

fn engine(store: &FileStore) -> &Engine {
    &store.0.shared.engine
}

/// Every way to touch the record fails with `kind`, and its bytes stay.
async fn assert_untouchable(store: &FileStore, key: &Key, versions: &[Option<Version>], kind: StoreErrorKind) {
    let bytes = || {
        let engine = engine(store);
        [&engine.open, &engine.done].map(|keyspace| keyspace.get(key.as_bytes()).unwrap())
    };
    let before = bytes();
    assert_eq!(store.load(key).await.unwrap_err().kind(), kind);
    for expected in versions {
        assert_eq!(store.swap(key, *expected, &claim(None)).await.unwrap_err().kind(), kind, "{expected:?}");
        if let Some(expected) = *expected {
            assert_eq!(store.remove(key, expected).await.unwrap_err().kind(), kind);
        }
    }
    assert_eq!(bytes(), before);
}

async fn one_complete(path: &Path) -> (FileStore, Record) {
    let store = FileStore::open(path).unwrap();
    let first = claim(None);
    stored(&store, &key("a"), None, &first).await;
    let done = complete(&first);
    stored(&store, &key("a"), Some(first.version()), &done).await;
    (store, done)
}

#[tokio::test]
async fn a_damaged_complete_record_is_reported_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (store, done) = one_complete(directory.path()).await;
    let whole = engine(&store).done.get(key("a").as_bytes()).unwrap().unwrap().to_vec();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    // The last one is in the response, the first one in the head.
    for damaged in [flipped(layout::COLUMNS + 40), flipped(whole.len() - 1), whole[..whole.len() - 1].to_vec()] {
        engine(&store).done.insert(key("a").as_bytes(), damaged).unwrap();
        assert_untouchable(&store, &key("a"), &[None, Some(done.version())], StoreErrorKind::Corrupt).await;
    }
    for garbage in [&b""[..], b"garbage", &[0; 100]] {
        engine(&store).done.insert(key("a").as_bytes(), garbage).unwrap();
        assert_untouchable(&store, &key("a"), &[None, Some(done.version())], StoreErrorKind::Corrupt).await;
    }
}

#[tokio::test]
async fn a_newer_complete_record_is_reported_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (store, done) = one_complete(directory.path()).await;
    let mut value = engine(&store).done.get(key("a").as_bytes()).unwrap().unwrap().to_vec();
    value[0] = 2;
    engine(&store).done.insert(key("a").as_bytes(), &value).unwrap();
    assert_untouchable(&store, &key("a"), &[None, Some(done.version())], StoreErrorKind::NewerFormat).await;
    value[0] = 1;
    // "tower-idempotency/1" of the head.
    value[layout::COLUMNS + 18] = b'2';
    engine(&store).done.insert(key("a").as_bytes(), &value).unwrap();
    assert_untouchable(&store, &key("a"), &[None, Some(done.version())], StoreErrorKind::NewerFormat).await;
}

#[tokio::test]
async fn a_damaged_unfinished_record_is_reported_and_kept_and_the_others_open() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let records: Vec<_> =
        ["head", "part", "fine"].into_iter().map(|name| (key(name), claim(Some(Bytes::new())))).collect();
    for (key, record) in &records {
        stored(&store, key, None, record).await;
    }
    engine(&store).open.insert(key("head").as_bytes(), "garbage").unwrap();
    engine(&store).parts.remove(layout::part_key(&key("part"), PartId::Request)).unwrap();
    drop(store);

    let store = FileStore::open(directory.path()).unwrap();
    for name in ["head", "part"] {
        assert_untouchable(&store, &key(name), &[None, Some(records[0].1.version())], StoreErrorKind::Corrupt).await;
    }
    assert!(store.load(&key("fine")).await.unwrap().record.is_some());
    // Counted once in a pass, however small its pages.
    for limit in [1, 2, 10] {
        let page = store.scan(&Query::new(Filter::Unfinished, limit)).await.unwrap();
        assert_eq!((page.found.len(), page.unreadable.count), (1, 2));
        assert_eq!(page.unreadable.keys.len(), limit.min(2));
        assert!(page.next.is_none());
    }
}

#[tokio::test]
async fn a_damaged_expiry_index_hides_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (store, done) = one_complete(directory.path()).await;
    let early = Timestamp::from_millis(1);
    for n in 0..20 {
        engine(&store).expiry.insert(layout::expiry_key(early, &Key::from_bytes([n; 32])), "garbage").unwrap();
    }
    // Before all others.
    for n in 1..8 {
        engine(&store).expiry.insert(vec![0; n], "garbage").unwrap();
    }
    engine(&store)
        .expiry
        .insert(
            layout::expiry_key(early.after(Duration::from_secs(1)), &key("a")),
            layout::expiry_value(&layout::Columns {
                status: Status::Complete,
                version: done.version(),
                created: early,
                written: early,
                due: early,
            }),
        )
        .unwrap();
    let (mut found, mut unreadable, mut query) = (0, 0, Query::new(Filter::Expired, 3));
    loop {
        let page = store.scan(&query).await.unwrap();
        (found, unreadable) = (found + page.found.len(), unreadable + page.unreadable.count);
        let Some(next) = page.next else { break };
        query = query.after(next);
    }
    assert_eq!((found, unreadable), (1, 27));
}

#[tokio::test]
async fn a_step_costs_what_it_weighs() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let first = claim(Some(Bytes::from(vec![1; 1 << 20])));
    stored(&store, &key("a"), None, &first).await;
    let before = engine(&store).written.load(Ordering::Relaxed);
    assert!(before > 1 << 20);
    let mut record = first.clone();
    for n in 0..1000 {
        let save = Change::Save { step: format!("step {n}").into(), value: Bytes::from(vec![2; 100]) };
        let next = change(&record, first.version(), save);
        stored(&store, &key("a"), Some(record.version()), &next).await;
        record = next;
    }
    let steps = engine(&store).written.load(Ordering::Relaxed) - before;
    assert!(steps < 1000 * 1000, "{steps} bytes for 1,000 steps of 100 bytes");

    let found = store.load(&key("a")).await.unwrap().record.unwrap();
    assert_eq!((found.steps().len(), found.request().unwrap().body().len()), (1000, 1 << 20));
    let done = change(
        &record,
        first.version(),
        Change::Complete {
            response: Arc::clone(complete(&claim(None)).response().unwrap()),
            retention: Duration::from_secs(60),
            reached: Reached::All,
        },
    );
    stored(&store, &key("a"), Some(record.version()), &done).await;
    assert_eq!(engine(&store).parts.iter().count(), 0, "no part is left behind");
    assert_eq!(engine(&store).open.iter().count(), 0);
}

/// Ends the writer as a bug would.
#[derive(Debug)]
struct BrokenClock;

impl crate::clock::Clock for BrokenClock {
    fn now(&self) -> Timestamp {
        panic!("this clock is broken")
    }
}

#[tokio::test]
async fn a_writer_that_died_is_an_error_and_no_hang() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::options().with_clock(BrokenClock).open(directory.path()).unwrap();
    for _ in 0..2 {
        let error = store.swap(&key("a"), None, &claim(None)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!(store.load(&key("a")).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    drop(store);
    FileStore::open(directory.path()).unwrap();
}
