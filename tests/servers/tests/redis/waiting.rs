//! Writes that wait for replicas: looks at them, and the connections they use.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use servers::{Redis, wait_until};
use tokio::task::JoinSet;
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{Filter, Query, RedisStore, Store, StoreErrorKind, Swap};

use super::support::*;

fn pair() -> (Redis, Redis) {
    let primary = Redis::start();
    let port = primary.port().to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
    wait_until("a replica", || primary.info("connected_slaves") == "1" && replica.info("master_link_status") == "up");
    (primary, replica)
}

fn connections(redis: &Redis) -> usize {
    redis.info("connected_clients").parse().unwrap()
}

fn waiting(redis: &Redis, within: u64) -> Arc<RedisStore> {
    let options = RedisStore::options().prefix("t").wait(1, Duration::from_millis(within));
    Arc::new(options.connect(&redis.url()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_replica_has_is_not_shown_either() {
    let (primary, replica) = pair();
    let ledger = Ledger::new(waiting(&primary, 4_900));
    claim_key(&ledger, &key("a")).await.unwrap().expect("acknowledged");
    replica.signal(Signal::STOP);
    // Written by someone who does not wait.
    claim_key(&Ledger::new(open(&primary)), &key("b")).await.unwrap().expect("granted");
    let hasty = waiting(&primary, 50);
    let error = hasty.load(&key("b")).await.expect_err("no replica has it");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    // Also over a connection that has written before.
    let error = hasty.load(&key("b")).await.expect_err("no replica has it");
    assert!(error.to_string().contains("acknowledged"), "{error}");
    replica.signal(Signal::CONT);
    assert!(waiting(&primary, 4_900).load(&key("b")).await.unwrap().record.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_up_and_broken_connections_are_replaced() {
    let (primary, replica) = pair();
    let ledger = Ledger::new(waiting(&primary, 4_900));
    claim_key(&ledger, &key("warm")).await.unwrap().expect("acknowledged");
    replica.signal(Signal::STOP);
    // More than there are connections; all given up on while they wait.
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        let ledger = ledger.clone();
        tasks.spawn(async move { claim_key(&ledger, &key(&n.to_string())).await });
    }
    wait_until("32 writes that wait", || primary.info("blocked_clients") == "32");
    tasks.shutdown().await;
    replica.signal(Signal::CONT);
    wait_until("them to be gone", || primary.info("blocked_clients") == "0");
    for n in 0..50 {
        let after = key(&format!("after-{n}"));
        claim_key(&ledger, &after).await.unwrap().expect("acknowledged");
    }
    primary.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let mut tries = 0;
    while let Err(error) = claim_key(&ledger, &key("again")).await {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        tries += 1;
        assert!(tries < 50, "it does not connect again");
    }
}

#[tokio::test]
async fn servers_and_users_that_cannot_wait_are_refused_before_anything_is_written() {
    // 7.0 does not know WAITAOF; Valkey does, but has no file to wait for.
    let (old, without_file) = (Redis::start(), Redis::valkey());
    for redis in [&old, &without_file] {
        let options = RedisStore::options().prefix("t").wait_aof(true, 0, Duration::from_secs(2));
        let ledger = Ledger::new(options.connect(&redis.url()).unwrap());
        let error = claim_key(&ledger, &key("a")).await.expect_err("it can't wait");
        assert!(error.to_string().contains("WAITAOF"), "{error}");
    }
    old.cli(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-wait"]);
    let url = format!("redis://app:secret@127.0.0.1:{}", old.port());
    let options = RedisStore::options().prefix("t").wait(1, Duration::from_secs(2));
    let error = claim_key(&Ledger::new(options.connect(&url).unwrap()), &key("a")).await.expect_err("it may not");
    assert!(error.to_string().contains("lacks rights"), "{error}");
    for redis in [&old, &without_file] {
        claim_key(&Ledger::new(open(redis)), &key("a")).await.unwrap().expect("it is still free");
    }
}

#[test]
fn longer_than_a_store_call_is_refused() {
    let five = Duration::from_secs(5);
    let options = |within| [RedisStore::options().wait(1, within), RedisStore::options().wait_aof(true, 0, within)];
    for options in options(five) {
        let error = options.connect("redis://localhost").map(drop).expect_err("no call lasts as long");
        assert!(error.to_string().contains("less than five seconds"), "{error}");
    }
    for options in options(five - Duration::from_millis(1)) {
        options.connect("redis://localhost").expect("it fits");
    }
}

/// Writes wait on connections of their own, thirty-two at once: whatever does not
/// wait comes back meanwhile, over the connection that all share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_wait_is_not_held_up_by_what_does() {
    let (primary, replica) = pair();
    let (patient, plain) = (waiting(&primary, 4_900), open(&primary));
    let ledger = Ledger::new(plain.clone());
    let fresh = ledger.apply(&key("warm"), None, claim()).await.unwrap().record.unwrap();
    patient.load(&key("warm")).await.unwrap();
    replica.signal(Signal::STOP);
    let swap = |store: &Arc<RedisStore>, name: String| {
        let (store, fresh) = (Arc::clone(store), fresh.clone());
        async move { store.swap(&key(&name), None, &fresh).await }
    };
    let mut hanging: Vec<_> = (0..64).map(|n| tokio::spawn(swap(&patient, format!("hangs-{n}")))).collect();
    wait_until("32 writes that wait", || primary.info("blocked_clients") == "32");
    let mut quick = JoinSet::new();
    for n in 0..64 {
        let (patient, swap) = (Arc::clone(&patient), swap(&plain, format!("quick-{n}")));
        quick.spawn(async move {
            assert!(matches!(swap.await, Ok(Swap::Stored)), "nobody is in its way");
            // The same store that has the writes that wait.
            patient.scan(&Query::new(Filter::Unfinished, 10)).await.expect("a page");
        });
    }
    quick.join_all().await;
    patient.durability().await.expect("an answer");
    assert!(hanging.iter().all(|hanging| !hanging.is_finished()), "they no longer hang");
    assert!(connections(&primary) < 64, "they share a connection");
    replica.signal(Signal::CONT);
    for (n, hanging) in hanging.drain(..).enumerate() {
        let Err(error) = hanging.await.unwrap() else { continue };
        assert!(error.to_string().contains("acknowledged"), "{n}: {error}");
    }
}
