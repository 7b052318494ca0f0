//! Clusters whose nodes do not say under which host they are found.

use servers::{Cluster, Redis};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{DurabilityLevel, RedisStore, Store};

use super::support::*;

async fn works(redis: &Redis) {
    let url = format!("redis+cluster://127.0.0.1:{}", redis.port());
    let ledger = Ledger::new(RedisStore::options().prefix("t").connect(&url).unwrap());
    for n in 0..20 {
        claim_key(&ledger, &key(&n.to_string())).await.unwrap().expect("granted");
    }
    assert_eq!(ledger.store().durability().await.unwrap().survives, DurabilityLevel::PowerLoss);
}

/// As it is set up to try a cluster out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_that_never_met_another() {
    let node = Cluster::start_alone(&["--appendonly", "yes", "--appendfsync", "always"]);
    assert!(node.cli(&["CLUSTER", "SLOTS"]).lines().any(str::is_empty), "it names a host");
    works(&node).await;
}

/// As behind some load balancers: a client knows the host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_endpoint_is_unknown() {
    let unknown =
        ["--cluster-preferred-endpoint-type", "unknown-endpoint", "--appendonly", "yes", "--appendfsync", "always"];
    let cluster = Cluster::start_with(&unknown);
    works(&cluster.nodes()[0]).await;
    // Each of them is asked what it survives.
    for node in cluster.nodes() {
        node.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
        let store = RedisStore::connect(&cluster.url()).unwrap();
        assert_eq!(store.durability().await.unwrap().survives, DurabilityLevel::StoreCrash);
        node.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    }
}
