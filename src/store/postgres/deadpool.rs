//! Transactions on a pool of deadpool and tokio-postgres.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::Severity;

use super::call::{Connections, PATIENCE, PooledConnection, Retired};
use super::driver::{Parameter, TransactionDriver};
use super::error::{self, unavailable};
use super::row::{borrowed, required};
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
    pool: Pool,
    free: Arc<Semaphore>,
    retired: Retired,
}

impl StorePool {
    pub(super) fn new(pool: Pool, retired: Retired) -> Self {
        let connections = pool.status().max_size;
        let free = Arc::new(Semaphore::new(connections.saturating_sub(2).max(1)));
        Self { pool, free, retired }
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
        Ok(PooledTransaction { connection: begin(&self.pool, &self.retired).await?, _slot: slot })
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
        rows.first().map_or(Ok(0), |row| required(row, 0))
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
        match may_write_after(&transaction.connection, "ROLLBACK").await {
            Ok(true) => transaction.connection.release(),
            // Whatever reply the caller's statements got, the store did not see it.
            Ok(false) => transaction.connection.retire(),
            Err(error) if error::is_not_here(&error) => transaction.connection.retire(),
            Err(_) => {}
        }
    }
}

/// Begins a transaction on a connection that may write. One that may not is
/// closed, and what a new one says then is the last word.
async fn begin(pool: &Pool, retired: &Retired) -> Result<PooledConnection, StoreError> {
    let mut moved_on = false;
    loop {
        let connection = Connections::check_out(pool, retired).await?;
        match may_write_after(&connection, "BEGIN").await {
            Ok(may_write) if may_write || moved_on => return Ok(connection),
            Ok(_) => connection.retire(),
            Err(error) if !moved_on && error::is_not_here(&error) => connection.retire(),
            Err(error) => return Err(error::of(error)),
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
