//! How a [`RedisStore`] is made.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use redis::Client;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::sentinel::SentinelClient;

use super::connection::{Connection, Sentinels, Source};
use super::layout::{Indexes, Names};
use super::link::{Link, OnWarning};
use super::partitions::{self, Partitions};
use super::store::RedisStore;
use super::timeouts::Timeouts;
use super::url::{Problem, parse, split_parameters};
use super::wait::{Acknowledged, Waiting};
use crate::store::contract::{ConnectError, DurabilityLevel, STORE_TIMEOUT};
use crate::store::for_all::ForAll;

/// How to use a Redis.
#[must_use]
pub struct RedisStoreOptions {
    prefix: String,
    timeouts: Timeouts,
    minimum: DurabilityLevel,
    partitions: u16,
    indexes: Indexes,
    on_warning: Option<OnWarning>,
    acknowledged: Option<Acknowledged>,
}

impl RedisStore {
    /// A store on the servers that this URL names. It connects when it is
    /// first used.
    ///
    /// | URL | what |
    /// |---|---|
    /// | `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` | one server |
    /// | `redis+sentinel://[USER:PASSWORD@]HOST:PORT,…/NAME[/DATABASE]` | the primary that these sentinels know as `NAME`; the user is the primary's |
    /// | `redis+cluster://[USER:PASSWORD@]HOST:PORT,…` | a cluster, by some of its nodes |
    ///
    /// `rediss` instead of `redis` means TLS, and needs the feature `redis-tls`.
    /// It trusts the certificates that the system trusts, or those in `SSL_CERT_FILE`. For
    /// client certificates, pass a [connection](RedisStoreOptions::manager).
    ///
    /// Behind each, `?prefix=NAME`, `&partitions=64`, `&index_complete=true` and `&index_labels=true`
    /// may stand for [`prefix`](RedisStoreOptions::prefix),
    /// [`partitions`](RedisStoreOptions::partitions),
    /// [`index_complete`](RedisStoreOptions::index_complete) and
    /// [`index_labels`](RedisStoreOptions::index_labels), percent-encoded where needed:
    /// `redis://localhost/1?prefix=shop`. For one server, `protocol=3` asks for RESP3. The store
    /// refuses an unknown parameter.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the URL is not one of these.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::options().connect(url)
    }

    /// A store with other settings than the usual, or on the application's own
    /// connection.
    pub fn options() -> RedisStoreOptions {
        RedisStoreOptions::new()
    }
}

impl RedisStoreOptions {
    /// The usual settings.
    pub fn new() -> Self {
        Self {
            prefix: "idempotency".to_owned(),
            timeouts: Timeouts { connect: Duration::from_secs(1), response: Duration::from_secs(2) },
            minimum: DurabilityLevel::Nothing,
            partitions: partitions::USUAL,
            indexes: Indexes::default(),
            on_warning: None,
            acknowledged: None,
        }
    }

