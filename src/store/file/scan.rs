//! Records by what falls due.

use std::ops::Bound;

use super::committer::Shared;
use super::engine::Engine;
use super::error::unreadable;
use super::layout::{expiry_key, parse_expiry_key, parse_expiry_value};
use crate::core::{Status, Timestamp};
use crate::store::page::Entry;
use crate::store::{Cursor, Filter, Found, Page, Query, StoreError, Unreadable};
use crate::sync::lock;

pub(super) fn scan(shared: &Shared, query: &Query) -> Result<Page, StoreError> {
    let now = shared.clock.now();
    // One more tells whether there is another page.
    let limit = query.limit.saturating_add(1);
    let mut strange = Unreadable::default();
    let entries = match query.filter {
        Filter::Unfinished => lock(&shared.index).page(query.after, Timestamp::from_millis(u64::MAX), limit),
        Filter::Lapsed => lock(&shared.index).page(query.after, now, limit),
        Filter::Expired => expired(&shared.engine, query.after, now, limit, &mut strange)?,
    };
    if query.filter != Filter::Expired && query.after.is_none() {
        // Where they would lie is not known.
        strange = lock(&shared.index).unreadable(query.limit);
    }
    let mut page = Page::of(entries, query.limit);
    page.unreadable.count += strange.count;
    page.unreadable.keys.extend(strange.keys);
    page.unreadable.keys.truncate(query.limit);
    Ok(page)
}

fn expired(
    engine: &Engine,
    after: Option<Cursor>,
    now: Timestamp,
    limit: usize,
    strange: &mut Unreadable,
) -> Result<Vec<Entry>, StoreError> {
    let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(expiry_key(after.due, &after.key)));
    let mut entries = Vec::new();
    for entry in engine.expiry.range::<[u8; 40], _>((start, Bound::Unbounded)) {
        let (key, value) = entry.into_inner().map_err(unreadable)?;
        let Some((due, key)) = parse_expiry_key(&key) else {
            strange.count += 1;
            continue;
        };
        if due > now || entries.len() == limit {
            break;
        }
        entries.push(match parse_expiry_value(&value) {
            Some((version, created)) => Entry::Found(Found { key, version, status: Status::Complete, created, due }),
            None => Entry::Unreadable(Cursor { due, key }),
        });
    }
    Ok(entries)
}
