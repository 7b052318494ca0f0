//! Which complete records have expired, without asking the engine about it
//! with every write.

use super::engine::Engine;
use super::layout::{expiry_key, parse_expiry_key};
use crate::core::{Key, Timestamp};
use crate::store::Cursor;

/// Walks through the expiry index, earliest first.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Nothing is left before this. Starting there saves the walk over the
    /// graves of what was removed.
    start: Cursor,
    /// Nothing falls due before this.
    next_due: Timestamp,
}

impl Sweep {
    pub(super) const fn new() -> Self {
        let start = Cursor { due: Timestamp::from_millis(0), key: Key::from_bytes([0; 32]) };
        Self { start, next_due: start.due }
    }

    /// Notes that a record is going to fall due.
    pub(super) fn await_expiry(&mut self, record: Cursor) {
        self.next_due = self.next_due.min(record.due);
        self.start = self.start.min(record);
    }

    /// Takes up to `limit` records that have expired by `now`.
    pub(super) fn take(&mut self, engine: &Engine, now: Timestamp, limit: usize) -> Vec<Cursor> {
        let mut expired = Vec::new();
        if now < self.next_due {
            return expired;
        }
        self.next_due = Timestamp::from_millis(u64::MAX);
        for entry in engine.expiry.range(expiry_key(self.start.due, &self.start.key)..) {
            // What can't be read now is tried again when the store is opened
            // anew; until then it only takes space.
            let Some((due, key)) = entry.key().ok().and_then(|key| parse_expiry_key(&key)) else { break };
            self.start = Cursor { due, key };
            if due > now || expired.len() == limit {
                self.next_due = due;
                break;
            }
            expired.push(self.start);
        }
        expired
    }
}
