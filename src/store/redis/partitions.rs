//! How many partitions there are: a setting that the data remembers.
//!
//! The first partition has the number, and of two first writers the one who is there first decides.
//! The others have copies: a process that starts while a node of a cluster is away has to know, too.
//! A process that writes tells it again after a while: all that Redis had may have been deleted.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{RedisError, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::connection::Connection;
use super::error::{corrupt, is_away, store_error, unavailable};
use super::layout::{Names, no_reply_of_ours};
use super::script::{COUNT, Call, EPOCH, PARTITIONS};
use super::timeouts::too_late;
use crate::store::contract::StoreError;
use crate::util::signal::lock;

/// Of a store that is not told another number, and of data that does not say so.
pub(super) const USUAL: u16 = 16;

const MOST: u16 = 1024;
const COPIES: u16 = 64;
pub(super) const RANGE: &str = "there may be 1 to 1024 partitions";

pub(super) fn is_legal(partitions: u16) -> bool {
    (1..=MOST).contains(&partitions)
}

/// For how long a process goes by what it knows of the data.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// Whether the data is known to remember it.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// When that was last told, or seen.
    known_at: Mutex<Option<Instant>>,
    /// Whether this process has worked with this number before.
    is_ours: AtomicBool,
}

/// How well that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Well,
    /// But a while ago. It is said once: who asks sees to it.
    WhileAgo,
    Not,
}

/// What a partition says.
pub(super) enum Said {
    /// This is the number.
    Number(u16),
    /// There is none yet.
    Nothing,
}

impl Said {
    pub(super) fn parse(reply: &Value) -> Result<Self, StoreError> {
        let Value::BulkString(text) = reply else { return Err(no_reply_of_ours()) };
        if text.is_empty() {
            return Ok(Self::Nothing);
        }
        let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.map(Self::Number).ok_or_else(|| {
            corrupt(
                "redis has something else than a number at {PREFIX:NN}:partitions; look at it, and give this store a prefix \
                 or a database of its own",
            )
        })
    }
}

impl Partitions {
    pub(super) fn known(&self) -> Known {
        let mut known_at = lock(&self.known_at);
        match *known_at {
            None => Known::Not,
            Some(at) if at.elapsed() < GOOD_FOR => Known::Well,
            Some(_) => {
                *known_at = Some(Instant::now());
                Known::WhileAgo
            }
        }
    }

    fn forget(&self) {
        *lock(&self.known_at) = None;
    }

    /// Refuses another number than the data has. Writes nothing: a look from outside may come
    /// before the first write.
    pub(super) async fn check(
        &self,
        connection: &Connection,
        names: &Names,
        within: Duration,
    ) -> Result<(), StoreError> {
        match look(connection, names, within).await? {
            Said::Number(found) => return self.agree(found, names),
            Said::Nothing if names.partitions() == USUAL => {}
            // All was deleted. What is there by now may be what this process wrote since.
            Said::Nothing if self.is_ours.load(Ordering::Relaxed) => {}
            Said::Nothing => refuse_older(connection, names, within).await?,
        }
        self.forget();
        Ok(())
    }

    /// As the first partition replied when it was told.
    pub(super) fn decided(&self, reply: &Value, names: &Names) -> Result<(), StoreError> {
        match Said::parse(reply)? {
            Said::Number(found) => self.agree(found, names),
            Said::Nothing => Err(no_reply_of_ours()),
        }
    }

