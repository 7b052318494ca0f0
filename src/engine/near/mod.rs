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
use crate::core::{Claim, Command, Exchange, Key, Record, Reply, Timestamp};

/// What an engine and its clones keep, if they do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Near(Option<Arc<NearRecords>>);

impl Near {
    #[cfg(feature = "near-cache")]
    pub(crate) fn new(settings: NearCache) -> Self {
        Self(Some(Arc::new(NearRecords::new(settings))))
    }

    /// What the store had not long ago for the request that claims, as if it said so now.
    pub(crate) fn recall(&self, key: &Key, claim: &Claim) -> Option<Reply> {
        self.0.as_ref()?.recall(key, &claim.fingerprint)
    }

    /// The store is about to be asked.
    pub(crate) fn asking(&self) -> Option<Asked> {
        self.0.as_ref().map(|records| records.asking())
    }

    /// Keeps what the store was asked for, and had at `now`.
    pub(crate) fn keep(&self, asked: Option<Asked>, key: &Key, record: &Record, now: Option<Timestamp>) {
        if let (Some(records), Some(asked), Some(now)) = (&self.0, asked, now) {
            records.keep(asked, *key, record, now);
        }
    }

    /// This process has written the record, or has tried to.
    pub(crate) fn driven<C: Command<Output = T>, T>(&self, key: &Key, exchange: &Exchange<C, T>) {
        if exchange.is_change() {
            self.changed(key);
        }
    }

    /// The same without an exchange.
    pub(crate) fn changed(&self, key: &Key) {
        if let Some(records) = &self.0 {
            records.drop_one(key);
        }
    }
}
