//! Complete records that this process has read, so that their replays ask no store.
//!
//! What is kept is a reply of the store that may be old: a replay may be decided by it, since a
//! complete record stays as it is until it is forgotten, and nothing else. All writes compare
//! with what the store has.

#[cfg(not(feature = "near-cache"))]
mod absent;
#[cfg(feature = "near-cache")]
mod records;
mod settings;

use std::sync::Arc;

#[cfg(not(feature = "near-cache"))]
use self::absent::NearRecords;
#[cfg(feature = "near-cache")]
use self::records::NearRecords;
use self::settings::Asked;
#[cfg(feature = "near-cache")]
pub use self::settings::NearCache;
use crate::core::{Claim, Key, Record, Reply, Timestamp};

/// What an engine and its clones keep, if they do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Near {
    records: Option<Arc<NearRecords>>,
    /// Which of them this engine may replay: those that an engine with the same encryption keys
    /// has read.
    readers: u64,
}

impl Near {
    #[cfg(feature = "near-cache")]
    pub(crate) fn new(settings: NearCache) -> Self {
        Self { records: Some(Arc::new(NearRecords::new(settings))), readers: 0 }
    }

    /// The engine has other encryption keys from here on, and can read other records.
    #[cfg(feature = "encryption")]
    pub(crate) fn read_anew(&mut self) {
        use std::sync::atomic::{AtomicU64, Ordering};
        static READERS: AtomicU64 = AtomicU64::new(1);
        self.readers = READERS.fetch_add(1, Ordering::Relaxed);
    }

    /// What the store had not long ago for the request that claims, as if it said so now.
    pub(crate) fn recall(&self, key: &Key, claim: &Claim) -> Option<Reply> {
        self.records.as_ref()?.recall(key, &claim.fingerprint, self.readers)
    }

    /// The store is about to be asked for the record at `key`.
    pub(crate) fn look(&self, key: Key) -> Look<'_> {
        Look { near: self, key, asked: self.records.as_ref().map(|records| records.asking(&key)) }
    }

    /// A command is about to be applied to the record at `key`, or the record to be removed.
    pub(crate) fn change(&self, key: &Key) -> Look<'_> {
        Look { near: self, key: *key, asked: None }
    }

    fn drop_one(&self, key: &Key) {
        if let Some(records) = &self.records {
            records.drop_one(key);
        }
    }
}

/// A call of the store that is under way. However it ends, also if its future is dropped, what was kept of
/// the record is gone: whether a write took is not known, and what the store has may be another
/// record by now. Unless the reply [is kept](Self::keep).
pub(crate) struct Look<'n> {
    near: &'n Near,
    key: Key,
    asked: Option<Asked>,
}

impl Look<'_> {
    /// Keeps what the store was asked for, and had at `now`.
    pub(crate) fn keep(mut self, record: &Record, now: Option<Timestamp>) {
        if let (Some(records), Some(asked), Some(now)) = (&self.near.records, self.asked.take(), now) {
            records.keep(asked, self.key, record, now, self.near.readers);
            std::mem::forget(self);
        }
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.near.drop_one(&self.key);
    }
}