    /// What every key starts with, after a `{`; `idempotency` by default.
    /// Stores with different prefixes do not see each other's records.
    ///
    /// Printable ASCII without braces and spaces, 1 to 64 characters. Short
    /// ones save memory: it is part of every key.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How many partitions the records lie in, 1 to 1024; 16 by default. What is in one partition lies
    /// in one slot of a cluster, on one of its nodes: a cluster of more than 16 primaries has use for
    /// four times as many partitions as primaries. Each page of a scan asks all of them.
    ///
    /// The data remembers the number with the first write. A store that is given another one is
    /// refused when it connects: every call then returns `Unavailable`, which says both numbers. It
    /// would not find the records that are there, and a retry would run the handler again. While it
    /// writes, a process tells the data the number again every 10 seconds, by a small call beside a
    /// write: all that is there may have been deleted (`FLUSHALL`). If the data has another number by then,
    /// every call of that process is refused from there on.
    ///
    /// ```
    /// use tower_idempotency::store::RedisStore;
    ///
    /// let store = RedisStore::options().partitions(128).connect("redis+cluster://localhost:7000")?;
    /// # drop(store);
    /// # Ok::<_, tower_idempotency::store::ConnectError>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// - The number can't be changed later. Another one needs another
    ///   [prefix](Self::prefix), or a database of its own, under which no earlier record is found.
    /// - Data of a build that did not know this setting has 16. It remembers that once this build has
    ///   written to it; before that, the store knows such data by its unfinished records, or by what a
    ///   [`Watcher`](crate::Watcher) left, alone. So first let all processes run this build with 16.
    pub const fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions;
        self
    }

    /// How long it may take to connect; one second by default. Calls that come
    /// while the server is away fail after this at the latest. In a cluster it is for
    /// each node: a call for one that is away may need it twice, and a reply of another
    /// node, which is asked who has its keys now. Sentinels have two seconds more to name the
    /// primary, all of them together: one that is silent costs one or one and a
    /// half, if fewer than three are.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.connect = timeout;
        self
    }

    /// How long one reply may take; two seconds by default. The write of a
    /// call that took longer may have taken. Given connections have their own.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.response = timeout;
        self
    }

    /// Refuses a server that survives less, whenever the store connects: every call
    /// then returns `Unavailable`, which says what to set. `Nothing` by default.
    pub const fn require(mut self, minimum: DurabilityLevel) -> Self {
        self.minimum = minimum;
        self
    }

    /// Whether complete records are indexed, so that an
    /// [`Operator`](crate::Operator) can [list](crate::ListState::Complete) and count them; no by
    /// default. It costs no further round trip. An entry takes some 140 bytes of memory, and goes a
    /// while after its record has expired: each write that completes a record lets up to four go.
    ///
    /// ```
    /// use tower_idempotency::store::RedisStore;
    ///
    /// let store = RedisStore::options().index_complete(true).connect("redis://localhost:6379")?;
    /// # drop(store);
    /// # Ok::<_, tower_idempotency::store::ConnectError>(())
    /// ```
    ///
    /// A user with an ACL needs `+getrange` as well; the store tries it when it connects.
    ///
    /// # Caveats
    ///
    /// Give it to all processes: what one without it completes is not in the index. What
    /// was completed before is not, either.
    pub const fn index_complete(mut self, index: bool) -> Self {
        self.indexes.complete = index;
        self
    }

    /// Whether labels are indexed, so that an [`Operator`](crate::Operator) finds the few operations
    /// with a [label](crate::Listing::label) among many without looking at the others, complete ones
    /// included; no by default. It costs no further round trip.
    ///
    /// An entry takes some 150 bytes of memory for each label of an operation, where many have that
    /// label, and some 200 bytes where one operation alone has it. An unfinished operation takes up to
    /// 150 bytes more. The entry of a complete one goes with the last record of its label, or a
    /// while before: each write that completes a record of that label lets up to four expired ones go.
    ///
    /// ```
    /// use tower_idempotency::store::RedisStore;
    ///
    /// let store = RedisStore::options().index_labels(true).connect("redis://localhost:6379")?;
    /// # drop(store);
    /// # Ok::<_, tower_idempotency::store::ConnectError>(())
    /// ```
    ///
    /// A user with an ACL needs `+getrange` as well; the store tries it when it connects.
    ///
    /// # Caveats
    ///
    /// - Give it to all processes: what one without it begins, or completes, is not in the index; nor
    ///   is what was completed before. What was begun before is in it once it is written again.
    /// - What is [encrypted](crate::Engine) is not in it, since its labels are encrypted, too.
    /// - Where memory is full, an entry may be missing: the index stops no write.
    pub const fn index_labels(mut self, index: bool) -> Self {
        self.indexes.labels = index;
        self
    }

    /// A hook for warnings: the store calls it with each setting of the server that weakens a
    /// promise, in one line with what to do, at the first connect, and after a reconnect if
    /// the warning is new. The hook must not block.
    pub fn on_warning(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_warning = Some(Box::new(hook));
        self
    }

    /// Every write waits until so many replicas have it in memory (`WAIT`).
    ///
    /// If fewer do within `timeout`, the call returns `Unavailable`, and so
    /// does every read of that record until enough have it: the store grants no
    /// claim and acknowledges no result. What was written stays written;
    /// the layer withdraws the claim, or it ends with its lease. A replay waits as long,
    /// and the client then gets it anyway.
    ///
    /// `timeout` must be less than five seconds: no call to a store may take
    /// longer. Thirty-two writes wait at once, each on a separate connection;
    /// others wait for one of these. Calls that need not wait are not held up.
    ///
    /// The user needs the right `+wait`; the store tries it whenever it opens a
    /// connection.
    ///
    /// # Caveats
    ///
    /// This makes it less likely that a failover forgets a claim, not impossible: the new
    /// primary may be a replica that did not have the claim.
    pub const fn wait(mut self, replicas: u32, timeout: Duration) -> Self {
        self.acknowledged = Some(Acknowledged::ByReplicas { replicas, within: timeout });
        self
    }

    /// Every write waits until it is on the primary's disk, if `local`, and on
    /// the disks of so many replicas (`WAITAOF`: Redis 7.2, Valkey; `+waitaof`).
    /// Else as [`wait`](Self::wait).
    pub const fn wait_aof(mut self, local: bool, replicas: u32, timeout: Duration) -> Self {
        self.acknowledged = Some(Acknowledged::OnDisk { local, replicas, within: timeout });
        self
    }

    /// A store on the servers that this URL names; see [`RedisStore::connect`]. What the URL has
    /// for the prefix, the partitions or the index counts more than what was set before.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the URL, the prefix or the number of partitions is not one, or a write
    /// would wait too long.
    pub fn connect(mut self, url: &str) -> Result<RedisStore, ConnectError> {
        let (servers, own) = split_parameters(url);
        for (name, value) in own {
            self.set(name, value).map_err(|why| ConnectError::new(url, why))?;
        }
        let source = parse(&servers).map_err(|problem| match problem {
            Problem::Plain(message) => ConnectError::new(url, message),
            Problem::Precise(message) => ConnectError::new(url, message),
            Problem::Driver(error) => ConnectError::caused_by(url, error),
        })?;
        self.build(source)
    }

    /// A store on this connection manager, which sees to time-outs and
    /// reconnects.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the prefix or the number of partitions is not one, or a write would wait too
    /// long.
    ///
    /// # Caveats
    ///
    /// With [`wait`](Self::wait), all writes and reads go over this connection
    /// one after another, and hold up its other users.
    pub fn manager(self, manager: ConnectionManager) -> Result<RedisStore, ConnectError> {
        self.build(Source::Given(Connection::Managed(manager)))
    }

    /// A store on this connection. It does not reconnect: once the connection
    /// is lost, every call fails. See also [`manager`](Self::manager).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the prefix or the number of partitions is not one, or a write would wait too
    /// long.
    pub fn connection(self, connection: MultiplexedConnection) -> Result<RedisStore, ConnectError> {
        self.build(Source::Given(Connection::Single(connection)))
    }

    /// A store on the cluster that these nodes are of; the others are found by asking them. For
    /// certificates or settings that no URL says: every node gets the user, the certificates and
    /// the settings of the first client.
    ///
    /// It takes no `ClusterConnection` of the driver's: with tokio 1.54 that of redis 1.8 may stop for
    /// good once a node is away.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if there is no client, the prefix or the number of partitions is not one, or
    /// a write would wait too long.
    pub fn cluster(self, nodes: impl IntoIterator<Item = Client>) -> Result<RedisStore, ConnectError> {
        let nodes: Vec<_> = nodes.into_iter().collect();
        if nodes.is_empty() {
            return Err(ConnectError::new("redis", "name at least one node of the cluster"));
        }
        self.build(Source::Cluster(nodes))
    }

    /// A store on the primary that these sentinels name, asked anew whenever
    /// the connection is lost. For sentinels with users of their own.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the prefix or the number of partitions is not one, or a write would wait too
    /// long.
    pub fn sentinel(self, sentinel: SentinelClient) -> Result<RedisStore, ConnectError> {
        self.build(Source::Sentinel(Box::new(Sentinels::new(sentinel))))
    }

    /// As a parameter of the URL says.
    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match (name, value) {
            ("prefix", prefix) => {
                let prefix = percent_decode_str(prefix).decode_utf8().map_err(|_| "its prefix is not UTF-8")?;
                self.prefix = prefix.into_owned();
            }
            ("partitions", number) => self.partitions = number.parse().map_err(|_| partitions::RANGE)?,
            ("index_complete", "true" | "false") => self.indexes.complete = value == "true",
            ("index_labels", "true" | "false") => self.indexes.labels = value == "true",
            _ => return Err("index_complete and index_labels are true or false"),
        }
        Ok(())
    }

    fn build(self, source: Source) -> Result<RedisStore, ConnectError> {
        if self.acknowledged.is_some_and(|acknowledged| acknowledged.within() >= STORE_TIMEOUT) {
            return Err(ConnectError::new("redis", "a write may wait for less than five seconds"));
        }
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'{' && byte != b'}';
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.bytes().all(legal) {
            return Err(ConnectError::new("redis", "the prefix must be 1 to 64 printable characters without braces"));
        }
        if !partitions::is_legal(self.partitions) {
            return Err(ConnectError::new("redis", partitions::RANGE));
        }
        let link = Link {
            timeouts: self.timeouts,
            waiting: self.acknowledged.map(|acknowledged| Waiting::new(acknowledged, &source)),
            source,
            names: Names::new(&self.prefix, self.partitions, self.indexes),
            partitions: Partitions::default(),
            minimum: self.minimum,
            on_warning: self.on_warning,
            reported: Mutex::default(),
            current: ForAll::new(),
        };
        Ok(RedisStore { link: Arc::new(link) })
    }
}

impl Default for RedisStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RedisStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreOptions")
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("timeouts", &self.timeouts)
            .field("minimum", &self.minimum)
            .field("indexes", &self.indexes)
            .field("acknowledged", &self.acknowledged)
            .finish_non_exhaustive()
    }
}
