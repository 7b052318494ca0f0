//! Small helpers around locks and signals.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Locks, whether or not someone panicked while holding the lock: nothing in
/// this crate leaves a value half-changed under one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that happens once, and can be waited for.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    given: AtomicBool,
    on_given: Notify,
}

impl Signal {
    /// Gives the signal; `true` the first time.
    pub(crate) fn give(&self) -> bool {
        let first = !self.given.swap(true, Ordering::AcqRel);
        if first {
            self.on_given.notify_waiters();
        }
        first
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::Acquire)
    }

    /// Resolves once it is given. Cancel safe.
    pub(crate) async fn given(&self) {
        let mut notified = std::pin::pin!(self.on_given.notified());
        // Listen before looking, or the signal could slip in between.
        notified.as_mut().enable();
        if !self.is_given() {
            notified.await;
        }
    }
}
