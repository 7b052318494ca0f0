//! Clusters that lose a node, move a slot, or differ in their settings.

use std::sync::Arc;
use std::time::Duration;

use servers::{Cluster, Redis};
use tower_idempotency::core::Key;
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{DurabilityLevel, RedisStore, Since, Store, StoreErrorKind};

use super::support::*;

fn open(cluster: &Cluster) -> Ledger {
    let options = RedisStore::options().prefix("t").response_timeout(Duration::from_millis(500));
    Ledger::new(options.connect(&cluster.url()).unwrap())
}

/// Slot and node of a key.
fn place(cluster: &Cluster, key: &Key) -> (u16, usize) {
    place_of(cluster, key.as_bytes()[31] % 16)
}

/// Slot and node of a partition.
fn place_of(cluster: &Cluster, partition: u8) -> (u16, usize) {
    let name = format!("{{t:{partition:02}}}");
    let slot: u16 = cluster.nodes()[0].cli(&["CLUSTER", "KEYSLOT", &name]).parse().unwrap();
    (slot, [5461, 10923].iter().filter(|first| slot >= **first).count())
}

/// A key on each of the nodes.
fn keys(cluster: &Cluster, round: &str) -> [Key; 3] {
    let on = |node| (0..).map(|n| key(&format!("{round}-{n}"))).find(|key| place(cluster, key).1 == node);
    [0, 1, 2].map(|node| on(node).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_takes_only_its_keys_with_it() {
    let mut cluster = Cluster::start_with(&["--cluster-require-full-coverage", "no", "--appendonly", "yes"]);
    let ledger = open(&cluster);
    for key in keys(&cluster, "warm") {
        claim_key(&ledger, &key).await.unwrap().expect("granted");
    }
    let before: Vec<_> = ["dead", "marked", "late", "back"].iter().map(|round| keys(&cluster, round)).collect();
    cluster.nodes_mut()[2].kill();
    let others_go_on = async |ledger: &Ledger, keys: [Key; 3], when: &str| {
        let error = claim_key(ledger, &keys[2]).await.expect_err("its node is dead");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{when}: {error}");
        for key in &keys[..2] {
            claim_key(ledger, key).await.unwrap_or_else(|error| panic!("{when}: {error}")).expect("granted");
        }
    };
    others_go_on(&ledger, before[0], "at once").await;
    let failed = || cluster.nodes()[0].cli(&["CLUSTER", "NODES"]).contains("fail ");
    servers::wait_until("the others to notice", failed);
    others_go_on(&ledger, before[1], "once it is marked").await;
    // A process that starts meanwhile, too.
    others_go_on(&open(&cluster), before[2], "from the start").await;
    cluster.nodes_mut()[2].restart();
    cluster.wait_until_whole();
    let mut tries = 0;
    while claim_key(&ledger, &before[3][2]).await.is_err() {
        tries += 1;
        assert!(tries < 50, "it does not find the node again");
    }
    assert!(claim_key(&ledger, &keys(&cluster, "warm")[2]).await.unwrap().is_none(), "claimed before");
}

/// As it is for a busy service: each call for the dead node's keys looks for it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_for_a_dead_node_stop_no_other() {
    let mut cluster = Cluster::start_with(&["--cluster-require-full-coverage", "no"]);
    let ledger = open(&cluster);
    for key in keys(&cluster, "warm") {
        claim_key(&ledger, &key).await.unwrap().expect("granted");
    }
    let keys: Vec<_> = (0..400).map(|n| key(&n.to_string())).map(|key| (key, place(&cluster, &key).1)).collect();
    cluster.nodes_mut()[2].kill();
    let mut running = tokio::task::JoinSet::new();
    for (key, node) in keys {
        let ledger = ledger.clone();
        running.spawn(async move { (node, claim_key(&ledger, &key).await) });
    }
    for (node, claimed) in running.join_all().await {
        match claimed {
            Ok(granted) => assert!(node != 2 && granted.is_some(), "of node {node}: {granted:?}"),
            Err(error) => assert_eq!((node, error.kind()), (2, StoreErrorKind::Unavailable), "{error}"),
        }
    }
    for key in &self::keys(&cluster, "then")[..2] {
        claim_key(&ledger, key).await.unwrap().expect("granted");
    }
}

/// On purpose, and because the primary is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_is_found() {
    let mut cluster = Cluster::start_with(&["--cluster-require-full-coverage", "no"]);
    let replica = cluster.start_replica();
    let ledger = open(&cluster);
    let before = keys(&cluster, "before")[2];
    claim_key(&ledger, &before).await.unwrap().expect("granted");
    let is_primary = |node: &Redis| node.cli(&["ROLE"]).starts_with("master");
    replica.cli(&["CLUSTER", "FAILOVER"]);
    servers::wait_until("the replica to take over", || is_primary(&replica) && !is_primary(&cluster.nodes()[2]));
    // It says where they are now.
    assert!(claim_key(&ledger, &before).await.unwrap().is_none(), "claimed before");
    claim_key(&ledger, &keys(&cluster, "meanwhile")[2]).await.unwrap().expect("granted");
    let replicated = || cluster.nodes()[2].cli(&["INFO"]).contains("master_link_status:up");
    servers::wait_until("the data to be there, too", replicated);
    drop(replica);
    servers::wait_until("the other one to take over again", || is_primary(&cluster.nodes()[2]));
    let mut tries = 0;
    while claim_key(&ledger, &keys(&cluster, "after")[2]).await.is_err() {
        tries += 1;
        assert!(tries < 50, "it does not find the new primary");
    }
    assert!(claim_key(&ledger, &before).await.unwrap().is_none(), "claimed before");
    ledger.store().durability().await.unwrap();
    // With all of its nodes away, calls end, and each of them.
    cluster.nodes_mut().iter_mut().for_each(Redis::kill);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..20 {
        let ledger = ledger.clone();
        calls.spawn(async move { claim_key(&ledger, &key(&format!("away-{n}"))).await });
    }
    for claimed in calls.join_all().await {
        assert_eq!(claimed.expect_err("all are away").kind(), StoreErrorKind::Unavailable);
    }
}

