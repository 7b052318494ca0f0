//! One statement on one connection of the pool.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::time::{sleep, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Statement};

use super::error;
use super::joined::Parameter;
use super::row::borrowed;
use super::sql::Migration;
use crate::store::StoreError;

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
    /// Whether nobody else uses this pool.
    pub(super) own: bool,
    /// Whether statements are prepared once for each connection.
    pub(super) prepared: bool,
    /// Why there can be no such tables.
    pub(super) refused: Option<&'static str>,
    /// Makes the tables, where they are to be made when they are missed.
    pub(super) migration: Option<Migration>,
}

impl Connections {
    /// Runs one statement, again if others made it fail, and gives its rows.
    pub(super) async fn query(&self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, StoreError> {
        let mut tries = 0;
        loop {
            let lent = self.get().await?;
            match self.rows(&lent, sql, parameters).await {
                Ok(rows) => {
                    lent.give_back();
                    return Ok(rows);
                }
                // Boxed: it is seldom.
                Err(error) => Box::pin(self.mend(lent, error, &mut tries)).await?,
            }
        }
    }

    /// The same, and gives how many rows it changed, or would give.
    pub(super) async fn execute(&self, sql: &str, parameters: &[Parameter]) -> Result<u64, StoreError> {
        let mut tries = 0;
        loop {
            let lent = self.get().await?;
            match self.count(&lent, sql, parameters).await {
                Ok(count) => {
                    lent.give_back();
                    return Ok(count);
                }
                Err(error) => Box::pin(self.mend(lent, error, &mut tries)).await?,
            }
        }
    }

    /// After an error: returns when the statement may be run again.
    async fn mend(&self, lent: Lent, error: Error, tries: &mut u32) -> Result<(), StoreError> {
        *tries += 1;
        match &self.migration {
            // The connection is closed, and another one prepares it anew.
            _ if *tries < TRIES && error::is_stale_statement(&error) => drop(lent),
            _ if *tries < RACES && error::is_transient(&error) => {
                lent.give_back();
                rest(*tries).await;
            }
            Some(migration) if *tries == 1 && error::is_missing(&error) => {
                lent.give_back();
                self.migrate(migration).await?;
            }
            _ => {
                lent.give_back();
                return Err(error::of(error));
            }
        }
        Ok(())
    }

    /// Makes the tables, in one transaction, again if others made it fail, or if
    /// only the schema may not be made: it may be there.
    pub(super) async fn migrate(&self, migration: &Migration) -> Result<(), StoreError> {
        let (mut script, mut denied, mut tries) = (&migration.whole, None, 0);
        loop {
            tries += 1;
            let lent = self.get().await?;
            let Some(client) = lent.client() else { return Ok(()) };
            let outcome = client.batch_execute(script).await;
            lent.give_back();
            match outcome {
                Ok(()) => return Ok(()),
                Err(error) if tries < RACES && error::is_transient(&error) => rest(tries).await,
                Err(error) if denied.is_none() && error::is_denied(&error) => {
                    (script, denied) = (&migration.tables, Some(error));
                }
                Err(error) => return Err(error::of_migration(denied.unwrap_or(error))),
            }
        }
    }

    async fn rows(&self, lent: &Lent, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, Error> {
        let Some(client) = lent.client() else { return Ok(Vec::new()) };
        if !self.prepared {
            return client.query_typed(sql, &borrowed(parameters)).await;
        }
        let (statement, values) = prepared(client, sql, parameters).await?;
        client.query(&statement, &values).await
    }

    async fn count(&self, lent: &Lent, sql: &str, parameters: &[Parameter]) -> Result<u64, Error> {
        let Some(client) = lent.client() else { return Ok(0) };
        if !self.prepared {
            return client.execute_typed(sql, &borrowed(parameters)).await;
        }
        let (statement, values) = prepared(client, sql, parameters).await?;
        client.execute(&statement, &values).await
    }

    async fn get(&self) -> Result<Lent, StoreError> {
        match self.refused {
            Some(refused) => Err(error::unavailable(refused)),
            None => {
                let mut lent = Self::lend(&self.pool).await?;
                lent.own = self.own;
                Ok(lent)
            }
        }
    }

    /// A connection of this pool, if one is free or made in time.
    pub(super) async fn lend(pool: &Pool) -> Result<Lent, StoreError> {
        match timeout(PATIENCE, pool.get()).await {
            Ok(object) => Ok(Lent { object: Some(object.map_err(error::of_pool)?), own: false }),
            Err(_) => Err(error::unavailable("no connection to Postgres became free in time")),
        }
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
/// Dropped, it is closed: whoever stopped waiting for a statement left it
/// running, and the next one on this connection would wait for it.
#[derive(Debug)]
pub(super) struct Lent {
    object: Option<Object>,
    /// Whether its pool is ours alone, and this is for one statement.
    own: bool,
}

impl Lent {
    pub(super) fn client(&self) -> Option<&Object> {
        self.object.as_ref()
    }

    pub(super) const fn client_mut(&mut self) -> Option<&mut Object> {
        self.object.as_mut()
    }

    /// Nothing is running on it any more.
    pub(super) fn give_back(mut self) {
        self.object.take();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        if self.own && Object::metrics(&object).last_used() >= SILENCE {
            retire_older(&object);
        }
        drop(Object::take(object));
    }
}

/// Closes the idle connections that nobody used since this one was lent: the
/// server may be as silent on them, and each would have to be found out.
fn retire_older(silent: &Object) {
    let lent = Object::metrics(silent).last_used();
    if let Some(pool) = Object::pool(silent) {
        pool.retain(|_, idle| idle.last_used() < lent);
    }
}
