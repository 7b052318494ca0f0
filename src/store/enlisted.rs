//! Databases whose transactions carry recovery points.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::core::{Key, Record, Version};
use crate::store::contract::{Loaded, StoreError, StoreErrorKind};

/// A database that has the store's tables, and whose transactions can carry its
/// recovery points: the argument of
/// [`Operation::transaction`](crate::Operation::transaction). It has no methods to call.
///
#[cfg_attr(
    feature = "postgres",
    doc = "- [`Enlisted`](super::postgres::Enlisted), of a [`PostgresStore`](super::PostgresStore)"
)]
#[cfg_attr(
    feature = "sqlite",
    doc = "- [`SqliteEnlisted`](super::sqlite::SqliteEnlisted), of a [`SqliteStore`](super::SqliteStore)"
)]
#[async_trait]
pub trait EnlistedDatabase: Sealed + Clone + fmt::Debug + Send + Sync + 'static {
    /// What the work in a transaction gets.
    type Handle: Send + ?Sized;

    /// A transaction that is under way. Dropped, it is rolled back.
    #[doc(hidden)]
    type Transaction: Send + 'static;

    /// Whether the store can write nothing while a transaction is open.
    #[doc(hidden)]
    const LOCKS_THE_STORE: bool;

    /// Why a record may not be found in a transaction, if its claim still holds.
    #[doc(hidden)]
    const NOT_THERE: &'static str;

    /// Begins a transaction of an operation with this lease. Not to be dropped
    /// half-way: that begins one all the same, and ends it again.
    #[doc(hidden)]
    async fn begin(&self, lease: Duration) -> Result<Self::Transaction, StoreError>;

    /// `None` if the transaction is over.
    #[doc(hidden)]
    fn handle(transaction: &mut Self::Transaction) -> Option<&mut Self::Handle>;

    /// How long the work may take, if that is limited.
    #[doc(hidden)]
    fn limit(transaction: &Self::Transaction) -> Option<Limit>;

    /// As [`Store::swap`](super::Store::swap), as part of `transaction`, and to
    /// last once that commits.
    #[doc(hidden)]
    async fn swap(
        &self,
        transaction: &mut Self::Transaction,
        key: &Key,
        expected: Version,
        next: &Record,
    ) -> Result<EnlistedSwap, StoreError>;

    /// Commits. To be driven to its end.
    #[doc(hidden)]
    async fn commit(transaction: Self::Transaction) -> Result<(), CommitError>;

    /// Rolls back, and waits for it for some seconds.
    #[doc(hidden)]
    async fn roll_back(transaction: Self::Transaction);
}

/// Only this crate's databases are ones.
pub trait Sealed {}

/// How a swap in a transaction ended.
#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "postgres", feature = "sqlite")),
    allow(dead_code, reason = "each kind of database has its own outcomes")
)]
pub enum EnlistedSwap {
    Written,
    /// Another record is there, and no other write can change it meanwhile.
    Found(Loaded),
    /// Another record is there, as seen from the transaction.
    Unseen,
}

/// How long the work of a transaction may take.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub(crate) since: Instant,
    pub(crate) length: Duration,
}

impl Limit {
    pub(crate) fn left(&self) -> Duration {
        self.length.saturating_sub(self.since.elapsed())
    }

    pub(crate) fn passed(&self) -> StoreError {
        let message = format!(
            "the transaction took longer than the {:?} for which it may hold the write lock, and was rolled back; keep \
             slow calls out of it",
            self.length
        );
        StoreError::new(StoreErrorKind::Unavailable, message)
    }
}

/// How a commit failed.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum CommitError {
    /// Nothing was committed, and never will be: the database itself said so. Not
    /// a pooler that lost it, nor an error that ends the session.
    RolledBack(StoreError),
    /// It is not known whether it committed.
    Unknown(StoreError),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack(error) => write!(f, "the transaction was rolled back: {error}"),
            Self::Unknown(error) => write!(f, "it is not known whether the transaction committed: {error}"),
        }
    }
}

impl std::error::Error for CommitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::RolledBack(error) | Self::Unknown(error) => std::error::Error::source(error),
        }
    }
}
