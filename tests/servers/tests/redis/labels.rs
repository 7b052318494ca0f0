//! The index of labels: what it costs, what it leaves behind, and that it stands in no write's way.

use std::sync::Arc;
use std::time::Duration;

use servers::Redis;
use tower_idempotency::core::{Change, Claim, Fence, Fenced, Key, Labels, Reached, Record};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{Filter, Query, RedisStore, Store};
use tower_idempotency::{Label, ListState, Listing, Operator};

use super::support::*;

fn indexing(redis: &Redis) -> Arc<RedisStore> {
    Arc::new(RedisStore::options().prefix("t").index_labels(true).connect(&redis.url()).unwrap())
}

fn order(n: usize) -> Label {
    Label::new("order", n)
}

/// Claims a key for an operation with the label of this order.
async fn begin(store: &Arc<RedisStore>, name: &str, of_order: usize) -> (Key, Fence) {
    let (ledger, key) = (Ledger::new(Arc::clone(store)), key(name));
    let claim = Claim { labels: Labels::new().with("order", of_order), ..claim() };
    let record = ledger.apply(&key, None, claim).await.unwrap().record.unwrap();
    (key, Fence::of(record.version()))
}

async fn end(store: &Arc<RedisStore>, key: &Key, fence: Fence, retention: Duration) {
    let ends = Change::Complete { response: response(3), retention, reached: Reached::All };
    change(&Ledger::new(Arc::clone(store)), key, fence, ends).await;
}

async fn found(store: &RedisStore, filter: Filter, label: Label) -> Vec<Key> {
    let page = store.scan(&Query::new(filter, 100).label(label)).await.unwrap();
    page.found.iter().map(|found| found.key).collect()
}

/// What there is for labels, by its names.
fn indexes(redis: &Redis) -> Vec<String> {
    let names =
        ["{t:*}:due:*", "{t:*}:complete:*", "{t:*}:labels"].map(|pattern| redis.cli(&["--scan", "--pattern", pattern]));
    names.iter().flat_map(|names| names.lines()).map(str::to_owned).collect()
}

async fn remove(store: &RedisStore, key: &Key) {
    let version = store.load(key).await.unwrap().record.as_ref().map(Record::version).unwrap();
    assert!(store.remove(key, version).await.unwrap());
}

#[tokio::test]
async fn it_costs_no_round_trip_and_what_has_no_label_no_byte() {
    let redis = Redis::start();
    let (plain, with) = (open(&redis), indexing(&redis));
    let by_url = RedisStore::connect(&format!("{}?index_labels=true", redis.url())).unwrap();
    assert!(by_url.indexes_labels() && with.indexes_labels() && !plain.indexes_labels());
    for store in [&plain, &with] {
        let (key, fence) = begin(store, &format!("{:p}", &**store), 1).await;
        end(store, &key, fence, MINUTE).await;
        remove(store, &key).await;
    }
    assert!(indexes(&redis).iter().all(|index| index.contains(":complete:")), "the record is gone, not its entry");
    redis.cli(&["FLUSHALL"]);
    let before = calls(&redis, "evalsha");
    let (key, fence) = begin(&plain, "a", 1).await;
    end(&plain, &key, fence, MINUTE).await;
    assert_eq!(indexes(&redis), [""; 0]);
    let between = calls(&redis, "evalsha");
    let (key, fence) = begin(&with, "b", 1).await;
    end(&with, &key, fence, MINUTE).await;
    assert_eq!(calls(&redis, "evalsha") - between, between - before);
    assert_eq!(indexes(&redis).len(), 1);
    redis.cli(&["FLUSHALL"]);
    let ledger = Ledger::new(Arc::clone(&with));
    let fence = claim_key(&ledger, &self::key("bare")).await.unwrap().unwrap();
    change(&ledger, &self::key("bare"), fence, complete(3)).await;
    assert_eq!(indexes(&redis), [""; 0]);
}

/// How many there are: little less than the server's tables have room for.
const MANY: usize = 2000;

/// How many bytes an operation takes, one of many, where these are its labels.
async fn bytes_of_each(redis: &Redis, store: &Arc<RedisStore>, ends: bool, labels: fn(usize) -> Labels) -> i64 {
    redis.cli(&["FLUSHALL", "SYNC"]);
    let used = || redis.info("used_memory").parse::<i64>().unwrap();
    let (before, ledger) = (used(), Ledger::new(Arc::clone(store)));
    for n in 0..MANY {
        let key = key(&n.to_string());
        let claim = Claim { labels: labels(n), ..claim() };
        let record = ledger.apply(&key, None, claim).await.unwrap().record.unwrap();
        if ends {
            end(store, &key, Fence::of(record.version()), MINUTE * 60).await;
        }
    }
    (used() - before) / i64::try_from(MANY).unwrap()
}

