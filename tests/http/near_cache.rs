//! Replays from the memory of the process.

use std::time::Duration;

use http::{HeaderName, Request};
use tower::ServiceExt;
use tower_idempotency::core::Status;
use tower_idempotency::encryption::{EncryptionKey, Keyring};
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
    assert_eq!(acknowledging(layer, key).await, 204);
}

/// The status of the response to an acknowledgement, after which a retry is a first request.
fn acknowledging(layer: &IdempotencyLayer, key: &str) -> impl Future<Output = u16> + Send + use<> {
    let status = StatusService::new(layer).grace(secs(0));
    let request = Request::builder().method("DELETE").uri(format!("/operations/{key}")).body(()).unwrap();
    async move { status.oneshot(request).await.unwrap().status().as_u16() }
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

/// The client hangs up while its acknowledgement is stored.
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_is_dropped_may_have_been_stored() {
    let lab = Lab::new();
    let (layer, app, _) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::HangAfter);
    let client = tokio::spawn(acknowledging(&layer, "k"));
    settle().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    send(&app, post("k")).await.assert_first(201, "charge 2");
}

/// The reply to the acknowledgement is lost, and the record has been swept before it is looked for.
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_may_be_stored_and_not_be_found() {
    let lab = Lab::new();
    let (layer, app, _) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::After);
    assert_eq!(acknowledging(&layer, "k").await, 404, "it looks like one that was never there");
    send(&app, post("k")).await.assert_first(201, "charge 2");
}

/// Both processes are told that the client has the response; this one stores nothing.
#[tokio::test(start_paused = true)]
async fn what_another_process_forgot_is_gone_once_this_one_sees_it() {
    let lab = Lab::new();
    let (layer, app, _) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    forget_elsewhere(&lab, "k").await;
    assert_eq!(acknowledging(&layer, "k").await, 404);
    send(&app, post("k")).await.assert_first(201, "charge 2");

    send(&app, post("k")).await.assert_replay(201, "charge 2");
    forget_elsewhere(&lab, "k").await;
    let (_, other, _) = near_of(lab.engine());
    send(&other, post_body("k", "{}")).await.assert_first(201, "charge 1");
    send(&app, post_body("k", "[]")).await.assert_problem("key-reused", 422);
    send(&app, post("k")).await.assert_problem("key-reused", 422);
}

/// Other keys are written all the time.
#[tokio::test(start_paused = true)]
async fn a_write_of_another_key_keeps_no_reply_from_being_kept() {
    let lab = Lab::new();
    let (_, app, _) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    lab.store.fail_once(Call::Swap(Status::Pending), Fault::SlowReply(secs(2)));
    let slow = spawn(&app, post("k"));
    settle().await;
    for key in 0..10 {
        send(&app, post(&format!("other-{key}"))).await;
    }
    slow.await.unwrap().unwrap().assert_replay(201, "charge 1");
    let calls = lab.store.calls();
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(lab.store.calls(), calls, "the store is not asked");
}

/// The store read the record when it was asked, and not when its reply arrived.
#[tokio::test(start_paused = true)]
async fn a_reply_is_as_old_as_its_question() {
    let lab = Lab::new();
    let engine = lab.engine().retention(secs(14)).near_cache(NearCache::new(secs(10)));
    let (_, app, _) = near_of(engine);
    for charge in ["charge 1", "charge 2"] {
        send(&app, post("k")).await.assert_first(201, charge);
        lab.store.fail_once(Call::Swap(Status::Pending), Fault::SlowReply(secs(4)));
        send(&app, post("k")).await.assert_replay(201, charge);
        tokio::time::sleep(secs(5)).await;
        let calls = lab.store.calls();
        send(&app, post("k")).await.assert_replay(201, charge);
        assert_eq!(lab.store.calls(), calls, "nine seconds after the question");
        tokio::time::sleep(secs(1)).await;
        // Four seconds before it expires.
        lab.store.fail_once(Call::Swap(Status::Pending), Fault::SlowReply(secs(3)));
        send(&app, post("k")).await.assert_replay(201, charge);
        assert_eq!(lab.store.calls(), calls + 1, "ten seconds after the question");
        tokio::time::sleep(secs(1)).await;
    }
}

/// In one process, an engine that has the encryption key, and one that has not.
#[tokio::test(start_paused = true)]
async fn what_an_engine_can_not_decrypt_is_not_replayed_from_memory() {
    let lab = Lab::new();
    let base = lab.engine().near_cache(NearCache::new(secs(10)));
    let ring = Keyring::new(EncryptionKey::new("a", &std::array::from_fn(|n| n as u8 + 1)).unwrap());
    let (_, sealed, _) = near_of(base.clone().encryption(ring));
    let (_, open, runs) = near_of(base);
    send(&sealed, post("k")).await.assert_first(201, "charge 1");
    send(&sealed, post("k")).await.assert_replay(201, "charge 1");
    let calls = lab.store.calls();
    send(&sealed, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(lab.store.calls(), calls, "the store is not asked");
    send(&open, post("k")).await.assert_problem("store-unavailable", 503);
    assert_eq!(runs.get(), 0);
}

/// Replays go on while the process ends, with the store or without it.
#[tokio::test(start_paused = true)]
async fn a_process_that_ends_replays_what_it_keeps() {
    let lab = Lab::new();
    let (layer, app, runs) = near(&lab);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert!(layer.drain(secs(1)).await.is_empty());
    lab.store.down();
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    lab.store.heal();
    send(&app, post("new")).await.assert_problem("draining", 503);
    assert_eq!(runs.get(), 1);
}

/// Whose record it is, is part of its key.
#[tokio::test(start_paused = true)]
async fn another_callers_record_is_not_replayed_from_memory() {
    let lab = Lab::new();
    let layer = IdempotencyLayer::new(
        lab.engine().near_cache(NearCache::new(secs(10))),
        Scope::header(HeaderName::from_static("x-tenant")),
    );
    let (app, runs) = numbered(&layer);
    let by = |tenant: &str| {
        let mut request = post("k");
        request.headers_mut().insert("x-tenant", tenant.parse().unwrap());
        request
    };
    send(&app, by("a")).await.assert_first(201, "charge 1");
    send(&app, by("a")).await.assert_replay(201, "charge 1");
    send(&app, by("b")).await.assert_first(201, "charge 2");
    send(&app, by("b")).await.assert_replay(201, "charge 2");
    send(&app, by("a")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn bounds_without_sense_are_bounds() {
    for settings in [NearCache::new(Duration::MAX).max_bytes(u64::MAX), NearCache::new(Duration::ZERO)] {
        let lab = Lab::new();
        let (_, app, _) = near_of(lab.engine().near_cache(settings));
        send(&app, post("k")).await.assert_first(201, "charge 1");
        for _ in 0..3 {
            send(&app, post("k")).await.assert_replay(201, "charge 1");
        }
    }
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
