//! An operation, as it was shown.

use crate::core::{Key, Record, Timestamp};

/// An operation as it was when an [`Operator`](crate::Operator) showed it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shown {
    /// The name of its record.
    pub key: Key,
    /// Its record: its response, its steps, its history.
    pub record: Record,
    /// The store's time when it was read.
    pub now: Timestamp,
}

impl Shown {
    /// Why an operator has to decide, if it is parked.
    pub fn parked(&self) -> Option<&str> {
        self.record.parked_for().map(AsRef::as_ref)
    }

    /// The steps that were begun and have no result.
    pub fn in_doubt(&self) -> impl Iterator<Item = &str> {
        self.record.in_doubt()
    }
}
