//! Connections of the application's own.

use std::sync::Arc;
use std::time::Duration;

use redis::Client;
use redis::aio::ConnectionManager;
use redis::sentinel::{SentinelClient, SentinelServerType};
use servers::{Cluster, Redis, Sentinels, wait_until};
use tokio::task::JoinSet;
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{Filter, Query, RedisStore, RedisStoreOptions, Since, Store};

use super::support::*;

fn options() -> RedisStoreOptions {
    RedisStore::options().prefix("t")
}

/// A first request, a replay, a scan, a question; on keys of all partitions.
async fn works(store: RedisStore) -> Ledger {
    let store = Arc::new(store);
    let ledger = Ledger::new(store.clone());
    for n in 0..40 {
        let key = key(&n.to_string());
        let fence = claim_key(&ledger, &key).await.unwrap().expect("granted");
        if n % 2 == 0 {
            change(&ledger, &key, fence, complete(300)).await;
        }
        assert!(claim_key(&ledger, &key).await.unwrap().is_none(), "it is claimed");
    }
    let page = store.scan(&Query::new(Filter::Unfinished, 100)).await.unwrap();
    assert_eq!(page.found.len(), 20);
    let first = store.durability().await.unwrap().epoch.unwrap();
    let second = store.durability().await.unwrap().epoch.unwrap();
    assert_eq!(second.since(&first), Since::Same);
    ledger
}

#[tokio::test]
async fn none_but_with_the_newer_protocol() {
    let redis = Redis::start();
    works(options().connect(&format!("{}?protocol=3", redis.url())).unwrap()).await;
}

#[tokio::test]
async fn a_connection() {
    let redis = Redis::start();
    let client = Client::open(redis.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let ledger = works(options().connection(connection).unwrap()).await;
    // It is the application's to connect again.
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    for _ in 0..3 {
        refused(&**ledger.store()).await;
    }
}

#[tokio::test]
async fn a_manager_reconnects() {
    let redis = Redis::start();
    let manager = ConnectionManager::new(Client::open(redis.url()).unwrap()).await.unwrap();
    let ledger = works(options().manager(manager).unwrap()).await;
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    answers_again(&ledger, "it does not come back").await;
}

async fn answers_again(ledger: &Ledger, or: &str) {
    let mut tries = 0;
    while ledger.store().load(&key("0")).await.is_err() {
        tries += 1;
        assert!(tries < 200, "{or}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster() {
    let cluster = Cluster::start();
    let nodes = || cluster.nodes().iter().map(|node| Client::open(node.url()).unwrap());
    works(options().cluster(nodes()).unwrap()).await;
    works(options().prefix("u").cluster(nodes().take(1)).unwrap()).await;
    let error = options().cluster(nodes().take(0)).expect_err("no node");
    assert!(error.to_string().contains("name at least one node"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels() {
    let mut group = Sentinels::start();
    let urls: Vec<_> = group.sentinels().iter().map(Redis::url).collect();
    let client = SentinelClient::build(urls, Sentinels::NAME, None, SentinelServerType::Master).unwrap();
    let ledger = works(options().sentinel(client).unwrap()).await;
    // It is asked again whenever the connection is lost.
    let old = group.primary_port();
    group.primary().kill();
    group.wait_for_failover(old);
    answers_again(&ledger, "it does not find the new primary").await;
}

/// Writes that wait share a given connection, one after another: none is
/// acknowledged by what another one waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait() {
    let redis = Redis::start();
    let manager = ConnectionManager::new(Client::open(redis.url()).unwrap()).await.unwrap();
    let wait = |millis| options().wait(1, Duration::from_millis(millis)).manager(manager.clone()).unwrap();
    let error = claim_key(&Ledger::new(wait(50)), &key("a")).await.expect_err("there is no replica");
    assert!(error.to_string().contains("[0] of [1]"), "{error}");
    let port = redis.port().to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
    wait_until("a replica", || replica.info("master_link_status") == "up");
    redis.cli(&["CONFIG", "RESETSTAT"]);
    let ledger = Ledger::new(wait(400));
    let mut tasks = JoinSet::new();
    for n in 0..64 {
        let ledger = ledger.clone();
        tasks.spawn(async move { claim_key(&ledger, &key(&n.to_string())).await });
    }
    for claimed in tasks.join_all().await {
        claimed.unwrap().expect("acknowledged");
    }
    assert!(calls(&redis, "wait") >= 65, "a trial, and one for every write");
}
