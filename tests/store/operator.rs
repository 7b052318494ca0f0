//! What an operator sees and decides on the stores that need no server. The others:
//! tests/servers.

#[path = "../support/operated.rs"]
mod operated;

use std::sync::Arc;

use operated::look_and_decide;
use tower_idempotency::store::MemoryStore;

#[tokio::test]
async fn an_operator_looks_and_decides_in_memory() {
    look_and_decide(Arc::new(MemoryStore::new()), true).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_and_decides_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = tower_idempotency::store::SqliteStore::open(folder.path().join("store.db")).unwrap();
    look_and_decide(Arc::new(store), true).await;
}
