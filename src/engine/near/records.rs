//! The records, in a bounded cache.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::settings::{Asked, NearCache};
use crate::core::{Fingerprint, Key, Record, Reply, Timestamp};

/// For so many records there is a place at first, if there are bytes for them; more come as
/// they are needed.
const PLACES: u64 = 4096;
/// About how large a record is.
const RECORD: u64 = 1024;

/// The records, shared by an engine and its clones.
pub(crate) struct NearRecords {
    max_age: Duration,
    records: Cache<Key, Seen, Weight, RandomState>,
    /// How often one was dropped: a reply that was on its way meanwhile may be older than that.
    dropped: AtomicU64,
}

#[derive(Clone)]
struct Seen {
    record: Record,
    /// The store's time when it was read, and this process's.
    now: Timestamp,
    at: Instant,
}

impl NearRecords {
    pub(crate) fn new(settings: NearCache) -> Self {
        let places = usize::try_from((settings.max_bytes / RECORD).min(PLACES)).unwrap_or_default();
        let records = Cache::with(places, settings.max_bytes, Weight, RandomState::default(), Default::default());
        Self { max_age: settings.max_age, records, dropped: AtomicU64::new(0) }
    }

    pub(crate) fn asking(&self) -> Asked {
        Asked(self.dropped.load(Ordering::Acquire))
    }

    /// What the store had for this request not long ago, as if it said so now. Another request
    /// is for the store to judge.
    pub(crate) fn recall(&self, key: &Key, fingerprint: &Fingerprint) -> Option<Reply> {
        let seen = self.records.get(key)?;
        let age = seen.at.elapsed();
        let now = seen.now.after(age);
        if age >= self.max_age || seen.record.is_expired(now) {
            self.records.remove(key);
            return None;
        }
        seen.record.fingerprint().matches(fingerprint).then(|| Reply::Found(Some(seen.record), now))
    }

    /// Keeps what the store was `asked` for, and had at `now`.
    pub(crate) fn keep(&self, asked: Asked, key: Key, record: &Record, now: Timestamp) {
        self.records.insert(key, Seen { record: record.clone(), now, at: Instant::now() });
        // After it, since it may have been dropped between a look and this.
        if self.asking() != asked {
            self.records.remove(&key);
        }
    }

    /// This process has written it, or is about to.
    pub(crate) fn drop_one(&self, key: &Key) {
        self.dropped.fetch_add(1, Ordering::AcqRel);
        self.records.remove(key);
    }
}

impl fmt::Debug for NearRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearRecords").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Seen> for Weight {
    fn weight(&self, _: &Key, seen: &Seen) -> u64 {
        let place = size_of::<(Key, Seen)>() - size_of::<Record>();
        (place + seen.record.size()) as u64
    }
}
