//! The loop over a store that never waits: the same, and no future for a call.

use super::{Ledger, not_removed, swapped, take_in};
use crate::core::{Ask, Command, Exchange, Key, Reply, Version};
use crate::store::sealing::{is_sealed, locked};
use crate::store::{ImmediateStore, StoreError};

impl Ledger {
    /// Whether the store never has to be waited for.
    pub(crate) fn is_immediate(&self) -> bool {
        self.store.immediate().is_some()
    }

    /// Drives an exchange until its outcome is known; `None` if the store may have to be waited
    /// for, and was not asked.
    pub(crate) fn drive_at_once<C, T>(&self, key: &Key, exchange: &mut Exchange<C, T>) -> Option<Result<(), StoreError>>
    where
        C: Command<Output = T>,
    {
        let store = self.store.immediate()?;
        let mut failures = 0;
        loop {
            let reply = match exchange.ask() {
                Ask::Finish => return Some(Ok(())),
                Ask::Load => load(store, key),
                Ask::Swap { expected, next } => {
                    store.swap(key, expected, next).and_then(|swap| swapped(key, expected, swap))
                }
                Ask::Remove { expected } => remove(store, key, expected),
            };
            if let Some(driven) = take_in(exchange, reply, &mut failures) {
                return Some(driven);
            }
        }
    }
}

fn load(store: &dyn ImmediateStore, key: &Key) -> Result<Reply, StoreError> {
    match store.load(key)? {
        found if is_sealed(&found) => Err(locked(key, found)),
        found => Ok(Reply::Found(found.record, found.now)),
    }
}

fn remove(store: &dyn ImmediateStore, key: &Key, expected: Version) -> Result<Reply, StoreError> {
    match store.remove(key, expected)? {
        true => Ok(Reply::Written),
        false => not_removed(expected, load(store, key)?),
    }
}
