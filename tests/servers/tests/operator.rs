//! What an operator sees, decides and plans on real servers; Redis' index of complete records.

#[path = "../../support/operated.rs"]
mod operated;

use std::sync::Arc;
use std::time::Duration;

use operated::look_and_decide;
use servers::{Postgres, Redis};
use tower_idempotency::maintenance::{Window, WindowState};
use tower_idempotency::store::{PostgresStore, RedisStore, Store};
use tower_idempotency::{Engine, Key, Operator, RunError, Runner};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_decides_and_plans_on_postgres() {
    let postgres = Postgres::start();
    let store = PostgresStore::connect(&postgres.url()).unwrap();
    store.create_schema().await.unwrap();
    look_and_decide(Arc::new(store.clone()), true).await;
    plan_and_obey(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_decides_and_plans_on_redis() {
    let redis = Redis::start();
    for index in [false, true] {
        let options = RedisStore::options().prefix(format!("t{index}")).index_complete(index);
        look_and_decide(Arc::new(options.connect(&redis.url()).unwrap()), index).await;
    }
    plan_and_obey(Arc::new(RedisStore::options().connect(&redis.url()).unwrap())).await;
}

async fn runs(engine: &Engine, name: &str) -> bool {
    match Runner::new(engine).run("maintained", name, "", |_| async { Ok::<_, std::io::Error>(1) }).await {
        Ok(1) => true,
        Err(RunError::Maintenance { .. }) => false,
        other => panic!("{other:?}"),
    }
}

/// Runs new work until that is refused, or until it is not.
async fn come_to(engine: &Engine, refuses: bool) {
    let mut tries = 0;
    while runs(engine, &format!("{refuses}-{tries}")).await == refuses {
        tries += 1;
        assert!(tries < 300, "a process does not see what is planned");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Plans maintenance as a process of its own: one that runs and one that starts obey it, until
/// it is ended.
async fn plan_and_obey(store: Arc<dyn Store>) {
    let (planner, running) = (Operator::new(Arc::clone(&store)), Engine::new(Arc::clone(&store)));
    assert!(runs(&running, "before").await);
    let now = store.load(&Key::from_bytes([1; 32])).await.unwrap().now;
    let id = planner.plan(Window::new(now, now.after(Duration::from_secs(3600)), "the database moves")).await.unwrap();
    let (windows, now) = planner.windows().await.unwrap();
    assert_eq!((&windows[0].id, windows[0].state(now)), (&id, WindowState::Closed));
    assert!(!runs(&Engine::new(Arc::clone(&store)), "starting").await);
    come_to(&running, true).await;
    planner.end(&windows[0]).await.unwrap();
    come_to(&running, false).await;
    assert!(runs(&running, "after").await);
}
