//! Servers that are there and do not answer yet.

use std::time::Duration;

use servers::{Redis, wait_until};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::StoreErrorKind;

use super::support::*;

/// Someone else's script, which runs until it is killed.
fn endless(redis: &Redis) -> std::process::Child {
    redis.cli(&["CONFIG", "SET", "lua-time-limit", "10"]);
    let child = redis.start_cli(&["EVAL", "while true do end", "0"]);
    wait_until("a busy server", || redis.cli(&["PING"]).contains("BUSY"));
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_of_someone_else_is_waited_out() {
    let redis = Redis::start();
    let ledger = Ledger::new(open(&redis));
    claim_key(&ledger, &key("other")).await.unwrap();
    let mut script = endless(&redis);
    let error = claim_key(&ledger, &key("a")).await.expect_err("it is busy");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let claim = tokio::spawn({
        let ledger = ledger.clone();
        async move { claim_key(&ledger, &key("b")).await }
    });
    redis.cli(&["SCRIPT", "KILL"]);
    script.wait().unwrap();
    claim.await.unwrap().unwrap().expect("granted");
    // What was turned away was not done.
    claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
}

#[tokio::test]
async fn a_server_that_loads_its_data_forgot_nothing() {
    let mut redis = Redis::start_with(&[
        "--save",
        "3600 1000000",
        "--key-load-delay",
        "2000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    redis.cli(&["DEBUG", "POPULATE", "1000"]);
    let ledger = Ledger::new(open(&redis));
    claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
    redis.cli(&["SAVE"]);
    redis.restart_and_load();
    let mut refused = 0;
    loop {
        match claim_key(&ledger, &key("a")).await {
            Ok(granted) => break assert!(granted.is_none(), "it is claimed"),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}"),
        }
        refused += 1;
        assert!(refused < 200, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused > 0, "it never loaded");
}
