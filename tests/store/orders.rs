//! What the memory store knows of the order in which records fall due is what a walk through all
//! of them would find, after any history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tower_idempotency::clock::{Clock, ManualClock};
use tower_idempotency::core::{
    Change, Claim, Command, Fence, Fenced, Fingerprint, Key, Label, Labels, Mode, Next, Reached, Record, Stamp, Status,
    StoredRequest, StoredResponse, Timestamp, Version,
};
use tower_idempotency::store::{Cursor, Filter, Found, KeptRecord, MemoryStore, Query, Store, Swap};

const KEYS: u16 = 150;
const TICK: Duration = Duration::from_secs(1);
/// A control record's retention: for good.
const FOR_GOOD: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);
const FILTERS: [Filter; 4] = [Filter::Unfinished, Filter::Lapsed, Filter::Expired, Filter::Complete];

struct History {
    store: MemoryStore,
    clock: ManualClock,
    rng: fastrand::Rng,
    fences: BTreeMap<Key, Fence>,
}

fn key(n: u16) -> Key {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    Key::from_bytes(bytes)
}

impl History {
    /// With room for four of five keys.
    fn new(seed: u64) -> Self {
        let clock = ManualClock::new();
        let store = MemoryStore::with_clock(clock.clone()).max_entries(usize::from(KEYS) * 4 / 5);
        Self { store, clock, rng: fastrand::Rng::with_seed(seed), fences: BTreeMap::new() }
    }

    async fn step(&mut self) {
        let key = key(self.rng.u16(..KEYS));
        match self.rng.u8(..20) {
            0 => self.clock.advance(TICK * self.rng.u32(1..4)),
            1 => self.remove(&key).await,
            2..=9 => self.claim(&key).await,
            _ => self.change(&key).await,
        }
    }

    async fn remove(&self, key: &Key) {
        if let Some(record) = self.store.load(key).await.unwrap().record {
            assert!(self.store.remove(key, record.version()).await.unwrap());
        }
    }

    async fn claim(&mut self, key: &Key) {
        let labels = Labels::new().with("parity", self.rng.u8(..2));
        let lease = TICK * self.rng.u32(..9);
        let (fingerprint, mode) = (Fingerprint::of([]), Mode::Resumable);
        // What is released without its request waits for its caller for good.
        let request = self.rng.bool().then(|| {
            let (uri, headers) = (http::Uri::from_static("/pay"), http::HeaderMap::new());
            Arc::new(StoredRequest::capture(&http::Method::POST, &uri, &headers, Bytes::new()))
        });
        let stored = self.write(key, &Claim { fingerprint, mode, lease, request, labels }).await;
        self.fences.extend(stored.map(|version| (*key, Fence::of(version))));
    }

    async fn change(&mut self, key: &Key) {
        let Some(&fence) = self.fences.get(key) else { return };
        let after = TICK * self.rng.u32(..9);
        let response = || Arc::new(StoredResponse::capture(http::StatusCode::OK, &http::HeaderMap::new(), None));
        let complete = |retention| Change::Complete { response: response(), retention, reached: Reached::All };
        let change = match self.rng.u8(..9) {
            0 => Change::Save { step: "a".into(), value: Bytes::from_static(b"1") },
            1 => Change::Renew,
            2 => Change::Release,
            3 => Change::Park { why: "unknown".into() },
            4 => Change::Postpone { retry_in: after },
            5 => complete(FOR_GOOD),
            _ => complete(after),
        };
        self.write(key, &Fenced { fence, changes: vec![change] }).await;
    }

    /// Through the store; the version that is there now, if this wrote it.
    async fn write(&mut self, key: &Key, command: &(impl Command<Output: Send> + Sync)) -> Option<Version> {
        let found = self.store.load(key).await.unwrap();
        let nonce = Version::new(self.rng.u64(1..));
        let callback = self.rng.u8(..8) == 0;
        let decided = command.apply(found.record.as_ref(), Stamp { callback, ..Stamp::new(found.now, nonce) });
        let Next::Put(next) = decided.next else { return None };
        let swap = self.store.swap(key, found.record.as_ref().map(Record::version), &next).await;
        matches!(swap, Ok(Swap::Stored)).then(|| next.version())
    }

    /// All that the filter is about, by a look at each record.
    async fn walk(&self, filter: Filter, label: Option<&Label>) -> Vec<Found> {
        let (mut found, now) = (Vec::new(), self.clock.now());
        for key in (0..KEYS).map(key) {
            let record = self.store.load(&key).await.unwrap().record;
            let record = record.filter(|record| is_about(filter, record, now));
            let record = record.filter(|record| label.is_none_or(|label| record.labels().has(label)));
            found.extend(record.map(|record| Found {
                key,
                version: record.version(),
                status: record.index_class(),
                created: record.created_at().unwrap(),
                due: record.due(),
            }));
        }
        found.sort_by_key(|found| (found.due, found.key));
        if filter == Filter::Complete {
            found.reverse();
        }
        found
    }

    async fn scan(&self, filter: Filter, label: Option<&Label>, limit: usize) -> Vec<Found> {
        let (mut found, mut query) = (Vec::new(), Query { label: label.cloned(), ..Query::new(filter, limit) });
        loop {
            let page = self.store.scan(&query).await.unwrap();
            assert!(page.found.len() == limit || page.next.is_none(), "a page that is not full goes on");
            let end = page.found.last().map(|last| Cursor { due: last.due, key: last.key });
            assert!(page.next.is_none() || page.next == end);
            found.extend(page.found);
            let Some(next) = page.next else { return found };
            query = query.after(next);
        }
    }

    async fn compare(&self) -> BTreeSet<(u8, usize)> {
        let mut seen = BTreeSet::new();
        for filter in FILTERS {
            let expected = self.walk(filter, None).await;
            for limit in [1, 7, 64, 1000] {
                assert_eq!(self.scan(filter, None, limit).await, expected, "{filter:?}, pages of {limit}");
            }
            for most in [0, 1, 20, 1000] {
                let counted = self.store.count(filter, most).await.unwrap();
                assert_eq!(counted, expected.len().min(most), "{filter:?} up to {most}");
            }
            let even = Label::new("parity", 0);
            let labelled = self.walk(filter, Some(&even)).await;
            for limit in [1, 7, 1000] {
                assert_eq!(self.scan(filter, Some(&even), limit).await, labelled, "{filter:?} with a label");
            }
            seen.insert((filter as u8, labelled.len().min(3)));
        }
        seen
    }
}

fn is_about(filter: Filter, record: &Record, now: Timestamp) -> bool {
    let complete = record.index_class() == Status::Complete;
    match filter {
        Filter::Unfinished => !complete,
        Filter::Lapsed => !complete && record.due() <= now,
        Filter::Expired => complete && record.due() <= now,
        Filter::Complete => complete,
    }
}

#[tokio::test]
async fn any_history_leaves_what_a_walk_through_all_records_finds() {
    let mut seen = BTreeSet::new();
    for seed in 0..6 {
        let mut history = History::new(seed);
        for step in 0..1000 {
            history.step().await;
            if step % 100 == 99 {
                seen.extend(history.compare().await);
            }
        }
    }
    // Else it shows nothing.
    for filter in FILTERS {
        assert!(seen.contains(&(filter as u8, 3)), "never several that are {filter:?}: {seen:?}");
    }
}
