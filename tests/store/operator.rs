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

/// What is planned is in the file: whichever process opens it obeys.
#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_is_planned_and_obeyed_on_sqlite() {
    use std::time::Duration;
    use tower_idempotency::maintenance::{Window, WindowState};
    use tower_idempotency::store::SqliteStore;
    use tower_idempotency::{Engine, Operator, RunError, Runner};

    let folder = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(folder.path().join("store.db")).unwrap();
    let runs = async |name: &str| {
        let runner = Runner::new(Engine::new(open()));
        match runner.run("maintained", name, "", |_| async { Ok::<_, std::io::Error>(1) }).await {
            Ok(1) => true,
            Err(RunError::Maintenance { .. }) => false,
            other => panic!("{other:?}"),
        }
    };
    assert!(runs("before").await);
    let planner = Operator::new(open()).by("eve");
    let (_, now) = planner.windows().await.unwrap();
    let id = planner.plan(Window::new(now, now.after(Duration::from_secs(3600)), "the disk moves")).await.unwrap();
    assert!(!runs("new").await);
    let (windows, now) = Operator::new(open()).windows().await.unwrap();
    assert_eq!((&windows[0].id, windows[0].state(now)), (&id, WindowState::Closed));
    assert_eq!(windows[0].by.as_deref(), Some("eve"));
    planner.end(&windows[0]).await.unwrap();
    assert!(runs("new").await);
}
