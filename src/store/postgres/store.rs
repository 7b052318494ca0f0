//! The store itself, and what its calls ask of Postgres.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::call::{Connections, Repeat, bounded};
use super::deadpool::StorePool;
use super::driver::Parameter;
use super::durability;
use super::error::unavailable;
use super::met::MetKeys;
use super::partitions::Partitions;
use super::row::{RowWrite, loaded, required, signed};
use super::sql::{Keyed, Migration, Sql};
use crate::core::{Key, Record, Version};
use crate::store::contract::{
    Durability, DurabilityLevel, Filter, Loaded, Page, Query, Store, StoreError, StoreErrorKind, Swap, require,
};
use crate::store::for_all::ForAll;

/// How often a write is tried that others keep getting in the way of.
const RACES: u32 = 8;
/// How many rows a sweep removes by a statement. Few: a statement occupies a core of the database's.
const SWEPT_AT_ONCE: usize = 100;
/// How many times as long as a statement of a sweep took it rests before the next one.
const RESTS: u32 = 3;
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Keeps records in Postgres, for any number of processes. With feature
/// `postgres`. Clones are handles to the same store.
///
/// ```no_run
/// use tower_idempotency::{IdempotencyLayer, Scope, store::PostgresStore};
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::connect("postgres://app@db.internal/shop")?;
/// store.create_schema().await?; // Or run the migration with your own.
/// let layer = IdempotencyLayer::new(store, Scope::header("x-tenant".parse()?));
/// # Ok(()) }
/// ```
///
/// It is lazy: it connects at the first call, so a service starts
/// while the database is down. Keyed requests get a 503 until it is back.
///
/// A claim, a recovery point and a completion are one statement and one round
/// trip each. A replay is one, too, if this store has met the key lately (it remembers some
/// 30,000, in 128 KiB), and two otherwise. Every statement commits by itself, at the database's
/// default isolation level (above READ COMMITTED, races cost further tries),
/// and the store holds no transaction while a handler runs. The first call of a store
/// makes one more, which checks that all tables, columns and rights are
/// there; until they are, the store refuses every call and no handler runs. Writes are
/// on disk when the store acknowledges them, even if the database's default is
/// `synchronous_commit = off`. All times are the server's.
///
/// # Tables
///
/// Three, in the schema `idempotency`. They come from
/// [`MIGRATION`](Self::MIGRATION), which you run with your own migrations, or
/// from [`create_schema`](Self::create_schema). A role needs USAGE on the
/// schema and SELECT, INSERT, UPDATE and DELETE on its tables.
///
/// # Forgetting
///
/// Postgres forgets nothing by itself: responses whose retention is over stay, and the
/// tables grow, until [`sweep`](Self::sweep) removes them. Let one task in each process
/// call it; they share the work. A [`Sweeper`](crate::Sweeper) does the same, with a
/// statement for each record.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_idempotency::store::PostgresStore;
///
/// async fn forget(store: PostgresStore) {
///     loop {
///         // A full batch: there is more.
///         if store.sweep(1_000).await.is_ok_and(|swept| swept == 1_000) {
///             continue;
///         }
///         tokio::time::sleep(Duration::from_secs(60)).await;
///     }
/// }
/// ```
///
/// # Failover
///
/// If a server says that writes belong elsewhere (it became read-only, it is
/// shutting down or starting up), if a connection is lost, or if a pooler has
/// lost its server, the store closes that connection, stops using older ones, and tries the
/// statement once on a new one. If the host's name then leads to
/// the new primary, the request succeeds. The store repeats a write only if
/// comparing versions tells whether the first one took effect. It does not repeat a
/// [transaction](crate::Operation::transaction), but begins it on a connection
/// that may write.
///
/// # Caveats
///
/// - Through PgBouncer in transaction mode, older than 1.21 or without its
///   `max_prepared_statements`, set
///   [`prepared(false)`](super::PostgresStoreOptions::prepared). The store needs no other
///   session state: no advisory locks, no settings that outlast a statement.
/// - A promoted standby may lack the last writes, unless
///   `synchronous_standby_names` is set: then retries of those keys may run
///   again. [`durability`](Store::durability) says so.
/// - TLS takes the feature `postgres-tls`: [`connect`](super::PostgresStoreOptions::connect) says
///   what its URLs may say. Without it, `prefer`, which is the default, means plain text.
#[derive(Clone)]
pub struct PostgresStore(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) connections: Connections,
    pub(super) transactions: StorePool,
    pub(super) sql: Sql,
    pub(super) migration: Migration,
    pub(super) met: MetKeys,
    pub(super) partitions: Partitions,
    /// Which partition is swept first next time: processes that sweep at once begin apart.
    pub(super) next_sweep: AtomicUsize,
    /// What it must survive.
    pub(super) minimum: Option<DurabilityLevel>,
    /// That this was asked, and that the tables are ours to use.
    pub(super) checked: ForAll<()>,
}

