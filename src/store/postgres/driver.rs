//! What a driver of Postgres has to do for transactions of the caller's.

use std::fmt;

use async_trait::async_trait;

use crate::store::contract::StoreError;
use crate::store::enlisted::CommitError;

/// A driver's transactions, as [`Operation::transaction`](crate::Operation::transaction) needs them.
///
/// There is one for `deadpool_postgres::Pool`, and one for `sqlx::PgPool`: of sqlx
/// 0.9 with feature `sqlx-postgres`, of 0.8 with `sqlx-postgres-08`. Another driver, or
/// another version of one, takes some forty lines; the source of the first is a
/// model.
///
/// `begin` and `commit` are driven to their end unless the process ends. `run`
/// and `rollback` are dropped after some seconds without a reply, and so is
/// the caller's own work once its step is dropped; the transaction is
/// then rolled back or dropped.
#[async_trait]
pub trait TransactionDriver: Clone + fmt::Debug + Send + Sync + 'static {
    /// A transaction that is under way. Dropped, it is rolled back.
    type Transaction: Send + 'static;
    /// What the caller's work gets to see of it.
    type Handle: Send + ?Sized;

    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if there is no connection, or no reply.
    async fn begin(&self) -> Result<Self::Transaction, StoreError>;

    /// What the caller's work gets; `None` if the transaction is over.
    fn handle(transaction: &mut Self::Transaction) -> Option<&mut Self::Handle>;

    /// Runs one statement that gives one row with one `bigint`, or no row, and
    /// gives that number, or 0.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the transaction will be rolled back.
    async fn run(
        transaction: &mut Self::Transaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError>;

    /// Commits.
    ///
    /// # Errors
    ///
    /// [`CommitError`]: whether it is known that nothing was committed.
    async fn commit(transaction: Self::Transaction) -> Result<(), CommitError>;

    /// Rolls back, if the connection still works.
    async fn rollback(transaction: Self::Transaction);
}

/// A parameter of a statement.
///
/// `Debug` shows how large it is, and not what.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver must know all of them")]
pub enum Parameter {
    /// `bigint`
    Integer(i64),
    /// `bytea`, or null
    Bytes(Option<Vec<u8>>),
    /// `integer[]`
    Integers(Vec<i32>),
    /// `bytea[]`
    Pieces(Vec<Vec<u8>>),
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(integer) => write!(f, "Integer({integer})"),
            Self::Integers(integers) => write!(f, "Integers({integers:?})"),
            Self::Bytes(bytes) => write!(f, "Bytes({:?} bytes)", bytes.as_ref().map(Vec::len)),
            Self::Pieces(pieces) => write!(f, "Pieces({} of them)", pieces.len()),
        }
    }
}