#[tokio::test]
async fn it_takes_as_many_bytes_as_its_option_says() {
    let redis = Redis::start();
    let (plain, with) = (open(&redis), indexing(&redis));
    let shared: fn(usize) -> Labels = |_| Labels::new().with("order", 1);
    let own: fn(usize) -> Labels = |n| Labels::new().with("order", n);
    // What a server and a connection take once.
    bytes_of_each(&redis, &with, true, own).await;
    for (ends, most_shared, most_own) in [(true, 170, 340), (false, 310, 440)] {
        let bare = bytes_of_each(&redis, &plain, ends, shared).await;
        for (labels, most) in [(shared, most_shared), (own, most_own)] {
            let bytes = bytes_of_each(&redis, &with, ends, labels).await - bare;
            println!("{bytes} bytes; complete: {ends}; {most} at most");
            assert!((1..=most).contains(&bytes), "{bytes} bytes, {most} at most");
        }
    }
}

#[tokio::test]
async fn what_ends_leaves_nothing_behind_once_it_has_expired() {
    let redis = Redis::start();
    let store = indexing(&redis);
    for n in 0..20 {
        let (key, fence) = begin(&store, &format!("short{n}"), n).await;
        end(&store, &key, fence, Duration::from_millis(1)).await;
    }
    let (removed, _) = begin(&store, "removed", 99).await;
    remove(&store, &removed).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(indexes(&redis), [""; 0]);
    // A label that goes on being used: writes let go what has expired.
    for n in 0..40 {
        let (key, fence) = begin(&store, &format!("short{n}"), 1).await;
        end(&store, &key, fence, Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    for n in 0..100 {
        let (key, fence) = begin(&store, &format!("long{n}"), 1).await;
        end(&store, &key, fence, MINUTE).await;
    }
    let entries = indexes(&redis);
    let entries: usize = entries.iter().map(|index| redis.cli(&["ZCARD", index]).parse::<usize>().unwrap()).sum();
    assert_eq!(entries, 100);
}

#[tokio::test]
async fn what_is_kept_longest_keeps_the_index() {
    let redis = Redis::start();
    let store = indexing(&redis);
    let mut keys = Vec::new();
    for n in 0..200 {
        let (key, fence) = begin(&store, &format!("k{n}"), 1).await;
        let retention = if n % 2 == 0 { Duration::MAX } else { Duration::from_millis(20) };
        end(&store, &key, fence, retention).await;
        if n % 2 == 0 {
            keys.push(key);
        }
    }
    tokio::time::sleep(Duration::from_millis(40)).await;
    let mut found = found(&store, Filter::Complete, order(1)).await;
    found.sort();
    keys.sort();
    assert_eq!(found, keys);
}

#[tokio::test]
async fn a_process_without_it_leaves_nothing_wrong_in_it() {
    let redis = Redis::start();
    let (plain, with) = (open(&redis), indexing(&redis));
    let (ended, fence) = begin(&with, "ended", 1).await;
    let (removed, _) = begin(&with, "removed", 1).await;
    let (kept, _) = begin(&with, "kept", 1).await;
    end(&plain, &ended, fence, MINUTE).await;
    remove(&plain, &removed).await;
    assert_eq!(found(&with, Filter::Unfinished, order(1)).await, [kept]);
    let entries = indexes(&redis);
    let due = entries.iter().filter(|name| name.contains(":due:"));
    let entries: usize = due.map(|index| redis.cli(&["ZCARD", index]).parse::<usize>().unwrap()).sum();
    assert_eq!(entries, 1, "what a page meets and is not of it leaves it");
    // Without the index it is found, and with it as soon as it is written again.
    let (older, fence) = begin(&plain, "older", 1).await;
    let operator = Operator::new(Arc::clone(&with));
    let listing = Listing::new(ListState::Unfinished).label(order(1));
    assert_eq!(operator.list(&listing).await.unwrap().operations.len(), 1);
    assert_eq!(operator.list(&listing.clone().label_index(false)).await.unwrap().operations.len(), 2);
    let renews = Fenced { fence, changes: vec![Change::Renew] };
    Ledger::new(Arc::clone(&with)).apply(&older, None, renews).await.unwrap();
    assert_eq!(operator.list(&listing).await.unwrap().operations.len(), 2);
}

#[tokio::test]
async fn what_is_the_matter_with_it_stops_no_write() {
    let redis = Redis::start();
    let store = indexing(&redis);
    begin(&store, "first", 1).await;
    let due = indexes(&redis).into_iter().find(|name| name.contains(":due:")).unwrap();
    let tag = due.rsplit(':').next().unwrap();
    for partition in 0..16 {
        for name in [format!("due:{tag}"), format!("complete:{tag}"), "labels".to_owned()] {
            redis.cli(&["SET", &format!("{{t:{partition:02}}}:{name}"), "not ours"]);
        }
    }
    for n in 0..32 {
        let (key, fence) = begin(&store, &n.to_string(), 1).await;
        end(&store, &key, fence, MINUTE).await;
        assert!(store.load(&key).await.unwrap().record.unwrap().response().is_some());
        remove(&store, &key).await;
    }
    store.scan(&Query::new(Filter::Unfinished, 10).label(order(1))).await.unwrap_err();
}