impl PostgresStore {
    /// The statements that make the tables, as SQL: for your own migrations.
    pub const MIGRATION: &str = include_str!("migrations/1.sql");

    /// The statements that make the table of
    /// [`index_labels`](super::PostgresStoreOptions::index_labels), on top of those.
    pub const LABEL_MIGRATION: &str = include_str!("migrations/labels.sql");

    /// The statements that make this store's tables, under its schema and its prefix, and with the table
    /// of labels if it indexes them: for your own migrations. Does no I/O.
    ///
    /// ```
    /// use tower_idempotency::store::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://db.internal/shop?schema=keys&table_prefix=shop_")?;
    /// assert!(store.migration().contains(r#"CREATE TABLE IF NOT EXISTS "keys"."shop_records""#));
    /// # Ok::<_, tower_idempotency::store::ConnectError>(())
    /// ```
    pub fn migration(&self) -> &str {
        &self.0.migration.statements
    }

    /// Makes the schema and the tables, where they are missing; does nothing to
    /// those that are there. Several processes may do so at once.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the role needs CREATE on the database, or on the schema if
    /// that is there, and half a minute must do.
    pub async fn create_schema(&self) -> Result<(), StoreError> {
        bounded(self.0.connections.migrate(&self.0.migration)).await
    }

    /// Removes up to `limit` responses whose retention is over, and returns how many it
    /// removed. It never touches unfinished operations. Several processes may
    /// sweep at once: each takes rows that no other one has. Of tables with
    /// [partitions](super::PostgresStoreOptions::partitions) it sweeps one after another, and begins
    /// with another one each time.
    ///
    /// It removes 100 by a statement, and rests three times as long as that took, at most a second,
    /// before the next one: so requests have the database for most of the time.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the database fails, or takes more than half a
    /// minute for a statement.
    ///
    /// # Cancellation
    ///
    /// What it had removed when it failed, or when it was dropped, stays removed.
    pub async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        bounded(self.check()).await?;
        let sweeps = &self.0.sql.sweeps;
        let first = self.0.next_sweep.fetch_add(1, Ordering::Relaxed) % sweeps.len();
        let (before, from) = sweeps.split_at(first);
        let mut left = limit;
        for sweep in from.iter().chain(before) {
            left -= self.sweep_table(sweep, left).await?;
        }
        Ok(limit - left)
    }

    /// Of one table. How many it removed.
    async fn sweep_table(&self, sweep: &str, limit: usize) -> Result<usize, StoreError> {
        let mut left = limit;
        while left > 0 {
            let (most, begun) = (left.min(SWEPT_AT_ONCE), Instant::now());
            let swept = bounded(self.sweep_some(sweep, most)).await?.min(most);
            left -= swept;
            if swept < most {
                break;
            }
            tokio::time::sleep((RESTS * begun.elapsed()).min(LONGEST_REST)).await;
        }
        Ok(limit - left)
    }

    async fn sweep_some(&self, sweep: &str, limit: usize) -> Result<usize, StoreError> {
        let limit = [Parameter::Integer(i64::try_from(limit).unwrap_or(i64::MAX))];
        let swept = self.0.connections.execute(sweep, &limit, Repeat::Harmless).await?;
        Ok(usize::try_from(swept).unwrap_or(0))
    }

    /// Before the first call: whether this database is good enough, and all
    /// that later calls need is there. A claim alone would not miss the steps.
    async fn check(&self) -> Result<(), StoreError> {
        match self.0.checked.get() {
            Some(()) => Ok(()),
            // Boxed: it is seldom.
            None => Box::pin(self.0.checked.get_or_make(|| self.clone().probe())).await,
        }
    }

    async fn probe(self) -> Result<(), StoreError> {
        let rows = self.0.connections.query(&self.0.sql.probe, &[]).await?;
        durability::check_layout(rows.first())?;
        if let Some(row) = rows.first() {
            self.0.partitions.check(required(row, 1)?, required(row, 2)?)?;
        }
        let Some(minimum) = self.0.minimum else { return Ok(()) };
        match require(&self, minimum).await {
            Ok(_) => Ok(()),
            Err(refused) => Err(StoreError::new(StoreErrorKind::Unavailable, refused.to_string())),
        }
    }

    /// Whether it took.
    async fn put(&self, sql: &Keyed, put: &RowWrite, with_steps: bool) -> Result<bool, StoreError> {
        let (statement, parameters) = match (put.labelled(sql), put.expected, with_steps) {
            (Some((labelled, parameters)), None, _) => (&*labelled.create, parameters),
            (Some((labelled, parameters)), Some(_), _) => (put.pick(&labelled.replace), parameters),
            (None, None, false) => (&*sql.create, put.without_steps()),
            (None, Some(_), false) => (put.pick(&sql.replace), put.without_steps()),
            (None, None, true) => (&*sql.create_with_steps, put.parameters()),
            (None, Some(_), true) => (put.pick(&sql.replace_with_steps), put.parameters()),
        };
        // What is there afterwards has the version of this write, or it did not take.
        Ok(self.0.connections.execute(statement, parameters, Repeat::Harmless).await? == 1)
    }

    /// A load for when something is there, most likely: cheaper then.
    async fn read(&self, key: &Key) -> Result<Loaded, StoreError> {
        match self.look(&self.0.sql.of(key).look, key).await? {
            Some(found) => Ok(found),
            None => self.load(key).await,
        }
    }

    async fn look(&self, statement: &str, key: &Key) -> Result<Option<Loaded>, StoreError> {
        let rows = self.0.connections.query(statement, &[Parameter::key(key)]).await?;
        rows.first().map(loaded).transpose()
    }

    /// What is in the way of a claim, most likely, as it was when this store met the key. It is
    /// cheaper to look for it than to find out by an insert. Nothing, if it is gone: then the claim
    /// is made as ever.
    async fn guessed(&self, key: &Key, expected: Option<Version>) -> Result<Option<Loaded>, StoreError> {
        match expected {
            None if self.0.met.has(key) => self.look(&self.0.sql.of(key).look_on_primary, key).await,
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.check().await?;
        let rows = self.0.connections.query(&self.0.sql.of(key).load, &[Parameter::key(key)]).await?;
        rows.first().map_or_else(|| Err(unavailable("Postgres gave no row")), loaded)
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        self.check().await?;
        if let Some(found) = self.guessed(key, expected).await? {
            return Ok(Swap::Conflict(found));
        }
        let sql = self.0.sql.of(key);
        let put = RowWrite::new(key, expected, next, sql);
        self.0.met.note(key);
        let mut with_steps = put.has_steps;
        for _ in 0..RACES {
            if self.put(sql, &put, with_steps).await? {
                return Ok(Swap::Stored);
            }
            let found = self.read(key).await?;
            if found.record.as_ref().map(Record::version) != expected {
                return Ok(Swap::Conflict(found));
            }
            // What is there has steps after all, or another write came in between.
            with_steps = true;
        }
        Err(unavailable("others kept changing the record"))
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.check().await?;
        let parameters = [Parameter::key(key), Parameter::Integer(signed(expected))];
        Ok(self.0.connections.execute(&self.0.sql.of(key).remove, &parameters, Repeat::ChangesAnswer).await? == 1)
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.check().await?;
        self.page(query).await
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        self.check().await?;
        self.count_of(filter, most).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        bounded(durability::read(&self.0.connections, &self.0.sql)).await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        bounded(durability::inspect(&self.0.connections, &self.0.sql)).await
    }

    fn keeps_parts(&self) -> bool {
        true
    }

    fn indexes_labels(&self) -> bool {
        self.0.sql.label_scans.is_some()
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("pool", &self.0.connections.pool).finish_non_exhaustive()
    }
}
