//! A page, along the index of what falls due.

use super::columns::Row;
use super::driver::Parameter;
use super::row::{found, required};
use super::store::PostgresStore;
use crate::core::{Key, Timestamp};
use crate::store::contract::Entry;
use crate::store::contract::{Cursor, Filter, Page, Query, StoreError, StoreErrorKind};

impl PostgresStore {
    /// Rows that are not ours, because of their key or their time, have no place
    /// that a cursor could name: they are passed and counted.
    pub(super) async fn page(&self, query: &Query) -> Result<Page, StoreError> {
        let scans = match (&query.label, &self.0.sql.label_scans) {
            (None, _) => &self.0.sql.scans,
            (Some(_), Some(scans)) => scans,
            (Some(_), None) => return Err(not_indexed()),
        };
        let sql = match query.filter {
            Filter::Unfinished => &scans.unfinished,
            Filter::Lapsed => &scans.lapsed,
            Filter::Expired => &scans.expired,
            Filter::Complete => &scans.complete,
        };
        // One more, to see whether that was all.
        let wanted = query.limit.saturating_add(1);
        let (mut due, mut key) = start(query);
        // Those that lie behind the last place of the page belong to the next one.
        let (mut entries, mut strange, mut behind) = (Vec::new(), 0, 0);
        loop {
            let limit = wanted - entries.len();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut parameters = vec![Parameter::Integer(due), Parameter::Bytes(Some(key)), Parameter::Integer(limit)];
            parameters.extend(query.label.as_ref().map(Parameter::label));
            let rows = self.0.connections.query(sql, &parameters).await?;
            for row in &rows {
                match entry(row)? {
                    Some(entry) => entries.push(entry),
                    None if entries.len() < query.limit => strange += 1,
                    None => behind += 1,
                }
            }
            let Some(last) = rows.last().filter(|_| entries.len() < wanted && rows.len() as i64 == limit) else {
                break;
            };
            (due, key) = (required(last, 4)?, required::<&[u8]>(last, 0)?.to_vec());
        }
        let mut page = Page::of(entries, query.limit);
        page.unreadable.count += strange + if page.next.is_none() { behind } else { 0 };
        Ok(page)
    }
}

impl PostgresStore {
    /// How many there are, `most` at most.
    pub(super) async fn count_of(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        let sql = match filter {
            Filter::Unfinished => &self.0.sql.count_unfinished,
            Filter::Lapsed => &self.0.sql.count_lapsed,
            Filter::Expired => &self.0.sql.count_expired,
            Filter::Complete => &self.0.sql.count_complete,
        };
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.0.connections.query(sql, &[Parameter::Integer(most)]).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| required(row, 0))?;
        Ok(usize::try_from(count).unwrap_or_default())
    }
}

fn not_indexed() -> StoreError {
    let message = "this store has no index of labels; give all processes PostgresStoreOptions::index_labels(true)";
    StoreError::new(StoreErrorKind::NotIndexed, message)
}

/// Where it starts: at either end, before or behind any key, if no page was before this one.
fn start(query: &Query) -> (i64, Vec<u8>) {
    match query.after {
        Some(after) => (i64::try_from(after.due.as_millis()).unwrap_or(i64::MAX), after.key.as_bytes().to_vec()),
        None if query.filter.is_latest_first() => (i64::MAX, vec![u8::MAX; 33]),
        None => (i64::MIN, Vec::new()),
    }
}

/// One line of a scan; `None` if it has no place.
fn entry(row: &Row) -> Result<Option<Entry>, StoreError> {
    let (key, due): (&[u8], i64) = (required(row, 0)?, required(row, 4)?);
    let place = key
        .try_into()
        .ok()
        .zip(u64::try_from(due).ok())
        .map(|(key, due)| Cursor { due: Timestamp::from_millis(due), key: Key::from_bytes(key) });
    Ok(place.map(|place| found(row).map_or(Entry::Unreadable(place), Entry::Found)))
}
