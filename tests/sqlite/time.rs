//! The store's time, whatever the machine's clock says.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tempfile::{TempDir, tempdir};
use tower_idempotency::core::{Hold, Timestamp};
use tower_idempotency::store::{SqliteStore, SqliteStoreOptions, Store};

use super::records::*;

const DAY: u64 = 24 * 3600 * 1000;
const SLACK: u64 = 60_000;

fn wall() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A store that was closed, with one answer, and then `set` in its line about
/// itself: as if another boot had left it so.
async fn closed(set: &str) -> TempDir {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    answer(&store, "a").await;
    drop(store);
    change(&path, set);
    directory
}

fn change(path: &Path, set: &str) {
    let database = Connection::open(path).unwrap();
    for set in set.split(", ") {
        let table = if set.starts_with("sum") { "tallies" } else { "meta" };
        let which = if set.starts_with("sum") { "WHERE bucket = -1" } else { "" };
        database.execute(&format!("UPDATE {table} SET {set} {which}"), []).unwrap();
    }
}

/// The store's time after it was opened, and what is said about it.
async fn opened(directory: &TempDir, options: SqliteStoreOptions) -> (u64, Vec<String>) {
    let store = options.open(directory.path().join("keys.db")).unwrap();
    let loaded = store.load(&key("a")).await.unwrap();
    assert!(loaded.record.is_some());
    (loaded.now.as_millis(), store.durability().await.unwrap().warnings)
}

#[track_caller]
fn assert_near(found: u64, expected: u64) {
    assert!(found.abs_diff(expected) < SLACK, "{found} is not near {expected}");
}

#[tokio::test]
async fn the_time_is_the_systems_and_goes_on() {
    let directory = closed("boot = boot").await;
    let (now, warnings) = opened(&directory, SqliteStore::options()).await;
    assert_near(now, wall());
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[tokio::test]
async fn within_a_boot_all_go_by_one_line_whatever_the_wall_clock_says() {
    // As if the wall clock had stepped by a year since the first one looked at it.
    let directory = closed(&format!("base = base + {}", 365 * DAY)).await;
    let path = directory.path().join("keys.db");
    let (one, two) = (SqliteStore::open(&path).unwrap(), SqliteStore::open(&path).unwrap());
    for store in [&one, &two] {
        assert_near(store.load(&key("a")).await.unwrap().now.as_millis(), wall() + 365 * DAY);
    }
}

#[tokio::test]
async fn a_wall_clock_behind_the_latest_time_does_not_take_it_back() {
    let latest = wall() + 40 * 365 * DAY;
    let directory = closed(&format!("boot = 'another', sum = {latest}")).await;
    let (now, warnings) = opened(&directory, SqliteStore::options()).await;
    assert!(now >= latest && now < latest + SLACK, "{now}");
    assert!(warnings.iter().any(|warning| warning.contains("behind")), "{warnings:?}");

    change(&directory.path().join("keys.db"), "boot = 'another'");
    let (now, warnings) = opened(&directory, SqliteStore::options().reset_the_latest_time()).await;
    assert_near(now, wall());
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[tokio::test]
async fn a_gap_over_a_restart_counts_as_a_day_and_forgets_nothing() {
    // The store was last written to in 1970, so the machine's clock leapt ahead.
    let directory = closed("boot = 'another', sum = 1000").await;
    let (now, warnings) = opened(&directory, SqliteStore::options()).await;
    assert_near(now, DAY + 1000);
    assert!(warnings.iter().any(|warning| warning.contains("a day")), "{warnings:?}");
}

#[tokio::test]
async fn no_holder_outlives_a_boot() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    super::records::store(&store, &key("a"), None, &claim()).await;
    let left = tempdir().unwrap();
    copy(directory.path(), left.path());
    let path = left.path().join("keys.db");
    // Its file says which boot it was of, and is not there.
    change(&path, "boot = 'another'");
    let owner = contents(left.path()).into_keys().find(|name| name.to_str().unwrap().contains(".owner-")).unwrap();
    std::fs::remove_file(left.path().join(owner)).unwrap();
    change(&path, "state = 'closed'");
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(*load(&store, &key("a")).await.unwrap().hold(), Hold::Released);
}

#[tokio::test]
async fn a_clock_that_was_reset_frees_what_rests_in_the_future() {
    let directory = closed(&format!("boot = 'another', sum = {}", wall() + 1000 * DAY)).await;
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    super::records::store(&store, &key("held"), None, &claim_with(Some("17".into()))).await;
    drop(store);
    let store = SqliteStore::options().reset_the_latest_time().open(&path).unwrap();
    let found = load(&store, &key("held")).await.unwrap();
    assert!(found.due() <= Timestamp::from_millis(wall()).after(Duration::from_secs(60)), "{:?}", found.due());
}
