//! The one thread that writes.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock};

use super::batch::Batch;
use super::engine::Engine;
use super::error::stopped;
use super::index::Index;
use super::request::Request;
use super::sweep::Sweep;
use crate::clock::Clock;
use crate::store::StoreError;

/// What the writer and the readers share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) index: Mutex<Index>,
    pub(super) clock: Arc<dyn Clock>,
    /// Why nothing works any more.
    pub(super) failure: OnceLock<StoreError>,
}

/// Compares versions and writes, everything that waits in one go: while one
/// batch is on its way to the disk, the next one gathers.
pub(super) struct Committer {
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    sweep: Sweep,
    /// Has to wait for the batch before it.
    held_back: Option<Request>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, requests: Receiver<Request>) -> Self {
        Self { shared, requests, sweep: Sweep::new(), held_back: None }
    }

    /// Returns when every handle is gone and everything is written, or when
    /// nothing can be written any more.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _guard = Guard(&shared);
        while let Some(first) = self.held_back.take().or_else(|| self.requests.recv().ok()) {
            let mut batch = Batch::new(&shared.engine, &shared.index, shared.clock.now());
            self.gather(&mut batch, first);
            batch.sweep(&mut self.sweep);
            if let Err(failed) = batch.commit(&mut self.sweep) {
                // First, so that whoever hears of it finds the store stopped.
                let _ = shared.failure.set(failed.error.clone());
                failed.tell();
                return;
            }
        }
    }

    fn gather(&mut self, batch: &mut Batch<'_>, first: Request) {
        let mut next = Some(first);
        while let Some(request) = next {
            self.held_back = batch.add(request);
            let more = self.held_back.is_none() && !batch.is_full();
            next = if more { self.requests.try_recv().ok() } else { None };
        }
    }
}

/// Stops the store if the thread panics: a clock that isn't ours may.
struct Guard<'s>(&'s Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.failure.set(stopped());
        }
    }
}
