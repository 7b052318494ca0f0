//! What an operator sees and decides on real servers; Redis' index of complete records.

#[path = "../../support/operated.rs"]
mod operated;

use std::sync::Arc;

use operated::look_and_decide;
use servers::{Postgres, Redis};
use tower_idempotency::store::{PostgresStore, RedisStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_and_decides_on_postgres() {
    let postgres = Postgres::start();
    let store = PostgresStore::connect(&postgres.url()).unwrap();
    store.create_schema().await.unwrap();
    look_and_decide(Arc::new(store), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_looks_and_decides_on_redis() {
    let redis = Redis::start();
    for index in [false, true] {
        let options = RedisStore::options().prefix(format!("t{index}")).index_complete(index);
        look_and_decide(Arc::new(options.connect(&redis.url()).unwrap()), index).await;
    }
}
