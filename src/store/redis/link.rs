//! The way to the servers: opened when it is first needed, checked, opened
//! again when it broke.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{RedisError, Value};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::connection::{Connection, Source};
use super::error::{is_away, is_full, is_loading, passes, store_error, unavailable, wants_reconnect};
use super::layout::Names;
use super::partitions::{self, Known, Partitions, Said};
use super::script::{Call, PROBE};
use super::settings::{self, ServerSettings};
use super::timeouts::Timeouts;
use super::wait::Waiting;
use crate::store::contract::{Durability, DurabilityLevel, RequireError, StoreError, StoreErrorKind};
use crate::store::for_all::ForAll;
use crate::util::signal::lock;

/// Milliseconds between tries of a call that the server turned away: less
/// than a second in all, the caller waits.
const PAUSES: [u64; 5] = [20, 50, 100, 200, 400];

pub(super) type OnWarning = Box<dyn Fn(&str) + Send + Sync>;

pub(super) struct Link {
    pub(super) source: Source,
    pub(super) timeouts: Timeouts,
    pub(super) waiting: Option<Waiting>,
    pub(super) names: Names,
    pub(super) partitions: Partitions,
    pub(super) minimum: DurabilityLevel,
    pub(super) on_warning: Option<OnWarning>,
    pub(super) reported: Mutex<Vec<String>>,
    /// The connection that was found good.
    pub(super) current: ForAll<Arc<Connection>>,
}

impl Link {
    /// Calls a script. Turned away for a moment, it tries again; a call whose
    /// fate is unknown is the caller's to find out.
    pub(super) async fn call(self: &Arc<Self>, call: &Call) -> Result<Value, StoreError> {
        self.patiently(|connection| async move { connection.call(call).await }).await
    }

    /// The same, and whether what it wrote or saw is acknowledged as the
    /// options ask for.
    pub(super) async fn call_acknowledged(
        self: &Arc<Self>,
        call: &Call,
    ) -> Result<(Value, Result<(), StoreError>), StoreError> {
        let Some(waiting) = &self.waiting else { return Ok((self.call(call).await?, Ok(()))) };
        Box::pin(self.patiently(|_| waiting.call(&self.source, self.timeouts, call))).await
    }

    async fn patiently<T, F>(self: &Arc<Self>, call: impl Fn(Arc<Connection>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let mut pauses = PAUSES.iter();
        loop {
            let connection = self.connection().await?;
            let error = match call(Arc::clone(&connection)).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let pause = pauses.next().filter(|_| passes(&error));
            // One that loads takes its time. In its place there may be another by now.
            let takes_long = is_loading(&error) && pauses.as_slice().is_empty();
            if (takes_long || wants_reconnect(&error)) && !connection.is_cluster() {
                self.give_up(&connection);
            }
            match pause {
                Some(&pause) => Box::pin(sleep(Duration::from_millis(pause))).await,
                None => return Err(store_error(error)),
            }
        }
    }

    /// Before what is written first: which number of partitions it is that the data has.
    pub(super) async fn remember_partitions(self: &Arc<Self>) -> Result<(), StoreError> {
        match self.partitions.known() {
            Known::Well => Ok(()),
            Known::WhileAgo => {
                // Beside the write: of a cluster, the node of the first partition may be away.
                let link = Arc::clone(self);
                tokio::spawn(async move { link.tell_partitions_again().await });
                Ok(())
            }
            Known::Not => Box::pin(self.tell_partitions()).await,
        }
    }

    async fn tell_partitions(self: &Arc<Self>) -> Result<(), StoreError> {
        // To connect is to look. The node of the first partition may be the one that hangs.
        let connection = self.connection().await?;
        if self.partitions.known() != Known::Not {
            return Ok(());
        }
        match self.tell(&connection).await {
            // Of a build that did not know the setting; what it admitted continues.
            Err(error) if error.kind() == StoreErrorKind::Full && self.names.partitions() == partitions::USUAL => {
                Ok(())
            }
            told => told,
        }
    }

    /// A server that is away then is told the next time.
    async fn tell_partitions_again(self: &Arc<Self>) {
        if let Ok(connection) = self.connection().await {
            let _ = self.tell(&connection).await;
        }
    }

    /// If it is another number that the data has, every call is refused from here on.
    async fn tell(self: &Arc<Self>, connection: &Arc<Connection>) -> Result<(), StoreError> {
        let reply = self.call(&partitions::tell_first(&self.names)).await?;
        self.partitions.decided(&reply, &self.names).inspect_err(|_| self.give_up(connection))?;
        partitions::tell_others(connection, &self.names, self.timeouts.response).await;
        Ok(())
    }

    /// What the servers say about themselves now. If they are to be refused by
    /// now, so is every call until they are not.
    pub(super) async fn settings(self: &Arc<Self>) -> Result<Vec<ServerSettings>, StoreError> {
        let connection = self.connection().await?;
        match settings::read(&connection, self.timeouts).await {
            Ok(servers) => {
                let servers = acceptable(servers).inspect_err(|_| self.give_up(&connection))?;
                let checked = self.partitions.check(&connection, &self.names, self.timeouts.response).await;
                checked.inspect_err(|_| self.give_up(&connection))?;
                Ok(servers)
            }
            Err(error) => {
                if !connection.is_cluster() {
                    self.give_up(&connection);
                }
                Err(error)
            }
        }
    }

    fn give_up(&self, broken: &Arc<Connection>) {
        self.current.forget_if(|current| {
            let is_broken = Arc::ptr_eq(current, broken);
            self.waiting.iter().filter(|_| is_broken).for_each(Waiting::reset);
            is_broken
        });
    }

    /// The connection. What is done seldom has a box of its own here: every
    /// call would make room for it.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, StoreError> {
        match self.current.get() {
            Some(connection) => Ok(connection),
            None => Box::pin(self.current.get_or_make(|| Arc::clone(self).open())).await,
        }
    }

