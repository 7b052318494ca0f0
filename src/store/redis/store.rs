//! The store itself, and how what it does is asked of Redis.

use std::sync::Arc;

use async_trait::async_trait;
use redis::Value;

use super::layout::{ScriptReply, no_reply_of_ours, parse_reply};
use super::link::Link;
use super::script::{Call, EPOCH};
use crate::core::{Key, Record, Version};
use crate::store::contract::{Durability, Epoch, Filter, Loaded, Page, Query, Store, StoreError, Swap};
use crate::util::nonce::fresh_nonce;

/// Keeps records in Redis or Valkey: one server, a primary behind Sentinel, or
/// a cluster. For several processes on several machines.
///
/// ```
/// use tower_idempotency::store::{RedisStore, DurabilityLevel};
///
/// // The store is not connected yet: the service starts even while Redis is down.
/// let store = RedisStore::options()
///     .prefix("shop")
///     .require(DurabilityLevel::StoreCrash)
///     .on_warning(|warning| eprintln!("redis: {warning}"))
///     .connect("redis://localhost:6379/1")?;
/// # drop(store);
/// # Ok::<_, tower_idempotency::store::ConnectError>(())
/// ```
///
/// # What it costs
///
/// Two round trips for a first request, one for a replay, one for every
/// recovery point. A write is one call of a small script (`EVALSHA`), which
/// compares and puts, stamps with the server's `TIME`, and decides nothing. All
/// callers share one connection.
///
/// A complete record takes some 250 bytes of memory besides its response; an unfinished
/// one some 300, and where it has a request or steps 200 more besides those.
///
/// # Timeouts
///
/// Redis 6.2 or later, or Valkey, with scripts. Reads and writes go to
/// primaries only. A value may have 512 MiB. Scans hand out at most 500
/// records a page, and never look at a record that is not in the page. A
/// retention or lease that ends after the year 287,000 ends never.
///
/// When memory is full (`noeviction`), new keys are refused with `Full`; work
/// that was admitted continues, and may exceed `maxmemory` by its size.
///
/// # Rights
///
/// A user with an ACL needs:
///
/// - in any case: `+evalsha`, `+eval`, `+time`, `+get`, `+set`, `+del`,
///   `+persist`, `+pexpireat`, `+hget`, `+hset`, `+hsetnx`, `+hincrby`, `+hdel`,
///   `+hgetall`, `+zadd`, `+zrem`, `+zrange`, `+zcount`, `+info`;
/// - for an index of [complete records](super::RedisStoreOptions::index_complete) or of
///   [labels](super::RedisStoreOptions::index_labels): `+getrange`;
/// - for a database in the URL: `+select`;
/// - for a cluster: `+cluster|slots`;
/// - for [`wait`](super::RedisStoreOptions::wait) `+wait`, for
///   [`wait_aof`](super::RedisStoreOptions::wait_aof) `+waitaof`;
/// - to know whether it survives power loss: `+config|get`;
/// - and of keys `~{PREFIX:*`.
///
/// The first call tries them all, and is refused with the name of the command if
/// one is missing.
///
/// # Cancellation
///
/// A call that is dropped may have written.
///
/// # Caveats
///
/// That Redis forgets a claim means: a retry of that key may run the handler again.
///
/// - *Failover may forget acknowledged claims*: replication is asynchronous.
///   [`wait`](super::RedisStoreOptions::wait) makes that rarer, not impossible.
/// - Without an append-only file a restart of Redis forgets every claim; with
///   `appendfsync everysec` power loss may forget the last two seconds, and so may
///   a kill of Redis while its disk is busy: it writes nothing while a flush is late.
/// - An eviction policy `allkeys-*` may evict unfinished records, so the store
///   refuses it. `volatile-*` may forget responses early. Use `noeviction`, and a
///   separate instance rather than one shared with a cache.
/// - The store checks the settings whenever it opens a connection (to a cluster at the
///   first call only), and at every call of
///   [`durability`](Store::durability), which a [`Watcher`](crate::Watcher) makes
///   every minute. If it has to refuse them, it refuses every call until they are mended.
///   It does not notice a change between checks, nor the settings of a
///   cluster's nodes that do not reply.
/// - A dead node of a cluster takes its keys with it until it is back or a
///   replica took over; others go on only with
///   `cluster-require-full-coverage no`. A node that hangs holds up the calls for its
///   own keys only.
#[derive(Debug)]
pub struct RedisStore {
    pub(super) link: Arc<Link>,
}

