//! Replays from the memory of the process.

use http::Request;
use tower::ServiceExt;
use tower_idempotency::core::Status;
use tower_idempotency::{Engine, IdempotencyLayer, NearCache, Operator, Scope, StatusService};

use crate::support::lab::{App, Lab, numbered, post, post_body, secs, send, spawn};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

/// A process that keeps complete records for ten seconds.
fn near(lab: &Lab) -> (IdempotencyLayer, App, Count) {
    near_of(lab.engine().near_cache(NearCache::new(secs(10))))
}

fn near_of(engine: Engine) -> (IdempotencyLayer, App, Count) {
    let layer = IdempotencyLayer::new(engine, Scope::shared());
    let (app, runs) = numbered(&layer);
    (layer, app, runs)
}

/// Another process, which forgets what is stored for this key.
async fn forget_elsewhere(lab: &Lab, key: &str) {
    let operator = Operator::new(lab.store.clone());
    operator.forget(&operator.find("", key).await.unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_replayed_once_is_replayed_without_the_store_for_a_while() {
    let lab = Lab::new();
    let (_, app, runs) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    let calls = lab.store.calls();
    lab.store.down();
    for _ in 0..3 {
        tokio::time::sleep(secs(3)).await;
        send(&app, post("k")).await.assert_replay(201, "charge 1");
    }
    assert_eq!(lab.store.calls(), calls, "the store is not asked");
    tokio::time::sleep(secs(1)).await;
    send(&app, post("k")).await.assert_problem("store-unavailable", 503);
    lab.store.heal();
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_each_replay_asks_the_store() {
    let lab = Lab::new();
    let (_, app, _) = near_of(lab.engine());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    for _ in 0..3 {
        let calls = lab.store.calls();
        send(&app, post("k")).await.assert_replay(201, "charge 1");
        assert_eq!(lab.store.calls(), calls + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn another_request_is_judged_by_the_store() {
    let lab = Lab::new();
    let (_, app, runs) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    let calls = lab.store.calls();
    send(&app, post_body("k", "{}")).await.assert_problem("key-reused", 422);
    assert_eq!(lab.store.calls(), calls + 1);
    // Forgotten by another process, the key is free for it.
    forget_elsewhere(&lab, "k").await;
    send(&app, post_body("k", "{}")).await.assert_first(201, "charge 2");
    send(&app, post("k")).await.assert_problem("key-reused", 422);
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_another_process_forgot_is_replayed_until_it_is_too_old() {
    let lab = Lab::new();
    let (_, app, runs) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    forget_elsewhere(&lab, "k").await;
    tokio::time::sleep(secs(9)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    tokio::time::sleep(secs(1)).await;
    send(&app, post("k")).await.assert_first(201, "charge 2");
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_this_process_changed_is_not_replayed_from_memory() {
    let lab = Lab::new();
    let (layer, app, runs) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    let operator = Operator::new(&layer);
    operator.forget(&operator.find("", "k").await.unwrap()).await.unwrap();
    send(&app, post("k")).await.assert_first(201, "charge 2");

    send(&app, post("k")).await.assert_replay(201, "charge 2");
    acknowledge(&layer, "k").await;
    tokio::time::sleep(secs(1)).await;
    let calls = lab.store.calls();
    send(&app, post("k")).await;
    assert!(lab.store.calls() > calls, "the store is asked");
    assert_eq!(runs.get(), 3);
}

async fn acknowledge(layer: &IdempotencyLayer, key: &str) {
    let status = StatusService::new(layer).grace(secs(0));
    let request = Request::builder().method("DELETE").uri(format!("/operations/{key}")).body(()).unwrap();
    assert_eq!(status.oneshot(request).await.unwrap().status(), 204);
}

/// The reply was on its way while the record was acknowledged.
#[tokio::test(start_paused = true)]
async fn a_reply_that_is_older_than_a_change_is_not_kept() {
    let lab = Lab::new();
    let (layer, app, _) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    lab.store.fail_once(Call::Swap(Status::Pending), Fault::SlowReply(secs(2)));
    let slow = spawn(&app, post("k"));
    settle().await;
    acknowledge(&layer, "k").await;
    slow.await.unwrap().unwrap().assert_replay(201, "charge 1");
    send(&app, post("k")).await.assert_first(201, "charge 2");
}

/// Whatever this process keeps, a record expires by the store's time.
#[tokio::test(start_paused = true)]
async fn what_is_kept_expires_like_any_other() {
    let lab = Lab::new();
    let engine = lab.engine().retention(secs(60)).near_cache(NearCache::new(secs(3600)));
    let (_, app, runs) = near_of(engine);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(30)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    tokio::time::sleep(secs(29)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    tokio::time::sleep(secs(1)).await;
    send(&app, post("k")).await.assert_first(201, "charge 2");
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_the_store() {
    let lab = Lab::new();
    let (layer, app, _) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    forget_elsewhere(&lab, "k").await;
    let missing = Operator::new(&layer).find("", "k").await;
    assert!(missing.is_err(), "{missing:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_bounded() {
    let lab = Lab::new();
    let (_, app, _) = near_of(lab.engine().near_cache(NearCache::new(secs(3600)).max_bytes(0)));
    let keys: Vec<_> = (0..1000).map(|key| format!("key-{key}")).collect();
    for key in &keys {
        send(&app, post(key)).await;
        send(&app, post(key)).await;
    }
    let calls = lab.store.calls();
    for key in &keys {
        send(&app, post(key)).await;
    }
    let kept = 1000 - (lab.store.calls() - calls);
    assert!((1..200).contains(&kept), "64 KiB of records of some 700 bytes: {kept}");
}
