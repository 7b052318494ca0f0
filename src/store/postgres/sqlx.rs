//! Transactions on a pool of sqlx 0.9.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgDatabaseError, PgPool, PgSeverity};
use sqlx::{AssertSqlSafe, Connection, Error, Executor, Postgres, Row, Transaction};

use super::driver::{Parameter, TransactionDriver};
use super::error::{says_rolled_back, unavailable};
use crate::store::contract::StoreError;
use crate::store::enlisted::CommitError;

#[async_trait]
impl TransactionDriver for PgPool {
    type Transaction = Transaction<'static, Postgres>;
    type Handle = PgConnection;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        // Not to be dropped on the way: up to 0.9.0, the connection would go back to the
        // pool with the transaction open (transact-rs/sqlx#4393). `Enlisted` sees to that.
        self.begin().await.map_err(failed)
    }

    fn handle(transaction: &mut Self::Transaction) -> Option<&mut PgConnection> {
        Some(&mut *transaction)
    }

    async fn run(
        transaction: &mut Self::Transaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        // Not kept by the connection: poolers may hand it to another session.
        // And it is one of the store's: what varies is in the parameters.
        let mut query = sqlx::query_scalar(AssertSqlSafe(statement)).persistent(false);
        for parameter in parameters {
            query = match parameter {
                Parameter::Integer(number) => query.bind(number),
                Parameter::Bytes(bytes) => query.bind(bytes),
                Parameter::Integers(numbers) => query.bind(numbers),
                Parameter::Pieces(pieces) => query.bind(pieces),
            };
        }
        let number = query.fetch_optional(&mut **transaction).await.map_err(failed)?;
        Ok(number.unwrap_or(0))
    }

    async fn commit(transaction: Self::Transaction) -> Result<(), CommitError> {
        transaction.commit().await.map_err(|error| {
            let database = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
            let rolled_back =
                database.is_some_and(|error| says_rolled_back(error.severity() == PgSeverity::Error, error.code()));
            if rolled_back { CommitError::RolledBack(failed(error)) } else { CommitError::Unknown(failed(error)) }
        })
    }

    async fn rollback(mut transaction: Self::Transaction) {
        // A server that became read-only is to lose its connections. The pool closes
        // those that have ended, and offers no other way to have one closed.
        let connection: &mut PgConnection = &mut transaction;
        // A savepoint that could not be begun has sqlx roll back the transaction around
        // it, and forget that: one that began here would be left open.
        let look = match connection.is_in_transaction() {
            true => "ROLLBACK; BEGIN; SHOW transaction_read_only",
            false => "ROLLBACK; SHOW transaction_read_only",
        };
        let looked = connection.fetch_one(look).await;
        if looked.is_ok_and(|row| row.try_get::<&str, _>(0).is_ok_and(|value| value == "on")) {
            let _ = connection.execute("SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())").await;
        }
        // A connection that is gone has rolled back.
        let _ = transaction.rollback().await;
    }
}

fn failed(error: Error) -> StoreError {
    unavailable(format!("Postgres, through sqlx: {error}")).caused_by(error)
}
