//! Records in this process's memory.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foldhash::fast::RandomState;

use super::contract::Entry;
use crate::core::{Key, Record, Status, Timestamp, Version};
use crate::store::contract::{
    Filter, Found, ImmediateStore, Loaded, Page, Query, Store, StoreError, StoreErrorKind, Swap,
};
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

#[derive(Default)]
struct Shard {
    /// Boxed: the table stays small, and a record is overwritten in its place.
    records: HashMap<Key, Box<Slot>, RandomState>,
    /// Complete records in the order in which they expire; not those that are kept for good.
    complete: BTreeSet<(Timestamp, Key)>,
}

struct Slot {
    record: Record,
    /// As it was counted.
    size: usize,
}

/// About how many bytes a record takes here: with its places in the tables, which
/// have room for some more than they hold.
fn held(record: &Record) -> usize {
    const PLACE: usize = (size_of::<(Key, Box<Slot>)>() + 1) * 8 / 5;
    const TURN: usize = size_of::<(Timestamp, Key)>() * 8 / 5;
    let turn = if record.index_class() == Status::Complete { TURN } else { 0 };
    size_of::<Slot>() - size_of::<Record>() + record.size() + PLACE + turn
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
                self.forget(dropped.size);
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
        let size = held(next);
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        let old = shard.put(key, next, now, size);
        old.into_iter().for_each(|size| self.forget(size));
        // One expired record for every one that is written keeps the store
        // from growing, without a task of its own.
        let expired = shard.take_complete(Some(now));
        expired.into_iter().for_each(|expired| self.forget(expired.size));
    }

    fn forget(&self, size: usize) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Shard {
    fn record(&self, key: &Key) -> Option<&Record> {
        self.records.get(key).map(|kept| &kept.record)
    }

    /// Puts the record in its place; the size of what was there.
    fn put(&mut self, key: &Key, next: &Record, now: Timestamp, size: usize) -> Option<usize> {
        let place = self.records.entry(*key);
        let created = match &place {
            Place::Occupied(old) => old.get().record.created_at(),
            Place::Vacant(_) => None,
        };
        let record = next.clone().stamped_over(created, now);
        let due = Some(record.due()).filter(|_| may_be_dropped(&record));
        let kept = Slot { record, size };
        let mut old_size = None;
        match place {
            Place::Occupied(mut old) => {
                let old = std::mem::replace(&mut **old.get_mut(), kept);
                old_size = Some(old.size);
                if may_be_dropped(&old.record) {
                    self.complete.remove(&(old.record.due(), *key));
                }
            }
            Place::Vacant(place) => drop(place.insert(Box::new(kept))),
        }
        if let Some(due) = due {
            self.complete.insert((due, *key));
        }
        old_size
    }

    fn take(&mut self, key: &Key) -> Option<Box<Slot>> {
        let kept = self.records.remove(key)?;
        if may_be_dropped(&kept.record) {
            self.complete.remove(&(kept.record.due(), *key));
        }
        Some(kept)
    }

    /// The complete record that expires first, if it does before `limit`.
    fn take_complete(&mut self, limit: Option<Timestamp>) -> Option<Box<Slot>> {
        let (due, _) = *self.complete.first()?;
        if limit.is_some_and(|limit| due > limit) {
            return None;
        }
        let (_, key) = self.complete.pop_first()?;
        self.records.remove(&key)
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
        let unfinished = next.status() != Status::Complete;
        if unfinished && expected.is_none() && !self.fits(1, held(next)) {
            // A write that meets a record needs no room, and must not drop
            // anything: least of all the response that it is about to get.
            if let Some(current) = lock(&self.shards[home]).record(key) {
                return Ok(Swap::Conflict(self.loaded(Some(current))));
            }
            self.make_room(home, 1, held(next))?;
        }
        let mut shard = lock(&self.shards[home]);
        let current = shard.record(key);
        if current.map(Record::version) != expected {
            return Ok(Swap::Conflict(self.loaded(current)));
        }
        self.put(&mut shard, key, next);
        Ok(Swap::Stored)
    }

    fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        let mut shard = lock(&self.shards[self.shard_of(key)]);
        if shard.record(key).map(Record::version) != Some(expected) {
            return Ok(false);
        }
        if let Some(removed) = shard.take(key) {
            self.forget(removed.size);
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
        let now = self.clock.now();
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let records = shard.records.iter().map(|(key, kept)| (key, &kept.record));
            let matching = records.filter(|(_, record)| {
                matches(query.filter, record, now)
                    && query.label.as_ref().is_none_or(|label| record.labels().has(label))
            });
            found.extend(matching.map(|(key, record)| Found {
                key: *key,
                version: record.version(),
                status: record.index_class(),
                created: record.created_at().unwrap_or_default(),
                due: record.due(),
            }));
        }
        Ok(page(found, query))
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        let (now, mut count) = (self.clock.now(), 0);
        for shard in &self.shards {
            let shard = lock(shard);
            count += shard.records.values().filter(|kept| matches(filter, &kept.record, now)).count();
        }
        Ok(count.min(most))
    }

    /// It looks at all that it has in any case.
    fn indexes_labels(&self) -> bool {
        true
    }
}

/// Whether it may make room for others.
fn may_be_dropped(record: &Record) -> bool {
    record.index_class() == Status::Complete && !record.is_kept_for_good()
}

fn matches(filter: Filter, record: &Record, now: Timestamp) -> bool {
    let unfinished = record.index_class() != Status::Complete;
    match filter {
        Filter::Unfinished => unfinished,
        Filter::Lapsed => unfinished && record.due() <= now,
        Filter::Expired => record.is_expired(now),
        Filter::Complete => !unfinished,
    }
}

fn page(found: Vec<Found>, query: &Query) -> Page {
    let entries = found.into_iter().map(Entry::Found);
    let past = |one: &Entry| query.after.is_none_or(|after| query.filter.is_past(one.place(), after));
    let mut entries: Vec<_> = entries.filter(past).collect();
    entries.sort_unstable_by_key(Entry::place);
    if query.filter.is_latest_first() {
        entries.reverse();
    }
    Page::of(entries, query.limit)
}
