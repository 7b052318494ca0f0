//! What can be set, with nothing and with the most there is, on real servers:
//! whatever a store is told, it serves or refuses. (`setters` beside the layer's
//! own tests walks all of them, without a server.)

use std::sync::Arc;
use std::time::Duration;

use servers::{Postgres, Redis};
use tower_idempotency::store::{ConnectError, Filter, PostgresStore, Query, RedisStore, Store, StoreErrorKind};
use tower_idempotency::{Engine, Runner, StepError};

const LENGTHS: [Duration; 4] = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX), Duration::MAX];

/// Runs a job whose first attempt fails, and then has its result twice.
async fn works(store: &Arc<dyn Store>, lengths: impl Fn(Engine) -> Engine, key: &str) {
    let runner = Runner::new(lengths(Engine::new(Arc::clone(store))));
    for call in 0..3 {
        let ran = runner.run("jobs", key, "input", move |operation| async move {
            let step = operation.pay("step", |_| async { Ok::<_, String>(17) }).await;
            if call == 0 { Err(StepError::Retry("later".to_owned())) } else { step }
        });
        let ran = ran.await;
        assert!(if call == 0 { ran.is_err() } else { matches!(ran, Ok(17)) }, "{key}, call {call}: {ran:?}");
    }
    for filter in [Filter::Unfinished, Filter::Lapsed, Filter::Expired] {
        store.scan(&Query::new(filter, 100)).await.expect("a scan");
    }
}

async fn with_all_lengths(store: &Arc<dyn Store>) {
    for (at, length) in LENGTHS.into_iter().enumerate() {
        works(store, |engine| engine.lease(length), &format!("lease-{at}")).await;
        works(store, |engine| engine.max_execution(length), &format!("execution-{at}")).await;
        works(store, |engine| engine.retention(length), &format!("retention-{at}")).await;
    }
}

#[tokio::test]
async fn redis_serves_or_refuses_whatever_is_set() {
    let redis = Redis::start();
    let connect = |options: tower_idempotency::store::RedisStoreOptions| -> Result<Arc<dyn Store>, ConnectError> {
        Ok(Arc::new(options.connect(&redis.url())?))
    };
    with_all_lengths(&connect(RedisStore::options()).expect("a store")).await;
    for length in [Duration::from_secs(u64::MAX), Duration::MAX] {
        let store = connect(RedisStore::options().connect_timeout(length).response_timeout(length)).expect("a store");
        works(&store, |engine| engine, &format!("patient-{length:?}")).await;
        assert!(connect(RedisStore::options().wait(1, length)).is_err(), "longer than a call may take");
    }
    for length in [Duration::ZERO, Duration::from_nanos(1)] {
        let store = connect(RedisStore::options().connect_timeout(length).response_timeout(length)).expect("a store");
        if let Err(error) = store.scan(&Query::new(Filter::Lapsed, 1)).await {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{length:?} is no time for an answer");
        }
    }
}

#[tokio::test]
async fn postgres_serves_or_refuses_whatever_is_set() {
    let postgres = Postgres::start();
    for connections in [0, 1, usize::MAX] {
        let options = PostgresStore::options().max_connections(connections).creating_schema();
        let store: Arc<dyn Store> = Arc::new(options.connect(&postgres.url()).expect("a store"));
        works(&store, |engine| engine, &format!("connections-{connections}")).await;
    }
    let store: Arc<dyn Store> = Arc::new(PostgresStore::connect(&postgres.url()).expect("a store"));
    with_all_lengths(&store).await;
}
