//! One statement on one connection of the pool.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::columns::{Connection, ConnectionPool, Row};
use super::driver::Parameter;
use super::error::{self, Failure};
use super::sql::Migration;
use crate::store::contract::StoreError;

/// How long a connection is waited for, made or free. Then there is time left
/// for a statement: the ledger gives up after 5 seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How often a statement is run that the connection made fail.
const TRIES: u32 = 4;
/// How often a statement is run that others made fail. Where the database's
/// default is above READ COMMITTED, every write in between does.
const RACES: u32 = 24;

/// How long work may take that no ledger bounds: a script, a sweep.
const LONGEST: Duration = Duration::from_secs(30);

/// Gives up in the end: a link can fall silent and never say so.
pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
    timeout(LONGEST, work).await.unwrap_or_else(|_| Err(StoreError::timed_out()))
}

/// The pool, and how statements are run on it.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pub(super) pool: Arc<dyn ConnectionPool>,
    /// Why there can be no such tables.
    pub(super) refused: Option<&'static str>,
    /// Makes the tables, where they are to be made when they are missed.
    pub(super) migration: Option<Migration>,
}

/// Whether a statement may be run again if it is not known whether it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It does no more by that, and what it finds tells what happened.
    Harmless,
    /// Its result would be another one.
    ChangesAnswer,
}

impl Connections {
    /// Runs one statement, again if others made it fail, and gives its rows.
    pub(super) async fn query(&self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, StoreError> {
        let mut tries = Tries::default();
        loop {
            let mut connection = self.get().await?;
            match connection.query(sql, parameters).await {
                Ok(rows) => {
                    connection.release();
                    return Ok(rows);
                }
                // Boxed: it is seldom.
                Err(failure) => Box::pin(self.recover_from_error(connection, failure, &mut tries)).await?,
            }
        }
    }

    /// The same, and gives how many rows it changed, or would give.
    pub(super) async fn execute(&self, sql: &str, parameters: &[Parameter], repeat: Repeat) -> Result<u64, StoreError> {
        let mut tries = Tries { repeat, ..Tries::default() };
        loop {
            let mut connection = self.get().await?;
            match connection.execute(sql, parameters).await {
                Ok(count) => {
                    connection.release();
                    return Ok(count);
                }
                Err(failure) => Box::pin(self.recover_from_error(connection, failure, &mut tries)).await?,
            }
        }
    }

    /// After an error: returns when the statement may be run again.
    async fn recover_from_error(
        &self,
        connection: Box<dyn Connection>,
        failure: Failure,
        tries: &mut Tries,
    ) -> Result<(), StoreError> {
        tries.count += 1;
        match &self.migration {
            // It is closed, and another one prepares the statement anew.
            _ if tries.count < TRIES && failure.is_of_this_connection() => drop(connection),
            _ if failure.is_not_here() => {
                connection.retire();
                tries.move_on(failure)?;
            }
            _ if tries.count < RACES && failure.is_transient() => {
                connection.release();
                rest(tries.count).await;
            }
            Some(migration) if tries.count == 1 && failure.is_missing() => {
                connection.release();
                self.migrate(migration).await?;
            }
            _ => {
                connection.release();
                return Err(failure.into_error());
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
            let mut connection = self.get().await?;
            let outcome = connection.script(script).await;
            match outcome {
                Err(failure) if failure.is_not_here() => {
                    connection.retire();
                    tries.move_on(failure)?;
                    continue;
                }
                _ => connection.release(),
            }
            match outcome {
                Ok(()) => return Ok(()),
                Err(failure) if tries.count < RACES && failure.is_transient() => rest(tries.count).await,
                Err(failure) if denied.is_none() && failure.is_denied() => {
                    (script, denied) = (&migration.tables, Some(failure));
                }
                Err(failure) => return Err(denied.unwrap_or(failure).into_error_of_migration()),
            }
        }
    }

    async fn get(&self) -> Result<Box<dyn Connection>, StoreError> {
        match self.refused {
            Some(refused) => Err(error::unavailable(refused)),
            None => self.pool.check_out().await,
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
    fn move_on(&mut self, failure: Failure) -> Result<(), StoreError> {
        let may = self.repeat == Repeat::Harmless || failure.is_read_only();
        if std::mem::replace(&mut self.moved_on, true) || !may { Err(failure.into_error()) } else { Ok(()) }
    }
}

/// A random time, longer after every try.
async fn rest(tries: u32) {
    sleep(Duration::from_micros(fastrand::u64(..500 << tries.min(6)))).await;
}
