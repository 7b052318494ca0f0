//! Transactions on a pool of deadpool and tokio-postgres.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::error::Severity;

use super::call::{Connections, Lent, PATIENCE};
use super::error::{self, unavailable};
use super::joined::{CommitError, Parameter, TransactionDriver};
use super::row::{borrowed, required};
use crate::store::StoreError;

/// Dropped, the connection is closed, which rolls back.
#[derive(Debug)]
pub struct PooledTransaction {
    lent: Lent,
    _slot: Option<OwnedSemaphorePermit>,
}

/// The pool of a store, for transactions: they take all but two of its
/// connections. What is left is for claims and renewals, which
/// transactions that wait for each other's rows would starve.
#[derive(Clone, Debug)]
pub struct StorePool {
    pool: Pool,
    free: Arc<Semaphore>,
}

impl StorePool {
    pub(super) fn new(pool: Pool) -> Self {
        let connections = pool.status().max_size;
        let free = Arc::new(Semaphore::new(connections.saturating_sub(2).max(1)));
        Self { pool, free }
    }
}

#[async_trait]
impl TransactionDriver for StorePool {
    type Transaction = PooledTransaction;
    type Handle = Object;

    async fn begin(&self) -> Result<PooledTransaction, StoreError> {
        let slot = match timeout(PATIENCE, Arc::clone(&self.free).acquire_owned()).await {
            Ok(slot) => slot.ok(),
            Err(_) => return Err(unavailable("too many transactions on this store's connections")),
        };
        let transaction = TransactionDriver::begin(&self.pool).await?;
        Ok(PooledTransaction { _slot: slot, ..transaction })
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
        match self.lent.client() {
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
        let transaction = PooledTransaction { lent: Connections::lend(self).await?, _slot: None };
        transaction.execute("BEGIN").await.map_err(error::of)?;
        Ok(transaction)
    }

    fn handle(transaction: &mut PooledTransaction) -> Option<&mut Object> {
        transaction.lent.client_mut()
    }

    async fn run(
        transaction: &mut PooledTransaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        let client = transaction.lent.client().ok_or_else(|| unavailable("the transaction is over"))?;
        let rows = client.query_typed(statement, &borrowed(parameters)).await.map_err(error::of)?;
        rows.first().map_or(Ok(0), |row| required(row, 0))
    }

    async fn commit(transaction: PooledTransaction) -> Result<(), CommitError> {
        let Err(failed) = transaction.execute("COMMIT").await else {
            transaction.lent.give_back();
            return Ok(());
        };
        let rolled_back = failed
            .as_db_error()
            .is_some_and(|db| error::says_rolled_back(db.parsed_severity() == Some(Severity::Error), db.code().code()));
        let failed = error::of(failed);
        Err(if rolled_back { CommitError::RolledBack(failed) } else { CommitError::Unknown(failed) })
    }

    async fn rollback(transaction: PooledTransaction) {
        if transaction.execute("ROLLBACK").await.is_ok() {
            transaction.lent.give_back();
        }
    }
}
