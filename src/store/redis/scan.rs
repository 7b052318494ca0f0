//! A page, merged from the partitions.

use redis::Value;
use tokio::task::JoinSet;

use super::layout::{Columns, name, no_reply_of_ours, parse_name, tag};
use super::script::{COUNT, Call, SCAN};
use super::store::RedisStore;
use crate::core::{Label, Timestamp};
use crate::store::contract::Entry;
use crate::store::contract::{Cursor, Filter, Found, Page, Query, StoreError, StoreErrorKind};

/// The most that one page holds: a server does nothing else while it collects its share.
const MOST: usize = 500;

impl RedisStore {
    /// Asks all partitions at once, in one round trip.
    pub(super) async fn page(&self, query: &Query) -> Result<Page, StoreError> {
        // Redis forgets complete records by itself.
        if query.filter == Filter::Expired || query.limit == 0 {
            return Ok(Page::default());
        }
        let index = match &query.label {
            Some(label) => self.index_of_label(query.filter, label)?,
            None => self.index_of(query.filter)?.to_owned(),
        };
        let query = Query { limit: query.limit.min(MOST), ..query.clone() };
        let partitions = self.link.names.partitions();
        let most = share_of(query.limit, partitions);
        let calls = (0..partitions).map(|partition| self.share(partition, &query, &index, most)).collect();
        let (mut entries, mut strange, mut known) = (Vec::new(), 0, None);
        for reply in self.all(calls).await? {
            let share = parse(reply).ok_or_else(no_reply_of_ours)?;
            strange += share.1;
            // Behind the last entry of a share that was cut off there may be others of its partition.
            let last = share.0.last().map(Entry::place).filter(|_| share.0.len() == most);
            known = earlier(query.filter, known, last);
            entries.extend(share.0);
        }
        entries.sort_unstable_by_key(Entry::place);
        if query.filter.is_latest_first() {
            entries.reverse();
        }
        entries.retain(|entry| known.is_none_or(|known| !query.filter.is_past(entry.place(), known)));
        let last = entries.last().map(Entry::place).filter(|_| known.is_some());
        let mut page = Page::of(entries, query.limit);
        page.next = page.next.or(last);
        if query.after.is_none() {
            page.unreadable.count += strange;
        }
        Ok(page)
    }

    /// Asks all partitions at once, in one round trip. They know without counting.
    pub(super) async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        if filter == Filter::Expired {
            return Ok(0);
        }
        let index = self.index_of(filter)?;
        let which = match filter {
            Filter::Lapsed => "due",
            // Writes remove those that have expired, a few at a time.
            Filter::Complete => "kept",
            Filter::Unfinished | Filter::Expired => "all",
        };
        let calls = (0..self.link.names.partitions()).map(|partition| {
            let key = self.link.names.of(partition, index);
            Call::new(&COUNT, 64).keys([key.as_bytes()]).arg(which)
        });
        let mut count = 0_usize;
        for reply in self.all(calls.collect()).await? {
            let Value::Int(share) = reply else { return Err(no_reply_of_ours()) };
            count = count.saturating_add(usize::try_from(share).unwrap_or_default());
        }
        Ok(count.min(most))
    }

    /// Where those lie that the filter finds.
    fn index_of(&self, filter: Filter) -> Result<&'static str, StoreError> {
        match filter {
            Filter::Complete if !self.link.names.indexes.complete => {
                Err(not_indexed("complete records", "index_complete"))
            }
            Filter::Complete => Ok("complete"),
            Filter::Unfinished | Filter::Lapsed | Filter::Expired => Ok("due"),
        }
    }

    /// The same of one label.
    fn index_of_label(&self, filter: Filter, label: &Label) -> Result<String, StoreError> {
        if !self.link.names.indexes.labels {
            return Err(not_indexed("labels", "index_labels"));
        }
        let class = if filter == Filter::Complete { "complete" } else { "due" };
        Ok(format!("{class}:{}", tag(label)))
    }

    fn share(&self, partition: u16, query: &Query, index: &str, most: usize) -> Call {
        let (due, last) = query
            .after
            .map_or((String::new(), String::new()), |after| (after.due.as_millis().to_string(), name(&after.key)));
        let names = &self.link.names;
        Call::new(&SCAN, 256)
            .keys([names.of(partition, index).as_bytes()])
            .arg(names.of(partition, ""))
            .arg(most)
            .arg(if query.filter == Filter::Lapsed { "1" } else { "0" })
            .arg(due)
            .arg(last)
            .arg(if query.filter.is_latest_first() { "REV" } else { "" })
    }

    /// The replies to calls that are under way together.
    pub(super) async fn all(&self, calls: Vec<Call>) -> Result<Vec<Value>, StoreError> {
        let mut running = JoinSet::new();
        for call in calls {
            let link = std::sync::Arc::clone(&self.link);
            running.spawn(async move { link.call(&call).await });
        }
        running.join_all().await.into_iter().collect()
    }
}

/// How many entries each partition is asked for. Keys are hashes, so a page has about as many
/// of each partition; a page is shorter where this is too few.
fn share_of(limit: usize, partitions: u16) -> usize {
    limit.min(limit * 4 / usize::from(partitions) + 8) + 1
}

/// The one that comes first in such a scan.
fn earlier(filter: Filter, one: Option<Cursor>, other: Option<Cursor>) -> Option<Cursor> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if filter.is_past(one, other) { other } else { one }),
        _ => one.or(other),
    }
}

fn not_indexed(what: &str, option: &str) -> StoreError {
    let message = format!("redis has no index of {what}; give all processes RedisStoreOptions::{option}(true)");
    StoreError::new(StoreErrorKind::NotIndexed, message)
}

/// A partition's share, and how many names it passed that are none of ours.
fn parse(reply: Value) -> Option<(Vec<Entry>, usize)> {
    let Value::Array(mut reply) = reply else { return None };
    let Some(Value::Int(strange)) = reply.pop() else { return None };
    let texts: Option<Vec<_>> =
        reply.into_iter().map(|text| if let Value::BulkString(text) = text { Some(text) } else { None }).collect();
    let entries: Option<Vec<_>> = texts?.chunks_exact(3).map(|texts| entry(&texts[0], &texts[1], &texts[2])).collect();
    Some((entries?, usize::try_from(strange).ok()?))
}

fn entry(key: &[u8], due: &[u8], columns: &[u8]) -> Option<Entry> {
    let due = Timestamp::from_millis(str::from_utf8(due).ok()?.parse().ok()?);
    let place = Cursor { due, key: parse_name(key)? };
    // What does not parse takes its place, too, or a page of it would be the last.
    Some(Columns::parse(columns).map_or(Entry::Unreadable(place), |(columns, _)| {
        Entry::Found(Found {
            key: place.key,
            version: columns.version,
            status: columns.status,
            created: columns.times.created,
            due,
        })
    }))
}
