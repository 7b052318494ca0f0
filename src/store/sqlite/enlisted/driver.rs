//! What a driver does for a transaction of the caller's.

use std::fmt;
use std::sync::Arc;

use ::rusqlite::ErrorCode;
use ::rusqlite::types::Value;
use async_trait::async_trait;

use super::state::State;
use crate::store::contract::StoreError;
use crate::store::sqlite::error::{plain, told_of};
use crate::store::sqlite::store::SqliteStore;
use crate::store::sqlite::turn::Ends;

/// A driver's transactions.
#[async_trait]
pub trait SqliteDriver: Clone + fmt::Debug + Send + Sync + 'static {
    /// A connection that has no transaction open.
    type Idle: Send + 'static;
    /// Dropped, it is rolled back. It keeps its turn until it is over.
    type Transaction: Send + 'static;
    type Handle: Send + ?Sized;

    async fn connect(&self, store: &SqliteStore) -> Result<Self::Idle, StoreError>;
    /// Begins a transaction if the lock is free at this moment.
    async fn begin(idle: Self::Idle, open: Open) -> Result<Self::Transaction, NotBegun<Self::Idle>>;
    /// `None` if the transaction is over.
    fn handle(transaction: &mut Self::Transaction) -> Option<&mut Self::Handle>;
    /// Runs these in their order, and gives the rows of the last one.
    async fn run(transaction: &mut Self::Transaction, statements: Vec<Statement>) -> Result<Vec<Vec<Value>>, Failed>;
    /// Commits; if it fails, the transaction is over all the same.
    async fn commit(transaction: Self::Transaction) -> Result<(), Failed>;
    async fn roll_back(transaction: Self::Transaction);
}

/// A statement, and what is bound to it.
pub(super) type Statement = (String, Vec<Value>);

/// What a driver's transaction holds on to, besides the connection.
#[derive(Debug)]
pub struct Open {
    pub(super) state: Arc<State>,
    pub(super) _ends: Arc<Ends>,
    /// Keeps the store open.
    pub(super) store: SqliteStore,
}

/// Why a transaction did not begin.
#[derive(Debug)]
pub enum NotBegun<I> {
    /// Another connection has the lock.
    Busy(I, Failed),
    Failed(Failed),
}

/// What a driver says.
#[derive(Debug)]
pub struct Failed {
    pub(super) code: Option<ErrorCode>,
    pub(super) error: std::io::Error,
}

impl Failed {
    pub(super) fn busy() -> Self {
        Self { code: Some(ErrorCode::DatabaseBusy), error: std::io::Error::other("others wait for it") }
    }

    pub(super) fn over() -> Self {
        Self { code: None, error: std::io::Error::other("the transaction is over") }
    }

    pub(super) fn into_store_error(self) -> StoreError {
        told_of(self.code, self.error)
    }
}

impl From<::rusqlite::Error> for Failed {
    fn from(error: ::rusqlite::Error) -> Self {
        Self { code: error.sqlite_error_code(), error: plain(error) }
    }
}
