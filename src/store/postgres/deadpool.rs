//! Transactions on a pool of deadpool and tokio-postgres.

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio_postgres::error::Severity;

use super::call::{Connections, Lent};
use super::error::{self, unavailable};
use super::joined::{CommitError, Parameter, TransactionDriver};
use super::row::{borrowed, required};
use crate::store::StoreError;

/// Dropped, the connection is closed, which rolls back.
#[derive(Debug)]
pub struct PooledTransaction(Lent);

impl PooledTransaction {
    async fn execute(&self, command: &str) -> Result<(), tokio_postgres::Error> {
        match self.0.client() {
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
        let transaction = PooledTransaction(Connections::lend(self).await?);
        transaction.execute("BEGIN").await.map_err(error::of)?;
        Ok(transaction)
    }

    fn handle(transaction: &mut PooledTransaction) -> Option<&mut Object> {
        transaction.0.client_mut()
    }

    async fn run(
        transaction: &mut PooledTransaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        let client = transaction.0.client().ok_or_else(|| unavailable("the transaction is over"))?;
        let rows = client.query_typed(statement, &borrowed(parameters)).await.map_err(error::of)?;
        rows.first().map_or(Ok(0), |row| required(row, 0))
    }

    async fn commit(transaction: PooledTransaction) -> Result<(), CommitError> {
        let Err(failed) = transaction.execute("COMMIT").await else {
            transaction.0.give_back();
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
            transaction.0.give_back();
        }
    }
}
