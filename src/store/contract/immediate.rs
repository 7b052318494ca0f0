//! Stores that never wait.

use super::{Loaded, StoreError, Swap};
use crate::core::{Key, Record, Version};

/// The calls of a [`Store`](super::Store) that replies without waiting, as plain calls: the same
/// contract, and no future in a box for each call.
pub trait ImmediateStore {
    /// See [`Store::load`](super::Store::load).
    ///
    /// # Errors
    ///
    /// The same.
    fn load(&self, key: &Key) -> Result<Loaded, StoreError>;

    /// See [`Store::swap`](super::Store::swap).
    ///
    /// # Errors
    ///
    /// The same.
    fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError>;

    /// See [`Store::remove`](super::Store::remove).
    ///
    /// # Errors
    ///
    /// The same.
    fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError>;
}
