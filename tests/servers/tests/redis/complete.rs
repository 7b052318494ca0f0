//! The index of complete records: what it costs, and that it stands in no write's way.

use std::sync::Arc;
use std::time::Duration;

use servers::Redis;
use tower_idempotency::core::{Change, Key, Reached, Record};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{Filter, Query, RedisStore, Store};

use super::support::*;

fn indexing(redis: &Redis) -> Arc<RedisStore> {
    Arc::new(RedisStore::options().prefix("t").index_complete(true).connect(&redis.url()).unwrap())
}

async fn run(store: &Arc<RedisStore>, name: &str, retention: Duration) -> Key {
    let (ledger, key) = (Ledger::new(Arc::clone(store)), key(name));
    let fence = claim_key(&ledger, &key).await.unwrap().unwrap();
    let ends = Change::Complete { response: response(3), retention, reached: Reached::All };
    change(&ledger, &key, fence, ends).await;
    key
}

async fn found(store: &RedisStore) -> Vec<Key> {
    let page = store.scan(&Query::new(Filter::Complete, 100)).await.unwrap();
    page.found.iter().map(|found| found.key).collect()
}

/// The entries of all partitions.
fn entries(redis: &Redis) -> Vec<String> {
    let indexes = redis.cli(&["--scan", "--pattern", "{t:*}:complete"]);
    indexes
        .lines()
        .flat_map(|index| redis.cli(&["ZRANGE", index, "0", "-1"]).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[tokio::test]
async fn it_costs_no_round_trip_and_nothing_where_it_is_off() {
    let redis = Redis::start();
    let (plain, with) = (open(&redis), indexing(&redis));
    run(&plain, "warm", MINUTE).await;
    run(&with, "warm-too", MINUTE).await;
    let before = calls(&redis, "evalsha");
    run(&plain, "a", MINUTE).await;
    let between = calls(&redis, "evalsha");
    run(&with, "b", MINUTE).await;
    assert_eq!(calls(&redis, "evalsha") - between, between - before);
    assert_eq!(entries(&redis).len(), 2, "those of the store with an index");
}

#[tokio::test]
async fn an_entry_takes_a_hundred_and_fifty_bytes_at_most() {
    let redis = Redis::start();
    let store = indexing(&redis);
    for n in 0..4000 {
        run(&store, &n.to_string(), MINUTE * 60).await;
    }
    let usage = |name: &str| redis.cli(&["MEMORY", "USAGE", name, "SAMPLES", "0"]).parse::<usize>().unwrap();
    let indexes = redis.cli(&["--scan", "--pattern", "{t:*}:complete"]);
    let bytes: usize = indexes.lines().map(usage).sum();
    println!("{} bytes an entry", bytes / 4000);
    assert!(bytes / 4000 <= 150, "{} bytes an entry", bytes / 4000);
}

#[tokio::test]
async fn what_expired_leaves_it_with_later_writes() {
    let redis = Redis::start();
    let store = indexing(&redis);
    for n in 0..40 {
        run(&store, &format!("short-{n}"), Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(found(&store).await.is_empty(), "what a page meets and is gone leaves it, too");
    for n in 0..40 {
        run(&store, &format!("short-{n}"), Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    for n in 0..200 {
        run(&store, &format!("long-{n}"), MINUTE).await;
    }
    assert_eq!(entries(&redis).len(), 200);
}

/// What has expired lies behind all that is kept: a page reads none of it.
#[tokio::test]
async fn a_page_ends_at_the_first_that_has_expired() {
    let redis = Redis::start();
    let store = indexing(&redis);
    let kept = run(&store, "kept", MINUTE).await;
    for partition in 0..16 {
        for number in 0..4 {
            redis.cli(&["ZADD", &format!("{{t:{partition:02}}}:complete"), "1", &format!("{number:0>43}")]);
        }
    }
    assert_eq!(found(&store).await, [kept]);
    assert_eq!(entries(&redis).len(), 1 + 16 * 4, "those that it reads and that are gone leave the index");
}

#[tokio::test]
async fn a_process_without_it_leaves_nothing_wrong_in_it() {
    let redis = Redis::start();
    let (plain, with) = (open(&redis), indexing(&redis));
    let kept = run(&with, "kept", MINUTE).await;
    let removed = run(&with, "removed", MINUTE).await;
    run(&with, "again", Duration::from_millis(1)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let version = plain.load(&removed).await.unwrap().record.as_ref().map(Record::version).unwrap();
    assert!(plain.remove(&removed, version).await.unwrap());
    // Another operation in its place, which runs.
    claim_key(&Ledger::new(Arc::clone(&plain)), &key("again")).await.unwrap().unwrap();
    assert_eq!(found(&with).await, [kept]);
    assert_eq!(with.count(Filter::Complete, 10).await.unwrap(), 1, "what is wrong or expired is not counted");
}

#[tokio::test]
async fn what_is_the_matter_with_it_stops_no_write() {
    let redis = Redis::start();
    let store = indexing(&redis);
    for partition in 0..16 {
        redis.cli(&["SET", &format!("{{t:{partition:02}}}:complete"), "not ours"]);
    }
    for n in 0..32 {
        let key = run(&store, &n.to_string(), MINUTE).await;
        assert!(store.load(&key).await.unwrap().record.unwrap().response().is_some());
    }
    assert!(store.scan(&Query::new(Filter::Unfinished, 10)).await.unwrap().found.is_empty());
    store.scan(&Query::new(Filter::Complete, 10)).await.unwrap_err();
}
