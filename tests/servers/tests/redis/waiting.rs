//! Writes that wait for replicas: looks at them, and the connections they use.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use servers::{Redis, wait_until};
use tokio::task::JoinSet;
use tower_idempotency::Ledger;
use tower_idempotency::store::{RedisStore, Store, StoreErrorKind};

use super::support::*;

fn pair() -> (Redis, Redis) {
    let primary = Redis::start();
    let port = primary.port().to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
    wait_until("a replica", || primary.info("connected_slaves") == "1" && replica.info("master_link_status") == "up");
    (primary, replica)
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
