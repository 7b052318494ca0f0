//! What a server survives, by its settings.

use std::sync::{Arc, Mutex};

use servers::Redis;
use tower_idempotency::store::{DurabilityLevel, RedisStore, Store};

use super::support::*;

async fn of(arguments: &[&str]) -> (DurabilityLevel, String) {
    let redis = Redis::start_with(arguments);
    let found = open(&redis).durability().await.unwrap();
    (found.survives, found.warnings.join("\n"))
}

#[tokio::test]
async fn settings_are_read() {
    let (survives, warnings) = of(&[]).await;
    assert_eq!(survives, DurabilityLevel::AppCrash);
    assert!(warnings.contains("forgets every claim; set appendonly yes"), "{warnings}");
    let (survives, warnings) = of(&["--save", "3600 1"]).await;
    assert_eq!(survives, DurabilityLevel::AppCrash);
    assert!(warnings.contains("since the last snapshot"), "{warnings}");
    let (survives, warnings) = of(&["--appendonly", "yes"]).await;
    assert_eq!(survives, DurabilityLevel::StoreCrash);
    assert!(warnings.contains("a kill of redis while its disk is busy"), "{warnings}");
    assert!(warnings.contains("set appendfsync always"), "{warnings}");
    let (survives, warnings) = of(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    assert_eq!((survives, &*warnings), (DurabilityLevel::PowerLoss, ""));
    let (_, warnings) = of(&["--maxmemory", "1gb", "--maxmemory-policy", "volatile-lru"]).await;
    assert!(warnings.contains("volatile-lru may forget responses"), "{warnings}");
}

#[tokio::test]
async fn less_than_required_is_refused() {
    let redis = Redis::start();
    let store = RedisStore::options().prefix("t").require(DurabilityLevel::StoreCrash).connect(&redis.url()).unwrap();
    let error = refused(&store).await;
    assert!(error.to_string().contains("appendonly yes"), "{error}");
    redis.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    store.load(&key("a")).await.expect("good enough now");
}

#[tokio::test]
async fn cautions_are_told_once() {
    let redis = Redis::start();
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let told = Arc::clone(&told);
        move |warning: &str| told.lock().unwrap().push(warning.to_owned())
    };
    let store = RedisStore::options().prefix("t").on_warning(hook).connect(&redis.url()).unwrap();
    store.load(&key("a")).await.unwrap();
    assert_eq!(told.lock().unwrap().len(), 1);
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    // One call finds the connection broken.
    let _ = store.load(&key("a")).await;
    store.load(&key("a")).await.unwrap();
    assert_eq!(told.lock().unwrap().len(), 1, "the same again");
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let _ = store.load(&key("a")).await;
    store.load(&key("a")).await.unwrap();
    assert_eq!(told.lock().unwrap().len(), 2, "a new one");
}
