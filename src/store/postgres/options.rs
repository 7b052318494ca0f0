//! How a [`PostgresStore`] is made: what can be set before, and URLs.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use percent_encoding::percent_decode_str;
use tokio_postgres::Config;

use super::call::Connections;
use super::columns::ConnectionPool;
use super::deadpool::StorePool;
use super::error::of;
use super::hosts::Hosts;
use super::met::MetKeys;
use super::partitions::Partitions;
use super::pooled::{DriverPool, Retired};
use super::sql::{Names, Sql};
use super::store::{Inner, PostgresStore};
use super::tls::TlsParameters;
use crate::store::contract::{ConnectError, DurabilityLevel};
use crate::store::for_all::ForAll;

/// What Postgres takes for `max_connections` at the most.
const MOST_CONNECTIONS: usize = 262_143;

/// The settings of a [`PostgresStore`].
///
/// ```
/// use tower_idempotency::store::{PostgresStore, DurabilityLevel};
///
/// let store = PostgresStore::options()
///     .schema("shop_idempotency")
///     .require(DurabilityLevel::PowerLoss)
///     .connect("postgres://app@db.internal/shop")?;
/// # Ok::<_, tower_idempotency::store::ConnectError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresStoreOptions {
    names: Names,
    connections: usize,
    prepared: bool,
    creates_schema: bool,
    minimum: Option<DurabilityLevel>,
}

impl PostgresStore {
    /// A store at this URL, `postgres://USER:PASSWORD@HOST/DATABASE`. Does no
    /// I/O, but that it reads the certificates that the URL names:
    /// [`PostgresStoreOptions::connect`] says all that a URL may say.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the URL is not one, or can't be served.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::options().connect(url)
    }

    /// A store that uses connections of your own pool. Does no I/O.
    ///
    /// No connection is held longer than one statement. Statements wait for a
    /// connection up to 2 seconds.
    pub fn with_pool(pool: Pool) -> Self {
        Self::options().with_pool(pool)
    }

    /// What can be set before.
    pub fn options() -> PostgresStoreOptions {
        PostgresStoreOptions::new()
    }
}

impl PostgresStoreOptions {
    /// The schema `idempotency`, no prefix, 16 connections, prepared
    /// statements.
    pub fn new() -> Self {
        Self { names: Names::new(), connections: 16, prepared: true, creates_schema: false, minimum: None }
    }

