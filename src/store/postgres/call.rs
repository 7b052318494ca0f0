//! One statement on one connection of the pool.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use tokio::time::{sleep, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Statement};

use super::driver::Parameter;
use super::error;
use super::row::borrowed;
use super::sql::Migration;
use crate::store::contract::StoreError;
use crate::util::signal::lock;

/// How long a connection is waited for, made or free. Then there is time left
/// for a statement: the ledger gives up after 5 seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How often a statement is run that the connection made fail.
const TRIES: u32 = 4;
/// How often a statement is run that others made fail. Where the database's
/// default is above READ COMMITTED, every write in between does.
const RACES: u32 = 24;

/// Unanswered for so long, a statement is taken for a sign of a silent server.
const SILENCE: Duration = Duration::from_secs(4);

/// How long work may take that no ledger bounds: a script, a sweep.
const LONGEST: Duration = Duration::from_secs(30);

/// Gives up in the end: a link can fall silent and never say so.
pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
    timeout(LONGEST, work).await.unwrap_or_else(|_| Err(StoreError::timed_out()))
}

/// The pool, and how statements are run on it.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pub(super) pool: Pool,
    /// Whether only the store uses this pool.
    pub(super) own: bool,
    /// Whether statements are prepared once for each connection.
    pub(super) prepared: bool,
    /// Why there can be no such tables.
    pub(super) refused: Option<&'static str>,
    /// Makes the tables, where they are to be made when they are missed.
    pub(super) migration: Option<Migration>,
    pub(super) retired: Retired,
}

/// Whether a statement may be run again if it is not known whether it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It does no more by that, and what it finds tells what happened.
    Harmless,
    /// Its result would be another one.
    ChangesAnswer,
}

/// Up to when connections were made that are not to be used any more: to a
/// server that said that writes belong elsewhere. All that share a pool have
/// them; a server that is gone does not cost each connection a failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Retired(Arc<Mutex<Option<Instant>>>);

impl Retired {
    fn raise(&self, until: Instant) {
        let mut retired = lock(&self.0);
        *retired = (*retired).max(Some(until));
    }

    fn has(&self, object: &Object) -> bool {
        lock(&self.0).is_some_and(|until| Object::metrics(object).created <= until)
    }
}

impl Connections {
    /// Runs one statement, again if others made it fail, and gives its rows.
    pub(super) async fn query(&self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, StoreError> {
        let mut tries = Tries::default();
        loop {
            let connection = self.get().await?;
            match self.rows(&connection, sql, parameters).await {
                Ok(rows) => {
                    connection.release();
                    return Ok(rows);
                }
                // Boxed: it is seldom.
                Err(error) => Box::pin(self.recover_from_error(connection, error, &mut tries)).await?,
            }
        }
    }

    /// The same, and gives how many rows it changed, or would give.
    pub(super) async fn execute(&self, sql: &str, parameters: &[Parameter], repeat: Repeat) -> Result<u64, StoreError> {
        let mut tries = Tries { repeat, ..Tries::default() };
        loop {
            let connection = self.get().await?;
            match self.count(&connection, sql, parameters).await {
                Ok(count) => {
                    connection.release();
                    return Ok(count);
                }
                Err(error) => Box::pin(self.recover_from_error(connection, error, &mut tries)).await?,
            }
        }
    }

    /// After an error: returns when the statement may be run again.
    async fn recover_from_error(
        &self,
        connection: PooledConnection,
        error: Error,
        tries: &mut Tries,
    ) -> Result<(), StoreError> {
        tries.count += 1;
        match &self.migration {
            // The connection is closed, and another one prepares it anew.
            _ if tries.count < TRIES && error::is_stale_statement(&error) => drop(connection),
            _ if error::is_not_here(&error) => {
                connection.retire();
                tries.move_on(error)?;
            }
            _ if tries.count < RACES && error::is_transient(&error) => {
                connection.release();
                rest(tries.count).await;
            }
            Some(migration) if tries.count == 1 && error::is_missing(&error) => {
                connection.release();
                self.migrate(migration).await?;
            }
            _ => {
                connection.release();
                return Err(error::of(error));
            }
        }
        Ok(())
    }

    /// Makes the tables, in one transaction, again if others made it fail, or if
    /// only the schema may not be made: it may be there.
    pub(super) async fn migrate(&self, migration: &Migration) -> Result<(), StoreError> {
        let (mut script, mut denied, mut tries) = (&migration.whole, None, Tries::default());
        loop {
            tries.count += 1;
            let connection = self.get().await?;
            let Some(client) = connection.client() else { return Ok(()) };
            let outcome = client.batch_execute(script).await;
            match outcome {
                Err(error) if error::is_not_here(&error) => {
                    connection.retire();
                    tries.move_on(error)?;
                    continue;
                }
                _ => connection.release(),
            }
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) if tries.count < RACES && error::is_transient(&error) => rest(tries.count).await,
                Err(error) if denied.is_none() && error::is_denied(&error) => {
                    (script, denied) = (&migration.tables, Some(error));
                }
                Err(error) => return Err(error::of_migration(denied.unwrap_or(error))),
            }
        }
    }

    async fn rows(
        &self,
        connection: &PooledConnection,
        sql: &str,
        parameters: &[Parameter],
    ) -> Result<Vec<Row>, Error> {
        let Some(client) = connection.client() else { return Ok(Vec::new()) };
        if !self.prepared {
            return client.query_typed(sql, &borrowed(parameters)).await;
        }
        let (statement, values) = prepared(client, sql, parameters).await?;
        client.query(&statement, &values).await
    }

    async fn count(&self, connection: &PooledConnection, sql: &str, parameters: &[Parameter]) -> Result<u64, Error> {
        let Some(client) = connection.client() else { return Ok(0) };
        if !self.prepared {
            return client.execute_typed(sql, &borrowed(parameters)).await;
        }
        let (statement, values) = prepared(client, sql, parameters).await?;
        client.execute(&statement, &values).await
    }

    async fn get(&self) -> Result<PooledConnection, StoreError> {
        match self.refused {
            Some(refused) => Err(error::unavailable(refused)),
            None => {
                let mut connection = Self::check_out(&self.pool, &self.retired).await?;
                connection.own = self.own;
                Ok(connection)
            }
        }
    }

    /// A connection of this pool, if one is free or made in time.
    pub(super) async fn check_out(pool: &Pool, retired: &Retired) -> Result<PooledConnection, StoreError> {
        let get = async {
            loop {
                let object = pool.get().await?;
                if !retired.has(&object) {
                    return Ok(object);
                }
                drop(Object::take(object));
            }
        };
        match timeout(PATIENCE, get).await {
            Ok(object) => Ok(PooledConnection::new(object.map_err(error::of_pool)?, retired.clone())),
            Err(_) => Err(error::unavailable("no connection to Postgres became free in time")),
        }
    }
}

