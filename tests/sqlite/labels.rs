//! The index of labels, and what its table has.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{Change, Key, Record};
use tower_idempotency::store::{Filter, Query, SqliteStore, Store, StoreErrorKind};
use tower_idempotency::{Label, Operation, Runner};

use super::records::*;

fn order() -> Label {
    Label::new("order", 17)
}

/// A claim, and its handler's first write, which has the label.
async fn labelled(store: &SqliteStore, name: &str) -> (Record, Record) {
    let first = claim();
    self::store(store, &key(name), None, &first).await;
    let second = change(&first, first.version(), vec![Change::Label { label: order() }]);
    self::store(store, &key(name), Some(first.version()), &second).await;
    (first, second)
}

async fn found(store: &SqliteStore, filter: Filter) -> Vec<Key> {
    let page = store.scan(&Query::new(filter, 10).label(order())).await.unwrap();
    page.found.into_iter().map(|found| found.key).collect()
}

/// How many rows the table of the index has.
fn rows(path: &Path, table: &str) -> i64 {
    let database = Connection::open(path).unwrap();
    database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn without_the_option_there_is_no_index_and_no_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    labelled(&store, "one").await;
    assert!(!store.indexes_labels());
    let refused = store.scan(&Query::new(Filter::Unfinished, 10).label(order())).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::NotIndexed);
    assert!(refused.to_string().contains("index_labels(true)"), "{refused}");
    let database = Connection::open(&path).unwrap();
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'labels%'";
    assert_eq!(database.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn a_row_goes_with_its_record_and_an_operation_without_labels_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let (path, clock) = (directory.path().join("keys.db"), ManualClock::new());
    let store = SqliteStore::options().index_labels(true).with_clock(clock.clone()).open(&path).unwrap();
    answer(&store, "bare").await;
    assert_eq!(rows(&path, "labels"), 0);
    let (_, removed) = labelled(&store, "removed").await;
    let (first, second) = labelled(&store, "expires").await;
    let done = complete(&second, first.version());
    self::store(&store, &key("expires"), Some(second.version()), &done).await;
    // The label in the place of which another one comes.
    let (first, second) = labelled(&store, "relabelled").await;
    let other = Change::Label { label: Label::new("order", 18) };
    let third = change(&second, first.version(), vec![other]);
    self::store(&store, &key("relabelled"), Some(second.version()), &third).await;
    assert_eq!(rows(&path, "labels"), 3);
    assert!(store.remove(&key("removed"), removed.version()).await.unwrap());
    assert_eq!(rows(&path, "labels"), 2);
    clock.advance(RETENTION + Duration::from_secs(1));
    // A write sweeps what has expired.
    answer(&store, "later").await;
    assert_eq!((rows(&path, "labels"), rows(&path, "records")), (1, 2));
}

/// As an earlier release does, whose store was open before there was an index.
#[tokio::test]
async fn a_store_that_knows_no_index_leaves_nothing_wrong_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let older = SqliteStore::open(&path).unwrap();
    let (fence, before) = labelled(&older, "before").await;
    let newer = SqliteStore::options().index_labels(true).open(&path).unwrap();
    let (first, second) = labelled(&newer, "ended").await;
    let (_, removed) = labelled(&newer, "removed").await;
    assert_eq!(found(&newer, Filter::Unfinished).await.len(), 2, "what was begun before is not in it");
    let done = complete(&second, first.version());
    store(&older, &key("ended"), Some(second.version()), &done).await;
    assert!(older.remove(&key("removed"), removed.version()).await.unwrap());
    assert!(found(&newer, Filter::Unfinished).await.is_empty());
    assert_eq!(found(&newer, Filter::Complete).await, [key("ended")]);
    // Written again by a store with the index, what was begun before is in it.
    let again = change(&before, fence.version(), vec![Change::Renew]);
    store(&newer, &key("before"), Some(before.version()), &again).await;
    assert_eq!(found(&newer, Filter::Unfinished).await, [key("before")]);
    // A store that is opened later keeps the index, whatever its options say.
    let later = SqliteStore::open(&path).unwrap();
    assert!(later.indexes_labels() && !older.indexes_labels());
    labelled(&later, "later").await;
    assert_eq!(found(&later, Filter::Unfinished).await.len(), 2);
}

/// In tables of a database that was there, and by a transaction of the caller's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_the_callers_writes_the_index_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let shop = Connection::open(&path).unwrap();
    shop.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders (item TEXT)").unwrap();
    let store = SqliteStore::options().index_labels(true).join_existing_database().open(&path).unwrap();
    let (runner, transactions) = (Runner::new(store.clone()), store.transactions());
    let ran = runner.run("s", "k", "", |op: Operation| async move {
        op.label("order", 17);
        let put = op.transaction(&transactions, "order", |tx| {
            Box::pin(async move { tx.call(|db| db.execute("INSERT INTO orders VALUES ('tea')", [])).await })
        });
        put.await
    });
    assert_eq!(ran.await.unwrap(), 1_usize);
    assert_eq!(rows(&path, "idempotency_labels"), 1);
    assert_eq!(found(&store, Filter::Complete).await.len(), 1);
}
