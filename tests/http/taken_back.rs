//! Claims of unknown fate, which are taken back in the background.

use std::sync::Arc;

use tower_idempotency::store::MemoryStore;
use tower_idempotency::store::conformance::{Fault, FaultyStore, Op};
use tower_idempotency::{Engine, IdempotencyLayer, Scope};

use crate::support::lab::{post, reply, secs, send, serve};
use crate::support::settle;

/// So many are taken back at once. What is not, lapses with its lease.
const AT_ONCE: usize = 256;

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_everyone_does_not_fill_the_process_with_what_is_taken_back() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let faults = store.faults();
    let layer = IdempotencyLayer::new(Engine::new(Arc::clone(&store)).lease(secs(60)), Scope::shared());
    let app = serve(&layer, |_| async { Ok(reply(201, "done")) });
    // The first request of a process starts the task that looks at the maintenance windows.
    send(&app, post("first")).await.assert_first(201, "done");
    faults.always(Op::Swap, Fault::Before);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for request in 0..4 * AT_ONCE {
        send(&app, post(&format!("key-{request}"))).await.assert_problem("store-unavailable", 503);
    }
    settle().await;
    let taking_back = tasks() - before;
    assert!((1..=AT_ONCE).contains(&taking_back), "{taking_back} claims are being taken back");
    // Those that are over make room for others.
    faults.clear();
    tokio::time::sleep(secs(200)).await;
    assert_eq!(tasks(), before);
    faults.always(Op::Swap, Fault::Before);
    send(&app, post("another")).await.assert_problem("store-unavailable", 503);
    settle().await;
    assert_eq!(tasks(), before + 1);
}
