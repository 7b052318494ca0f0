//! Transactions on a pool of sqlx 0.9.

use std::io;
use std::sync::Arc;

use ::rusqlite::types::Value;
use ::rusqlite::{ErrorCode, ffi};
use ::sqlx::pool::PoolConnection;
use ::sqlx::sqlite::SqliteTransactionManager as Manager;
use ::sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use ::sqlx::{AssertSqlSafe, Error, Executor, Row, SqlSafeStr, Sqlite, TypeInfo, ValueRef};
// sqlx does not export it, and its own guard gives connections back as they are.
use async_trait::async_trait;
use sqlx_core::transaction::TransactionManager;
use tokio::runtime::Handle;

use super::driver::{Failed, NotBegun, Open, SqliteDriver, Statement};
use super::state::State;
use crate::store::contract::StoreError;
use crate::store::sqlite::store::SqliteStore;

/// After so many instructions of the library, a query checks whether its step was
/// dropped.
const INSTRUCTIONS: i32 = 1000;
const BEGIN: &str = "BEGIN IMMEDIATE";

/// Dropped, it is rolled back.
#[derive(Debug)]
pub struct SqlxTransaction(Option<Held>);

/// A connection with its transaction. Not sqlx's own guard, which would give the
/// connection back to its pool as it is.
#[derive(Debug)]
struct Held {
    connection: PoolConnection<Sqlite>,
    /// How long the connection waits for locks when it is not ours.
    busy_timeout: i64,
    /// Where the pool has its tasks.
    runtime: Handle,
    /// Goes last: it says that the lock is free.
    open: Open,
}

impl Held {
    /// Rolls back. The connection goes back to its pool if nothing is odd.
    async fn roll_back(mut self) {
        self.open.state.give_up();
        let rolled_back = Manager::get_transaction_depth(&self.connection) == 1
            && Manager::rollback(&mut self.connection).await.is_ok();
        self.return_to_pool(rolled_back).await;
    }

    async fn return_to_pool(mut self, sound: bool) {
        if !sound || self.open.state.is_unfit() || release(&mut self.connection, self.busy_timeout).await.is_err() {
            // A connection that is closed rolls back.
            let _ = self.connection.close().await;
        }
        drop(self.open);
    }
}

impl Drop for SqlxTransaction {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else { return };
        held.open.state.give_up();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(held.roll_back())),
            // No runtime would poll a task now. Out of the pool, it is closed at once, and so
            // rolled back; the pool may want to spawn one for that.
            Err(_) => {
                let _inside = held.runtime.enter();
                drop(held.connection.detach());
            }
        }
    }
}

#[async_trait]
impl SqliteDriver for SqlitePool {
    type Idle = PoolConnection<Sqlite>;
    type Transaction = SqlxTransaction;
    type Handle = SqliteConnection;

    async fn connect(&self, _store: &SqliteStore) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.acquire().await.map_err(|error| failed(error).into_store_error())
    }

    async fn begin(
        mut connection: PoolConnection<Sqlite>,
        open: Open,
    ) -> Result<SqlxTransaction, NotBegun<Self::Idle>> {
        let busy_timeout = match watch(&mut connection, &open.state).await {
            Ok(busy_timeout) => busy_timeout,
            Err(error) => return Err(NotBegun::Failed(failed(error))),
        };
        match Manager::begin(&mut connection, Some(BEGIN.into_sql_str())).await {
            Ok(()) => Ok(SqlxTransaction(Some(Held { connection, busy_timeout, runtime: Handle::current(), open }))),
            Err(error) => {
                let error = failed(error);
                if release(&mut connection, busy_timeout).await.is_err() {
                    connection.close_on_drop();
                }
                Err(match error.code {
                    Some(ErrorCode::DatabaseBusy) => NotBegun::Busy(connection, error),
                    _ => NotBegun::Failed(error),
                })
            }
        }
    }

    fn handle(transaction: &mut SqlxTransaction) -> Option<&mut SqliteConnection> {
        transaction.0.as_mut().map(|held| &mut *held.connection)
    }

    async fn run(transaction: &mut SqlxTransaction, statements: Vec<Statement>) -> Result<Vec<Vec<Value>>, Failed> {
        let Some(held) = &mut transaction.0 else { return Err(Failed::over()) };
        // A savepoint that was left open would take back what is written now.
        if Manager::get_transaction_depth(&held.connection) != 1 {
            return Err(Failed::over());
        }
        let mut found = Vec::new();
        for (sql, bound) in statements {
            // It is one of the store's: what varies is bound.
            let mut query = ::sqlx::query::<Sqlite>(AssertSqlSafe(sql));
            for value in bound {
                query = match value {
                    Value::Integer(number) => query.bind(number),
                    Value::Real(number) => query.bind(number),
                    Value::Text(text) => query.bind(text),
                    Value::Blob(bytes) => query.bind(bytes),
                    Value::Null => query.bind(None::<i64>),
                };
            }
            found = query.fetch_all(&mut *held.connection).await.map_err(failed)?;
        }
        found.iter().map(values).collect::<Result<_, _>>().map_err(failed)
    }

    async fn commit(mut transaction: SqlxTransaction) -> Result<(), Failed> {
        let Some(mut held) = transaction.0.take() else { return Err(Failed::over()) };
        let committed = Manager::commit(&mut held.connection).await.map_err(failed);
        held.return_to_pool(committed.is_ok()).await;
        committed
    }

    async fn roll_back(mut transaction: SqlxTransaction) {
        if let Some(held) = transaction.0.take() {
            held.roll_back().await;
        }
    }
}

/// Has the library tell what becomes of the transaction, and not wait for locks. How
/// long it waited for them.
async fn watch(connection: &mut SqliteConnection, state: &Arc<State>) -> Result<i64, Error> {
    let busy_timeout = ::sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut *connection).await?;
    connection.execute("PRAGMA busy_timeout = 0").await?;
    let [goes_on, commits, rolls_back] = std::array::from_fn(|_| Arc::clone(state));
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(INSTRUCTIONS, move || !goes_on.is_given_up());
    handle.set_commit_hook(move || commits.may_commit());
    handle.set_rollback_hook(move || rolls_back.set_rolled_back());
    Ok(busy_timeout)
}

/// As it was, but for what we replaced.
async fn release(connection: &mut SqliteConnection, busy_timeout: i64) -> Result<(), Error> {
    let mut handle = connection.lock_handle().await?;
    handle.remove_progress_handler();
    handle.remove_commit_hook();
    handle.remove_rollback_hook();
    drop(handle);
    connection.execute(AssertSqlSafe(format!("PRAGMA busy_timeout = {busy_timeout}"))).await.map(drop)
}

fn values(row: &SqliteRow) -> Result<Vec<Value>, Error> {
    let value = |column: usize| {
        let raw = row.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        Ok(match raw.type_info().name() {
            "INTEGER" => Value::Integer(row.try_get_unchecked(column)?),
            "REAL" => Value::Real(row.try_get_unchecked(column)?),
            // A path may be no text.
            "TEXT" => match String::from_utf8(row.try_get_unchecked(column)?) {
                Ok(text) => Value::Text(text),
                Err(bytes) => Value::Blob(bytes.into_bytes()),
            },
            _ => Value::Blob(row.try_get_unchecked(column)?),
        })
    };
    (0..row.len()).map(value).collect()
}

/// The library's codes, where it was the library.
fn failed(error: Error) -> Failed {
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse().ok());
    Failed { code: code.map(|code| ffi::Error::new(code).code), error: io::Error::other(format!("sqlx: {error}")) }
}
