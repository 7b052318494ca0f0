//! What processes leave behind that are killed one after the other.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tempfile::tempdir;
use tower_idempotency::store::{SqliteOpenErrorKind as Kind, SqliteStore};

use super::records::{answer, copy, keep_in_wal, key, load};

/// As if another process had been killed as it waited for its commit's sync: all of
/// its frames are in the WAL, and nobody knows of them.
fn killed_in_its_commit(live: &Path, bytes: usize) {
    let other = tempdir().unwrap();
    copy(live, other.path());
    let wal = |directory: &Path| directory.join("keys.db-wal");
    let before = fs::read(wal(other.path())).unwrap();
    let database = Connection::open(other.path().join("keys.db")).unwrap();
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    let insert = format!("INSERT INTO parts VALUES (-1, {bytes}, randomblob({bytes}), 0)");
    database.execute_batch(&format!("PRAGMA wal_autocheckpoint = 0; {insert}")).unwrap();
    drop(database);
    let after = fs::read(wal(other.path())).unwrap();
    let differs = |at: &usize| before.get(*at) != after.get(*at);
    let (from, to) = ((0..after.len()).find(differs).unwrap(), (0..after.len()).rfind(differs).unwrap() + 1);
    let file = fs::OpenOptions::new().write(true).open(wal(live)).unwrap();
    file.write_all_at(&after[from..to], from as u64).unwrap();
}

#[tokio::test]
async fn commits_that_were_never_made_are_not_taken_for_damage() {
    let (live, left) = (tempdir().unwrap(), tempdir().unwrap());
    let store = SqliteStore::open(live.path().join("keys.db")).unwrap();
    let _reader = keep_in_wal(&live.path().join("keys.db"));
    answer(&store, 0).await;
    killed_in_its_commit(live.path(), 100 * 4096);
    answer(&store, 1).await;
    killed_in_its_commit(live.path(), 50 * 4096);
    answer(&store, 2).await;
    copy(live.path(), left.path());
    let again = SqliteStore::open(left.path().join("keys.db")).unwrap();
    for n in 0..3 {
        assert!(load(&again, &key(n)).await.is_some(), "{n}");
    }
}

/// A program that is started again and again.
#[test]
fn openings_that_fail_leave_no_more_than_one_file() {
    let locks = ["BEGIN IMMEDIATE", "BEGIN; SELECT count(*) FROM records"];
    // At once: each opening waits for its lock.
    std::thread::scope(|scope| {
        locks.map(|lock| scope.spawn(move || fail_to_open(lock))).map(|one| one.join().unwrap())
    });
}

fn fail_to_open(lock: &str) {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    drop(SqliteStore::open(&path).unwrap());
    let files = || fs::read_dir(directory.path()).unwrap().count();
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch(lock).unwrap();
    let before = files();
    for _ in 0..2 {
        // A child that another test starts at this moment holds the lock of the one before until it
        // runs its program: as if that were alive.
        let refused = (0..100).find_map(|_| SqliteStore::open(&path).err());
        assert_eq!(refused.expect("it is locked").kind(), Kind::Busy, "{lock}");
        assert!(files() <= before + 1, "{lock}: {} of {before}", files());
    }
    shell.execute_batch("ROLLBACK").unwrap();
    drop(SqliteStore::open(&path).unwrap());
}
