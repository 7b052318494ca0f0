//! What one caller makes for all.

use std::sync::Mutex;

use tokio::time::Instant;

use crate::store::contract::StoreError;
use crate::util::signal::lock;

/// Made when it is first needed, and again when it was forgotten.
pub(super) struct ForAll<T, E = StoreError> {
    made: Mutex<Option<T>>,
    /// Held by the caller that makes it; how the last try failed, and when.
    making: tokio::sync::Mutex<Option<(Instant, E)>>,
}

impl<T: Clone, E: Clone> ForAll<T, E> {
    pub(super) fn new() -> Self {
        Self { made: Mutex::new(None), making: tokio::sync::Mutex::new(None) }
    }

    pub(super) fn get(&self) -> Option<T> {
        lock(&self.made).clone()
    }

    /// What was made before, or is made now by one caller for all that ask meanwhile. They
    /// share a failure, too: no caller waits for two tries.
    pub(super) async fn get_or_make(&self, make: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let asked = Instant::now();
        let mut failed = self.making.lock().await;
        if let Some(made) = self.get() {
            return Ok(made);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.clone());
        }
        match make.await {
            Ok(made) => {
                *failed = None;
                Ok(lock(&self.made).insert(made).clone())
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

#[cfg(feature = "redis")]
impl<T, E> ForAll<T, E> {
    /// Forgets what was made if `is` says so: the next caller makes it anew.
    pub(super) fn forget_if(&self, is: impl FnOnce(&mut T) -> bool) {
        lock(&self.made).take_if(is);
    }
}
