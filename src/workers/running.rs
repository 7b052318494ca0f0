//! What a worker runs now.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::core::Key;
use crate::util::signal::lock;

/// The operations that a worker runs now. It does not take from itself what it runs,
/// even if this process stood still for longer than a lease.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(Arc<Mutex<HashSet<Key>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Keys, Key);

impl Keys {
    /// `None` if it runs already.
    pub(crate) fn enter(&self, key: Key) -> Option<Running> {
        lock(&self.0).insert(key).then(|| Running(self.clone(), key))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.0.0).remove(&self.1);
    }
}
