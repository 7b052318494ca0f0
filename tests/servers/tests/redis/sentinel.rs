//! Sentinels that do not answer.

use std::time::Duration;

use rustix::process::Signal;
use servers::Sentinels;
use tokio::task::JoinSet;
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{RedisStore, Store};

use super::support::*;

fn open(group: &Sentinels) -> RedisStore {
    RedisStore::options().prefix("t").connect(&group.url()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_silent_keeps_nobody_from_the_primary() {
    let mut group = Sentinels::start();
    let before = open(&group);
    before.load(&key("a")).await.expect("all is well");
    group.primary().cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    group.sentinels()[0].signal(Signal::STOP);
    open(&group).load(&key("a")).await.expect("the others know the primary");
    // Also one that has a connection to the silent one, from when it was not.
    let _ = before.load(&key("a")).await;
    before.load(&key("a")).await.expect("the others know the primary");
}

/// Writes that wait have connections of their own; opening one asks no sentinel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_silent_holds_up_no_writes_that_wait() {
    let group = Sentinels::start();
    group.sentinels()[0].signal(Signal::STOP);
    let options = RedisStore::options().prefix("t").wait(1, Duration::from_secs(4));
    let ledger = Ledger::new(options.connect(&group.url()).unwrap());
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let ledger = ledger.clone();
        tasks.spawn(async move { claim_key(&ledger, &key(&n.to_string())).await });
    }
    for claimed in tasks.join_all().await {
        claimed.unwrap().expect("granted");
    }
}