/// It takes what is sent to it and never answers. Whoever asks for its keys is
/// told so within the limit, and nobody else waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_keeps_nobody_from_the_others() {
    let cluster = Cluster::start_with(&["--cluster-require-full-coverage", "no", "--cluster-node-timeout", "600000"]);
    let open = || Ledger::new(RedisStore::options().prefix("t").connect(&cluster.url()).unwrap());
    let ledger = open();
    for key in keys(&cluster, "warm") {
        claim_key(&ledger, &key).await.unwrap().expect("granted");
    }
    let hung = keys(&cluster, "hung")[2];
    let others: Vec<_> = (0..20).flat_map(|n| keys(&cluster, &format!("more-{n}"))[..2].to_vec()).collect();
    cluster.nodes()[2].signal(rustix::process::Signal::STOP);
    let asks_for_it = |ledger: &Ledger| {
        let ledger = ledger.clone();
        tokio::spawn(async move { claim_key(&ledger, &hung).await })
    };
    let hanging: Vec<_> = (0..8).map(|_| asks_for_it(&ledger)).collect();
    for key in &others[..20] {
        claim_key(&ledger, key).await.unwrap().expect("granted");
    }
    assert!(hanging.iter().all(|call| !call.is_finished()), "twenty calls took as long as a limit");
    for call in hanging {
        let error = call.await.unwrap().expect_err("its node hangs");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("a node of the cluster did not reply within 2s"), "{error}");
    }
    // A process that starts meanwhile, too.
    let late = open();
    for key in &others[20..] {
        claim_key(&late, key).await.unwrap().expect("granted");
    }
    let error = asks_for_it(&late).await.unwrap().expect_err("its node hangs");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    cluster.nodes()[2].signal(rustix::process::Signal::CONT);
    for ledger in [ledger, late] {
        let mut tries = 0;
        while claim_key(&ledger, &hung).await.is_err() {
            tries += 1;
            assert!(tries < 50, "it does not find the node again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_followed() {
    let cluster = Cluster::start();
    let ledger = open(&cluster);
    let key = keys(&cluster, "moves")[0];
    let (slot, slot_text) = (place(&cluster, &key).0, place(&cluster, &key).0.to_string());
    let other = (0..).map(|n| super::support::key(&format!("other-{n}")));
    let fresh: Vec<_> = other.filter(|other| place(&cluster, other).0 == slot).take(2).collect();
    let fence = claim_key(&ledger, &key).await.unwrap().expect("granted");
    let [from, to] = [&cluster.nodes()[0], &cluster.nodes()[1]];
    let id = |node: &Redis| node.cli(&["CLUSTER", "MYID"]);
    to.cli(&["CLUSTER", "SETSLOT", &slot_text, "IMPORTING", &id(from)]);
    from.cli(&["CLUSTER", "SETSLOT", &slot_text, "MIGRATING", &id(to)]);
    let all = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot_text, "100"]);
    let port = to.port().to_string();
    for name in all.lines() {
        from.cli(&["MIGRATE", "127.0.0.1", &port, name, "0", "5000"]);
        // Half of it is here, half there: unavailable, or what it is; never free.
        if let Ok(granted) = claim_key(&ledger, &key).await {
            assert!(granted.is_none(), "{name} has moved, and it is claimed");
        }
    }
    // The old node says where, for this once; the new one has to be told that it was sent there.
    assert!(ledger.store().load(&key).await.unwrap().record.is_some(), "all of it is there");
    claim_key(&ledger, &fresh[0])
        .await
        .map(drop)
        .or_else(|error| if error.kind() == StoreErrorKind::Unavailable { Ok(()) } else { Err(error) })
        .unwrap();
    for node in [to, from, &cluster.nodes()[2]] {
        node.cli(&["CLUSTER", "SETSLOT", &slot_text, "NODE", &id(to)]);
    }
    assert!(claim_key(&ledger, &key).await.unwrap().is_none(), "it is claimed");
    claim_key(&ledger, &fresh[1]).await.unwrap().expect("granted");
    change(&ledger, &key, fence, complete(3)).await;
    assert!(claim_key(&open(&cluster), &key).await.unwrap().is_none(), "a replay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worst_of_the_nodes_counts() {
    let cluster = Cluster::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = Arc::new(RedisStore::options().prefix("t").connect(&cluster.url()).unwrap());
    assert_eq!(store.durability().await.unwrap().survives, DurabilityLevel::PowerLoss);
    for node in cluster.nodes() {
        node.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
        // Not by luck: whichever node is asked.
        for _ in 0..5 {
            let found = store.durability().await.unwrap();
            assert_eq!(found.survives, DurabilityLevel::StoreCrash, "{found:?}");
        }
        node.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_has_it_is_asked_who_acknowledged_it() {
    let cluster = Cluster::start();
    let options = RedisStore::options().prefix("t").wait(1, Duration::from_millis(50));
    let ledger = Ledger::new(options.connect(&cluster.url()).unwrap());
    for key in keys(&cluster, "waits") {
        let error = claim_key(&ledger, &key).await.expect_err("there are no replicas");
        assert!(error.to_string().contains("[0] of [1]"), "{error}");
        assert!(claim_key(&open(&cluster), &key).await.unwrap().is_none(), "it is written");
    }
}

#[tokio::test]
async fn one_node_of_a_cluster_says_what_to_name() {
    let cluster = Cluster::start();
    let mut refused = 0;
    for node in cluster.nodes() {
        let store = RedisStore::options().prefix("t").connect(&node.url()).unwrap();
        for key in keys(&cluster, "one") {
            let Err(error) = store.load(&key).await else { continue };
            assert!(error.to_string().contains("name it redis+cluster://"), "{error}");
            refused += 1;
        }
    }
    assert!(refused >= 6, "each key is on one node of three");
}

/// While one node is away, the others don't run ahead of it: what they had at that
/// time would pass for what they have later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_that_falls_back_is_an_earlier_state() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let others_go_on = ["--cluster-require-full-coverage", "no"];
    let mut cluster = Cluster::start_with(&[&durable[..], &others_go_on].concat());
    let options = RedisStore::options().prefix("t").response_timeout(Duration::from_millis(300));
    let store = options.connect(&cluster.url()).unwrap();
    let epoch = async || store.durability().await.unwrap().epoch.unwrap();
    let first = epoch().await;
    let of = |node| {
        let partitions = (0..16).filter(|&n| place_of(&cluster, n).1 == node);
        partitions.map(|n| format!("{{t:{n:02}}}:epoch")).collect::<Vec<_>>()
    };
    let names = of(0);
    assert!(!names.is_empty() && !of(2).is_empty(), "one node that dies, and a sound one");
    cluster.nodes_mut()[2].kill();
    for _ in 0..6 {
        store.durability().await.expect_err("a node is dead");
    }
    cluster.nodes_mut()[2].restart();
    cluster.wait_until_whole();
    // A backup of a sound node, from then.
    let node = &cluster.nodes()[0];
    let marks: Vec<_> = names.iter().map(|name| node.cli(&["HGET", name, "mark"])).collect();
    let mut tries = 0;
    let later = loop {
        match store.durability().await {
            Ok(found) => break found.epoch.unwrap(),
            Err(_) => tries += 1,
        }
        assert!(tries < 200, "it does not find the node again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(later.since(&first), Since::Same);
    for (name, mark) in names.iter().zip(&marks) {
        node.cli(&["HSET", name, "mark", mark]);
    }
    assert_eq!(epoch().await.since(&later), Since::Restored);
    let (before, after) = (epoch().await, epoch().await);
    assert_eq!(after.since(&before), Since::Same, "it goes on from there");
}
