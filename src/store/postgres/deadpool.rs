//! Transactions on a pool of deadpool and tokio-postgres.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::Severity;

use super::call::PATIENCE;
use super::driver::{Parameter, TransactionDriver};
use super::error::{self, Failure, unavailable};
use super::pooled::{PooledConnection, Retired};
use super::row::borrowed;
use crate::store::contract::StoreError;
use crate::store::enlisted::CommitError;

/// Dropped, the connection is closed, which rolls back.
#[derive(Debug)]
pub struct PooledTransaction {
    connection: PooledConnection,
    _slot: Option<OwnedSemaphorePermit>,
}

/// The pool of a store, for transactions: they take all but two of its
/// connections. What is left is for claims and renewals, which
/// transactions that wait for each other's rows would starve.
#[derive(Clone, Debug)]
pub struct StorePool {
    /// None of a store that is on a pool of another kind.
    pool: Option<Pool>,
    free: Free,
    retired: Retired,
}

/// How many transactions there may still be.
#[derive(Clone, Debug)]
pub(super) struct Free(Arc<Semaphore>);

impl Free {
    /// Of a pool of so many connections.
    fn of(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new(connections.saturating_sub(2).max(1))))
    }

    pub(super) async fn take(&self) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        match timeout(PATIENCE, Arc::clone(&self.0).acquire_owned()).await {
            Ok(slot) => Ok(slot.ok()),
            Err(_) => Err(unavailable("too many transactions on this store's connections")),
        }
    }
}

impl StorePool {
    pub(super) fn new(pool: Pool, retired: Retired) -> Self {
        Self { free: Free::of(pool.status().max_size), pool: Some(pool), retired }
    }

    /// Of a store on a pool of another kind, of so many connections.
    #[cfg(any(feature = "sqlx-postgres", feature = "sqlx-postgres-08"))]
    pub(super) fn of_another(connections: u32) -> Self {
        let free = Free::of(usize::try_from(connections).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS));
        Self { pool: None, free, retired: Retired::default() }
    }

    pub(super) const fn free(&self) -> &Free {
        &self.free
    }
}

#[async_trait]
impl TransactionDriver for StorePool {
    type Transaction = PooledTransaction;
    type Handle = Object;

    async fn begin(&self) -> Result<PooledTransaction, StoreError> {
        let Some(pool) = &self.pool else {
            return Err(unavailable("this store is on a pool of sqlx: call transactions_sharing with that pool"));
        };
        let slot = self.free.take().await?;
        Ok(PooledTransaction { connection: begin(pool, &self.retired).await?, _slot: slot })
    }

    fn handle(transaction: &mut PooledTransaction) -> Option<&mut Object> {
        Pool::handle(transaction)
    }

    async fn run(
        transaction: &mut PooledTransaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        Pool::run(transaction, statement, parameters).await
    }

    async fn commit(transaction: PooledTransaction) -> Result<(), CommitError> {
        <Pool as TransactionDriver>::commit(transaction).await
    }

    async fn rollback(transaction: PooledTransaction) {
        Pool::rollback(transaction).await;
    }
}

impl PooledTransaction {
    async fn execute(&self, command: &str) -> Result<(), tokio_postgres::Error> {
        match self.connection.client() {
            Some(client) => client.batch_execute(command).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl TransactionDriver for Pool {
    type Transaction = PooledTransaction;
    type Handle = Object;

    async fn begin(&self) -> Result<PooledTransaction, StoreError> {
        Ok(PooledTransaction { connection: begin(self, &Retired::default()).await?, _slot: None })
    }

    fn handle(transaction: &mut PooledTransaction) -> Option<&mut Object> {
        transaction.connection.client_mut()
    }

    async fn run(
        transaction: &mut PooledTransaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        let client = transaction.connection.client().ok_or_else(|| unavailable("the transaction is over"))?;
        let rows = client.query_typed(statement, &borrowed(parameters)).await.map_err(error::of)?;
        let number = rows.first().map_or(Ok(0), |row| row.try_get(0));
        number.map_err(error::of)
    }

    async fn commit(transaction: PooledTransaction) -> Result<(), CommitError> {
        let Err(failed) = transaction.execute("COMMIT").await else {
            transaction.connection.release();
            return Ok(());
        };
        let rolled_back = failed
            .as_db_error()
            .is_some_and(|db| error::says_rolled_back(db.parsed_severity() == Some(Severity::Error), db.code().code()));
        let failed = error::of(failed);
        Err(if rolled_back { CommitError::RolledBack(failed) } else { CommitError::Unknown(failed) })
    }

    async fn rollback(transaction: PooledTransaction) {
        match may_write_after(&transaction.connection, "ROLLBACK").await.map_err(Failure::from) {
            Ok(true) => transaction.connection.release(),
            // Whatever reply the caller's statements got, the store did not see it.
            Ok(false) => transaction.connection.retire(),
            Err(failure) if failure.is_not_here() => transaction.connection.retire(),
            Err(_) => {}
        }
    }
}

/// Begins a transaction on a connection that may write. One that may not is
/// closed, and what a new one says then is the last word.
async fn begin(pool: &Pool, retired: &Retired) -> Result<PooledConnection, StoreError> {
    let mut moved_on = false;
    loop {
        let connection = PooledConnection::check_out(pool, retired).await?;
        match may_write_after(&connection, "BEGIN").await.map_err(Failure::from) {
            Ok(may_write) if may_write || moved_on => return Ok(connection),
            Ok(_) => connection.retire(),
            Err(failure) if !moved_on && failure.is_not_here() => connection.retire(),
            Err(failure) => return Err(failure.into_error()),
        }
        moved_on = true;
    }
}

/// Runs `command`, and says whether what follows may write. In one round trip, and
/// with no query: after one, the isolation level could not be chosen any more.
async fn may_write_after(connection: &PooledConnection, command: &str) -> Result<bool, tokio_postgres::Error> {
    let Some(client) = connection.client() else { return Ok(false) };
    let replies = client.simple_query(&format!("{command}; SHOW transaction_read_only")).await?;
    let is_read_only = |reply: &SimpleQueryMessage| matches!(reply, SimpleQueryMessage::Row(row) if row.try_get(0).ok().flatten() == Some("on"));
    Ok(!replies.iter().any(is_read_only))
}
