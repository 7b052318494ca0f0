//! Records by what falls due.

use std::ops::Bound;

use super::committer::Shared;
use super::engine::Engine;
use super::error::unreadable;
use super::layout::{expiry_key, parse_expiry_key, parse_expiry_value};
use crate::core::{DecodeError, Status, Timestamp};
use crate::store::{Cursor, Filter, Found, Page, Query, StoreError};
use crate::sync::lock;

const CORRUPT: DecodeError = DecodeError::Corrupt("its place in the expiry index does not parse");

pub(super) fn scan(shared: &Shared, query: &Query) -> Result<Page, StoreError> {
    let now = shared.clock.now();
    // One more tells whether there is another page.
    let limit = query.limit.saturating_add(1);
    let mut found = match query.filter {
        Filter::Unfinished => lock(&shared.index).page(query.after, Timestamp::from_millis(u64::MAX), limit),
        Filter::Lapsed => lock(&shared.index).page(query.after, now, limit),
        Filter::Expired => expired(&shared.engine, query.after, now, limit)?,
    };
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let next = found.last().map(|last| Cursor { due: last.due, key: last.key }).filter(|_| more);
    Ok(Page { found, next })
}

fn expired(engine: &Engine, after: Option<Cursor>, now: Timestamp, limit: usize) -> Result<Vec<Found>, StoreError> {
    let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(expiry_key(after.due, &after.key)));
    let mut found = Vec::new();
    for entry in engine.expiry.range::<[u8; 40], _>((start, Bound::Unbounded)).take(limit) {
        let (key, value) = entry.into_inner().map_err(unreadable)?;
        let (due, key) = parse_expiry_key(&key).ok_or(CORRUPT)?;
        let (version, created) = parse_expiry_value(&value).ok_or(CORRUPT)?;
        if due > now {
            break;
        }
        found.push(Found { key, version, status: Status::Complete, created, due });
    }
    Ok(found)
}