    pub(super) fn agree(&self, found: u16, names: &Names) -> Result<(), StoreError> {
        if found != names.partitions() {
            self.is_ours.store(false, Ordering::Relaxed);
            self.forget();
            return Err(other(found, names));
        }
        *lock(&self.known_at) = Some(Instant::now());
        self.is_ours.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// The first, and those with copies: enough for one on each node.
pub(super) fn that_know(connection: &Connection, names: &Names) -> Range<u16> {
    0..if connection.is_cluster() { names.partitions().min(COPIES) } else { 1 }
}

/// Tells the first partition, if it has no number yet: what it replies is the number.
pub(super) fn tell_first(names: &Names) -> Call {
    ask(names, 0, &names.partitions().to_string())
}

/// Tells the others. One that is away now is missed only if the first one is away, too.
pub(super) async fn tell_others(connection: &Connection, names: &Names, within: Duration) {
    let calls =
        that_know(connection, names).skip(1).map(|partition| ask(names, partition, &names.partitions().to_string()));
    all(connection, calls.collect(), within).await;
}

fn other(found: u16, names: &Names) -> StoreError {
    unavailable(format!(
        "the records in redis lie in {found} partitions, and this store was given {}: it would not find them, and a \
         retry would run the handler again; give it RedisStoreOptions::partitions({found}), or partitions={found} in \
         its URL, or for another number a prefix or a database of its own",
        names.partitions()
    ))
}

fn ask(names: &Names, partition: u16, write: &str) -> Call {
    Call::new(&PARTITIONS, 96).keys([names.of(partition, "partitions").as_bytes()]).arg(write)
}

/// What the first partition that says a number says; in a cluster, one that is away holds up no
/// other, but if none has a number, the first partition has to say so.
async fn look(connection: &Connection, names: &Names, within: Duration) -> Result<Said, StoreError> {
    let mut asked = JoinSet::new();
    for partition in that_know(connection, names) {
        let (connection, call) = (connection.clone(), ask(names, partition, ""));
        asked.spawn(async move { (partition, in_time(&connection, &call, within).await) });
    }
    let mut said = Err(unavailable("redis ended the connection"));
    while let Some(Ok((partition, reply))) = asked.join_next().await {
        match reply {
            Ok(reply) => match Said::parse(&reply)? {
                Said::Number(number) => return Ok(Said::Number(number)),
                Said::Nothing if partition == 0 => said = Ok(Said::Nothing),
                Said::Nothing => {}
            },
            Err(error) if partition > 0 && is_away(&error) => {}
            Err(error) if partition == 0 && is_away(&error) => said = Err(store_error(error)),
            Err(error) => return Err(store_error(error)),
        }
    }
    said
}

/// Data of a build that did not know the setting says nothing, and has the usual number: the marks
/// of watchers, and unfinished records, give it away.
async fn refuse_older(connection: &Connection, names: &Names, within: Duration) -> Result<(), StoreError> {
    let mut calls = Vec::new();
    for partition in 0..USUAL {
        calls.push(Call::new(&EPOCH, 96).keys([names.of(partition, "epoch").as_bytes()]).arg("").arg(""));
        calls.push(Call::new(&COUNT, 96).keys([names.of(partition, "due").as_bytes()]).arg("all"));
    }
    for reply in all(connection, calls, within).await {
        match reply.map_err(store_error)? {
            Value::Int(0) => {}
            Value::Int(_) => return Err(other(USUAL, names)),
            Value::Array(epoch) if matches!(&epoch[..], [Value::BulkString(id), _] if id.is_empty()) => {}
            Value::Array(_) => return Err(other(USUAL, names)),
            _ => return Err(no_reply_of_ours()),
        }
    }
    Ok(())
}

async fn all(connection: &Connection, calls: Vec<Call>, within: Duration) -> Vec<Result<Value, RedisError>> {
    let mut running = JoinSet::new();
    for call in calls {
        let connection = connection.clone();
        running.spawn(async move { in_time(&connection, &call, within).await });
    }
    running.join_all().await
}

/// A node of a cluster may be looked for before that; a given connection has limits of its own.
async fn in_time(connection: &Connection, call: &Call, within: Duration) -> Result<Value, RedisError> {
    timeout(within, connection.call(call)).await.unwrap_or_else(|_| Err(too_late("redis did not reply", within)))
}