    /// The schema of the tables. 1 to 63 bytes; need not be a plain name.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.names.schema = schema.into();
        self
    }

    /// What the tables' names start with. Up to 40 bytes.
    pub fn table_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.names.prefix = prefix.into();
        self
    }

    /// Whether labels are indexed, so that an [`Operator`](crate::Operator) finds the few operations
    /// with a [label](crate::Listing::label) among many without looking at the others; no by default.
    /// The index is written in the statement of the record, without a further round trip. An entry
    /// takes some 290 bytes for each label of an operation, as long as its record is there.
    ///
    /// It needs a further table, which [`create_schema`](PostgresStore::create_schema) makes, or
    /// [`LABEL_MIGRATION`](PostgresStore::LABEL_MIGRATION); the store refuses every call without it.
    ///
    /// ```
    /// use tower_idempotency::store::PostgresStore;
    ///
    /// let store = PostgresStore::options().index_labels(true).connect("postgres://app@db.internal/shop")?;
    /// # drop(store);
    /// # Ok::<_, tower_idempotency::store::ConnectError>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// - Give it to all processes: what one without it, or one of an earlier release, begins is not
    ///   in the index, and what such a process ends or postpones stays where it was in it until it is
    ///   written again. What it removes goes. What was complete before the index was on is not in it.
    /// - What is [encrypted](crate::Engine) is not in it, since its labels are encrypted, too.
    pub const fn index_labels(mut self, index: bool) -> Self {
        self.names.index_labels = index;
        self
    }

    /// Into how many partitions the tables of records and of steps are divided, by ranges of the key,
    /// which is a hash: each has as many keys. From 2 to 64, or the nearest; 1, the default, is tables
    /// without any. For hundreds of millions of keys: a vacuum, a sweep and an index are then of one
    /// partition, and each statement names the partition of its key.
    ///
    /// It is said when the tables are made, by [`create_schema`](PostgresStore::create_schema) or by the
    /// statements of [`migration`](PostgresStore::migration), and all processes say the same: a
    /// store that is told another number than the tables have refuses every call. Postgres 12 or later.
    ///
    /// ```
    /// use tower_idempotency::store::PostgresStore;
    ///
    /// let store = PostgresStore::options().partitions(16).connect("postgres://app@db.internal/shop")?;
    /// assert!(store.migration().contains(r#""records_15" PARTITION OF"#));
    /// # Ok::<_, tower_idempotency::store::ConnectError>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// - The number can't be changed afterwards. For another one, make other tables (another
    ///   [`schema`](Self::schema)), and move the rows while no process works: the guide's
    ///   [operations](crate::guide::operations) page says how.
    /// - A write costs the server more, since Postgres checks the bounds of a partition each time: a first
    ///   request took half as many instructions again. Fewer keys than that do better without.
    /// - A role needs its rights on each partition, too: `GRANT … ON ALL TABLES IN SCHEMA` has them.
    /// - Each connection prepares its statements once for each partition, some 30 KiB of the server's
    ///   memory each. A page of a list looks into every partition.
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.names.partitions = Partitions::new(partitions);
        self
    }

    /// How many connections there may be, of a store that is made by URL: 16 by
    /// default, at least one, and no more than a server can have. A call that finds none free waits up to 2 seconds.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, MOST_CONNECTIONS);
        self
    }

    /// Whether each connection prepares its statements once, which is faster.
    /// `false` behind a pooler that hands every statement to another session
    /// and does not keep them.
    pub const fn prepared(mut self, prepared: bool) -> Self {
        self.prepared = prepared;
        self
    }

    /// Makes the schema and its tables when they are missed. For demos and
    /// tests; a service's role should not have the right to.
    pub const fn creating_schema(mut self) -> Self {
        self.creates_schema = true;
        self
    }

    /// Refuses every call while the database [survives](DurabilityLevel) less than
    /// this. Asked once, before the first call.
    pub const fn require(mut self, minimum: DurabilityLevel) -> Self {
        self.minimum = Some(minimum);
        self
    }

    /// An SQL expression for the time, in place of the server's clock, for tests.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub fn with_clock(mut self, expression: impl Into<String>) -> Self {
        self.names.clock = Some(expression.into());
        self
    }

    /// A store at this URL. Does no I/O, but that it reads the certificates that the URL names.
    ///
    /// All that `tokio_postgres` takes in a URL is taken, and with it
    /// `schema=NAME`, `table_prefix=NAME`, `create_schema=true`, `index_labels=true`, `partitions=N` and
    /// `prepared=false`, which are [`schema`](Self::schema), [`table_prefix`](Self::table_prefix),
    /// [`creating_schema`](Self::creating_schema), [`index_labels`](Self::index_labels),
    /// [`partitions`](Self::partitions) and [`prepared`](Self::prepared). What the URL says counts more than what was set before.
    ///
    /// ```
    /// use tower_idempotency::store::PostgresStore;
    ///
    /// // Behind a pooler that keeps no prepared statements, beside another service's tables.
    /// let store = PostgresStore::connect("postgres://app@pooler.internal/shop?table_prefix=shop_&prepared=false")?;
    /// # drop(store);
    /// # Ok::<_, tower_idempotency::store::ConnectError>(())
    /// ```
    ///
    /// Several hosts are tried in their order. A connection is waited for up to
    /// 2 seconds in all; a host that says nothing, and each address of a name,
    /// gets an equal share of them (one second of one host, 0.67 of two), or less
    /// by the URL's `connect_timeout`, and then the next one is tried.
    ///
    /// # TLS
    ///
    /// With feature `postgres-tls`, by rustls. `sslmode` is what it is to libpq:
    ///
    /// | `sslmode` | encrypted | the server's certificate |
    /// |---|---|---|
    /// | `disable` | no | |
    /// | `allow` | only if the server wants it | is not looked at |
    /// | `prefer`, the default | if the server can | is not looked at |
    /// | `require` | yes | is not looked at; with `sslrootcert=PATH` as `verify-ca` |
    /// | `verify-ca` | yes | is of a CA in the file that `sslrootcert=PATH` names |
    /// | `verify-full` | yes | is of such a CA, and has the URL's host among its names |
    ///
    /// Only the last protects from a server that is another one. The files of `sslrootcert`, `sslcert` and
    /// `sslkey` (the client's certificate, and its private key) are PEM. A password is bound to the channel where
    /// the server can (SCRAM), and `channel_binding=require` insists on it. `sslnegotiation=direct`, of Postgres 17,
    /// saves a round trip. Sockets of the machine have no TLS, whatever is asked for.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres-tls")] {
    /// use tower_idempotency::store::PostgresStore;
    ///
    /// let url = "postgres://app@db.internal/shop?sslmode=verify-full&sslrootcert=/etc/ssl/shop-ca.pem";
    /// let store = PostgresStore::options().connect(url)?;
    /// # }
    /// # Ok::<_, tower_idempotency::store::ConnectError>(())
    /// ```
    ///
    /// *Caveats*
    ///
    /// - What differs from libpq: no file in the home folder and none of libpq's variables (`PGSSLMODE`) is read;
    ///   `verify-full` without `sslrootcert` trusts whom the system trusts, as with `sslrootcert=system`: those in
    ///   `SSL_CERT_FILE` and `SSL_CERT_DIR`, if the environment has them;
    ///   `sslrootcert` with `prefer` or `allow` is refused, because it would protect nothing; a
    ///   name counts only as `subjectAltName`, not as common name; a certificate that is itself a CA's is no
    ///   server's; with `prefer`, a password that was refused is not sent again in plain text.
    /// - Certificates are read once, here: a new one counts for a store that is made after it.
    /// - Revocation is not checked; `sslcrl` is refused.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the URL is not one, if a name is too long, if a certificate can't be read, or if it
    /// asks for TLS without the feature.
    pub fn connect(mut self, url: &str) -> Result<PostgresStore, ConnectError> {
        let (rest, tls) = self.take_parameters(url).map_err(|message| ConnectError::new(url, message))?;
        if let Some(message) = self.names.refused() {
            return Err(ConnectError::new(url, message));
        }
        let config = Config::from_str(&rest).map_err(|error| ConnectError::caused_by(url, of(error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ConnectError::new(url, "the host is missing; write postgres://USER@HOST/DATABASE"));
        }
        let tls = tls.resolve(&config).map_err(|message| ConnectError::new(url, message))?;
        let hosts = Hosts::of(&rest, &config, &tls).map_err(|message| ConnectError::new(url, message))?;
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_connect(config, hosts, manager))
            .max_size(self.connections)
            .runtime(Runtime::Tokio1);
        let pool = pool.build().map_err(|error| ConnectError::caused_by(url, error))?;
        Ok(self.on(pool, true))
    }

    /// A store that uses connections of this pool. Does no I/O. If a name is too
    /// long, every call fails.
    pub fn with_pool(self, pool: Pool) -> PostgresStore {
        self.on(pool, false)
    }

    /// A store that uses connections of this pool of sqlx 0.9; [`with_pool`](Self::with_pool) is for
    /// deadpool's. With feature `sqlx-postgres`. Does no I/O. If a name is too long, every call fails.
    ///
    /// ```no_run
    /// use sqlx::postgres::PgPoolOptions;
    /// use tower_idempotency::store::PostgresStore;
    ///
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = PgPoolOptions::new().max_connections(16).connect_lazy("postgres://app@db.internal/shop")?;
    /// let store = PostgresStore::options().schema("shop_idempotency").with_sqlx_pool(pool.clone());
    /// // Transactions that carry recovery points, on the same pool.
    /// let shop = store.transactions_sharing(pool);
    /// # Ok(()) }
    /// ```
    ///
    /// As on a pool of deadpool, a statement of the store is a transaction of its own, and a call that its caller
    /// drops costs a connection, and leaves nothing behind.
    ///
    /// *Caveats*
    ///
    /// - It is slower: before each statement the store looks whether the connection works and has no transaction open,
    ///   which is a round trip, and sqlx does so once more. Set `PgPoolOptions::test_before_acquire(false)` if the
    ///   store has the pool to itself, or your own queries can do without.
    /// - The pool needs room for both: a call waits up to 2 seconds for a connection, and your handlers' queries
    ///   can take them all. Transactions belong on [`transactions_sharing`](PostgresStore::transactions_sharing).
    /// - sqlx 0.8 and 0.9.0 leave a transaction open if your own `begin` is dropped. The store does not write
    ///   into such a transaction, which would be lost: it closes that connection, and takes another.
    /// - After a failover the store closes all idle connections of the pool, and yours among them.
    #[cfg(feature = "sqlx-postgres")]
    pub fn with_sqlx_pool(self, pool: sqlx::PgPool) -> PostgresStore {
        let (most, prepared) = (pool.options().get_max_connections(), self.prepared);
        self.sharing(Arc::new(super::sqlx::v09::StatementPool { pool, prepared }), most)
    }

    /// The same with a pool of sqlx 0.8: all that [`with_sqlx_pool`](Self::with_sqlx_pool) says holds. With feature
    /// `sqlx-postgres-08`.
    ///
    /// ```no_run
    /// # mod sqlx { pub use sqlx_postgres_08 as postgres; }
    /// use sqlx::postgres::PgPoolOptions;
    /// use tower_idempotency::store::PostgresStore;
    ///
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = PgPoolOptions::new().max_connections(16).connect_lazy("postgres://app@db.internal/shop")?;
    /// let store = PostgresStore::options().schema("shop_idempotency").with_sqlx_08_pool(pool.clone());
    /// let shop = store.transactions_sharing(pool);
    /// # Ok(()) }
    /// ```
    /// *Caveat*: together with a feature `sqlite…` of this crate, `sqlx` 0.8 needs `default-features = false`: its
    /// defaults name another SQLite, and cargo finds no versions for both.
    #[cfg(feature = "sqlx-postgres-08")]
    pub fn with_sqlx_08_pool(self, pool: sqlx_postgres_08::PgPool) -> PostgresStore {
        let (most, prepared) = (pool.options().get_max_connections(), self.prepared);
        self.sharing(Arc::new(super::sqlx::v08::StatementPool { pool, prepared }), most)
    }

    fn on(self, pool: Pool, own: bool) -> PostgresStore {
        let retired = Retired::default();
        let transactions = StorePool::new(pool.clone(), retired.clone());
        let pool = DriverPool { pool, own, prepared: self.prepared, retired };
        self.of(Arc::new(pool), transactions)
    }

    #[cfg(any(feature = "sqlx-postgres", feature = "sqlx-postgres-08"))]
    fn sharing(self, pool: Arc<dyn ConnectionPool>, most: u32) -> PostgresStore {
        self.of(pool, StorePool::of_another(most))
    }

    fn of(self, pool: Arc<dyn ConnectionPool>, transactions: StorePool) -> PostgresStore {
        let migration = self.names.migration();
        let connections = Connections {
            pool,
            refused: self.names.refused(),
            migration: self.creates_schema.then(|| migration.clone()),
        };
        PostgresStore(Arc::new(Inner {
            transactions,
            connections,
            sql: Sql::new(&self.names),
            migration,
            met: MetKeys::new(),
            partitions: self.names.partitions,
            next_sweep: AtomicUsize::new(fastrand::usize(..)),
            minimum: self.minimum,
            checked: ForAll::new(),
        }))
    }

    /// Takes what is ours out of the URL's parameters, and gives the rest.
    fn take_parameters(&mut self, url: &str) -> Result<(String, TlsParameters), &'static str> {
        let mut tls = TlsParameters::default();
        let Some((rest, parameters)) = url.split_once('?') else { return Ok((url.to_owned(), tls)) };
        let mut theirs = Vec::new();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("schema", "")) => return Err("its schema is empty"),
                Some(("schema", schema)) => self.names.schema = decoded(schema, "its schema is not UTF-8")?,
                Some(("table_prefix", prefix)) => {
                    self.names.prefix = decoded(prefix, "its table_prefix is not UTF-8")?;
                }
                Some(("create_schema", value)) => {
                    self.creates_schema = yes_or_no(value).ok_or("create_schema is true or false")?;
                }
                Some(("index_labels", value)) => {
                    self.names.index_labels = yes_or_no(value).ok_or("index_labels is true or false")?;
                }
                Some(("partitions", value)) => {
                    let count = value.parse().map_err(|_| "partitions is a number from 1 to 64")?;
                    self.names.partitions = Partitions::new(count);
                }
                Some(("prepared", value)) => self.prepared = yes_or_no(value).ok_or("prepared is true or false")?,
                Some((name, value)) if tls.take(name, value)? => {}
                _ => theirs.push(parameter),
            }
        }
        let rest = if theirs.is_empty() { rest.to_owned() } else { format!("{rest}?{}", theirs.join("&")) };
        Ok((rest, tls))
    }
}

fn decoded(value: &str, otherwise: &'static str) -> Result<String, &'static str> {
    Ok(percent_decode_str(value).decode_utf8().map_err(|_| otherwise)?.into_owned())
}

fn yes_or_no(value: &str) -> Option<bool> {
    value.parse().ok()
}

impl Default for PostgresStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}
