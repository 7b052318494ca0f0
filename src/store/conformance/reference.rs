//! The store that is right because it is obvious.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;

use crate::core::{Key, Record, Status, Timestamp, Version};
use crate::store::contract::Entry;
use crate::store::{Filter, Found, Loaded, Page, Query, Store, StoreError, Swap};
use crate::util::clock::{Clock, ManualClock};
use crate::util::signal::lock;

/// A map under one lock, which never forgets: the model that other stores are
/// compared with.
#[derive(Debug, Default)]
pub struct Reference {
    records: Mutex<BTreeMap<Key, Record>>,
    clock: ManualClock,
}

impl Reference {
    /// An empty one on this clock.
    pub fn new(clock: ManualClock) -> Self {
        Self { records: Mutex::default(), clock }
    }

    fn found(key: &Key, record: &Record) -> Found {
        let created = record.created_at().unwrap_or_default();
        Found { key: *key, version: record.version(), status: record.index_class(), created, due: record.due() }
    }
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

#[async_trait]
impl Store for Reference {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let record = lock(&self.records).get(key).cloned();
        Ok(Loaded { record, now: self.clock.now() })
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let (mut records, now) = (lock(&self.records), self.clock.now());
        let current = records.get(key).cloned();
        if current.as_ref().map(Record::version) != expected {
            return Ok(Swap::Conflict(Loaded { record: current, now }));
        }
        let created = current.as_ref().and_then(Record::created_at);
        records.insert(*key, next.clone().stamped_over(created, now));
        Ok(Swap::Stored)
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        let mut records = lock(&self.records);
        let there = records.get(key).is_some_and(|record| record.version() == expected);
        if there {
            records.remove(key);
        }
        Ok(there)
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        let (records, now) = (lock(&self.records), self.clock.now());
        let has_label = |record: &Record| query.label.as_ref().is_none_or(|label| record.labels().has(label));
        let matching = records.iter().filter(|(_, record)| matches(query.filter, record, now) && has_label(record));
        let found = matching.map(|(key, record)| Entry::Found(Self::found(key, record)));
        let past = |one: &Entry| query.after.is_none_or(|after| query.filter.is_past(one.place(), after));
        let mut entries: Vec<_> = found.filter(past).collect();
        entries.sort_by_key(Entry::place);
        if query.filter.is_latest_first() {
            entries.reverse();
        }
        Ok(Page::of(entries, query.limit))
    }

    fn indexes_labels(&self) -> bool {
        true
    }
}
