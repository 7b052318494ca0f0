//! A connection of any kind, and where it comes from.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};

use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::sentinel::SentinelClient;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::node::Node;
use super::script::{Call, is_unknown_script};
use super::slots::slot_of;
use super::timeouts::{Timeouts, too_late};
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
    Cluster(Cluster),
}

impl Connection {
    /// To the one server that there is; of a cluster, to the node that has the keys of `call`.
    async fn send(&self, call: &Call, command: &Cmd) -> Result<Value, RedisError> {
        match self {
            // Without a box of the driver's.
            Self::Single(connection) => connection.clone().send_packed_command(command).await?.extract_error(),
            Self::Managed(connection) => connection.clone().send_packed_command(command).await?.extract_error(),
            Self::Cluster(cluster) => first(&mut cluster.send(slot_of(call.key()), &[command]).await?.into_iter()),
        }
    }

    /// The servers behind it: of a cluster, the primaries.
    pub(super) async fn servers(&self) -> Result<Vec<Server>, RedisError> {
        Ok(match self {
            Self::Single(connection) => vec![Server::Single(connection.clone())],
            Self::Managed(connection) => vec![Server::Managed(connection.clone())],
            Self::Cluster(cluster) => cluster.primaries().await?.into_iter().map(Server::OfCluster).collect(),
        })
    }

    /// Whether it reconnects by itself, to each of its servers.
    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    pub(super) async fn call(&self, call: &Call) -> Result<Value, RedisError> {
        let reply = self.send(call, call.by_digest()).await;
        if is_unknown_script(&reply) { Box::pin(self.send(call, &call.by_text())).await } else { reply }
    }

    /// A call, and in the same breath `after`, whose reply comes second.
    pub(super) async fn call_and(&self, call: &Call, after: &Cmd) -> Result<(Value, Value), RedisError> {
        let reply = self.send_both(call, call.by_digest(), after).await?;
        let reply =
            if is_unknown_script(&reply.0) { self.send_both(call, &call.by_text(), after).await? } else { reply };
        Ok((reply.0?, reply.1?))
    }

    async fn send_both(&self, call: &Call, first_one: &Cmd, second: &Cmd) -> Result<Both, RedisError> {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(first_one.clone()).add_command(second.clone());
        let replies = match self {
            Self::Single(connection) => connection.clone().req_packed_commands(&pipeline, 0, 2).await?,
            Self::Managed(connection) => connection.clone().req_packed_commands(&pipeline, 0, 2).await?,
            Self::Cluster(cluster) => {
                let mut replies = cluster.send(slot_of(call.key()), &[first_one, second]).await?.into_iter();
                return Ok((first(&mut replies), first(&mut replies)));
            }
        };
        let mut replies = replies.into_iter().map(Value::extract_error);
        Ok((first(&mut replies), first(&mut replies)))
    }
}

/// One server behind a [`Connection`].
pub(super) enum Server {
    Single(MultiplexedConnection),
    Managed(ConnectionManager),
    OfCluster(Arc<Node>),
}

impl Server {
    pub(super) async fn ask(&self, command: &Cmd, timeouts: Timeouts) -> Result<Value, RedisError> {
        match self {
            Self::Single(connection) => connection.clone().send_packed_command(command).await?.extract_error(),
            Self::Managed(connection) => connection.clone().send_packed_command(command).await?.extract_error(),
            Self::OfCluster(node) => node.ask(command, timeouts).await,
        }
    }
}

fn first(replies: &mut impl Iterator<Item = Result<Value, RedisError>>) -> Result<Value, RedisError> {
    replies.next().unwrap_or(Ok(Value::Nil))
}

type Both = (Result<Value, RedisError>, Result<Value, RedisError>);

/// Where connections come from.
pub(super) enum Source {
    Single(Client),
    Sentinel(Box<Sentinels>),
    /// The nodes that the user named.
    Cluster(Vec<Client>),
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
            Self::Cluster(named) => {
                let response = timeouts.response.saturating_add(blocking);
                Connection::Cluster(Cluster::open(named, Timeouts { response, ..timeouts }).await?)
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
