//! Records in this process's memory.

mod order;
mod scan;
mod shard;

use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foldhash::fast::RandomState;

use self::shard::{Shard, held};
use crate::core::{Key, Record, Status, Version};
use crate::store::contract::{Filter, ImmediateStore, Loaded, Page, Query, Store, StoreError, StoreErrorKind, Swap};
use crate::util::clock::{Clock, SystemClock};
use crate::util::signal::lock;

const SHARDS: usize = 64;

/// Keeps records in memory, within bounds. For tests and for one process.
///
/// At most 100,000 records and 256 MiB by default. When it is full it drops
/// complete records, expired or not: keys are spread over 64 shards, and it drops
/// those of the new key's shard that expire first. It never drops unfinished ones, and
/// refuses new work when it has nothing else. It never refuses steps and responses of
/// work that it has admitted, so that work may take it over its bytes.
///
/// ```
/// use tower_idempotency::store::MemoryStore;
///
/// let store = MemoryStore::new().max_entries(10_000).max_bytes(16 << 20);
/// ```
///
/// # Caveats
///
/// A restart forgets every key: a retry after it runs again. Where money
/// moves, use a store that survives. A complete record may be forgotten before
/// its retention is over when the store is full.
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    max_entries: usize,
    max_bytes: usize,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// An empty store on the system's clock.
    pub fn new() -> Self {
        Self::with_clock(SystemClock::new())
    }

    /// An empty store on this clock.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_entries: 100_000,
            max_bytes: 256 << 20,
            clock: Arc::new(clock),
        }
    }

    /// Keeps at most this many records.
    #[must_use]
    pub const fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// Keeps at most about this many bytes.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard_of(&self, key: &Key) -> usize {
        // Keyed, so that no client can choose keys that share a shard.
        usize::try_from(self.hasher.hash_one(key) >> 58).unwrap_or(0) % SHARDS
    }

    fn loaded(&self, record: Option<Record>) -> Loaded {
        Loaded { record, now: self.clock.now() }
    }

    /// Drops complete records until `bytes` more fit, those of `home` first.
    /// Holds one lock at a time.
    fn make_room(&self, home: usize, entries: usize, bytes: usize) -> Result<(), StoreError> {
        let mut shards = (home..home + SHARDS).map(|at| &self.shards[at % SHARDS]);
        if shards.any(|shard| self.drop_complete(&mut lock(shard), entries, bytes)) {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::Full, "the memory store is full of unfinished work"))
    }

    /// The same of one shard; whether they fit then.
    fn drop_complete(&self, shard: &mut Shard, entries: usize, bytes: usize) -> bool {
        while !self.fits(entries, bytes) {
            let Some(dropped) = shard.take_complete(None) else { return false };
            self.forget(dropped.size());
        }
        true
    }

    fn fits(&self, entries: usize, bytes: usize) -> bool {
        self.entries.load(Ordering::Relaxed) + entries <= self.max_entries
            && self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.max_bytes
    }

    fn forget(&self, size: usize) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.entries)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl ImmediateStore for MemoryStore {
    fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let shard = lock(&self.shards[self.shard_of(key)]);
        Ok(self.loaded(shard.record(key)))
    }

    fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let home = self.shard_of(key);
        let mut shard = lock(&self.shards[home]);
        let is_new = expected.is_none() && next.status() != Status::Complete;
        let size = if is_new { held(next) } else { 0 };
        if is_new && !self.fits(1, size) {
            // A write that meets a record needs no room, and must not drop
            // anything: least of all the response that it is about to get.
            if let Some(current) = shard.record(key) {
                return Ok(Swap::Conflict(self.loaded(Some(current))));
            }
            if !self.drop_complete(&mut shard, 1, size) {
                drop(shard);
                self.make_room(home, 1, size)?;
                shard = lock(&self.shards[home]);
            }
        }
        let now = self.clock.now();
        let Some((size, old)) = shard.swap(key, expected, next, now) else {
            return Ok(Swap::Conflict(Loaded { record: shard.record(key), now }));
        };
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        old.into_iter().for_each(|size| self.forget(size));
        // One expired record for every one that is written keeps the store
        // from growing, without a task of its own.
        let expired = shard.take_complete(Some(now));
        expired.into_iter().for_each(|expired| self.forget(expired.size()));
        Ok(Swap::Stored)
    }

    fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        let mut shard = lock(&self.shards[self.shard_of(key)]);
        if shard.version(key) != Some(expected) {
            return Ok(false);
        }
        if let Some(removed) = shard.take(key) {
            self.forget(removed.size());
        }
        Ok(true)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        ImmediateStore::load(self, key)
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        ImmediateStore::swap(self, key, expected, next)
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        ImmediateStore::remove(self, key, expected)
    }

    fn immediate(&self) -> Option<&dyn ImmediateStore> {
        Some(self)
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        Ok(scan::page(&self.shards, query, self.clock.now()))
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        let (classes, until) = scan::places(filter, self.clock.now());
        let mut count = 0;
        for shard in &self.shards {
            let shard = lock(shard);
            count +=
                classes.iter().map(|class| shard.order(*class).count(until, most.saturating_sub(count))).sum::<usize>();
        }
        Ok(count.min(most))
    }

    /// It looks at each record of the filter, which is in memory in any case.
    fn indexes_labels(&self) -> bool {
        true
    }
}
