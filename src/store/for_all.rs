//! What one task makes for all callers.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};

use crate::store::contract::StoreError;
use crate::util::signal::lock;

/// Work that is done once for all callers that ask meanwhile.
///
/// It has a task of its own, and no caller holds a lock while it waits: one that is not polled for a
/// while, because its task waits for something else, would hold up all the others.
pub(super) struct Joint<T>(Mutex<Weak<watch::Sender<Option<T>>>>);

impl<T: Clone + Send + Sync + 'static> Joint<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// What the work that runs comes to, or else this. It ends with the call that began it, or
    /// panics in it: then another call that waits for it begins anew.
    pub(super) async fn run<F>(&self, work: impl Fn() -> F + Send + Sync) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        loop {
            let mut mine = JoinSet::new();
            let mut done = self.join(&mut mine, &work);
            if let Ok(done) = done.wait_for(Option::is_some).await
                && let Some(done) = &*done
            {
                return done.clone();
            }
            if let Some(Err(error)) = mine.join_next().await
                && let Ok(panic) = error.try_into_panic()
            {
                resume_unwind(panic);
            }
            // A runtime that ends runs no other task.
            yield_now().await;
        }
    }

    fn join<F>(&self, mine: &mut JoinSet<()>, work: impl Fn() -> F) -> watch::Receiver<Option<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut running = lock(&self.0);
        if let Some(running) = running.upgrade() {
            return running.subscribe();
        }
        let (sender, done) = watch::channel(None);
        let (sender, work) = (Arc::new(sender), work());
        *running = Arc::downgrade(&sender);
        mine.spawn(async move { _ = sender.send(Some(work.await)) });
        done
    }
}

/// Made when it is first needed, and again when it was forgotten.
pub(super) struct ForAll<T, E = StoreError> {
    made: Arc<Mutex<Option<T>>>,
    making: Joint<Result<T, E>>,
}

impl<T, E> ForAll<T, E>
where
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { made: Arc::default(), making: Joint::new() }
    }

    pub(super) fn get(&self) -> Option<T> {
        lock(&self.made).clone()
    }

    /// What was made before, or is made now by one task for all that ask meanwhile. They
    /// share a failure, too: no caller waits for two tries.
    pub(super) async fn get_or_make<F>(&self, make: impl Fn() -> F + Send + Sync) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let work = || {
            let (kept, make) = (Arc::clone(&self.made), make());
            async move {
                let before = lock(&kept).clone();
                match before {
                    Some(made) => Ok(made),
                    None => make.await.inspect(|made| *lock(&kept) = Some(made.clone())),
                }
            }
        };
        self.making.run(work).await
    }
}

#[cfg(feature = "redis")]
impl<T, E> ForAll<T, E> {
    /// Forgets what was made if `is` says so: the next caller makes it anew.
    pub(super) fn forget_if(&self, is: impl FnOnce(&mut T) -> bool) {
        lock(&self.made).take_if(is);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// It would begin it anew at once, as long as it panics.
    #[tokio::test]
    async fn what_panics_panics_in_the_call_that_began_it() {
        let (joint, is_first) = (Arc::new(Joint::new()), Arc::new(AtomicBool::new(true)));
        let call = || {
            let (joint, is_first) = (Arc::clone(&joint), Arc::clone(&is_first));
            tokio::spawn(async move {
                let work = || {
                    let is_first = is_first.swap(false, Ordering::Relaxed);
                    async move { if is_first { panic!("as it is meant to") } else { 17 } }
                };
                joint.run(work).await
            })
        };
        assert!(call().await.unwrap_err().is_panic());
        assert_eq!(call().await.unwrap(), 17);
    }
}
