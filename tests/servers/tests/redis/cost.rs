//! Round trips, memory, scans.

use std::sync::Arc;

use servers::Redis;
use tower_idempotency::core::{Change, Claim, Mode, StoredRequest};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{Filter, Query, RedisStore, Store, Swap};

use super::support::*;

fn round_trips(redis: &Redis) -> u64 {
    // Of what it sends; the others are run by the scripts.
    ["evalsha", "eval"].into_iter().map(|command| calls(redis, command)).sum()
}

#[tokio::test]
async fn two_round_trips_for_a_first_request_and_one_for_a_replay() {
    let redis = Redis::start();
    let ledger = Ledger::new(open(&redis));
    let warm = claim_key(&ledger, &key("warm")).await.unwrap().unwrap();
    change(&ledger, &key("warm"), warm, complete(3)).await;
    redis.cli(&["CONFIG", "RESETSTAT"]);

    let done = ledger.apply(&key("one"), None, claim()).await.unwrap();
    let fence = tower_idempotency::core::Fence::of(done.record.as_ref().unwrap().version());
    assert_eq!(round_trips(&redis), 1, "the claim");
    let save = Change::Save { step: "a".into(), value: "1".into() };
    let fenced = |change| tower_idempotency::core::Fenced { fence, changes: vec![change] };
    let done = ledger.apply(&key("one"), done.record, fenced(save)).await.unwrap();
    assert_eq!(round_trips(&redis), 2, "one more for a recovery point");
    ledger.apply(&key("one"), done.record, fenced(complete(300))).await.unwrap();
    assert_eq!(round_trips(&redis), 3, "the completion");
    assert!(claim_key(&ledger, &key("one")).await.unwrap().is_none());
    assert_eq!(round_trips(&redis), 4, "the replay");
}

#[tokio::test]
async fn a_step_costs_what_the_step_weighs() {
    let redis = Redis::start();
    let ledger = Ledger::new(open(&redis));
    let fence = claim_key(&ledger, &key("long")).await.unwrap().unwrap();
    let save = |n: u32, len| Change::Save { step: n.to_string().into(), value: vec![b'v'; len].into() };
    change(&ledger, &key("long"), fence, save(0, 1 << 20)).await;
    let mut record = ledger.store().load(&key("long")).await.unwrap().record;
    redis.cli(&["CONFIG", "RESETSTAT"]);
    for n in 1..=50 {
        let fenced = tower_idempotency::core::Fenced { fence, changes: vec![save(n, 10)] };
        record = ledger.apply(&key("long"), record, fenced).await.unwrap().record;
    }
    let sent: u64 = redis.info("total_net_input_bytes").parse().unwrap();
    assert!(sent < 50 * 2_000, "{sent} bytes for fifty small steps beside a large one");
}

#[tokio::test]
async fn a_complete_record_takes_little_more_than_its_answer() {
    let redis = Redis::start();
    let store = open(&redis);
    let ledger = Ledger::new(store);
    let mut largest = 0;
    for n in 0..100 {
        let key = key(&n.to_string());
        let fence = claim_key(&ledger, &key).await.unwrap().unwrap();
        change(&ledger, &key, fence, complete(300)).await;
        let name = servers::redis_name("t", key.as_bytes());
        largest = largest.max(redis.cli(&["MEMORY", "USAGE", &name, "SAMPLES", "0"]).parse::<usize>().unwrap());
    }
    println!("a complete record of a 318-byte response: {largest} bytes");
    assert!(largest <= 560, "{largest} bytes");
}

/// With its share of the tables that lead to it. It is 590 with the allocator that
/// Redis brings along; that of a distribution makes 32 bytes of the 24 that each of
/// two entries has. The usual prefix is longer than that of the other tests.
#[tokio::test]
async fn a_server_takes_little_more_for_a_key_than_its_record() {
    // Little less than its tables have room for, and many beside its buffers.
    const KEYS: usize = 4000;
    let redis = Redis::start();
    let used = || redis.info("used_memory").parse::<usize>().unwrap();
    let ledger = Ledger::new(RedisStore::connect(&redis.url()).unwrap());
    let warm = claim_key(&ledger, &key("warm")).await.unwrap().unwrap();
    change(&ledger, &key("warm"), warm, complete(300)).await;
    let before = used();
    for n in 0..KEYS {
        let key = key(&n.to_string());
        let fence = claim_key(&ledger, &key).await.unwrap().unwrap();
        change(&ledger, &key, fence, complete(300)).await;
    }
    let each = (used() - before) / KEYS;
    println!("a key with a 318-byte response: {each} bytes of its server");
    assert!(each <= 616, "{each} bytes");
}

