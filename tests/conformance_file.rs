//! The store contract, on the file store.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, process};

use async_trait::async_trait;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::conformance_tests;
use tower_idempotency::core::Key;
use tower_idempotency::store::conformance::{Damage, Harness};
use tower_idempotency::store::{FileStore, OpenError, Store};

/// A file store in a directory of its own, which goes with it.
#[derive(Debug)]
struct OnFile {
    path: PathBuf,
    store: Mutex<Option<Arc<FileStore>>>,
    clock: ManualClock,
}

impl OnFile {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("conformance-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let clock = ManualClock::new();
        let store = open(&path, &clock).expect("a fresh directory opens");
        Self { path, store: Mutex::new(Some(store)), clock }
    }
}

fn open(path: &Path, clock: &ManualClock) -> Result<Arc<FileStore>, OpenError> {
    Ok(Arc::new(FileStore::options().with_clock(clock.clone()).open(path)?))
}

#[async_trait]
impl Harness for OnFile {
    fn store(&self) -> Arc<dyn Store> {
        self.store.lock().unwrap().clone().expect("the store is open")
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn damage(&self, key: &Key, how: Damage) -> bool {
        let store = self.store.lock().unwrap();
        let format = if how == Damage::NewerFormat { 2 } else { 0 };
        store.as_ref().expect("the store is open").damage(key, &[format; 100])
    }

    async fn reopen(&self) -> bool {
        let mut store = self.store.lock().unwrap();
        let closed = store.take().expect("the store is open");
        assert_eq!(Arc::strong_count(&closed), 1, "someone still has the store");
        drop(closed);
        *store = Some(open(&self.path, &self.clock).expect("it opens again"));
        true
    }
}

impl Drop for OnFile {
    fn drop(&mut self) {
        self.store.lock().unwrap().take();
        // Best effort: the directory is a temporary one anyway.
        let _ = fs::remove_dir_all(&self.path);
    }
}

conformance_tests!(file, || async { OnFile::new() });
