//! One node of a cluster.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, Pipeline, RedisError, Value};
use tokio::time::timeout;

use super::error::wants_reconnect;
use super::slots::Address;
use super::timeouts::{Timeouts, too_late};
use crate::store::for_all::ForAll;

/// What each command was replied with.
pub(super) type Replies = Vec<Result<Value, RedisError>>;

/// Its connection is opened when it is first needed, and again when it broke.
pub(super) struct Node {
    client: Client,
    connection: ForAll<Arc<MultiplexedConnection>, RedisError>,
    /// Whether it was away, or cut off from the others, when a key was last asked for.
    is_away: AtomicBool,
}

impl Node {
    pub(super) fn new(client: Client) -> Self {
        Self { client, connection: ForAll::new(), is_away: AtomicBool::new(false) }
    }

    /// Another node of the same cluster: with the same user, and over TLS as this one.
    pub(super) fn another(&self, at: &Address) -> Result<Self, RedisError> {
        Ok(Self::new(Client::open(at_another(self.client.get_connection_info(), at)?)?))
    }

    pub(super) fn host(&self) -> &str {
        address(self.client.get_connection_info()).map_or("", |(host, _)| host)
    }

    pub(super) fn is_at(&self, at: &Address) -> bool {
        address(self.client.get_connection_info()) == Some((&at.host, at.port))
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    pub(super) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.get().is_some()
    }

    pub(super) async fn connect(&self, within: Duration) -> Result<Arc<MultiplexedConnection>, RedisError> {
        match self.connection.get() {
            Some(connection) => Ok(connection),
            None => {
                let opened = Box::pin(self.connection.get_or_make(|| open(self.client.clone(), within))).await;
                opened.inspect_err(|_| self.set_away(true))
            }
        }
    }

    /// Over its connection as it is. If that broke, or does not reply, the next call opens another.
    pub(super) async fn send(
        &self,
        over: &Arc<MultiplexedConnection>,
        commands: &[&Cmd],
        asking: bool,
        within: Duration,
    ) -> Result<Replies, RedisError> {
        let replies = timeout(within, send(over, commands, asking)).await;
        let replies = replies.unwrap_or_else(|_| Err(too_late("a node of the cluster did not reply", within)));
        let refused =
            replies.as_ref().map_or_else(Some, |replies| replies.first().and_then(|first| first.as_ref().err()));
        if refused.is_some_and(wants_reconnect) {
            self.connection.forget_if(|current| Arc::ptr_eq(current, over));
        }
        replies
    }

    /// Connects if need be.
    pub(super) async fn ask(&self, command: &Cmd, timeouts: Timeouts) -> Result<Value, RedisError> {
        let connection = self.connect(timeouts.connect).await?;
        let mut replies = self.send(&connection, &[command], false, timeouts.response).await?;
        replies.pop().unwrap_or(Ok(Value::Nil))
    }
}

async fn open(client: Client, within: Duration) -> Result<Arc<MultiplexedConnection>, RedisError> {
    // How long a reply may take, `send` says.
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(within)).set_response_timeout(None);
    let opened = timeout(within, client.get_multiplexed_async_connection_with_config(&config)).await;
    opened.unwrap_or_else(|_| Err(too_late("a node of the cluster can't be reached", within))).map(Arc::new)
}

/// In one breath, so that no command of another caller is in between.
async fn send(over: &MultiplexedConnection, commands: &[&Cmd], asking: bool) -> Result<Replies, RedisError> {
    let mut connection = over.clone();
    if let (&[command], false) = (commands, asking) {
        return Ok(vec![connection.send_packed_command(command).await?.extract_error()]);
    }
    let mut pipeline = Pipeline::with_capacity(commands.len() + 1);
    if asking {
        pipeline.cmd("ASKING");
    }
    commands.iter().for_each(|&command| _ = pipeline.add_command(command.clone()));
    let replies = connection.req_packed_commands(&pipeline, usize::from(asking), commands.len()).await?;
    Ok(replies.into_iter().map(Value::extract_error).collect())
}

fn address(info: &ConnectionInfo) -> Option<(&str, u16)> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some((host, *port)),
        _ => None,
    }
}

fn at_another(info: &ConnectionInfo, at: &Address) -> Result<ConnectionInfo, RedisError> {
    let mut addr = info.addr().clone();
    let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = &mut addr else {
        return Err(io::Error::other("the nodes of a cluster are not found by a socket's path").into());
    };
    (*host, *port) = (at.host.clone(), at.port);
    Ok(info.clone().set_addr(addr))
}
