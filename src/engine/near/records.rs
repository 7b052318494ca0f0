//! The records, in a bounded cache.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use foldhash::fast::RandomState;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::settings::{Asked, NearCache};
use crate::core::{Fingerprint, Key, Record, Reply, Timestamp};
use crate::util::signal::lock;

/// For so many records there is a place at first, if there are bytes for them; more come as
/// they are needed.
const PLACES: u64 = 4096;
/// About how large a record is.
const RECORD: u64 = 1024;
/// Keys are counted in so many groups, by their first byte.
const GROUPS: usize = 256;

/// The records, shared by an engine and its clones.
pub(crate) struct NearRecords {
    max_age: Duration,
    records: Cache<Key, Seen, Weight, RandomState>,
    /// How often a record of each group was dropped: a reply that was on its way meanwhile may be
    /// older than that.
    dropped: Box<[Mutex<u64>]>,
}

#[derive(Clone)]
struct Seen {
    record: Record,
    /// The store's time when it was read, and this process's when it asked.
    now: Timestamp,
    at: Instant,
    readers: u64,
}

impl NearRecords {
    pub(crate) fn new(settings: NearCache) -> Self {
        let places = usize::try_from((settings.max_bytes / RECORD).min(PLACES)).unwrap_or_default();
        let records = Cache::with(places, settings.max_bytes, Weight, RandomState::default(), Default::default());
        Self { max_age: settings.max_age, records, dropped: (0..GROUPS).map(|_| Mutex::default()).collect() }
    }

    /// Of the key's group.
    fn drops(&self, key: &Key) -> &Mutex<u64> {
        &self.dropped[usize::from(key.as_bytes()[0]) % GROUPS]
    }

    pub(crate) fn asking(&self, key: &Key) -> Asked {
        Asked { drops: *lock(self.drops(key)), at: Instant::now() }
    }

    /// What the store had for this request not long ago, as if it said so now. Another request
    /// is for the store to judge, and so is what other `readers` have read.
    pub(crate) fn recall(&self, key: &Key, fingerprint: &Fingerprint, readers: u64) -> Option<Reply> {
        let seen = self.records.get(key)?;
        let age = seen.at.elapsed();
        let now = seen.now.after(age);
        if age >= self.max_age || seen.record.is_expired(now) {
            self.records.remove(key);
            return None;
        }
        let fits = seen.record.fingerprint().matches(fingerprint) && seen.readers == readers;
        fits.then(|| Reply::Found(Some(seen.record), now))
    }

    /// Keeps what the store was `asked` for, and had at `now`; unless it was dropped meanwhile.
    pub(crate) fn keep(&self, asked: Asked, key: Key, record: &Record, now: Timestamp, readers: u64) {
        // Its group is locked until it is there: no drop comes between.
        let drops = lock(self.drops(&key));
        if *drops == asked.drops {
            self.records.insert(key, Seen { record: record.clone(), now, at: asked.at, readers });
        }
    }

    /// The store may have another record by now.
    pub(crate) fn drop_one(&self, key: &Key) {
        let mut drops = lock(self.drops(key));
        *drops += 1;
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
