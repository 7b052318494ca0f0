//! A link that breaks or holds bytes up.

use std::sync::Arc;
use std::time::Duration;

use servers::{Fault, Proxy, Redis, Trap, Way};
use tower_idempotency::core::{Claimed, Fence, Fenced};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{RedisStore, Store, StoreErrorKind};

use super::support::*;

fn linked(redis: &Redis) -> (Proxy, Arc<RedisStore>) {
    let proxy = Proxy::to(([127, 0, 0, 1], redis.port()).into());
    let options = RedisStore::options().prefix("t").response_timeout(Duration::from_millis(300));
    let store = options.connect(&format!("redis://{}", proxy.address())).unwrap();
    (proxy, Arc::new(store))
}

/// Wherever the link breaks, a claim is granted once or fails, and a result is
/// stored or not said to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_may_break_at_any_byte() {
    let redis = Redis::start();
    let (proxy, store) = linked(&redis);
    let (ledger, direct) = (Ledger::new(store), Ledger::new(open(&redis)));
    claim_key(&ledger, &key("warm")).await.unwrap();
    let (mut claimed, mut completed, mut failed) = (0, 0, 0);
    for at in (1..2_000).step_by(41) {
        for way in [Way::Requests, Way::Replies] {
            let key = key(&format!("{way:?}-{at}"));
            proxy.set_trap(Trap::after_bytes(way, at, Fault::Reset));
            let Ok(granted) = claim_key(&ledger, &key).await else {
                failed += 1;
                continue;
            };
            let fence: Fence = granted.expect("nobody else wants it");
            assert!(claim_key(&direct, &key).await.unwrap().is_none(), "granted twice: {way:?} {at}");
            claimed += 1;
            let fenced = Fenced { fence, changes: vec![complete(300)] };
            match ledger.apply(&key, None, fenced).await {
                Ok(done) => {
                    assert!(done.output.is_ok(), "the claim was lost: {way:?} {at}");
                    let again = direct.apply(&key, None, claim()).await.unwrap().output;
                    assert!(matches!(again, Claimed::Replay(..)), "its answer is lost: {way:?} {at}");
                    completed += 1;
                }
                Err(_) => failed += 1,
            }
        }
    }
    println!("{claimed} claimed, {completed} completed, {failed} failed");
    assert!(completed > 10, "the link never worked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_comes_late_is_not_another_calls() {
    let redis = Redis::start();
    let (proxy, store) = linked(&redis);
    let direct = Ledger::new(open(&redis));
    let mut versions = Vec::new();
    for n in 0..20 {
        let fence = claim_key(&direct, &key(&n.to_string())).await.unwrap().unwrap();
        versions.push(fence.version());
    }
    for round in 0..3 {
        store.load(&key("0")).await.unwrap();
        proxy.apply(Fault::Hold(Way::Replies));
        let error = store.load(&key("0")).await.expect_err("its reply is held up");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        proxy.heal();
        for (n, version) in versions.iter().enumerate() {
            let found = store.load(&key(&n.to_string())).await;
            // The first calls may find the connection given up.
            let Ok(found) = found else { continue };
            assert_eq!(found.record.unwrap().version(), *version, "round {round}: another record's reply");
        }
    }
    store.load(&key("0")).await.expect("it is whole again");
}
