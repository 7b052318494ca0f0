//! A page of an operator's list, and a count, hold no bodies.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Method};
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{
    Claim, Command, Fingerprint, IdempotencyKey, Key, Labels, Mode, Next, Record, Stamp, StoredRequest, Timestamp,
    Version,
};
use tower_idempotency::store::{Loaded, MemoryStore, Page, Query, Store, StoreError, Swap};
use tower_idempotency::{ListState, Listing, Operator};

use crate::counted;

const BODY: usize = 1 << 20;
const RECORDS: usize = 300;

fn claimed(now: Timestamp, body: usize) -> Record {
    let request =
        StoredRequest::capture(&Method::POST, &"/charge".parse().unwrap(), &HeaderMap::new(), vec![7; body].into());
    let claim = Claim {
        fingerprint: Fingerprint::of([b"x".as_slice()]),
        mode: Mode::AtMostOnce,
        lease: Duration::from_millis(1),
        request: Some(Arc::new(request)),
        labels: Labels::new(),
    };
    let Next::Put(record) = claim.apply(None, Stamp::new(now, Version::new(1))).next else { panic!() };
    record
}

/// As a store on a server: what is loaded is made of bytes that came over a wire.
#[derive(Debug)]
struct Loading(MemoryStore);

#[async_trait]
impl Store for Loading {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let Loaded { record, now } = self.0.load(key).await?;
        let record = record.map(|record| claimed(record.written_at(), BODY));
        Ok(Loaded { record, now })
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        self.0.swap(key, expected, next).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.0.remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.0.scan(query).await
    }
}

#[test]
fn a_page_and_a_count_hold_no_bodies() {
    let ((page, count), info) = counted(async || {
        let clock = ManualClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        for n in 0..RECORDS {
            let key = Key::new("", &IdempotencyKey::parse(format!("k{n}").as_bytes()).unwrap());
            let now = store.load(&key).await.unwrap().now;
            store.swap(&key, None, &claimed(now, 0)).await.unwrap();
        }
        clock.advance(Duration::from_secs(1));
        let operator = Operator::new(Loading(store));
        let page = operator.list(&Listing::new(ListState::Unfinished).limit(200)).await.unwrap();
        for shown in &page.operations {
            assert!(shown.is_without_bodies() && shown.record.request().unwrap().body().is_empty());
            assert_eq!(shown.to_json()["request"]["body"]["bytes"], BODY);
            assert!(shown.to_json_with_bodies(BODY)["request"]["body"]["text"].is_null());
        }
        let one = operator.show(&page.operations[0].key).await.unwrap();
        assert_eq!(one.record.request().unwrap().body().len(), BODY, "one by itself is whole");
        (page.operations.len(), operator.counts().await.unwrap().needs_attention)
    });
    assert_eq!((page, count.count, count.capped), (200, 200, true));
    println!("a page and a count of operations of {} KiB: {} KiB at most", BODY >> 10, info.bytes_max >> 10);
    // Sixteen are loaded at a time.
    assert!(info.bytes_max < 24 * BODY as u64, "{} KiB", info.bytes_max >> 10);
}
