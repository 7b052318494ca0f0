//! Small helpers around std's locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whether or not someone panicked while holding the lock: nothing in
/// this crate leaves a value half-changed under one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
