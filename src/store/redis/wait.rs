//! Writes that wait for replicas or for disks, on connections of their own.

use std::sync::Mutex;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::Semaphore;

use super::connection::{Connection, Source};
use super::error::{unavailable, wants_reconnect};
use super::script::Call;
use super::timeouts::Timeouts;
use crate::store::contract::StoreError;
use crate::util::signal::lock;

/// How many writes wait at once. The others wait for a connection.
const CONNECTIONS: usize = 32;

/// What has to acknowledge a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Acknowledged {
    /// `WAIT`: so many replicas have it, in memory.
    ByReplicas { replicas: u32, within: Duration },
    /// `WAITAOF`: it is on the disks of the primary and of so many replicas.
    OnDisk { local: bool, replicas: u32, within: Duration },
}

impl Acknowledged {
    /// Whether it is on the primary's disk.
    pub(super) const fn is_on_disk(&self) -> bool {
        matches!(self, Self::OnDisk { local: true, .. })
    }

    pub(super) const fn within(&self) -> Duration {
        match self {
            Self::ByReplicas { within, .. } | Self::OnDisk { within, .. } => *within,
        }
    }

    fn command(&self) -> Cmd {
        // Zero would wait for ever.
        let within = u64::try_from(self.within().as_millis()).unwrap_or(u64::MAX).max(1);
        match self {
            Self::ByReplicas { replicas, .. } => redis::cmd("WAIT").arg(replicas).arg(within).take(),
            Self::OnDisk { local, replicas, .. } => {
                redis::cmd("WAITAOF").arg(u8::from(*local)).arg(replicas).arg(within).take()
            }
        }
    }

    /// The same for nothing, and at once: an error says that the server or the
    /// user can't, before anything is written that is then not acknowledged.
    pub(super) fn trial(&self) -> Cmd {
        match self {
            Self::ByReplicas { .. } => redis::cmd("WAIT").arg(0).arg(1).take(),
            Self::OnDisk { local, .. } => redis::cmd("WAITAOF").arg(u8::from(*local)).arg(0).arg(1).take(),
        }
    }

    fn check(&self, reply: &Value) -> Result<(), StoreError> {
        let counts = match reply {
            Value::Int(replicas) => vec![*replicas],
            Value::Array(counts) => counts.iter().map(|count| if let Value::Int(n) = count { *n } else { 0 }).collect(),
            _ => Vec::new(),
        };
        let wanted = match self {
            Self::ByReplicas { replicas, .. } => vec![i64::from(*replicas)],
            Self::OnDisk { local, replicas, .. } => vec![i64::from(*local), i64::from(*replicas)],
        };
        let enough = counts.len() == wanted.len() && counts.iter().zip(&wanted).all(|(got, wanted)| got >= wanted);
        if enough {
            return Ok(());
        }
        Err(unavailable(format!(
            "redis has it, but only {counts:?} of {wanted:?} acknowledged it within {:?}: [replicas], or [primary, \
             replicas] for disks",
            self.within()
        )))
    }
}

/// Connections that block while they wait, each used by one call at a time.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) acknowledged: Acknowledged,
    idle: Mutex<Vec<Idle>>,
    permits: Semaphore,
}

struct Idle(Connection);

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Idle")
    }
}

impl Waiting {
    pub(super) fn new(acknowledged: Acknowledged, source: &Source) -> Self {
        let connections = if source.is_given() { 1 } else { CONNECTIONS };
        Self { acknowledged, idle: Mutex::default(), permits: Semaphore::new(connections) }
    }

    /// Forgets the idle connections: they lead to where the primary was.
    pub(super) fn reset(&self) {
        lock(&self.idle).clear();
    }

    /// The reply, and whether it was acknowledged. A connection that was
    /// given up on in the middle of a call is not used again.
    pub(super) async fn call(
        &self,
        source: &Source,
        timeouts: Timeouts,
        call: &Call,
    ) -> Result<(Value, Result<(), StoreError>), redis::RedisError> {
        let _permit = self.permits.acquire().await;
        let idle = lock(&self.idle).pop();
        let connection = match idle {
            Some(Idle(connection)) => connection,
            None => source.open_another(timeouts, self.acknowledged.within()).await?,
        };
        let replies = connection.call_and(call, &self.acknowledged.command()).await;
        if !replies.as_ref().is_err_and(wants_reconnect) {
            lock(&self.idle).push(Idle(connection));
        }
        let (reply, count) = replies?;
        Ok((reply, self.acknowledged.check(&count)))
    }
}
