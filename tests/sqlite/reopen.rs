//! What is there after the store was closed and opened again.

use std::time::Duration;

use bytes::Bytes;
use tower_idempotency::clock::{Clock, ManualClock};
use tower_idempotency::core::{Change, Hold, Status};
use tower_idempotency::store::{Filter, Query, SqliteStore, Store, Swap};

use super::records::*;

#[tokio::test]
async fn request_steps_and_response_survive() {
    let directory = tempfile::tempdir().unwrap();
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    let first = claim_with(Some(Bytes::from(vec![7; 100_000])));
    let fence = store(&files, &key("open"), None, &first).await;
    let one = save(&first, fence, "one", "1");
    let version = store(&files, &key("open"), Some(fence), &one).await;
    let begun = change(&one, fence, vec![Change::Begin { step: "two".into() }]);
    let version = store(&files, &key("open"), Some(version), &begun).await;
    let paid = save(&begun, fence, "two", "2");
    store(&files, &key("open"), Some(version), &paid).await;

    let done_claim = claim();
    let done_fence = store(&files, &key("done"), None, &done_claim).await;
    let done = complete(&done_claim, done_fence);
    store(&files, &key("done"), Some(done_fence), &done).await;
    assert_same(load(&files, &key("open")).await, &paid);
    drop(files);

    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    assert_same(load(&files, &key("done")).await, &done);
    let found = load(&files, &key("open")).await.unwrap();
    assert_same_content(&found, &paid);
    assert_eq!(found.status(), Status::Paid);
    assert!(load(&files, &key("never")).await.is_none());
}

#[tokio::test]
async fn the_lease_of_a_dead_process_is_free_and_its_write_time_stays() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let open = || SqliteStore::options().with_clock(clock.clone()).open(directory.path().join("keys.db")).unwrap();
    let files = open();
    let held = claim_with(Some("17".into()));
    store(&files, &key("held"), None, &held).await;
    let parked = change(&held, held.version(), vec![Change::Park { why: "look".into() }]);
    store(&files, &key("parked"), None, &held).await;
    store(&files, &key("parked"), Some(held.version()), &parked).await;
    let written = clock.now();
    drop(files);
    clock.advance(Duration::from_secs(1));

    let files = open();
    let found = load(&files, &key("held")).await.unwrap();
    assert_eq!(*found.hold(), Hold::Released);
    assert_ne!(found.version(), held.version(), "the dead holder's version must not match");
    assert_eq!(found.written_at(), written);
    assert_same(load(&files, &key("parked")).await, &parked);
    let lapsed = files.scan(&Query::new(Filter::Lapsed, 10)).await.unwrap();
    assert!(lapsed.found.iter().any(|found| found.key == key("held")));
    let late = complete(&held, held.version());
    let swap = files.swap(&key("held"), Some(held.version()), &late).await.unwrap();
    assert!(matches!(swap, Swap::Conflict(_)));
}

#[tokio::test]
async fn what_was_written_by_a_clock_that_went_back_is_due_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let open = || SqliteStore::options().with_clock(clock.clone()).open(directory.path().join("keys.db")).unwrap();
    let start = clock.now();
    clock.advance(Duration::from_secs(3600));
    let files = open();
    let held = claim_with(Some("17".into()));
    let free = change(&held, held.version(), vec![Change::Release]);
    for (name, then) in [("held", None), ("free", Some(&free))] {
        store(&files, &key(name), None, &held).await;
        if let Some(next) = then {
            store(&files, &key(name), Some(held.version()), next).await;
        }
    }
    let owing = claim_with_callback();
    let fence = store(&files, &key("owing"), None, &owing).await;
    store(&files, &key("owing"), Some(fence), &complete(&owing, fence)).await;
    drop(files);
    clock.set(start);

    let files = open();
    let told = load(&files, &key("owing")).await.unwrap();
    assert_eq!(told.response().unwrap().body().unwrap(), "{\"paid\":true}", "its answer is there");
    let lapsed = files.scan(&Query::new(Filter::Lapsed, 10)).await.unwrap();
    for name in ["held", "free", "owing"] {
        assert!(lapsed.found.iter().any(|found| found.key == key(name)), "{name}");
        let found = load(&files, &key(name)).await.unwrap();
        assert_eq!((found.written_at(), found.due()), (start, start), "{name}");
    }
}

