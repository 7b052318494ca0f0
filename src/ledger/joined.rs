//! Swaps that commit with a transaction of the caller's.

use tokio::time::timeout;

use super::{Ledger, within};
use crate::core::{Ask, Command, Exchange, Key};
use crate::store::{CommitError, Joined, STORE_TIMEOUT, StoreError, TransactionDriver};

impl Ledger {
    /// Makes the write that `exchange` asks for, inside `transaction`. `false`
    /// if it asks for none, or if something else is there, as seen from there.
    pub(crate) async fn join<C, T, D>(
        &self,
        key: &Key,
        exchange: &mut Exchange<C, T>,
        database: &Joined<D>,
        transaction: &mut D::Transaction,
    ) -> Result<bool, StoreError>
    where
        C: Command<Output = T> + Send + Sync,
        T: Send,
        D: TransactionDriver,
    {
        match exchange.ask() {
            Ask::Swap { expected: Some(expected), next } => {
                within(database.swap(transaction, key, expected, next)).await
            }
            _ => Ok(false),
        }
    }

    /// Commits. In a task of its own: a commit that nobody waits for any more
    /// goes on, and its fate is found out.
    pub(crate) async fn commit<D: TransactionDriver>(&self, transaction: D::Transaction) -> Result<(), CommitError> {
        let commit = tokio::spawn(D::commit(transaction));
        match timeout(STORE_TIMEOUT, commit).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panicked)) => Err(CommitError::Unknown(StoreError::timed_out())),
            Err(_) => Err(CommitError::Unknown(StoreError::timed_out())),
        }
    }
}
