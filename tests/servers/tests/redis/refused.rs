//! Servers, users, data and URLs that are refused, and what is said.

use servers::Redis;
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{self, RedisStore, Store, StoreErrorKind};

use super::support::*;

fn name(key: &tower_idempotency::core::Key) -> String {
    servers::redis_name("t", key.as_bytes())
}

/// Neither a load nor a claim; what is there stays.
async fn is_refused(redis: &Redis, kind: StoreErrorKind, says: &str) {
    let before = redis.cli(&["DUMP", &name(&key("a"))]);
    let ledger = Ledger::new(open(redis));
    let load = ledger.store().load(&key("a")).await.expect_err("it can't be read");
    assert_eq!(load.kind(), kind, "{load}");
    assert!(load.to_string().contains(says), "{load}");
    let claim = claim_key(&ledger, &key("a")).await.expect_err("no run");
    assert_eq!(claim.kind(), kind, "{claim}");
    assert_eq!(redis.cli(&["DUMP", &name(&key("a"))]), before, "it was overwritten");
    assert_eq!(redis.cli(&["--scan", "--pattern", "*:due"]), "", "it was listed");
}

#[tokio::test]
async fn another_type_at_our_key() {
    let redis = Redis::start();
    redis.cli(&["SET", &name(&key("a")), "theirs"]);
    is_refused(&redis, StoreErrorKind::Corrupt, "something else than a record").await;
}

#[tokio::test]
async fn a_foreign_hash_at_our_key() {
    let redis = Redis::start();
    redis.cli(&["HSET", &name(&key("a")), "name", "theirs"]);
    is_refused(&redis, StoreErrorKind::Corrupt, "a hash at this key that is not ours").await;
    redis.cli(&["HSET", &name(&key("a")), "h", "theirs"]);
    is_refused(&redis, StoreErrorKind::Corrupt, "columns do not parse").await;
}

#[tokio::test]
async fn a_newer_format_at_our_key() {
    let redis = Redis::start();
    redis.cli(&["HSET", &name(&key("a")), "h", "3 whatever comes\nthen"]);
    is_refused(&redis, StoreErrorKind::NewerFormat, "format 3").await;
}

/// As builds from before the first release wrote it.
#[tokio::test]
async fn format_1_at_our_key() {
    let redis = Redis::start();
    redis.cli(&["SET", &name(&key("a")), "1 C 00000000000000a7 1764000000000 1764000000017 0 2\nxy"]);
    is_refused(&redis, StoreErrorKind::Corrupt, "before the first release").await;
}

#[tokio::test]
async fn another_type_at_our_index() {
    let redis = Redis::start();
    redis.cli(&["SET", &format!("{}due", &name(&key("a"))[.."{t:00}:".len()]), "theirs"]);
    let ledger = Ledger::new(open(&redis));
    let error = claim_key(&ledger, &key("a")).await.expect_err("no run");
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert_eq!(redis.cli(&["EXISTS", &name(&key("a"))]), "0", "half a write");
}

#[tokio::test]
async fn eviction_of_unfinished_records() {
    let redis = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let store = open(&redis);
    let error = refused(&*store).await;
    assert!(error.to_string().contains("set maxmemory-policy noeviction"), "{error}");
    assert!(claim_key(&Ledger::new(store.clone()), &key("a")).await.is_err());
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    claim_key(&Ledger::new(store), &key("a")).await.unwrap().expect("granted");
}

#[tokio::test]
async fn a_replica() {
    let primary = Redis::start();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    let error = refused(&*open(&replica)).await;
    assert!(error.to_string().contains("replica"), "{error}");
}

#[tokio::test]
async fn a_user_without_rights() {
    let redis = Redis::start();
    redis.cli(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-zadd"]);
    let url = format!("redis://app:secret@127.0.0.1:{}", redis.port());
    let store = RedisStore::options().prefix("t").connect(&url).unwrap();
    let error = refused(&store).await;
    assert!(error.to_string().contains("lacks rights") && error.to_string().contains("+zadd"), "{error}");
    redis.cli(&["ACL", "SETUSER", "app", "+zadd", "-config"]);
    claim_key(&Ledger::new(store), &key("a")).await.unwrap().expect("without CONFIG, too");
}

/// What a trial wrote before it was refused does not spoil the next one.
#[tokio::test]
async fn a_right_that_was_missing() {
    let redis = Redis::start();
    redis.cli(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-get"]);
    let url = format!("redis://app:secret@127.0.0.1:{}", redis.port());
    let store = RedisStore::options().prefix("t").connect(&url).unwrap();
    assert!(refused(&store).await.to_string().contains("lacks rights"));
    redis.cli(&["ACL", "SETUSER", "app", "+get"]);
    claim_key(&Ledger::new(store), &key("a")).await.unwrap().expect("granted");
}

#[tokio::test]
async fn a_wrong_password() {
    let redis = Redis::start_with(&["--requirepass", "right"]);
    let url = |password| format!("redis://:{password}@127.0.0.1:{}", redis.port());
    refused(&RedisStore::connect(&url("wrong")).unwrap()).await;
    refused(&RedisStore::connect(&redis.url()).unwrap()).await;
    RedisStore::connect(&url("right")).unwrap().load(&key("a")).await.unwrap();
}

#[test]
fn urls_with_typos() {
    for (url, says) in [
        ("redis:localhost", "write redis://"),
        ("redis+sentinel://localhost:26379", "/NAME"),
        ("redis+sentinel:///mymaster", "/NAME"),
        ("redis+cluster://", "redis+cluster://[USER"),
        ("redis+cluster://h:1/0", "redis+cluster://[USER"),
        ("reddis://localhost", "not a store URL"),
        ("redis://h?db=3", "\"db\""),
        ("redis://h/1?protocol=3&ssl=true", "\"ssl\""),
        ("redis://h?password=hunter2", "\"password\""),
        ("redis://u:12?hunter2@h", "what follows ?"),
        ("redis://h#insecure", "nothing may follow"),
        ("rediss://h#verify", "#insecure"),
        ("rediss://h?db=3#insecure", "\"db\""),
        ("redis+unix:///run/redis.sock?database=1", "\"database\""),
        ("redis+unix:///run/redis.sock?db=1#a", "nothing may follow"),
        ("redis+sentinel://h/mymaster?db=1", "redis+sentinel://[USER"),
        ("redis+sentinel://h/mymaster/1#a", "redis+sentinel://[USER"),
        ("redis+sentinel://h?db=1/mymaster", "redis+sentinel://[USER"),
        ("redis+cluster://h:1?protocol=3", "redis+cluster://[USER"),
        ("rediss+cluster://h:1#insecure", "redis+cluster://[USER"),
        ("redis+socket://h", "not a store URL"),
    ] {
        let error = store::connect(url).map(drop).expect_err(url).to_string();
        assert!(error.contains(says), "{url}: {error}");
    }
    for url in [
        "redis://h:1/2?protocol=3",
        "redis+unix:///run/redis.sock?db=1&user=a&pass=b&protocol=resp3",
        "rediss://h/1?protocol=2#insecure",
        "rediss://u:p%3Fx@h",
        "redis+sentinel://u:p%23x@h/mymaster/2",
        "redis+cluster://u:p%3Fx@h:1,g:2",
    ] {
        store::connect(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    assert!(store::connect("redis://localhost:port").is_err());
    let error = store::connect("redis://user:hunter2@localhost:port").map(drop).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert!(RedisStore::options().prefix("a{b").connect("redis://localhost").is_err());
}
