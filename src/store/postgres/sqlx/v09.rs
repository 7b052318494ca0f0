//! Pools of sqlx 0.9: of a store, and of transactions.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgTransactionManager as Manager;
use sqlx::postgres::{PgArguments, PgConnection, PgDatabaseError, PgPool, PgRow, PgSeverity};
use sqlx::{Arguments, AssertSqlSafe, Connection, Decode, Error, Executor, Postgres, Row, Type, query_with, raw_sql};
// sqlx does not export it, and its own guard keeps the connection until its statement has ended.
use sqlx_core::transaction::TransactionManager;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use super::super::call::PATIENCE;
use super::super::columns::{self, Columns, ConnectionPool};
use super::super::driver::{Parameter, TransactionDriver};
use super::super::error::{Failure, NONE_FREE, Said, not_ours, refused, says_rolled_back, unavailable};
use super::either::store_on_sqlx;
use crate::store::contract::StoreError;
use crate::store::enlisted::CommitError;

// What varies in a statement is in its parameters.
store_on_sqlx!(SqlxTransaction, AssertSqlSafe);

/// A transaction on a pool of sqlx 0.9. Dropped, its connection is closed, which rolls back.
#[derive(Debug)]
pub struct SqlxTransaction(Option<PoolConnection<Postgres>>);

#[async_trait]
impl TransactionDriver for PgPool {
    type Transaction = SqlxTransaction;
    type Handle = PgConnection;

    async fn begin(&self) -> Result<SqlxTransaction, StoreError> {
        SqlxTransaction::begin(self).await.map_err(|error| failed(error).into_error())
    }

    fn handle(transaction: &mut SqlxTransaction) -> Option<&mut PgConnection> {
        transaction.0.as_deref_mut()
    }

    async fn run(
        transaction: &mut SqlxTransaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        transaction.number(statement, parameters).await.map_err(|error| failed(error).into_error())
    }

    async fn commit(transaction: SqlxTransaction) -> Result<(), CommitError> {
        transaction.commit().await
    }

    async fn rollback(transaction: SqlxTransaction) {
        transaction.roll_back().await;
    }
}