#[tokio::test]
async fn times_are_the_stores_and_creation_stays() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let files = SqliteStore::options().with_clock(clock.clone()).open(directory.path().join("keys.db")).unwrap();
    let created = clock.now();
    let first = claim();
    let fence = store(&files, &key("a"), None, &first).await;
    clock.advance(Duration::from_secs(5));
    let done = complete(&first, fence);
    store(&files, &key("a"), Some(fence), &done).await;
    let found = load(&files, &key("a")).await.unwrap();
    assert_eq!(found.created_at(), Some(created));
    assert_eq!(found.written_at(), created.after(Duration::from_secs(5)));
    assert_eq!(found.due(), found.written_at().after(RETENTION));
}

#[tokio::test]
async fn a_removed_record_is_gone_with_its_parts() {
    let directory = tempfile::tempdir().unwrap();
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    let first = claim_with(Some(Bytes::from_static(b"body")));
    let fence = store(&files, &key("a"), None, &first).await;
    assert!(!files.remove(&key("a"), claim().version()).await.unwrap());
    assert!(files.remove(&key("a"), fence).await.unwrap());
    assert!(!files.remove(&key("a"), fence).await.unwrap());
    assert!(load(&files, &key("a")).await.is_none());
    drop(files);
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    assert!(load(&files, &key("a")).await.is_none());
    assert!(files.scan(&Query::new(Filter::Unfinished, 10)).await.unwrap().found.is_empty());
}

#[tokio::test]
async fn a_step_that_went_is_not_there_and_the_others_are() {
    let directory = tempfile::tempdir().unwrap();
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    let first = claim();
    let fence = store(&files, &key("a"), None, &first).await;
    let both = change(
        &first,
        fence,
        vec![Change::Begin { step: "a".into() }, Change::Save { step: "b".into(), value: Bytes::from_static(b"b") }],
    );
    let version = store(&files, &key("a"), Some(fence), &both).await;
    let cleared = change(&both, fence, vec![Change::Clear { step: "a".into() }]);
    store(&files, &key("a"), Some(version), &cleared).await;
    assert_same(load(&files, &key("a")).await, &cleared);
    drop(files);
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    assert_same_content(&load(&files, &key("a")).await.unwrap(), &cleared);
}

async fn put_complete(files: &SqliteStore, n: usize) {
    let first = claim();
    let fence = store(files, &key(n), None, &first).await;
    store(files, &key(n), Some(fence), &complete(&first, fence)).await;
}

#[tokio::test]
async fn expired_records_go_as_others_come_and_their_keys_are_free() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let files = SqliteStore::options().with_clock(clock.clone()).open(directory.path().join("keys.db")).unwrap();
    for n in 0..100 {
        put_complete(&files, n).await;
    }
    let expired = || Query::new(Filter::Expired, 1000);
    assert!(files.scan(&expired()).await.unwrap().found.is_empty());
    clock.advance(RETENTION);
    assert_eq!(files.scan(&expired()).await.unwrap().found.len(), 100);

    // One of them is claimed anew, at the version it has.
    let old = load(&files, &key(50)).await.unwrap();
    let again = claim();
    store(&files, &key(50), Some(old.version()), &again).await;
    // Twice as many go as come.
    for n in 100..150 {
        put_complete(&files, n).await;
    }
    assert!(files.scan(&expired()).await.unwrap().found.is_empty());
    assert_same(load(&files, &key(50)).await, &again);
    assert!(load(&files, &key(0)).await.is_none());
    assert!(load(&files, &key(99)).await.is_none());
    // Whatever completes later expires as well.
    store(&files, &key(50), Some(again.version()), &complete(&again, again.version())).await;
    clock.advance(RETENTION);
    for n in 200..251 {
        store(&files, &key(n), None, &claim()).await;
    }
    assert!(files.scan(&expired()).await.unwrap().found.is_empty());
    assert!(load(&files, &key(50)).await.is_none());
}

