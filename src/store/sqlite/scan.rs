//! Records by what falls due.

use rusqlite::{ToSql, params_from_iter};

use super::error::Fault;
use super::reader::Reader;
use super::row::{self, Stored, number_cell};
use crate::core::{Key, Label, Timestamp};
use crate::store::contract::{Cursor, Entry, Filter, Page, Query, StoreError, StoreErrorKind};

impl Reader<'_> {
    /// One page, in one read transaction.
    pub(super) fn scan(&mut self, query: &Query, now: Timestamp) -> Result<Page, Fault> {
        // One more tells whether there is another page.
        let limit = i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX);
        // An empty key comes before all others, and a longer one than there is behind.
        let (due, key) = match &query.after {
            Some(after) => (millis(after.due), after.key.as_bytes().as_slice()),
            None if query.filter.is_latest_first() => (i64::MAX, [u8::MAX; 33].as_slice()),
            None => (i64::MIN, [].as_slice()),
        };
        let mut bound = vec![due.to_sql()?, key.to_sql()?, limit.to_sql()?];
        let tag = query.label.as_ref().map(Label::tag);
        // By position: `?4` is the time, `?5` the label.
        let is_timed = matches!(query.filter, Filter::Lapsed | Filter::Expired);
        if is_timed || tag.is_some() {
            bound.push(number_cell(millis(now)));
        }
        bound.extend(tag.map(number_cell));
        let scans = match (&query.label, &mut self.label_scans) {
            (None, _) => &mut self.scans,
            (Some(_), Some(scans)) => scans,
            (Some(_), None) => return Err(not_indexed().into()),
        };
        let mut rows = scans.of(query.filter).query(params_from_iter(bound))?;
        let mut entries = Vec::new();
        while let Some(found) = rows.next()? {
            let Ok(key) = row::key(found, row::KEY) else { continue };
            entries.push(match Stored::read(found, key.as_bytes()) {
                Ok(stored) => Entry::Found(stored.columns.found(key)),
                Err(Fault::Record(_)) => Entry::Unreadable(place(found, key)?),
                Err(fault) => return Err(fault),
            });
        }
        Ok(Page::of(entries, query.limit))
    }
}

impl Reader<'_> {
    /// How many there are, `most` at most.
    pub(super) fn count(&mut self, filter: Filter, most: usize, now: Timestamp) -> Result<usize, Fault> {
        let statement = match filter {
            Filter::Unfinished | Filter::Lapsed => &mut self.count_unfinished,
            Filter::Expired | Filter::Complete => &mut self.count_complete,
        };
        let latest = match filter {
            Filter::Unfinished | Filter::Complete => i64::MAX,
            Filter::Lapsed | Filter::Expired => millis(now),
        };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let count: i64 = statement.query_row((latest, most), |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }
}

fn not_indexed() -> StoreError {
    let message = "this store has no index of labels; give all processes SqliteStoreOptions::index_labels(true)";
    StoreError::new(StoreErrorKind::NotIndexed, message)
}

/// Where a row lies that can't be read.
fn place(found: &rusqlite::Row<'_>, key: Key) -> Result<Cursor, Fault> {
    Ok(Cursor { due: row::time(row::integer(found, row::DUE)?), key })
}

fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