impl RedisStore {
    /// The mark is the smallest of the partitions', because one that fell back
    /// has the smallest. They grow together, or not at all: if the others ran ahead
    /// while one is away, they could fall back that far unseen.
    async fn epoch(&self) -> Result<Epoch, StoreError> {
        let identity = format!("{:016x}", fresh_nonce().get());
        let looked = self.epochs(&identity, "").await?.ok_or_else(no_reply_of_ours)?;
        let largest = looked.iter().map(|epoch| epoch.mark).max().unwrap_or_default();
        let epochs = self.epochs(&identity, &largest.to_string()).await?.ok_or_else(no_reply_of_ours)?;
        // Of the first look: by the second, another process may have raised it.
        Ok(Epoch { id: identity_of(&epochs), mark: smallest_mark(&looked) + 1 })
    }

    /// As it was left.
    async fn last_epoch(&self) -> Result<Option<Epoch>, StoreError> {
        let looked = self.epochs("", "").await?;
        Ok(looked.map(|epochs| Epoch { id: identity_of(&epochs), mark: smallest_mark(&epochs) }))
    }

    /// Of all partitions; `None` if one has none.
    async fn epochs(&self, identity: &str, above: &str) -> Result<Option<Vec<Epoch>>, StoreError> {
        let calls = (0..self.link.names.partitions()).map(|partition| {
            let key = self.link.names.of(partition, "epoch");
            Call::new(&EPOCH, 128).keys([key.as_bytes()]).arg(identity).arg(above)
        });
        let replies = self.all(calls.collect()).await?;
        let mut epochs = Vec::with_capacity(replies.len());
        for reply in &replies {
            match parse_epoch(reply).ok_or_else(no_reply_of_ours)? {
                Some(epoch) => epochs.push(epoch),
                None => return Ok(None),
            }
        }
        Ok(Some(epochs))
    }
}

/// Another identity anywhere is another one here.
fn identity_of(epochs: &[Epoch]) -> u64 {
    epochs.iter().fold(0, |all, epoch| all.wrapping_add(epoch.id))
}

fn smallest_mark(epochs: &[Epoch]) -> u64 {
    epochs.iter().map(|epoch| epoch.mark).min().unwrap_or_default()
}

/// `None` if this is no reply of the script's, and nothing in it if there is no epoch yet.
fn parse_epoch(reply: &Value) -> Option<Option<Epoch>> {
    let Value::Array(reply) = reply else { return None };
    let [Value::BulkString(id), Value::Int(mark)] = &reply[..] else { return None };
    if id.is_empty() {
        return Some(None);
    }
    let id = u64::from_str_radix(str::from_utf8(id).ok()?, 16).ok()?;
    Some(Some(Epoch { id, mark: mark.unsigned_abs() }))
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let (reply, acknowledged) = self.link.call_acknowledged(&self.link.names.load(key)).await?;
        let ScriptReply::Found(found) = parse_reply(reply)? else { return Err(no_reply_of_ours()) };
        // Otherwise a second look would take a write that was not acknowledged for one that
        // was.
        acknowledged.map(|()| found)
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        self.link.remember_partitions().await?;
        let call = self.link.names.put(key, expected, next);
        let (reply, acknowledged) = self.link.call_acknowledged(&call).await?;
        match parse_reply(reply)? {
            ScriptReply::Done => acknowledged.map(|()| Swap::Stored),
            ScriptReply::Found(found) => {
                if found.record.as_ref().is_some_and(|found| found.version() == next.version()) {
                    acknowledged?;
                }
                Ok(Swap::Conflict(found))
            }
        }
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        let (reply, acknowledged) = self.link.call_acknowledged(&self.link.names.remove(key, expected)).await?;
        match parse_reply(reply)? {
            ScriptReply::Done => acknowledged.map(|()| true),
            ScriptReply::Found(_) => Ok(false),
        }
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.page(query).await
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        self.count(filter, most).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        let servers = self.link.settings().await?;
        self.link.remember_partitions().await?;
        let epoch = self.epoch().await?;
        Ok(Durability { epoch: Some(epoch), ..self.link.durability_by(&servers) })
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        let servers = self.link.settings().await?;
        let epoch = self.last_epoch().await?;
        Ok(Durability { epoch, ..self.link.durability_by(&servers) })
    }

    fn keeps_parts(&self) -> bool {
        true
    }

    fn indexes_labels(&self) -> bool {
        self.link.names.indexes.labels
    }
}
