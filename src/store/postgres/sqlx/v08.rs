//! Pools of sqlx 0.8, without its facade, which would bring a second SQLite into the graph: of a store, and of transactions.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx_core_08::arguments::Arguments;
use sqlx_core_08::connection::Connection;
use sqlx_core_08::decode::Decode;
use sqlx_core_08::error::Error;
use sqlx_core_08::executor::Executor;
use sqlx_core_08::pool::PoolConnection;
use sqlx_core_08::query::query_with;
use sqlx_core_08::raw_sql::raw_sql;
use sqlx_core_08::row::Row;
use sqlx_core_08::transaction::Transaction;
use sqlx_core_08::types::Type;
use sqlx_postgres_08::{PgArguments, PgConnection, PgDatabaseError, PgPool, PgRow, PgSeverity, Postgres};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use super::super::call::PATIENCE;
use super::super::columns::{self, Columns, ConnectionPool};
use super::super::driver::{Parameter, TransactionDriver};
use super::super::error::{Failure, NONE_FREE, Said, not_ours, refused, says_rolled_back, unavailable};
use super::either::store_on_sqlx;
use crate::store::contract::StoreError;
use crate::store::enlisted::CommitError;

store_on_sqlx!(std::convert::identity);

#[async_trait]
impl TransactionDriver for PgPool {
    type Transaction = Transaction<'static, Postgres>;
    type Handle = PgConnection;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        // Not to be dropped on the way: the connection would go back to the
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
