//! A user with just the rights that the advice names can do all; without one of
//! them, the error names it.

use std::time::Duration;

use bytes::Bytes;
use servers::{Cluster, Redis, Sentinels};
use tower_idempotency::core::Fence;
use tower_idempotency::core::{Change, Claim, Mode, Record, StoredRequest};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{DurabilityLevel, Filter, Query, RedisStore, RedisStoreOptions, Store, StoreErrorKind};

use super::support::*;

/// The advice, taken apart: commands, and for what.
struct Advice(Vec<(String, Vec<String>)>);

impl Advice {
    /// As the error says it.
    async fn ask() -> Self {
        let redis = Redis::start();
        user(&|arguments| redis.cli(arguments), &["-@all".to_owned()]);
        let error = refused(&options().connect(&url(&redis, "")).unwrap()).await.to_string();
        let advice = error.split("it needs ").nth(1).expect("advice").to_owned();
        let commands = |part: &str| part.split(' ').filter(|word| word.starts_with('+')).map(str::to_owned).collect();
        Self(advice.split("; ").map(|part| (part.to_owned(), commands(part))).collect())
    }

    /// What is needed always, and for each of these.
    fn of(&self, what: &[&str]) -> Vec<String> {
        let mut rights = self.0[0].1.clone();
        for what in what {
            let named = self.0.iter().find(|(part, _)| part.contains(what)).unwrap_or_else(|| panic!("no {what}"));
            rights.extend(named.1.iter().cloned());
        }
        rights
    }
}

fn options() -> RedisStoreOptions {
    RedisStore::options().prefix("t")
}

fn url(redis: &Redis, database: &str) -> String {
    format!("redis://app:secret@127.0.0.1:{}{database}", redis.port())
}

/// Gives the user these rights, and takes all others.
fn user(cli: &dyn Fn(&[&str]) -> String, rights: &[String]) {
    let mut arguments = vec!["ACL", "SETUSER", "app", "reset", "on", ">secret", "~{t:*"];
    // "Or": not every server knows it.
    let is_known = |right: &str| right != "+waitaof" || cli(&["COMMAND", "INFO", "waitaof"]).contains("waitaof");
    arguments.extend(rights.iter().map(String::as_str).filter(|right| is_known(right)));
    assert_eq!(cli(&arguments), "OK", "{arguments:?}");
}

/// Everything a store does.
async fn smoke(options: RedisStoreOptions, url: &str) -> DurabilityLevel {
    let store = std::sync::Arc::new(options.connect(url).unwrap());
    let ledger = Ledger::new(store.clone());
    for name in ["a", "b", "c", "d"] {
        let fence = claim_key(&ledger, &key(name)).await.unwrap_or_else(|error| panic!("{error}")).expect("granted");
        change(&ledger, &key(name), fence, complete(3)).await;
        let version = store.load(&key(name)).await.unwrap().record.as_ref().map(Record::version).unwrap();
        assert!(store.remove(&key(name), version).await.unwrap());
        let request = StoredRequest::capture(
            &http::Method::POST,
            &"/".parse().unwrap(),
            &http::HeaderMap::new(),
            Bytes::from_static(b"{}"),
        );
        let claim = Claim { mode: Mode::Resumable, request: Some(std::sync::Arc::new(request)), ..claim() };
        let record = ledger.apply(&key(name), None, claim).await.unwrap().record.unwrap();
        let fence = Fence::of(record.version());
        change(&ledger, &key(name), fence, Change::Save { step: "s".into(), value: Bytes::from_static(b"1") }).await;
        let page = store.scan(&Query::new(Filter::Unfinished, 10)).await.unwrap();
        assert_eq!(page.found.len(), 1);
        change(&ledger, &key(name), fence, complete(3)).await;
    }
    match store.scan(&Query::new(Filter::Complete, 10)).await {
        Ok(page) => assert_eq!((page.found.len(), page.unreadable.count), (4, 0)),
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::NotIndexed),
    }
    store.durability().await.unwrap().survives
}

#[tokio::test]
async fn a_user_with_the_advised_rights_can_do_all() {
    let advice = Advice::ask().await;
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let cli = |arguments: &[&str]| redis.cli(arguments);
    user(&cli, &advice.of(&[]));
    assert_eq!(
        smoke(options(), &url(&redis, "")).await,
        DurabilityLevel::StoreCrash,
        "it is not told that it is always"
    );
    user(&cli, &advice.of(&["database"]));
    smoke(options(), &url(&redis, "/3")).await;
    user(&cli, &advice.of(&["database", "better"]));
    assert_eq!(smoke(options(), &url(&redis, "/4")).await, DurabilityLevel::PowerLoss);
    user(&cli, &advice.of(&["to wait", "database"]));
    smoke(options().wait(0, Duration::from_secs(4)), &url(&redis, "/5")).await;
    user(&cli, &advice.of(&["database", "index"]));
    smoke(options().index_complete(true), &url(&redis, "/6")).await;
}

