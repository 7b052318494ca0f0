//! Servers that forget scripts, restart, fail over, fill up or hang.

use std::sync::Arc;
use std::time::Duration;

use servers::{Proxy, Redis, Sentinels};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{Filter, Query, RedisStore, Since, Store, StoreErrorKind};

use super::support::*;

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let redis = Redis::start();
    let ledger = Ledger::new(open(&redis));
    let fence = claim_key(&ledger, &key("a")).await.unwrap().unwrap();
    redis.cli(&["SCRIPT", "FLUSH"]);
    change(&ledger, &key("a"), fence, complete(3)).await;
    redis.cli(&["SCRIPT", "FLUSH"]);
    assert!(claim_key(&ledger, &key("a")).await.unwrap().is_none(), "it is complete");
}

#[tokio::test]
async fn it_starts_while_redis_is_down_and_works_once_it_is_up() {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    redis.kill();
    let store = open(&redis);
    refused(&*store).await;
    redis.restart();
    let ledger = Ledger::new(store);
    claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
    redis.kill();
    redis.restart();
    assert!(claim_key(&ledger, &key("a")).await.unwrap().is_none(), "the claim is still there");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_on() {
    let redis = Redis::start();
    let options = RedisStore::options().prefix("t").response_timeout(Duration::from_millis(200));
    let store = options.connect(&redis.url()).unwrap();
    store.load(&key("a")).await.unwrap();
    redis.signal(rustix::process::Signal::STOP);
    refused(&store).await;
    redis.signal(rustix::process::Signal::CONT);
    let mut tries = 0;
    while store.load(&key("a")).await.is_err() {
        tries += 1;
        assert!(tries < 50, "it does not come back");
    }
}

#[tokio::test]
async fn a_wipe_is_another_epoch() {
    let redis = Redis::start();
    let store = open(&redis);
    let first = store.durability().await.unwrap().epoch.unwrap();
    let second = store.durability().await.unwrap().epoch.unwrap();
    assert_eq!(second.since(&first), Since::Same);
    redis.cli(&["FLUSHALL"]);
    let third = store.durability().await.unwrap().epoch.unwrap();
    assert_eq!(third.since(&second), Since::Wiped);
}

#[tokio::test]
async fn a_backup_is_an_earlier_state() {
    let mut redis = Redis::start_with(&["--dbfilename", "backup.rdb", "--save", "3600 1000000"]);
    let store = open(&redis);
    store.durability().await.unwrap();
    redis.cli(&["SAVE"]);
    let later = store.durability().await.unwrap().epoch.unwrap();
    redis.kill();
    redis.restart();
    // The first call finds the old connection broken.
    let mut found = store.durability().await;
    if found.is_err() {
        found = store.durability().await;
    }
    assert_eq!(found.unwrap().epoch.unwrap().since(&later), Since::Restored);
}

#[tokio::test]
async fn a_full_server_refuses_new_keys_and_lets_admitted_work_end() {
    let redis = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let ledger = Ledger::new(open(&redis));
    let admitted = claim_key(&ledger, &key("admitted")).await.unwrap().unwrap();
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = claim_key(&ledger, &key("new")).await.expect_err("there is no room");
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    assert!(ledger.store().load(&key("new")).await.unwrap().record.is_none());
    let save = tower_idempotency::core::Change::Save { step: "a".into(), value: "1".into() };
    change(&ledger, &key("admitted"), admitted, save).await;
    change(&ledger, &key("admitted"), admitted, complete(300)).await;
    assert!(claim_key(&ledger, &key("admitted")).await.unwrap().is_none(), "a replay");
    // One that connects only now, too.
    let late = Ledger::new(open(&redis));
    assert!(claim_key(&late, &key("admitted")).await.unwrap().is_none(), "a replay");
}

#[tokio::test]
async fn a_failover_is_followed() {
    let mut group = Sentinels::start_with(&["--appendonly", "yes"]);
    let options = RedisStore::options().prefix("t").wait(1, Duration::from_secs(4));
    let ledger = Ledger::new(options.connect(&group.url()).unwrap());
    let fence = claim_key(&ledger, &key("a")).await.unwrap().unwrap();
    change(&ledger, &key("a"), fence, complete(3)).await;
    claim_key(&ledger, &key("held")).await.unwrap().expect("granted");

    let old = group.primary_port();
    group.primary().kill();
    group.wait_for_failover(old);
    group.replica().restart();
    // What a replica acknowledged is there, and is not granted again.
    assert!(!is_granted(&ledger, "a").await, "a replay");
    assert!(!is_granted(&ledger, "held").await, "held is held");
}

/// In the end: a sentinel may still name the old primary, which is back, and
/// sends its callers away once it is told.
async fn is_granted(ledger: &Ledger, name: &str) -> bool {
    for _ in 0..200 {
        match claim_key(ledger, &key(name)).await {
            Ok(granted) => return granted.is_some(),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not find the new primary");
}

/// The name leads to the new primary, and the connections to the old one, which
/// is its replica now: one call alone, and many at once, with and without WAIT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_calls_after_a_failover_behind_one_name_succeed() {
    let pair = [Redis::start(), Redis::start()];
    let address = |redis: &Redis| ([127, 0, 0, 1], redis.port()).into();
    let name = Proxy::to(address(&pair[0]));
    for (n, wait) in [None, None, Some(0), Some(0)].into_iter().enumerate() {
        let (old, new) = (&pair[n % 2], &pair[1 - n % 2]);
        let options = RedisStore::options().prefix(format!("t{n}"));
        let options = if let Some(replicas) = wait { options.wait(replicas, Duration::from_secs(4)) } else { options };
        let store = Arc::new(options.connect(&format!("redis://{}", name.address())).unwrap());
        let calls = if n < 2 { 1 } else { 40 };
        let load_all = async || {
            let mut all = tokio::task::JoinSet::new();
            for k in 0..calls {
                let store = Arc::clone(&store);
                all.spawn(async move { store.load(&key(&k.to_string())).await });
            }
            all.join_all().await
        };
        load_all().await.into_iter().for_each(|loaded| assert!(loaded.unwrap().record.is_none()));
        new.cli(&["REPLICAOF", "NO", "ONE"]);
        old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
        name.redirect(address(new));
        load_all().await.into_iter().for_each(|loaded| assert!(loaded.unwrap().record.is_none(), "{n}"));
    }
}

/// A demoted primary takes its time to load the data of the new one, and keeps its
/// connections.
#[tokio::test]
async fn a_server_that_loads_for_long_is_left() {
    let slow = ["--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"];
    let (old, new) = (Redis::start_with(&slow), Redis::start_with(&["--repl-diskless-sync-delay", "0"]));
    let address = |redis: &Redis| ([127, 0, 0, 1], redis.port()).into();
    let name = Proxy::to(address(&old));
    let store = RedisStore::options().prefix("t").connect(&format!("redis://{}", name.address())).unwrap();
    store.load(&key("a")).await.unwrap();
    new.cli(&["DEBUG", "POPULATE", "20000"]);
    old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    servers::wait_until("it to load", || old.info("loading") == "1");
    name.redirect(address(&new));
    store.load(&key("a")).await.expect("the name leads to another one");
    assert_eq!(old.info("loading"), "1", "it took too short to tell");
}

#[tokio::test]
async fn a_demoted_primary_is_left() {
    let redis = Redis::start();
    let store = open(&redis);
    let ledger = Ledger::new(store.clone());
    let fence = claim_key(&ledger, &key("a")).await.unwrap().unwrap();
    change(&ledger, &key("a"), fence, complete(3)).await;
    let reader = open(&redis);
    reader.load(&key("a")).await.unwrap();
    let other = Redis::start();
    redis.cli(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    // Over a connection from before, too, which was checked when it was opened.
    refused(&*reader).await;
    let error = claim_key(&ledger, &key("a")).await.expect_err("not from a replica, not even a replay");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let error = refused(&*store).await;
    assert!(error.to_string().contains("replica"), "{error}");
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    store.load(&key("a")).await.expect("a primary again");
}

#[tokio::test]
async fn a_claim_that_no_replica_acknowledges_is_not_granted() {
    let redis = Redis::start();
    let options = RedisStore::options().prefix("t").wait(1, Duration::from_millis(50));
    let ledger = Ledger::new(options.connect(&redis.url()).unwrap());
    let error = claim_key(&ledger, &key("a")).await.expect_err("there is no replica");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("acknowledged"), "{error}");
    // What was written stays written: nobody else may run it meanwhile.
    assert!(claim_key(&Ledger::new(open(&redis)), &key("a")).await.unwrap().is_none());
    // Once there is one, it is granted to whoever finds it free.
    let port = redis.port().to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
    servers::wait_until("a replica", || replica.info("master_link_status") == "up");
    let patient = RedisStore::options().prefix("t").wait(1, Duration::from_secs(4)).connect(&redis.url()).unwrap();
    claim_key(&Ledger::new(patient), &key("b")).await.unwrap().expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_do_not_wait_behind_writes_that_wait() {
    let redis = Redis::start();
    let waiting = RedisStore::options().prefix("t").wait(1, Duration::from_secs(4)).connect(&redis.url()).unwrap();
    let ledger = Ledger::new(waiting);
    // So that the server knows the script.
    claim_key(&Ledger::new(open(&redis)), &key("other")).await.unwrap();
    let slow = tokio::spawn({
        let ledger = ledger.clone();
        async move { claim_key(&ledger, &key("slow")).await }
    });
    servers::wait_until("a write that waits", || redis.info("blocked_clients") == "1");
    let page = ledger.store().scan(&Query::new(Filter::Unfinished, 5)).await.unwrap();
    assert_eq!(page.found.len(), 2, "what was written is there already");
    assert!(!slow.is_finished());
    slow.abort();
}

#[tokio::test]
async fn valkey_waits_for_its_disk() {
    let valkey = Redis::valkey_with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let options = RedisStore::options().prefix("t").wait_aof(true, 0, Duration::from_secs(4));
    let ledger = Ledger::new(options.connect(&valkey.url()).unwrap());
    claim_key(&ledger, &key("a")).await.unwrap().expect("on disk");
    let survives = ledger.store().durability().await.unwrap().survives;
    assert_eq!(survives, tower_idempotency::store::DurabilityLevel::PowerLoss);
}
