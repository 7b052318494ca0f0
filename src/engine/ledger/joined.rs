//! Swaps that commit with a transaction of the caller's.

use tokio::time::timeout;

use super::Ledger;
use crate::core::{Ask, Command, Exchange, Key, Reply};
use crate::store::sealing::{is_sealed, locked};
use crate::store::{CommitError, EnlistedDatabase, EnlistedSwap, StoreError};

/// How often a swap may meet another record than it expected: once may be a renewal of
/// ours, and after that nothing new comes.
const LOOKS: u32 = 3;

impl Ledger {
    /// Makes the write that `exchange` asks for, inside `transaction`. `false`
    /// if it asks for none, or if something else is there, as seen from there.
    pub(crate) async fn join<C, T, D>(
        &self,
        key: &Key,
        exchange: &mut Exchange<C, T>,
        database: &D,
        transaction: &mut D::Transaction,
    ) -> Result<bool, StoreError>
    where
        C: Command<Output = T> + Send + Sync,
        T: Send,
        D: EnlistedDatabase,
    {
        for _ in 0..LOOKS {
            let Ask::Swap { expected: Some(expected), next } = exchange.ask() else { return Ok(false) };
            // These databases keep parts.
            let sealed = match &self.sealing {
                Some(sealing) => sealing.sealed(key, next, false)?,
                None => None,
            };
            let next = sealed.as_deref().unwrap_or(next);
            match self.within(database.swap(transaction, key, expected, next)).await? {
                EnlistedSwap::Written => return Ok(true),
                EnlistedSwap::Unseen => return Ok(false),
                EnlistedSwap::Found(found) => {
                    let found = match &self.sealing {
                        Some(sealing) => sealing.opened(key, found)?,
                        None if is_sealed(&found) => return Err(locked(key, found)),
                        None => found,
                    };
                    exchange.answer(Reply::Found(found.record, found.now));
                }
            }
        }
        Ok(false)
    }

    /// Commits. In a task of its own: a commit whose caller stopped waiting
    /// goes on, and its fate is found out.
    pub(crate) async fn commit<D: EnlistedDatabase>(&self, transaction: D::Transaction) -> Result<(), CommitError> {
        let commit = tokio::spawn(D::commit(transaction));
        match timeout(self.store().patience(), commit).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panicked)) => Err(CommitError::Unknown(StoreError::timed_out())),
            Err(_) => Err(CommitError::Unknown(StoreError::timed_out())),
        }
    }
}