/// It is neither a record that can't be read nor one that is not there.
#[tokio::test]
async fn a_right_that_is_taken_away_later_is_named_and_nothing_is_taken_for_unreadable() {
    let redis = Redis::start();
    let give = |rights: &str| redis.cli(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", rights]);
    give("+get");
    let store = std::sync::Arc::new(options().index_complete(true).connect(&url(&redis, "")).unwrap());
    let ledger = Ledger::new(store.clone());
    let fence = claim_key(&ledger, &key("done")).await.unwrap().unwrap();
    change(&ledger, &key("done"), fence, complete(3)).await;
    claim_key(&ledger, &key("running")).await.unwrap().unwrap();
    let version = store.load(&key("running")).await.unwrap().record.as_ref().map(Record::version).unwrap();
    for missing in ["getrange", "get"] {
        give(&format!("-{missing}"));
        let mut refused = Vec::new();
        if missing == "getrange" {
            refused.push(store.scan(&Query::new(Filter::Complete, 10)).await.map(drop));
        } else {
            refused.push(store.scan(&Query::new(Filter::Unfinished, 10)).await.map(drop));
            refused.push(store.load(&key("running")).await.map(drop));
            refused.push(store.load(&key("absent")).await.map(drop));
            refused.push(store.remove(&key("running"), version).await.map(drop));
        }
        for refused in refused {
            let error = refused.expect_err("it took something else for a missing right");
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains("lacks rights"), "{error}");
        }
        give(&format!("+{missing}"));
    }
    assert_eq!(store.scan(&Query::new(Filter::Complete, 10)).await.unwrap().found.len(), 1);
    assert!(store.load(&key("running")).await.unwrap().record.is_some());
}

#[tokio::test]
async fn a_user_with_the_advised_rights_can_wait_for_disks() {
    let advice = Advice::ask().await;
    let valkey = Redis::valkey_with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    user(&|arguments| valkey.cli(arguments), &advice.of(&["to wait", "database"]));
    let options = options().wait_aof(true, 0, Duration::from_secs(4));
    assert_eq!(smoke(options, &url(&valkey, "/2")).await, DurabilityLevel::PowerLoss);
}

#[tokio::test]
async fn a_user_with_the_advised_rights_can_use_a_cluster() {
    let advice = Advice::ask().await;
    let cluster = Cluster::start();
    for node in cluster.nodes() {
        user(&|arguments| node.cli(arguments), &advice.of(&["cluster"]));
    }
    smoke(options(), &cluster.url().replace("://", "://app:secret@")).await;
    for node in cluster.nodes() {
        user(&|arguments| node.cli(arguments), &advice.of(&[]));
    }
    let url = cluster.url().replace("://", "://app:secret@");
    let error = refused(&options().connect(&url).unwrap()).await.to_string();
    assert!(error.contains("cluster|slots"), "{error}");
}

#[tokio::test]
async fn a_user_with_the_advised_rights_can_go_through_sentinel() {
    let advice = Advice::ask().await;
    let mut group = Sentinels::start();
    let url = group.url().replace("://", "://app:secret@");
    let rights = advice.of(&["to wait", "database"]);
    let primary = group.primary();
    user(&|arguments| primary.cli(arguments), &rights);
    smoke(options(), &format!("{url}/3")).await;
    smoke(options().wait(1, Duration::from_secs(4)), &format!("{url}/4")).await;
}

#[tokio::test]
async fn each_missing_right_is_named() {
    let advice = Advice::ask().await;
    let redis = Redis::start();
    let cli = |arguments: &[&str]| redis.cli(arguments);
    let waiting = || options().wait(0, Duration::from_secs(4)).index_complete(true);
    let rights = advice.of(&["to wait", "database", "index"]);
    for missing in rights.iter().filter(|right| *right != "+waitaof") {
        let others: Vec<_> = rights.iter().filter(|right| *right != missing).cloned().collect();
        user(&cli, &others);
        redis.cli(&["SCRIPT", "FLUSH"]);
        let error = refused(&waiting().connect(&url(&redis, "/1")).unwrap()).await.to_string();
        let (refusal, advice) = error.split_once("it needs").unwrap_or_else(|| panic!("{missing}: no advice: {error}"));
        assert!(refusal.contains(&format!("'{}'", &missing[1..])), "{missing}: {error}");
        assert!(advice.split(' ').any(|word| word.trim_end_matches(';') == missing), "{missing}: {error}");
        user(&cli, &rights);
        smoke(waiting(), &url(&redis, "/1")).await;
        redis.cli(&["FLUSHALL"]);
    }
}
