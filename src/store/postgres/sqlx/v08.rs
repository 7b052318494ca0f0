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
use sqlx_core_08::transaction::TransactionManager;
use sqlx_core_08::types::Type;
use sqlx_postgres_08::PgTransactionManager as Manager;
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

store_on_sqlx!(Sqlx08Transaction, std::convert::identity);

/// A transaction on a pool of sqlx 0.8. Dropped, its connection is closed, which rolls back.
#[derive(Debug)]
pub struct Sqlx08Transaction(Option<PoolConnection<Postgres>>);

#[async_trait]
impl TransactionDriver for PgPool {
    type Transaction = Sqlx08Transaction;
    type Handle = PgConnection;

    async fn begin(&self) -> Result<Sqlx08Transaction, StoreError> {
        Sqlx08Transaction::begin(self).await.map_err(|error| failed(error).into_error())
    }

    fn handle(transaction: &mut Sqlx08Transaction) -> Option<&mut PgConnection> {
        transaction.0.as_deref_mut()
    }

    async fn run(
        transaction: &mut Sqlx08Transaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        transaction.number(statement, parameters).await.map_err(|error| failed(error).into_error())
    }

    async fn commit(transaction: Sqlx08Transaction) -> Result<(), CommitError> {
        transaction.commit().await
    }

    async fn rollback(transaction: Sqlx08Transaction) {
        transaction.roll_back().await;
    }
}
