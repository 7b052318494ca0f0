//! A page, merged from the partitions.

use redis::Value;
use tokio::task::JoinSet;

use super::RedisStore;
use super::layout::{Columns, PARTITIONS, no_reply_of_ours};
use super::script::{Call, SCAN};
use crate::core::{Key, Timestamp};
use crate::store::{Cursor, Filter, Found, Page, Query, StoreError};

/// The most that one page holds: every partition is asked for as many, and a
/// server does nothing else meanwhile.
const MOST: usize = 500;

impl RedisStore {
    /// Asks all partitions at once, in one round trip.
    pub(super) async fn page(&self, query: &Query) -> Result<Page, StoreError> {
        // Redis forgets complete records by itself.
        if query.filter == Filter::Expired || query.limit == 0 {
            return Ok(Page::default());
        }
        let query = Query { limit: query.limit.min(MOST), ..query.clone() };
        let calls = (0..PARTITIONS).map(|partition| self.share(partition, &query)).collect();
        let mut found = Vec::new();
        for reply in self.all(calls).await? {
            found.extend(parse(reply)?);
        }
        let cursor = |found: &Found| Cursor { due: found.due, key: found.key };
        found.sort_unstable_by_key(cursor);
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().map(cursor).filter(|_| more);
        Ok(Page { found, next })
    }

    fn share(&self, partition: u8, query: &Query) -> Call {
        let (due, name) = query
            .after
            .map_or((String::new(), String::new()), |after| (after.due.as_millis().to_string(), after.key.to_string()));
        let names = &self.link.names;
        Call::new(&SCAN, 256)
            .keys([names.of(partition, "due").as_bytes()])
            .arg(names.of(partition, ""))
            .arg(query.limit + 1)
            .arg(if query.filter == Filter::Lapsed { "1" } else { "0" })
            .arg(due)
            .arg(name)
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

fn parse(reply: Value) -> Result<Vec<Found>, StoreError> {
    let Value::Array(reply) = reply else { return Err(no_reply_of_ours()) };
    let texts: Option<Vec<_>> =
        reply.into_iter().map(|text| if let Value::BulkString(text) = text { Some(text) } else { None }).collect();
    let texts = texts.ok_or_else(no_reply_of_ours)?;
    let found = texts.chunks_exact(3).filter_map(|found| {
        // What does not parse is for whoever loads it to report; a scan goes on.
        let columns = Columns::parse(&found[2]).ok()?;
        let due = str::from_utf8(&found[1]).ok()?.parse().ok()?;
        Some(Found {
            key: parse_key(&found[0])?,
            version: columns.version,
            status: columns.status,
            created: columns.times.created,
            due: Timestamp::from_millis(due),
        })
    });
    Ok(found.collect())
}

fn parse_key(hex: &[u8]) -> Option<Key> {
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(hex.chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Key::from_bytes(bytes))
}
