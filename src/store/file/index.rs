//! The unfinished records, in memory: there are only as many as there is work
//! under way, and every write and every scan asks about them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use super::layout::Columns;
use crate::core::{DecodeError, Key, Timestamp};
use crate::store::page::Entry;
use crate::store::{Cursor, Found, Unreadable};

/// What must be known about an unfinished record to replace it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unfinished {
    pub(super) columns: Columns,
    /// Which parts are stored for it, so that they can be removed unseen.
    pub(super) request: bool,
    pub(super) steps: u32,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    records: HashMap<Key, Unfinished>,
    by_due: BTreeSet<Cursor>,
    /// Found undecodable when the store was opened. Never touched.
    unreadable: HashMap<Key, DecodeError>,
}

impl Index {
    pub(super) fn get(&self, key: &Key) -> Result<Option<Unfinished>, DecodeError> {
        let found = self.records.get(key).copied();
        if found.is_none() && !self.unreadable.is_empty() {
            self.unreadable.get(key).cloned().map_or(Ok(()), Err)?;
        }
        Ok(found)
    }

    /// Notes what has been stored at `key`: an unfinished record or not.
    pub(super) fn set(&mut self, key: Key, record: Option<Unfinished>) {
        let old = match record {
            Some(record) => self.records.insert(key, record),
            None => self.records.remove(&key),
        };
        if let Some(old) = old {
            self.by_due.remove(&Cursor { due: old.columns.due, key });
        }
        if let Some(record) = record {
            self.by_due.insert(Cursor { due: record.columns.due, key });
        }
    }

    pub(super) fn set_unreadable(&mut self, key: Key, why: DecodeError) {
        self.unreadable.insert(key, why);
    }

    /// Up to `limit` records that come after `after` and fall due by `until`.
    pub(super) fn page(&self, after: Option<Cursor>, until: Timestamp, limit: usize) -> Vec<Entry> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let due = self.by_due.range((start, Bound::Unbounded)).take_while(|cursor| cursor.due <= until);
        let found = due.filter_map(|cursor| self.records.get(&cursor.key).map(|record| (cursor, record.columns)));
        found.take(limit).map(|(cursor, columns)| Entry::Found(found_at(cursor.key, &columns))).collect()
    }

    /// All that is undecodable, with up to `limit` keys.
    pub(super) fn unreadable(&self, limit: usize) -> Unreadable {
        Unreadable { count: self.unreadable.len(), keys: self.unreadable.keys().take(limit).copied().collect() }
    }
}

const fn found_at(key: Key, columns: &Columns) -> Found {
    let Columns { status, version, created, due, .. } = *columns;
    Found { key, version, status, created, due }
}