    /// Opened, and checked.
    async fn open(self: Arc<Self>) -> Result<Arc<Connection>, StoreError> {
        let connection = self.source.open(self.timeouts).await.map_err(store_error)?;
        let servers = acceptable(settings::read(&connection, self.timeouts).await?)?;
        match self.probe(&connection).await? {
            Said::Number(found) => self.partitions.agree(found, &self.names)?,
            Said::Nothing => self.partitions.check(&connection, &self.names, self.timeouts.response).await?,
        }
        let found = self.durability_by(&servers);
        self.report(&found.warnings);
        if found.survives < self.minimum {
            return Err(unavailable(RequireError::Below { minimum: self.minimum, found }.to_string()));
        }
        Ok(Arc::new(connection))
    }

    /// Whether the scripts may do all that they do; of a cluster, on the node
    /// that replies first. What that says about the number of partitions: to ask others, too, would
    /// hold up all calls if one of them hangs.
    async fn probe(&self, connection: &Connection) -> Result<Said, StoreError> {
        let trial = self.waiting.as_ref().map(|waiting| waiting.acknowledged.trial());
        let mut asked = JoinSet::new();
        for partition in partitions::that_know(connection, &self.names) {
            let (connection, trial) = (connection.clone(), trial.clone());
            let names = ["probe", "probes", "partitions"].map(|name| self.names.of(partition, name));
            let indexes = if self.names.indexes.complete || self.names.indexes.labels { "1" } else { "" };
            let probe = Call::new(&PROBE, 256).keys(names.each_ref().map(String::as_bytes)).arg(indexes);
            asked.spawn(async move {
                let Some(trial) = trial else { return connection.call(&probe).await };
                connection.call_and(&probe, &trial).await.map(|(probed, _)| probed)
            });
        }
        let mut away = unavailable("redis ended the connection");
        while let Some(Ok(probed)) = asked.join_next().await {
            match probed {
                Ok(reply) => return Said::parse(&reply),
                // Full, it still hands out what it has.
                Err(error) if is_full(&error) => return Ok(Said::Nothing),
                Err(error) if is_away(&error) => away = store_error(error),
                Err(error) => return Err(store_error(error)),
            }
        }
        Err(away)
    }

    /// What these servers survive; the worst of them counts.
    pub(super) fn durability_by(&self, servers: &[ServerSettings]) -> Durability {
        let acknowledged = self.waiting.as_ref().map(|waiting| &waiting.acknowledged);
        let survives = servers.iter().map(|server| server.survives(acknowledged)).min();
        let mut warnings: Vec<_> = servers.iter().flat_map(ServerSettings::warnings).collect();
        warnings.sort_unstable();
        warnings.dedup();
        Durability { survives: survives.unwrap_or(DurabilityLevel::Nothing), epoch: None, warnings }
    }

    /// Reports the warnings that it did not report the last time.
    fn report(&self, warnings: &[String]) {
        let reported = std::mem::replace(&mut *lock(&self.reported), warnings.to_vec());
        let Some(on_warning) = &self.on_warning else { return };
        warnings.iter().filter(|warning| !reported.contains(warning)).for_each(|warning| on_warning(warning));
    }
}

/// These, unless one of them is to be refused.
fn acceptable(servers: Vec<ServerSettings>) -> Result<Vec<ServerSettings>, StoreError> {
    match servers.iter().find_map(ServerSettings::refusal) {
        Some(refusal) => Err(unavailable(refusal)),
        None => Ok(servers),
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("source", &self.source).field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}