/// Nor is it forgotten.
#[tokio::test]
async fn one_that_can_not_be_read_keeps_no_other_from_going() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, path) = (ManualClock::new(), directory.path().join("keys.db"));
    let files = SqliteStore::options().with_clock(clock.clone()).open(&path).unwrap();
    for n in 0..20 {
        put_complete(&files, n).await;
        clock.advance(Duration::from_millis(1));
    }
    let other = rusqlite::Connection::open(&path).unwrap();
    let earliest = "SELECT min(due) FROM records WHERE status = 2";
    let damaged = format!("UPDATE records SET head = x'00' WHERE status = 2 AND due = ({earliest})");
    assert_eq!(other.execute(&damaged, []).unwrap(), 1);
    clock.advance(RETENTION);
    for n in 100..120 {
        store(&files, &key(n), None, &claim()).await;
    }
    let left = "SELECT count(*) FROM records WHERE status = 2";
    assert_eq!(other.query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[tokio::test]
async fn a_scan_pages_earliest_due_first() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let files = SqliteStore::options().with_clock(clock.clone()).open(directory.path().join("keys.db")).unwrap();
    let mut done = Vec::new();
    for n in 0..7 {
        let first = claim();
        let fence = store(&files, &key(n), None, &first).await;
        clock.advance(Duration::from_secs(1));
        if n < 5 {
            store(&files, &key(n), Some(fence), &complete(&first, fence)).await;
            done.push(key(n));
        }
    }
    clock.advance(RETENTION);
    let mut found = Vec::new();
    let mut query = Query::new(Filter::Expired, 2);
    loop {
        let page = files.scan(&query).await.unwrap();
        assert!(page.found.len() <= 2);
        found.extend(page.found.iter().map(|found| found.key));
        let Some(next) = page.next else { break };
        query = query.after(next);
    }
    assert_eq!(found, done);
    let page = files.scan(&Query::new(Filter::Unfinished, 1)).await.unwrap();
    assert_eq!(page.found[0].key, key(5));
    let page = files.scan(&Query::new(Filter::Lapsed, 1).after(page.next.unwrap())).await.unwrap();
    assert_eq!((page.found[0].key, page.next), (key(6), None));
}

#[tokio::test]
async fn what_completes_or_loses_a_step_leaves_no_parts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let files = SqliteStore::open(&path).unwrap();
    let parts = || {
        let database = rusqlite::Connection::open(&path).unwrap();
        database.query_row("SELECT count(*) FROM parts", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let first = claim_with(Some("body".into()));
    let fence = store(&files, &key("a"), None, &first).await;
    let begun = change(&first, fence, vec![Change::Begin { step: "a".into() }]);
    let version = store(&files, &key("a"), Some(fence), &begun).await;
    assert_eq!(parts(), 2, "the request and a step");
    let cleared = change(&begun, fence, vec![Change::Clear { step: "a".into() }]);
    let version = store(&files, &key("a"), Some(version), &cleared).await;
    assert_eq!(parts(), 1, "the request");
    store(&files, &key("a"), Some(version), &complete(&cleared, fence)).await;
    assert_eq!(parts(), 0);
}

#[tokio::test]
async fn a_step_costs_what_it_weighs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let files = SqliteStore::open(&path).unwrap();
    let first = claim_with(Some(Bytes::from(vec![1; 1 << 20])));
    let fence = store(&files, &key("a"), None, &first).await;
    // While this reads, the WAL only grows.
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row("SELECT count(*) FROM records", [], |row| row.get::<_, i64>(0)).unwrap();
    let wal = || std::fs::metadata(directory.path().join("keys.db-wal")).unwrap().len();
    let before = wal();
    let (mut record, mut version) = (first, fence);
    for n in 0..200 {
        record = save(&record, fence, &format!("step {n}"), &"2".repeat(100));
        version = store(&files, &key("a"), Some(version), &record).await;
    }
    let steps = wal() - before;
    assert!(steps < 200 * 40_000, "{steps} bytes for 200 steps of 100 bytes beside a request of 1 MiB");
    let found = load(&files, &key("a")).await.unwrap();
    assert_eq!((found.steps().len(), found.request().unwrap().body().len()), (200, 1 << 20));
}