/// How often a statement was run.
#[derive(Debug)]
struct Tries {
    count: u32,
    repeat: Repeat,
    /// Whether a new connection was tried because of what the server said.
    moved_on: bool,
}

impl Default for Tries {
    fn default() -> Self {
        Self { count: 0, repeat: Repeat::Harmless, moved_on: false }
    }
}

impl Tries {
    /// Once, and only if a write that may have taken may be made again.
    fn move_on(&mut self, error: Error) -> Result<(), StoreError> {
        let may = self.repeat == Repeat::Harmless || error::is_read_only(&error);
        if std::mem::replace(&mut self.moved_on, true) || !may { Err(error::of(error)) } else { Ok(()) }
    }
}

/// The statement, which this connection prepares once, and its parameters.
async fn prepared<'a>(
    client: &Object,
    sql: &str,
    parameters: &'a [Parameter],
) -> Result<(Statement, Vec<&'a (dyn ToSql + Sync)>), Error> {
    let (values, types): (Vec<_>, Vec<Type>) = borrowed(parameters).into_iter().unzip();
    Ok((client.prepare_typed_cached(sql, &types).await?, values))
}

/// A random time, longer after every try.
async fn rest(tries: u32) {
    sleep(Duration::from_micros(fastrand::u64(..500 << tries.min(6)))).await;
}

/// A connection that is out of the pool.
///
/// Dropped, it is closed: a caller that stopped waiting for its statement left
/// it running, and the next one on this connection would wait for it.
#[derive(Debug)]
pub(super) struct PooledConnection {
    object: Option<Object>,
    /// Whether its pool is ours alone, and this is for one statement.
    own: bool,
    /// Since when it is out.
    since: Instant,
    retired: Retired,
}

impl PooledConnection {
    fn new(object: Object, retired: Retired) -> Self {
        Self { object: Some(object), own: false, since: Instant::now(), retired }
    }

    /// Closes it, and uses none that was made before it was checked out: writes belong
    /// elsewhere. What was made later may lead there.
    pub(super) fn retire(mut self) {
        self.retired.raise(self.since);
        let Some(object) = self.object.take() else { return };
        if let Some(pool) = Object::pool(&object).filter(|_| self.own) {
            pool.retain(|_, idle| idle.created > self.since);
        }
        drop(Object::take(object));
    }

    pub(super) fn client(&self) -> Option<&Object> {
        self.object.as_ref()
    }

    pub(super) const fn client_mut(&mut self) -> Option<&mut Object> {
        self.object.as_mut()
    }

    /// Nothing is running on it any more.
    pub(super) fn release(mut self) {
        self.object.take();
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        if self.own && Object::metrics(&object).last_used() >= SILENCE {
            retire_older(&object);
        }
        drop(Object::take(object));
    }
}

/// Closes the idle connections that were not used since this one was checked out: the
/// server may be as silent on them, and each would have to be found out.
fn retire_older(silent: &Object) {
    let checked_out = Object::metrics(silent).last_used();
    if let Some(pool) = Object::pool(silent) {
        pool.retain(|_, idle| idle.last_used() < checked_out);
    }
}
