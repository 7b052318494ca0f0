//! A connection of any kind, and where it comes from.

use std::sync::Mutex;
use std::time::Duration;
use std::{fmt, io};

use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::sentinel::SentinelClient;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use tokio::time::timeout;

use super::script::{Call, is_unknown_script};
use crate::util::signal::lock;

/// How long sentinels may take to name the primary. The driver asks three at
/// once, takes their replies in the order in which they are configured, and
/// gives a silent one a second and a half.
const LOOKUP: Duration = Duration::from_secs(2);

/// Sends what many callers ask over one connection. Cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Managed(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Connection {
    fn driver(&mut self) -> &mut (dyn ConnectionLike + Send) {
        match self {
            Self::Single(connection) => connection,
            Self::Managed(connection) => connection,
            Self::Cluster(connection) => connection,
        }
    }

    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let reply = match self {
            // Without a box of the driver's.
            Self::Single(connection) => connection.clone().send_packed_command(command).await,
            _ => self.clone().driver().req_packed_command(command).await,
        };
        reply?.extract_error()
    }

    /// The primaries behind it.
    pub(super) async fn primaries(&self) -> Result<Vec<Node>, RedisError> {
        if !self.is_cluster() {
            return Ok(vec![None]);
        }
        let slots = self.send(redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let by_slot = |slot| Some(SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master)));
        Ok(slots_of_primaries(slots).into_iter().map(by_slot).collect())
    }

    pub(super) async fn ask(&self, node: &Node, command: &Cmd) -> Result<Value, RedisError> {
        let (Self::Cluster(cluster), Some(node)) = (self, node) else { return self.send(command).await };
        let routing = RoutingInfo::SingleNode(node.clone());
        cluster.clone().route_command(command.clone(), routing).await?.extract_error()
    }

    /// Whether it reconnects by itself, to each of its servers.
    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    pub(super) async fn call(&self, call: &Call) -> Result<Value, RedisError> {
        let reply = self.send(call.by_digest()).await;
        if is_unknown_script(&reply) { Box::pin(self.send(&call.by_text())).await } else { reply }
    }

    /// A call, and in the same breath `after`, whose reply comes second.
    pub(super) async fn call_and(&self, call: &Call, after: &Cmd) -> Result<(Value, Value), RedisError> {
        let reply = self.send_both(call.by_digest().clone(), after).await?;
        let reply = if is_unknown_script(&reply.0) { self.send_both(call.by_text(), after).await? } else { reply };
        Ok((reply.0?, reply.1?))
    }

    async fn send_both(&self, first: Cmd, second: &Cmd) -> Result<Both, RedisError> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(first).add_command(second.clone());
        let replies = self.clone().driver().req_packed_commands(&pipeline, 0, 2).await?;
        let mut replies = replies.into_iter().map(Value::extract_error);
        let mut next = || replies.next().unwrap_or(Ok(Value::Nil));
        Ok((next(), next()))
    }
}

/// One server behind a [`Connection`]; `None` where there is but one.
pub(super) type Node = Option<SingleNodeRoutingInfo>;

/// A slot of each primary, from `CLUSTER SLOTS`: ranges with their nodes, the
/// primary first. Nodes need not say where they are found, the driver knows.
fn slots_of_primaries(slots: Value) -> Vec<u16> {
    let Value::Array(ranges) = slots else { return Vec::new() };
    let (mut primaries, mut slots) = (Vec::new(), Vec::new());
    for range in ranges {
        let Value::Array(range) = range else { continue };
        let [Value::Int(first), _, primary, ..] = &range[..] else { continue };
        if let Ok(first) = u16::try_from(*first)
            && !primaries.contains(primary)
        {
            primaries.push(primary.clone());
            slots.push(first);
        }
    }
    slots
}

type Both = (Result<Value, RedisError>, Result<Value, RedisError>);

/// Where connections come from.
pub(super) enum Source {
    Single(Client),
    Sentinel(Box<Sentinels>),
    Cluster(Box<ClusterClient>),
    /// The user's own, who also sees to reconnecting it.
    Given(Connection),
}

/// Sentinels, and the primary that they named last.
pub(super) struct Sentinels {
    asked: tokio::sync::Mutex<SentinelClient>,
    named: Mutex<Option<Client>>,
}

impl Sentinels {
    pub(super) fn new(client: SentinelClient) -> Self {
        Self { asked: tokio::sync::Mutex::new(client), named: Mutex::default() }
    }

    async fn ask(&self) -> Result<(), RedisError> {
        let named = timeout(LOOKUP, async { self.asked.lock().await.async_get_client().await }).await;
        let named = named.unwrap_or_else(|_| Err(too_late("no sentinel named the primary", LOOKUP)))?;
        *lock(&self.named) = Some(named);
        Ok(())
    }

    fn primary(&self) -> Result<Client, RedisError> {
        lock(&self.named).clone().ok_or_else(|| io::Error::other("no sentinel was asked").into())
    }
}

fn too_late(what: &str, limit: Duration) -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {limit:?}")).into()
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

impl Source {
    /// A fresh connection, to where the primaries are now.
    pub(super) async fn open(&self, timeouts: Timeouts) -> Result<Connection, RedisError> {
        if let Self::Sentinel(sentinels) = self {
            sentinels.ask().await?;
        }
        self.open_another(timeouts, Duration::ZERO).await
    }

    /// One more to where the last one led; `blocking` is how much longer than
    /// others its commands may take.
    pub(super) async fn open_another(&self, timeouts: Timeouts, blocking: Duration) -> Result<Connection, RedisError> {
        let opened = timeout(timeouts.connect, self.open_unbounded(timeouts, blocking)).await;
        opened.unwrap_or_else(|_| Err(too_late("it can't be reached", timeouts.connect)))
    }

    async fn open_unbounded(&self, timeouts: Timeouts, blocking: Duration) -> Result<Connection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response.saturating_add(blocking)));
        Ok(match self {
            Self::Single(client) => {
                Connection::Single(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Self::Sentinel(sentinels) => {
                let primary = sentinels.primary()?;
                Connection::Single(primary.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Self::Cluster(client) => {
                // First those that are named are tried, then those that they
                // name, and one that hangs must leave time for the others.
                let config = redis::cluster::ClusterConfig::new()
                    .set_connection_timeout(timeouts.connect / 3)
                    .set_response_timeout(timeouts.response.saturating_add(blocking));
                Connection::Cluster(client.get_async_connection_with_config(config).await?)
            }
            Self::Given(connection) => connection.clone(),
        })
    }

    pub(super) const fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Single(_) => "one server",
            Self::Sentinel(_) => "through Sentinel",
            Self::Cluster(_) => "a cluster",
            Self::Given(_) => "a given connection",
        }
    }
}

/// Without addresses and credentials.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
