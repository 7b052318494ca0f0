//! Records in this process's memory.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Cursor, Filter, Found, Loaded, Page, Query, Store, StoreError, StoreErrorKind, Swap};
use crate::clock::{Clock, SystemClock};
use crate::core::{Key, Record, Status, Timestamp, Version};
use crate::sync::lock;

const SHARDS: usize = 64;

/// Keeps records in memory, within bounds. For tests and for one process.
///
/// At most 100,000 records and 256 MiB by default. When it is full it drops
/// complete records, expired or not: of the 64th part of all keys that the new
/// one belongs to, those that expire first. It never drops unfinished ones, and
/// refuses new work when nothing else is left. Steps and answers of work that
/// was admitted are never refused, so that work may take it over its bytes.
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

#[derive(Default)]
struct Shard {
    records: HashMap<Key, Record>,
    /// Complete records in the order in which they expire.
    complete: BTreeSet<(Timestamp, Key)>,
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
            hasher: RandomState::new(),
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
        // Keyed, so that nobody can choose keys that share a shard.
        usize::try_from(self.hasher.hash_one(key) >> 58).unwrap_or(0) % SHARDS
    }

    fn loaded(&self, record: Option<&Record>) -> Loaded {
        Loaded { record: record.cloned(), now: self.clock.now() }
    }

    /// Drops complete records until `bytes` more fit, those of `home` first.
    /// Holds one lock at a time.
    fn make_room(&self, home: usize, entries: usize, bytes: usize) -> Result<(), StoreError> {
        for offset in 0..SHARDS {
            let mut shard = lock(&self.shards[(home + offset) % SHARDS]);
            loop {
                if self.fits(entries, bytes) {
                    return Ok(());
                }
                let Some(dropped) = shard.take_complete(None) else { break };
                self.forget(&dropped);
            }
        }
        if self.fits(entries, bytes) {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::Full, "the memory store is full of unfinished work"))
    }

    fn fits(&self, entries: usize, bytes: usize) -> bool {
        self.entries.load(Ordering::Relaxed) + entries <= self.max_entries
            && self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.max_bytes
    }

    fn put(&self, shard: &mut Shard, key: &Key, next: &Record) {
        let now = self.clock.now();
        let created = shard.records.get(key).and_then(Record::created_at);
        let next = next.clone().stamped_over(created, now);
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(next.size(), Ordering::Relaxed);
        let old = shard.put(key, next);
        // One expired record for every one that is written keeps the store
        // from growing, without a task of its own.
        let expired = shard.take_complete(Some(now));
        [old, expired].iter().flatten().for_each(|gone| self.forget(gone));
    }

    fn forget(&self, record: &Record) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(record.size(), Ordering::Relaxed);
    }
}

impl Shard {
    fn put(&mut self, key: &Key, record: Record) -> Option<Record> {
        let complete = record.status() == Status::Complete;
        let due = record.due();
        let old = self.take(key);
        if complete {
            self.complete.insert((due, *key));
        }
        self.records.insert(*key, record);
        old
    }

    fn take(&mut self, key: &Key) -> Option<Record> {
        let record = self.records.remove(key)?;
        if record.status() == Status::Complete {
            self.complete.remove(&(record.due(), *key));
        }
        Some(record)
    }

    /// The complete record that expires first, if it does before `limit`.
    fn take_complete(&mut self, limit: Option<Timestamp>) -> Option<Record> {
        let (due, key) = *self.complete.first()?;
        if limit.is_some_and(|limit| due > limit) {
            return None;
        }
        self.take(&key)
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

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let shard = lock(&self.shards[self.shard_of(key)]);
        Ok(self.loaded(shard.records.get(key)))
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let home = self.shard_of(key);
        let unfinished = next.status() != Status::Complete;
        if unfinished && expected.is_none() && !self.fits(1, next.size()) {
            // A write that meets a record needs no room, and must not drop
            // anything: least of all the answer that it is about to be given.
            if let Some(current) = lock(&self.shards[home]).records.get(key) {
                return Ok(Swap::Conflict(self.loaded(Some(current))));
            }
            self.make_room(home, 1, next.size())?;
        }
        let mut shard = lock(&self.shards[home]);
        let current = shard.records.get(key);
        if current.map(Record::version) != expected {
            return Ok(Swap::Conflict(self.loaded(current)));
        }
        self.put(&mut shard, key, next);
        Ok(Swap::Stored)
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        let mut shard = lock(&self.shards[self.shard_of(key)]);
        if shard.records.get(key).map(Record::version) != Some(expected) {
            return Ok(false);
        }
        if let Some(removed) = shard.take(key) {
            self.forget(&removed);
        }
        Ok(true)
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        let now = self.clock.now();
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let matching = shard.records.iter().filter(|(_, record)| matches(query.filter, record, now));
            found.extend(matching.map(|(key, record)| Found {
                key: *key,
                version: record.version(),
                status: record.status(),
                created: record.created_at().unwrap_or_default(),
                due: record.due(),
            }));
        }
        Ok(page(found, query))
    }
}

fn matches(filter: Filter, record: &Record, now: Timestamp) -> bool {
    let unfinished = record.status() != Status::Complete;
    match filter {
        Filter::Unfinished => unfinished,
        Filter::Lapsed => unfinished && record.due() <= now,
        Filter::Expired => record.is_expired(now),
    }
}

fn page(mut found: Vec<Found>, query: &Query) -> Page {
    let cursor = |found: &Found| Cursor { due: found.due, key: found.key };
    found.retain(|one| query.after.is_none_or(|after| cursor(one) > after));
    found.sort_unstable_by_key(cursor);
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let next = found.last().map(cursor).filter(|_| more);
    Page { found, next }
}
