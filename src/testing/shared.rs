//! What the processes of a test share.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::recording::Recording;
use crate::core::{Key, Record, Version};
use crate::store::{MemoryStore, Store, StoreError, Swap};
use crate::util::clock::ManualClock;
use crate::util::signal::lock;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: MemoryStore,
    pub(super) clock: ManualClock,
    /// The steps that operations had before their end, which drops them.
    pub(super) recorded: Mutex<BTreeMap<Key, Record>>,
}

impl Default for Shared {
    fn default() -> Self {
        let clock = ManualClock::new();
        Self { store: MemoryStore::with_clock(clock.clone()), clock, recorded: Mutex::default() }
    }
}

impl Shared {
    /// A write, and its steps kept beside it.
    pub(super) async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let swapped = self.store.swap(key, expected, next).await?;
        if matches!(swapped, Swap::Stored) && Recording::is_whole(next) {
            lock(&self.recorded).insert(*key, next.clone());
        }
        Ok(swapped)
    }
}
