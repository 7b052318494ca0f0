//! Without the feature there are no records.

use super::settings::Asked;
use crate::core::{Fingerprint, Key, Record, Reply, Timestamp};

#[derive(Debug)]
pub(crate) enum NearRecords {}

impl NearRecords {
    pub(crate) const fn asking(&self, _: &Key) -> Asked {
        match *self {}
    }

    pub(crate) const fn recall(&self, _: &Key, _: &Fingerprint, _: u64) -> Option<Reply> {
        match *self {}
    }

    pub(crate) const fn keep(&self, _: Asked, _: Key, _: &Record, _: Timestamp, _: u64) {
        match *self {}
    }

    pub(crate) const fn drop_one(&self, _: &Key) {
        match *self {}
    }
}
