//! A row and a connection, whichever driver they are of.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use super::driver::Parameter;
use super::error::Failure;
use crate::store::contract::StoreError;

/// What a statement gave.
pub(super) type Row = Box<dyn Columns>;

/// The columns of a row, by their number. One of another type is an error.
pub(super) trait Columns: Send + Sync {
    fn boolean(&self, column: usize) -> Result<Option<bool>, StoreError>;
    fn small(&self, column: usize) -> Result<Option<i32>, StoreError>;
    fn integer(&self, column: usize) -> Result<Option<i64>, StoreError>;
    fn text(&self, column: usize) -> Result<Option<&str>, StoreError>;
    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, StoreError>;
    fn pieces(&self, column: usize) -> Result<Option<Vec<Bytes>>, StoreError>;
}

/// What a column can hold.
pub(super) trait Value<'r>: Sized {
    fn of(row: &'r dyn Columns, column: usize) -> Result<Option<Self>, StoreError>;
}

macro_rules! values {
    ($($type:ty, $read:ident;)*) => {$(
        impl<'r> Value<'r> for $type {
            fn of(row: &'r dyn Columns, column: usize) -> Result<Option<Self>, StoreError> {
                row.$read(column)
            }
        }
    )*};
}

values! {
    bool, boolean;
    i32, small;
    i64, integer;
    &'r str, text;
    &'r [u8], bytes;
    Vec<Bytes>, pieces;
}

/// A pool of connections.
#[async_trait]
pub(super) trait ConnectionPool: fmt::Debug + Send + Sync {
    /// A connection, if one is free or made in time.
    async fn check_out(&self) -> Result<Box<dyn Connection>, StoreError>;
}

/// A connection that is out of its pool. Dropped, it is closed: a caller that stopped
/// waiting for its statement left it running, and the next one would wait for it.
#[async_trait]
pub(super) trait Connection: Send {
    /// Runs one statement, and gives its rows.
    async fn query(&mut self, sql: &str, parameters: &[Parameter]) -> Result<Vec<Row>, Failure>;

    /// Runs one statement, and gives how many rows it changed, or would give.
    async fn execute(&mut self, sql: &str, parameters: &[Parameter]) -> Result<u64, Failure>;

    /// Runs several statements as one transaction.
    async fn script(&mut self, sql: &str) -> Result<(), Failure>;

    /// Nothing is running on it any more.
    fn release(self: Box<Self>);

    /// Closes it, and lets no older one be used: writes belong elsewhere.
    fn retire(self: Box<Self>);
}
