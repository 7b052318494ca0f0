//! Small helpers around locks and signals.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};
use tokio::time::{Instant, sleep_until};

/// Locks, whether or not a thread panicked while it held the lock: nothing in
/// this crate leaves a value half-changed under one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An alarm clock: any task may set it, and those that wait are woken at the earliest
/// time that was set.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    at: Mutex<Option<Instant>>,
    on_set: Notify,
}

impl Alarm {
    /// Rings at `at`, if not before.
    pub(crate) fn set(&self, at: Instant) {
        {
            let mut earliest = lock(&self.at);
            if earliest.is_some_and(|earliest| earliest <= at) {
                return;
            }
            *earliest = Some(at);
        }
        self.on_set.notify_waiters();
    }

    /// Resolves when it rings, and at `latest` if it does not. Cancel safe.
    pub(crate) async fn rings(&self, latest: Instant) {
        loop {
            let mut set = std::pin::pin!(self.on_set.notified());
            // Listen before looking, or a time could be set in between.
            set.as_mut().enable();
            let at = lock(&self.at).map_or(latest, |at| at.min(latest));
            tokio::select! {
                () = sleep_until(at) => {
                    let mut earliest = lock(&self.at);
                    if earliest.is_some_and(|earliest| earliest <= at) {
                        *earliest = None;
                    }
                    return;
                }
                () = set => {}
            }
        }
    }
}

/// How many hints are kept.
const HINTS: usize = 10_000;

/// Hints of work, handed on inside this process. Nothing depends on them: what
/// is lost is found in the store.
#[derive(Debug)]
pub(crate) struct Hints<T> {
    put: mpsc::Sender<T>,
    /// Completers take turns at it.
    take: AsyncMutex<mpsc::Receiver<T>>,
}

impl<T> Default for Hints<T> {
    fn default() -> Self {
        let (put, take) = mpsc::channel(HINTS);
        Self { put, take: AsyncMutex::new(take) }
    }
}

impl<T> Hints<T> {
    /// Hands it to one of those who wait, unless there are too many already.
    pub(crate) fn put(&self, hint: T) {
        let _ = self.put.try_send(hint);
    }

    /// The next one, if there is one and no other completer waits for it.
    pub(crate) fn try_next(&self) -> Option<T> {
        self.take.try_lock().ok()?.try_recv().ok()
    }

    /// The next one. Cancel safe.
    pub(crate) async fn next(&self) -> T {
        match self.take.lock().await.recv().await {
            Some(hint) => hint,
            // The sender is ours.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_that_are_not_taken_do_not_pile_up() {
        let hints = Hints::default();
        (0..3 * HINTS).for_each(|hint| hints.put(hint));
        assert_eq!(hints.take.try_lock().unwrap().len(), HINTS, "the others are found in the store");
    }
}
