//! Settings that are refused, and change while a store is connected.

use servers::{Cluster, Redis};
use tower_idempotency::store::{DurabilityLevel, RedisStore, Store, StoreErrorKind};

use super::support::*;

const POLICY: [&str; 3] = ["CONFIG", "SET", "maxmemory-policy"];

fn set_policy(redis: &Redis, policy: &str) {
    redis.cli(&[&POLICY[..], &[policy]].concat());
}

/// Asking what it survives finds it, and from then on every call is refused.
async fn found_by_asking(store: &RedisStore) {
    let error = store.durability().await.expect_err("it is refused");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("set maxmemory-policy noeviction"), "{error}");
    let error = refused(store).await;
    assert!(error.to_string().contains("set maxmemory-policy noeviction"), "{error}");
}

#[tokio::test]
async fn asking_what_it_survives_finds_them() {
    let redis = Redis::start();
    let store = open(&redis);
    store.load(&key("a")).await.unwrap();
    set_policy(&redis, "allkeys-lru");
    store.load(&key("a")).await.expect("nobody has asked");
    found_by_asking(&store).await;
    set_policy(&redis, "noeviction");
    store.load(&key("a")).await.expect("good enough again");
    store.durability().await.expect("good enough again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_finds_them_on_any_node_of_a_cluster() {
    let cluster = Cluster::start();
    let store = RedisStore::options().prefix("t").connect(&cluster.url()).unwrap();
    store.load(&key("a")).await.unwrap();
    for node in cluster.nodes() {
        set_policy(node, "allkeys-lru");
        found_by_asking(&store).await;
        set_policy(node, "noeviction");
        // A look that began before may still be under way, and is shared.
        soon("it is not good enough again", async || store.durability().await.is_ok()).await;
    }
}

/// A store that was connected, and lost its connection after `change`.
async fn reconnected(redis: &Redis, least: DurabilityLevel, change: impl FnOnce()) -> RedisStore {
    let store = RedisStore::options().prefix("t").require(least).connect(&redis.url()).unwrap();
    store.load(&key("a")).await.expect("good enough");
    change();
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    // One call finds the connection broken.
    let _ = store.load(&key("a")).await;
    store
}

#[tokio::test]
async fn a_reconnect_finds_them() {
    let redis = Redis::start();
    let store = reconnected(&redis, DurabilityLevel::Nothing, || set_policy(&redis, "allkeys-lfu")).await;
    let error = refused(&store).await;
    assert!(error.to_string().contains("maxmemory-policy allkeys-lfu"), "{error}");
    set_policy(&redis, "noeviction");
    store.load(&key("a")).await.expect("good enough again");

    let follow = || _ = redis.cli(&["REPLICAOF", "127.0.0.1", &servers::free_port().to_string()]);
    let error = refused(&reconnected(&redis, DurabilityLevel::Nothing, follow).await).await;
    assert!(error.to_string().contains("is a replica"), "{error}");
    redis.cli(&["REPLICAOF", "NO", "ONE"]);

    redis.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    let without_file = || _ = redis.cli(&["CONFIG", "SET", "appendonly", "no"]);
    let error = refused(&reconnected(&redis, DurabilityLevel::StoreCrash, without_file).await).await;
    assert!(error.to_string().contains("set appendonly yes"), "{error}");
}
