//! Connections of a pool of deadpool and tokio-postgres.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::{Object, Pool};
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Error, Statement};

use super::call::PATIENCE;
use super::columns::{Columns, Connection, ConnectionPool, Row};
use super::driver::Parameter;
use super::error::{self, Failure, NONE_FREE, not_ours};
use super::row::borrowed;
use crate::store::contract::StoreError;
use crate::util::signal::lock;

/// Unanswered for so long, a statement is taken for a sign of a silent server.
const SILENCE: Duration = Duration::from_secs(4);

/// A pool, and how statements are run on it.
#[derive(Clone, Debug)]
pub(super) struct DriverPool {
    pub(super) pool: Pool,
    /// Whether only the store uses this pool.
    pub(super) own: bool,
    /// Whether statements are prepared once for each connection.
    pub(super) prepared: bool,
    pub(super) retired: Retired,
}

#[async_trait]
impl ConnectionPool for DriverPool {
    async fn check_out(&self) -> Result<Box<dyn Connection>, StoreError> {
        let mut connection = PooledConnection::check_out(&self.pool, &self.retired).await?;
        connection.own = self.own;
        Ok(Box::new(Statements { connection, prepared: self.prepared }))
    }
}

/// Up to when connections were made that are not to be used any more: to a
/// server that said that writes belong elsewhere. All that share a pool have
/// them; a server that is gone does not cost each connection a failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Retired(Arc<Mutex<Option<Instant>>>);

impl Retired {
    fn raise(&self, until: Instant) {
        let mut retired = lock(&self.0);
        *retired = (*retired).max(Some(until));
    }

    fn has(&self, object: &Object) -> bool {
        lock(&self.0).is_some_and(|until| Object::metrics(object).created <= until)
    }
}

/// A connection for one statement of the store.
struct Statements {
    connection: PooledConnection,
    prepared: bool,
}

#[async_trait]
impl Connection for Statements {
    async fn query(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, Failure> {
        let Some(client) = self.connection.client() else { return Ok(Vec::new()) };
        let rows = if self.prepared {
            let (statement, values) = prepared(client, sql, parameters).await?;
            client.query(&statement, &values).await?
        } else {
            client.query_typed(sql, &borrowed(parameters)).await?
        };
        Ok(rows.into_iter().map(|row| Box::new(row) as Row).collect())
    }

    async fn execute(&mut self, sql: &str, parameters: &[Parameter]) -> Result<u64, Failure> {
        let Some(client) = self.connection.client() else { return Ok(0) };
        if !self.prepared {
            return Ok(client.execute_typed(sql, &borrowed(parameters)).await?);
        }
        let (statement, values) = prepared(client, sql, parameters).await?;
        Ok(client.execute(&statement, &values).await?)
    }

    async fn script(&mut self, sql: &str) -> Result<(), Failure> {
        let Some(client) = self.connection.client() else { return Ok(()) };
        Ok(client.batch_execute(sql).await?)
    }

    fn release(self: Box<Self>) {
        self.connection.release();
    }

    fn retire(self: Box<Self>) {
        self.connection.retire();
    }
}

impl Columns for tokio_postgres::Row {
    fn boolean(&self, column: usize) -> Result<Option<bool>, StoreError> {
        read(self, column)
    }

    fn small(&self, column: usize) -> Result<Option<i32>, StoreError> {
        read(self, column)
    }

    fn integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        read(self, column)
    }

    fn text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        read(self, column)
    }

    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError> {
        read(self, column)
    }

    fn pieces(&self, column: usize) -> Result<Option<Vec<Bytes>>, StoreError> {
        let pieces: Option<Vec<&[u8]>> = read(self, column)?;
        Ok(pieces.map(|pieces| pieces.into_iter().map(Bytes::copy_from_slice).collect()))
    }
}

fn read<'r, T: FromSql<'r>>(row: &'r tokio_postgres::Row, column: usize) -> Result<Option<T>, StoreError> {
    row.try_get(column).map_err(|error| not_ours("a column has another type").caused_by(error))
}

/// The statement, which this connection prepares once, and its parameters.
async fn prepared<'a>(
    client: &Object,
    sql: &str,
    parameters: &'a [Parameter],
) -> Result<(Statement, Vec<&'a (dyn ToSql + Sync)>), Error> {
    let (values, types): (Vec<_>, Vec<Type>) = borrowed(parameters).into_iter().unzip();
    Ok((client.prepare_typed_cached(sql, &types).await?, values))
}

/// A connection that is out of the pool.
///
/// Dropped, it is closed: a caller that stopped waiting for its statement left
/// it running, and the next one on this connection would wait for it.
#[derive(Debug)]
pub(super) struct PooledConnection {
    object: Option<Object>,
    /// Whether its pool is ours alone, and this is for one statement.
    own: bool,
    /// Since when it is out.
    since: Instant,
    retired: Retired,
}

impl PooledConnection {
    /// One of this pool, if it is free or made in time.
    pub(super) async fn check_out(pool: &Pool, retired: &Retired) -> Result<Self, StoreError> {
        let get = async {
            loop {
                let object = pool.get().await?;
                if !retired.has(&object) {
                    return Ok(object);
                }
                drop(Object::take(object));
            }
        };
        let object = match timeout(PATIENCE, get).await {
            Ok(object) => object.map_err(error::of_pool)?,
            Err(_) => return Err(error::unavailable(NONE_FREE)),
        };
        Ok(Self { object: Some(object), own: false, since: Instant::now(), retired: retired.clone() })
    }

    /// Closes it, and uses none that was made before it was checked out: writes belong
    /// elsewhere. What was made later may lead there.
    pub(super) fn retire(mut self) {
        self.retired.raise(self.since);
        let Some(object) = self.object.take() else { return };
        if let Some(pool) = Object::pool(&object).filter(|_| self.own) {
            pool.retain(|_, idle| idle.created > self.since);
        }
        drop(Object::take(object));
    }

    pub(super) fn client(&self) -> Option<&Object> {
        self.object.as_ref()
    }

    pub(super) const fn client_mut(&mut self) -> Option<&mut Object> {
        self.object.as_mut()
    }

    /// Nothing is running on it any more.
    pub(super) fn release(mut self) {
        self.object.take();
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        if self.own && Object::metrics(&object).last_used() >= SILENCE {
            retire_older(&object);
        }
        drop(Object::take(object));
    }
}

/// Closes the idle connections that were not used since this one was checked out: the
/// server may be as silent on them, and each would have to be found out.
fn retire_older(silent: &Object) {
    let checked_out = Object::metrics(silent).last_used();
    if let Some(pool) = Object::pool(silent) {
        pool.retain(|_, idle| idle.last_used() < checked_out);
    }
}
