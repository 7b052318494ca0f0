//! A store that outlives its processes, and its clock.

use std::sync::Arc;
use std::time::Duration;

use super::found::Found;
use super::process::Process;
use super::shared::Shared;
use crate::core::{IdempotencyKey, Key};
use crate::store::Store;
use crate::util::signal::lock;

/// A store in memory that outlives the processes of a test, and a clock that only the
/// test moves.
///
/// See [the module](super) for an example.
#[derive(Clone, Debug, Default)]
pub struct TestBed(Arc<Shared>);

impl TestBed {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another process over the store.
    pub fn process(&self) -> Process {
        Process::of(Arc::clone(&self.0))
    }

    /// Moves the store's clock, by which leases and retentions end. Back-offs and time-outs
    /// go by tokio's clock, which a test may pause.
    pub fn advance(&self, by: Duration) {
        self.0.clock.advance(by);
    }

    /// The record of a request, by the scope that the layer gives it and the client's key. A
    /// shared scope is the empty one.
    ///
    /// # Panics
    ///
    /// If `key` is not an idempotency key.
    pub async fn find(&self, scope: &str, key: &str) -> Found {
        self.show(Key::new(scope, &parsed(key))).await
    }

    /// The record of a [`Runner`](crate::Runner)'s call.
    ///
    /// # Panics
    ///
    /// As [`find`](Self::find).
    pub async fn find_of_runner(&self, scope: &str, key: &str) -> Found {
        self.show(Key::of_runner(scope, &parsed(key))).await
    }

    async fn show(&self, key: Key) -> Found {
        let loaded = self.0.store.load(&key).await.ok();
        let recorded = lock(&self.0.recorded).get(&key).cloned();
        let record = loaded.and_then(|loaded| loaded.record.filter(|record| !record.is_expired(loaded.now)));
        Found::new(key, record, recorded)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }
}

fn parsed(key: &str) -> IdempotencyKey {
    IdempotencyKey::parse(key.as_bytes()).unwrap_or_else(|error| panic!("{key:?} is not an idempotency key: {error}"))
}
