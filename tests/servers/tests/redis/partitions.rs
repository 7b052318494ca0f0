//! The number of partitions: a setting that the data remembers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use servers::{Cluster, Redis};
use tower_idempotency::core::Key;
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{Filter, Query, RedisStore, Store, StoreErrorKind, Swap};

use super::support::*;

fn open_with(url: &str, partitions: u16) -> Arc<RedisStore> {
    Arc::new(RedisStore::options().prefix("t").partitions(partitions).connect(url).unwrap())
}

/// Claims a key of this name, in a store of so many partitions.
async fn claims(url: &str, partitions: u16, name: &str) {
    let ledger = Ledger::new(open_with(url, partitions));
    claim_key(&ledger, &key(name)).await.unwrap().expect("granted");
}

/// That a store with so many partitions is refused, over data that has so many.
async fn is_refused(url: &str, partitions: u16, found: u16) {
    let store = open_with(url, partitions);
    let error = refused(&store).await.to_string();
    for part in [
        format!("lie in {found} partitions"),
        format!("was given {partitions}:"),
        format!("partitions({found})"),
        format!("partitions={found} "),
    ] {
        assert!(error.contains(&part), "{part}: {error}");
    }
    let error = claim_key(&Ledger::new(store), &key("another")).await.expect_err("it is refused");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn the_data_remembers_it_and_another_number_is_refused() {
    for (first, other) in [(16, 64), (64, 16), (1, 1024)] {
        let redis = Redis::start();
        claims(&redis.url(), first, "a").await;
        assert_eq!(redis.cli(&["GET", "{t:00}:partitions"]), first.to_string());
        is_refused(&redis.url(), other, first).await;
        let again = Ledger::new(open_with(&redis.url(), first));
        assert!(claim_key(&again, &key("a")).await.unwrap().is_none(), "claimed before");
        // Under a prefix of its own, another number is fine.
        let options = RedisStore::options().prefix("u").partitions(other);
        let ledger = Ledger::new(options.connect(&redis.url()).unwrap());
        claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
    }
}

#[tokio::test]
async fn the_first_sixteen_are_where_they_always_were() {
    let redis = Redis::start();
    let ledger = Ledger::new(open(&redis));
    for n in 0..40 {
        let key = key(&n.to_string());
        claim_key(&ledger, &key).await.unwrap().expect("granted");
        assert_eq!(redis.cli(&["EXISTS", &servers::redis_name("t", key.as_bytes())]), "1");
    }
}

#[tokio::test]
async fn records_lie_in_all_of_them_and_every_page_finds_them() {
    const KEYS: usize = 1500;
    for partitions in [1, 7, 100, 300] {
        let redis = Redis::start();
        let store = open_with(&redis.url(), partitions);
        let ledger = Ledger::new(store.clone());
        for n in 0..KEYS {
            claim_key(&ledger, &key(&n.to_string())).await.unwrap().expect("granted");
        }
        let names = redis.cli(&["--scan", "--pattern", "{t:*}:????????????????*"]);
        let used: BTreeSet<_> = names.lines().filter_map(|name| name.split_once('}')).map(|(stem, _)| stem).collect();
        assert!(used.len() * 10 >= usize::from(partitions) * 9, "{} of {partitions} are used", used.len());
        let (mut found, mut query) = (BTreeSet::new(), Query::new(Filter::Unfinished, 100));
        loop {
            let page = store.scan(&query).await.unwrap();
            assert!(page.found.is_sorted_by_key(|found| (found.due, found.key)));
            found.extend(page.found.into_iter().map(|found| found.key));
            let Some(next) = page.next else { break };
            query = query.after(next);
        }
        assert_eq!(found.len(), KEYS, "of {partitions} partitions");
        assert_eq!(store.count(Filter::Unfinished, usize::MAX).await.unwrap(), KEYS);
    }
}

/// Whatever the order in which they come, one number is what all of them have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_first_writers_with_other_numbers_one_is_refused() {
    let redis = Redis::start();
    for round in 0..50 {
        let numbers = [8, 16, 32];
        let mut running = tokio::task::JoinSet::new();
        for partitions in numbers {
            let options = RedisStore::options().prefix(format!("r{round}")).partitions(partitions);
            let ledger = Ledger::new(options.connect(&redis.url()).unwrap());
            running.spawn(async move {
                // The last bits of its hash say where it lies: the keys differ.
                let claimed = claim_key(&ledger, &key(&partitions.to_string())).await;
                claimed.ok().flatten().map(|_| partitions)
            });
        }
        let granted: Vec<_> = running.join_all().await.into_iter().flatten().collect();
        let remembered = redis.cli(&["GET", &format!("{{r{round}:00}}:partitions")]);
        let granted: Vec<_> = granted.iter().map(u16::to_string).collect();
        assert_eq!(granted, [remembered], "round {round}");
    }
}

