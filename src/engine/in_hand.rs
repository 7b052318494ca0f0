//! Operations that this process still runs, or still has to save the end of,
//! whatever became of their leases.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::core::Key;
use crate::util::signal::lock;

/// All of them that may have outlived their lease. Each belongs to a task that
/// goes on with it, so that their number is that of those tasks.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    /// Most of the time there are none, and no lock has to be taken.
    count: AtomicUsize,
    keys: Mutex<HashMap<Key, usize>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hand(Arc<InHand>, Key);

impl InHand {
    pub(crate) fn take(self: &Arc<Self>, key: Key) -> Hand {
        *lock(&self.keys).entry(key).or_default() += 1;
        self.count.fetch_add(1, Ordering::Release);
        Hand(Arc::clone(self), key)
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.count.load(Ordering::Acquire) > 0 && lock(&self.keys).contains_key(key)
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let mut keys = lock(&self.0.keys);
        if let Some(hands) = keys.get_mut(&self.1) {
            *hands -= 1;
            if *hands == 0 {
                keys.remove(&self.1);
            }
        }
        self.0.count.fetch_sub(1, Ordering::Release);
    }
}
