//! Pools of sqlx 0.9: of a store, and of transactions.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgDatabaseError, PgPool, PgRow, PgSeverity};
use sqlx::{
    Arguments, AssertSqlSafe, Connection, Decode, Error, Executor, Postgres, Row, Transaction, Type, query_with,
    raw_sql,
};
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
store_on_sqlx!(AssertSqlSafe);

#[async_trait]
impl TransactionDriver for PgPool {
    type Transaction = Transaction<'static, Postgres>;
    type Handle = PgConnection;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        // Not to be dropped on the way: up to 0.9.0, the connection would go back to the
        // pool with the transaction open (transact-rs/sqlx#4393). `Enlisted` sees to that.
        self.begin().await.map_err(|error| failed(error).into_error())
    }

    fn handle(transaction: &mut Self::Transaction) -> Option<&mut PgConnection> {
        Some(&mut *transaction)
    }

    async fn run(
        transaction: &mut Self::Transaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        number(transaction, statement, parameters).await.map_err(|error| failed(error).into_error())
    }

    async fn commit(transaction: Self::Transaction) -> Result<(), CommitError> {
        commit(transaction).await
    }

    async fn rollback(transaction: Self::Transaction) {
        roll_back(transaction).await;
    }
}