#[tokio::test]
async fn a_look_from_outside_decides_nothing() {
    let redis = Redis::start();
    let look = open_with(&redis.url(), 16);
    look.inspect().await.unwrap();
    look.load(&key("a")).await.unwrap();
    look.scan(&Query::new(Filter::Unfinished, 10)).await.unwrap();
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    claims(&redis.url(), 64, "a").await;
    // It was let in, and would not see what is there.
    let error = look.inspect().await.expect_err("it is refused");
    assert!(error.to_string().contains("lie in 64 partitions"), "{error}");
    assert!(claim_key(&Ledger::new(look), &key("a")).await.is_err());
    is_refused(&redis.url(), 16, 64).await;
}

/// What writes first may also be what asks how durable the store is.
#[tokio::test]
async fn a_question_for_the_durability_remembers_it() {
    let redis = Redis::start();
    open_with(&redis.url(), 64).durability().await.unwrap();
    is_refused(&redis.url(), 16, 64).await;
    claims(&redis.url(), 64, "a").await;
}

#[tokio::test]
async fn it_is_remembered_again_after_everything_was_deleted() {
    let redis = Redis::start();
    let ledger = Ledger::new(open_with(&redis.url(), 64));
    claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
    redis.cli(&["FLUSHALL"]);
    ledger.store().durability().await.unwrap();
    is_refused(&redis.url(), 16, 64).await;
    // And one that another process decided meanwhile is noticed.
    redis.cli(&["FLUSHALL"]);
    claims(&redis.url(), 16, "b").await;
    let error = ledger.store().durability().await.expect_err("it is refused");
    assert!(error.to_string().contains("lie in 16 partitions"), "{error}");
    assert!(claim_key(&ledger, &key("c")).await.is_err(), "and so is every call");
}

/// As a deletion of everything may be seen by no one else: a process need not ask how durable it is.
async fn a_while_passes() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
}

/// What a process wrote after that is its own, and not that of a build without the setting.
#[tokio::test]
async fn what_was_written_after_everything_was_deleted_is_no_older_data() {
    let redis = Redis::start();
    let ledger = Ledger::new(open_with(&redis.url(), 64));
    claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
    redis.cli(&["FLUSHALL"]);
    for n in 0..32 {
        claim_key(&ledger, &key(&n.to_string())).await.unwrap().expect("granted");
    }
    ledger.store().durability().await.expect("it is as it was told");
    claim_key(&ledger, &key("b")).await.unwrap().expect("granted");
    is_refused(&redis.url(), 16, 64).await;
}

#[tokio::test]
async fn it_is_remembered_again_by_what_is_written_after_a_while() {
    let redis = Redis::start();
    let ledger = Ledger::new(open_with(&redis.url(), 64));
    claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
    redis.cli(&["FLUSHALL"]);
    a_while_passes().await;
    claim_key(&ledger, &key("b")).await.unwrap().expect("granted");
    soon("it is not remembered", async || redis.cli(&["GET", "{t:00}:partitions"]) == "64").await;
    is_refused(&redis.url(), 16, 64).await;
}

#[tokio::test]
async fn another_number_that_was_decided_meanwhile_is_noticed_after_a_while() {
    let redis = Redis::start();
    let store = open_with(&redis.url(), 64);
    let ledger = Ledger::new(store.clone());
    claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
    redis.cli(&["FLUSHALL"]);
    claims(&redis.url(), 16, "b").await;
    a_while_passes().await;
    // It is noticed beside this one.
    let _ = claim_key(&ledger, &key("c")).await;
    soon("two numbers are at work", async || store.load(&key("b")).await.is_err()).await;
    is_refused(&redis.url(), 64, 16).await;
    // What is there is not its own, if the number is forgotten by hand.
    redis.cli(&["DEL", "{t:00}:partitions"]);
    assert!(claim_key(&ledger, &key("d")).await.is_err());
}

/// Until it writes, a process that began before the data did can't know.
#[tokio::test]
async fn one_whose_write_was_refused_takes_nothing_for_absent() {
    let redis = Redis::start();
    // That lies in another partition of 64 than of 16.
    let (name, key) = (0..)
        .map(|n: u32| (n.to_string(), key(&n.to_string())))
        .find(|(_, key)| key.as_bytes()[31] & 0x30 != 0)
        .unwrap();
    let late = open_with(&redis.url(), 16);
    assert!(late.load(&key).await.unwrap().record.is_none());
    claims(&redis.url(), 64, &name).await;
    assert!(claim_key(&Ledger::new(late.clone()), &key).await.is_err());
    let error = late.load(&key).await.expect_err("it would look elsewhere").to_string();
    assert!(error.contains("lie in 64 partitions"), "{error}");
}

