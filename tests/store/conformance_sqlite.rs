//! The store contract, on the SQLite store: with one handle, and with two on one
//! file, as two processes have it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, process};

use async_trait::async_trait;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::conformance_tests;
use tower_idempotency::core::{Key, Record, Version};
use tower_idempotency::store::conformance::{Cannot, Damage, Harness};
use tower_idempotency::store::{Durability, Loaded, Page, Query, SqliteStore, Store, StoreError, Swap};

/// A store in a directory of its own, which goes with it.
#[derive(Debug)]
struct OnSqlite {
    directory: PathBuf,
    handles: usize,
    store: Mutex<Option<Arc<Alternating>>>,
    clock: ManualClock,
}

/// Each call goes to the next handle.
#[derive(Debug)]
struct Alternating {
    handles: Vec<SqliteStore>,
    next: AtomicUsize,
}

impl Alternating {
    fn next(&self) -> &SqliteStore {
        &self.handles[self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len()]
    }
}

#[async_trait]
impl Store for Alternating {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.next().load(key).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        self.next().swap(key, expected, next).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.next().remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.next().scan(query).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        self.next().durability().await
    }

    fn indexes_labels(&self) -> bool {
        self.next().indexes_labels()
    }
}

impl OnSqlite {
    fn new(handles: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sqlite-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let harness = Self { directory, handles, store: Mutex::default(), clock: ManualClock::new() };
        harness.open();
        harness
    }

    fn path(&self) -> PathBuf {
        self.directory.join("keys.db")
    }

    fn open(&self) {
        let options = SqliteStore::options().with_clock(self.clock.clone()).index_labels(self.handles > 1);
        let open = |_| options.clone().open(self.path()).expect("it opens");
        let handles = (0..self.handles).map(open).collect();
        *self.store.lock().unwrap() = Some(Arc::new(Alternating { handles, next: AtomicUsize::new(0) }));
    }
}

#[async_trait]
impl Harness for OnSqlite {
    fn store(&self) -> Arc<dyn Store> {
        self.store.lock().unwrap().clone().expect("the store is open")
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn damage(&self, key: &Key, how: Damage) -> Result<(), Cannot> {
        let database = rusqlite::Connection::open(self.path()).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        let damage = if how == Damage::NewerFormat { "format = 2" } else { "head = x'00'" };
        let key = key.as_bytes().as_slice();
        let damaged = database.execute(&format!("UPDATE records SET {damage} WHERE key = ?1"), [key]).unwrap();
        assert_eq!(damaged, 1);
        Ok(())
    }

    async fn reopen(&self) -> Result<(), Cannot> {
        let closed = self.store.lock().unwrap().take().expect("the store is open");
        assert_eq!(Arc::strong_count(&closed), 1, "someone still has the store");
        drop(closed);
        self.open();
        Ok(())
    }

    fn bounded(&self, _: usize) -> Result<Arc<dyn Store>, Cannot> {
        Err(Cannot::because("its bound is the disk; tests/sqlite/faults.rs has full ones"))
    }
}

impl Drop for OnSqlite {
    fn drop(&mut self) {
        self.store.lock().unwrap().take();
        // Best effort: the directory is a temporary one anyway.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

conformance_tests!(sqlite, || async { OnSqlite::new(1) });
conformance_tests!(sqlite_shared, || async { OnSqlite::new(2) });