#[tokio::test]
async fn a_scan_looks_at_what_it_finds() {
    let redis = Redis::start();
    let store = open(&redis);
    let ledger = Ledger::new(store.clone());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..40 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            for n in 0..500 {
                let key = key(&format!("{task}-{n}"));
                let fence = claim_key(&ledger, &key).await.unwrap().unwrap();
                if n % 100 == 0 {
                    change(&ledger, &key, fence, Change::Release).await;
                }
            }
        });
    }
    tasks.join_all().await;
    redis.cli(&["CONFIG", "RESETSTAT"]);
    let page = store.scan(&Query::new(Filter::Lapsed, 10)).await.unwrap();
    assert_eq!((page.found.len(), page.next.is_some()), (10, true));
    let looked = calls(&redis, "get") + calls(&redis, "hget");
    assert!(looked <= 16 * 11, "{looked} records were looked at for ten");
    assert!(calls(&redis, "evalsha") + calls(&redis, "eval") <= 32);
    assert_eq!(calls(&redis, "scan") + calls(&redis, "keys"), 0);
    let rest = store.scan(&Query::new(Filter::Lapsed, 500).after(page.next.unwrap())).await.unwrap();
    assert_eq!((rest.found.len(), rest.next), (190, None), "20,000 unfinished, 200 of them lapsed");
    redis.cli(&["CONFIG", "RESETSTAT"]);
    store.scan(&Query::new(Filter::Expired, 500)).await.unwrap();
    assert_eq!(round_trips(&redis), 0, "redis forgets expired records by itself");
}

#[tokio::test]
async fn only_complete_records_have_a_time_to_live() {
    let redis = Redis::start();
    let ledger = Ledger::new(open(&redis));
    let uri = http::Uri::from_static("/payments");
    let request = StoredRequest::capture(&http::Method::POST, &uri, &http::HeaderMap::new(), "{}".into());
    let claim = Claim { mode: Mode::Resumable, request: Some(Arc::new(request)), ..claim() };
    let version = ledger.apply(&key("a"), None, claim).await.unwrap().record.unwrap().version();
    let fence = tower_idempotency::core::Fence::of(version);
    let name = servers::redis_name("t", key("a").as_bytes());
    assert_eq!(redis.cli(&["TTL", &name]), "-1");
    change(&ledger, &key("a"), fence, Change::Save { step: "a".into(), value: "1".into() }).await;
    assert_eq!(redis.cli(&["HLEN", &name]), "3", "its head, its request, its step");
    assert_eq!(redis.cli(&["TTL", &name]), "-1");
    change(&ledger, &key("a"), fence, complete(3)).await;
    let left: u64 = redis.cli(&["TTL", &name]).parse().expect("a time to live");
    assert!((3000..=3600).contains(&left), "{left} seconds");
    assert_eq!(redis.cli(&["TYPE", &name]), "string", "what the answer does not need is gone");
    let index = redis.cli(&["--scan", "--pattern", "*:due"]);
    assert_eq!(index, "", "nothing is unfinished");

    // Another operation in its place, as once it has expired.
    let version = ledger.store().load(&key("a")).await.unwrap().record.unwrap().version();
    let next = ledger.apply(&key("b"), None, super::support::claim()).await.unwrap().record.unwrap();
    assert!(matches!(ledger.store().swap(&key("a"), Some(version), &next).await, Ok(Swap::Stored)));
    assert_eq!(redis.cli(&["TTL", &name]), "-1", "it is unfinished and would be forgotten");
    let columns = redis.cli(&["GETRANGE", &name, "0", "18"]);
    assert!(columns.starts_with("2 P ") && columns.ends_with(" 0"), "it began when it was written: {columns}");
}