/// A build without the setting wrote no number, and has 16 partitions.
#[tokio::test]
async fn data_that_says_nothing_has_sixteen() {
    let redis = Redis::start();
    let forget = || assert_eq!(redis.cli(&["DEL", "{t:00}:partitions"]), "1");
    let ledger = Ledger::new(open(&redis));
    let fence = claim_key(&ledger, &key("a")).await.unwrap().unwrap();
    forget();
    is_refused(&redis.url(), 64, 16).await;
    // Without anything unfinished, by the mark of a watcher.
    change(&ledger, &key("a"), fence, complete(3)).await;
    ledger.store().durability().await.unwrap();
    forget();
    is_refused(&redis.url(), 64, 16).await;
    is_refused(&redis.url(), 4, 16).await;
    // The next build with 16 remembers it.
    claims(&redis.url(), 16, "b").await;
    assert_eq!(redis.cli(&["GET", "{t:00}:partitions"]), "16");
}

/// As one of an older build may be.
#[tokio::test]
async fn work_that_was_admitted_ends_on_a_full_server_that_says_nothing() {
    let redis = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let fence = claim_key(&Ledger::new(open(&redis)), &key("a")).await.unwrap().unwrap();
    redis.cli(&["DEL", "{t:00}:partitions"]);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let late = Ledger::new(open(&redis));
    change(&late, &key("a"), fence, complete(300)).await;
    assert!(claim_key(&late, &key("a")).await.unwrap().is_none(), "a replay");
    let error = claim_key(&late, &key("b")).await.expect_err("there is no room");
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
}

#[tokio::test]
async fn something_else_in_its_place_is_reported() {
    let redis = Redis::start();
    redis.cli(&["SET", "{t:00}:partitions", "many"]);
    let error = open(&redis).load(&key("a")).await.expect_err("it is no number");
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("{PREFIX:NN}:partitions"), "{error}");
}

#[tokio::test]
async fn a_url_may_have_it() {
    let redis = Redis::start();
    let url = format!("{}?prefix=t&partitions=64", redis.url());
    let ledger = Ledger::new(RedisStore::connect(&url).unwrap());
    claim_key(&ledger, &key("a")).await.unwrap().expect("granted");
    is_refused(&redis.url(), 16, 64).await;
    for wrong in ["0", "1025", "-1", "many", "", "65536"] {
        let refused = RedisStore::connect(&format!("{}?partitions={wrong}", redis.url())).expect_err(wrong);
        assert!(refused.to_string().contains("1 to 1024 partitions"), "{wrong}: {refused}");
    }
    for wrong in [0, 1025] {
        let refused = RedisStore::options().partitions(wrong).connect(&redis.url()).expect_err("no such number");
        assert!(refused.to_string().contains("1 to 1024 partitions"), "{wrong}: {refused}");
    }
}

/// The node with the first partition may be the one that is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_every_partition_knows_it() {
    let mut cluster = Cluster::start_with(&["--cluster-require-full-coverage", "no", "--appendonly", "yes"]);
    let url = cluster.url();
    let ledger = Ledger::new(open_with(&url, 64));
    let record = ledger.apply(&key("a"), None, claim()).await.unwrap().record.unwrap();
    for partition in ["00", "01", "31", "63"] {
        let name = format!("{{t:{partition}}}:partitions");
        assert_eq!(cluster.nodes()[0].cli(&["-c", "GET", &name]), "64", "{name}");
    }
    let node_of = |cluster: &Cluster, partition: u16| {
        let name = format!("{{t:{partition:02}}}");
        let slot: u16 = cluster.nodes()[0].cli(&["CLUSTER", "KEYSLOT", &name]).parse().unwrap();
        [5461, 10923].iter().filter(|start| slot >= **start).count()
    };
    let first = node_of(&cluster, 0);
    let partition = |key: &Key| u16::from_be_bytes([key.as_bytes()[30], key.as_bytes()[31]]) % 64;
    let elsewhere = |key: &Key| node_of(&cluster, partition(key)) != first;
    let other = (0..).map(|n: u32| key(&n.to_string())).find(elsewhere).unwrap();
    cluster.nodes_mut()[first].kill();
    let failed = |of: &Cluster| of.nodes()[(first + 1) % 3].cli(&["CLUSTER", "NODES"]).contains("fail ");
    servers::wait_until("the others to notice", || failed(&cluster));
    is_refused(&url, 16, 64).await;
    let late = open_with(&url, 64);
    let stored = late.swap(&other, None, &record).await;
    assert!(matches!(stored, Ok(Swap::Stored)), "what is on another node goes on: {stored:?}");
}
