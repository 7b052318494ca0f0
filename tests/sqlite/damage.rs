//! Files that are missing, cut short, exchanged or changed: acknowledged answers
//! are never "absent".

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::Connection;
use tempfile::{TempDir, tempdir};
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::Key;
use tower_idempotency::store::{SqliteOpenErrorKind as Kind, SqliteStore, SqliteStoreOptions, Store, StoreErrorKind};

use super::open::{refused, refused_by};
use super::records::*;

const PAGE: usize = 4096;
/// What a disk writes at once.
const SECTOR: usize = 512;
const SECTORS: usize = PAGE / SECTOR;

/// A store as a `kill -9` leaves it, with answers to "0" to "9", all of them in the WAL
/// alone.
async fn killed() -> (TempDir, PathBuf) {
    let (live, left) = (tempdir().unwrap(), tempdir().unwrap());
    let store = SqliteStore::open(live.path().join("keys.db")).unwrap();
    let _reader = keep_in_wal(&live.path().join("keys.db"));
    for n in 0..10 {
        answer(&store, n).await;
    }
    copy(live.path(), left.path());
    let path = left.path().join("keys.db");
    (left, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn owners(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.to_str().unwrap().contains(".owner-")).collect()
}

async fn all_are_there(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    for n in 0..10 {
        assert!(load(&store, &key(n)).await.is_some(), "{n}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let (_directory, path) = killed().await;
    all_are_there(&path).await;
    all_are_there(&path).await;
    assert!(owners(&path).is_empty());
}

#[tokio::test]
async fn a_missing_wal_is_refused_until_it_is_back() {
    let (_directory, path) = killed().await;
    let (wal, aside) = (beside(&path, "-wal"), beside(&path, "-aside"));
    fs::rename(&wal, &aside).unwrap();
    for _ in 0..2 {
        assert_eq!(refused(&path), Kind::Incomplete);
    }
    fs::rename(&aside, &wal).unwrap();
    all_are_there(&path).await;
}

#[tokio::test]
async fn a_wal_that_was_cut_short_is_refused() {
    let (_directory, path) = killed().await;
    let wal = beside(&path, "-wal");
    let whole = fs::read(&wal).unwrap();
    for length in [0, 1, 31, 32, 5000, whole.len() / 2, whole.len() - 4120, whole.len() - 1] {
        fs::write(&wal, &whole[..length]).unwrap();
        assert!([Kind::Incomplete, Kind::Damaged].contains(&refused(&path)), "cut at {length}");
    }
    fs::write(&wal, &whole).unwrap();
    all_are_there(&path).await;
}

#[tokio::test]
async fn the_wal_of_another_store_is_refused() {
    let (_directory, path) = killed().await;
    let (_other, other) = killed().await;
    let wal = beside(&path, "-wal");
    let own = fs::read(&wal).unwrap();
    fs::copy(beside(&other, "-wal"), &wal).unwrap();
    let before = fs::read(&path).unwrap();
    assert!([Kind::Incomplete, Kind::Damaged].contains(&refused(&path)));
    assert!(fs::read(&path).unwrap() == before, "the database was changed");
    fs::write(&wal, own).unwrap();
    all_are_there(&path).await;
}

#[tokio::test]
async fn the_wal_of_another_store_beside_one_that_was_closed_is_refused() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    answer(&store, "a").await;
    drop(store);
    let (_other, other) = killed().await;
    fs::copy(beside(&other, "-wal"), beside(&path, "-wal")).unwrap();
    assert_eq!(refused(&path), Kind::Incomplete);
    fs::remove_file(beside(&path, "-wal")).unwrap();
    assert!(load(&SqliteStore::open(&path).unwrap(), &key("a")).await.is_some());
}

#[tokio::test]
async fn a_copy_of_the_database_file_alone_is_refused() {
    let (_directory, path) = killed().await;
    let elsewhere = tempdir().unwrap();
    let copy = elsewhere.path().join("keys.db");
    fs::copy(&path, &copy).unwrap();
    assert_eq!(refused(&copy), Kind::Incomplete);
    let store = SqliteStore::options().accept_the_loss_of_acknowledged_writes().open(&copy).unwrap();
    answer(&store, "after").await;
    drop(store);
    assert!(load(&SqliteStore::open(&copy).unwrap(), &key("after")).await.is_some());
}

#[tokio::test]
async fn without_word_of_who_had_it_a_store_that_was_not_closed_is_refused() {
    let (_directory, path) = killed().await;
    owners(&path).iter().for_each(|owner| fs::remove_file(owner).unwrap());
    assert_eq!(refused(&path), Kind::Incomplete);
}

#[tokio::test]
async fn a_missing_or_shortened_database_is_refused() {
    let (_directory, path) = killed().await;
    let whole = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(refused(&path), Kind::Incomplete);
    assert!(!path.exists(), "it was made anew");
    for length in [0, 50, 100, 4096, 8192, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let kind = refused_or_whole(&path).await;
        assert!(kind.is_none_or(|kind| kind != Kind::Foreign), "cut at {length}: {kind:?}");
    }
}

#[tokio::test]
async fn a_database_that_was_closed_and_is_gone_is_refused() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    drop(SqliteStore::open(&path).unwrap());
    fs::remove_file(&path).unwrap();
    assert_eq!(refused(&path), Kind::Incomplete);
}

/// Pages that lie in the WAL may be missing from the file.
async fn refused_or_whole(path: &Path) -> Option<Kind> {
    match SqliteStore::open(path) {
        Ok(store) => {
            for n in 0..10 {
                assert!(store.load(&key(n)).await.is_ok_and(|loaded| loaded.record.is_some()), "{n} is lost");
            }
            None
        }
        Err(error) => Some(error.kind()),
    }
}

/// The frames of a WAL: where each begins, and whether it ends a transaction.
fn frames(wal: &[u8]) -> Vec<(usize, bool)> {
    let salts = &wal[16..24];
    let all = (32..).step_by(4096 + 24).take_while(|at| at + 4120 <= wal.len());
    let current = all.take_while(|at| &wal[at + 8..at + 16] == salts);
    current.map(|at| (at, wal[at + 4..at + 8] != [0; 4])).collect()
}

#[tokio::test]
async fn a_bad_frame_before_acknowledged_writes_is_refused_and_left_as_it_is() {
    let (_directory, path) = killed().await;
    let wal = beside(&path, "-wal");
    let whole = fs::read(&wal).unwrap();
    let frames = frames(&whole);
    let ends = frames.iter().filter(|(_, end)| *end).count();
    assert!(ends > 10, "each write is a transaction: {ends}");
    for (at, _) in &frames {
        for offset in [0, 9, 17, 24, 4000] {
            let mut bytes = whole.clone();
            bytes[at + offset] ^= 0x40;
            fs::write(&wal, &bytes).unwrap();
            let kind = refused(&path);
            assert!([Kind::Damaged, Kind::Incomplete].contains(&kind), "{kind:?}");
            assert!(fs::read(&wal).unwrap() == bytes, "the WAL was changed");
        }
    }
    // Nor without word of how much there was: power loss may take that back.
    forget_the_count(&path);
    let mut bytes = whole;
    bytes[frames[frames.len() / 2].0 + 100] ^= 1;
    fs::write(&wal, &bytes).unwrap();
    assert_eq!(refused(&path), Kind::Damaged);
}

/// A child that a process forked holds its locks on, so that it seems to live. What it
/// knew to be on the disk is missed all the same.
#[tokio::test]
async fn a_lock_that_a_child_holds_hides_no_damage() {
    let (_directory, path) = killed().await;
    let held = fs::File::open(&owners(&path)[0]).unwrap();
    held.lock().unwrap();
    let wal = beside(&path, "-wal");
    let whole = fs::read(&wal).unwrap();
    for (at, _) in frames(&whole) {
        let mut bytes = whole.clone();
        bytes[at + 4000] ^= 0x40;
        fs::write(&wal, &bytes).unwrap();
        let kind = refused(&path);
        assert!([Kind::Damaged, Kind::Incomplete].contains(&kind), "{kind:?}");
        assert!(fs::read(&wal).unwrap() == bytes, "the WAL was changed");
    }
    fs::write(&wal, &whole).unwrap();
    all_are_there(&path).await;
}

/// As if the count had never reached the disk before the machine was started again.
fn forget_the_count(path: &Path) {
    let owner = owners(path).remove(0);
    let early = tempdir().unwrap();
    let other = early.path().join("keys.db");
    let _store = SqliteStore::open(&other).unwrap();
    let mut bytes = fs::read(&owner).unwrap();
    let first = fs::read(&owners(&other)[0]).unwrap();
    // The count is the last but its checksum, and that is over the number, too.
    let end = bytes.len() - 16;
    bytes[8..16].copy_from_slice(&first[8..16]);
    bytes[16..52].copy_from_slice(b"00000000-0000-4000-8000-000000000000");
    bytes[end..].copy_from_slice(&first[end..]);
    let name = owners(&other)[0].file_name().unwrap().to_owned();
    fs::remove_file(&owner).unwrap();
    fs::write(owner.with_file_name(name), bytes).unwrap();
}

#[tokio::test]
async fn a_last_transaction_that_power_loss_tore_is_cut_off() {
    let (live, left) = (tempdir().unwrap(), tempdir().unwrap());
    let store = SqliteStore::open(live.path().join("keys.db")).unwrap();
    let _reader = keep_in_wal(&live.path().join("keys.db"));
    for n in 0..10 {
        answer(&store, n).await;
    }
    copy(live.path(), left.path());
    let before = fs::read(left.path().join("keys.db-wal")).unwrap().len();
    let held = claim_with(Some(Bytes::from(vec![7; 20_000])));
    super::records::store(&store, &key("last"), None, &held).await;
    // The files as they were, but that the WAL is longer: nobody heard of it.
    let whole = fs::read(live.path().join("keys.db-wal")).unwrap();
    let path = left.path().join("keys.db");
    let files = contents(left.path());
    for hole in (before..whole.len()).step_by(2048) {
        for (name, content) in &files {
            fs::write(left.path().join(name), content).unwrap();
        }
        let mut torn = whole.clone();
        torn[hole..(hole + 2048).min(whole.len())].fill(0);
        if torn == whole {
            continue;
        }
        fs::write(beside(&path, "-wal"), torn).unwrap();
        all_are_there(&path).await;
        assert!(load(&SqliteStore::open(&path).unwrap(), &key("last")).await.is_none(), "hole at {hole}");
    }
}

/// A check-point that a loss of power cut short leaves pages of which some sectors are
/// new and some are old. The WAL has them whole.
#[tokio::test]
async fn a_check_point_that_power_loss_tore_is_made_again() {
    let live = tempdir().unwrap();
    let options = SqliteStoreOptions::new();
    let store = options.clone().open(live.path().join("keys.db")).unwrap();
    let _reader = keep_in_wal(&live.path().join("keys.db"));
    // Counts that need a byte more than before move what follows them in their page.
    for n in 0..200 {
        answer(&store, n).await;
    }
    every_torn_check_point_is_made_again(live.path(), &options, 200).await;
}

/// There the list of tables changes, too: it is the application's.
#[tokio::test]
async fn a_check_point_that_power_loss_tore_in_a_joined_database_is_made_again() {
    let live = tempdir().unwrap();
    let path = live.path().join("keys.db");
    let own = Connection::open(&path).unwrap();
    own.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
    let options = SqliteStoreOptions::new().join_existing_database();
    let store = options.clone().open(&path).unwrap();
    let _reader = keep_in_wal(&path);
    for n in 0..20 {
        answer(&store, n).await;
        own.execute_batch(&format!("CREATE INDEX orders_{n} ON orders (id)")).unwrap();
    }
    every_torn_check_point_is_made_again(live.path(), &options, 20).await;
}

/// Takes the files as they are, and a check-point of them that ends in the middle of each
/// of its pages.
async fn every_torn_check_point_is_made_again(live: &Path, options: &SqliteStoreOptions, answers: usize) {
    let (left, moved) = (tempdir().unwrap(), tempdir().unwrap());
    copy(live, left.path());
    copy(live, moved.path());
    let checkpoint = Connection::open(moved.path().join("keys.db")).unwrap();
    checkpoint.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let path = left.path().join("keys.db");
    let (old, new) = (fs::read(&path).unwrap(), fs::read(moved.path().join("keys.db")).unwrap());
    let files = contents(left.path());
    let torn = (0..old.len() / PAGE).flat_map(|page| [(page, 0), (page, 1)]);
    let torn: Vec<_> =
        torn.map(|(page, parity)| (page, tear(&old, &new, page, parity))).filter(|(_, torn)| *torn != old).collect();
    assert!(!torn.is_empty(), "the check-point changes no page");
    for (page, torn) in torn {
        for (name, content) in &files {
            fs::write(left.path().join(name), content).unwrap();
        }
        fs::write(&path, torn).unwrap();
        let store = options.clone().open(&path).unwrap_or_else(|error| panic!("page {page}: {error}"));
        for n in 0..answers {
            assert!(load(&store, &key(n)).await.is_some(), "page {page}: {n}");
        }
    }
}

/// Every other sector of this page as the check-point leaves it.
fn tear(old: &[u8], new: &[u8], page: usize, parity: usize) -> Vec<u8> {
    let mut torn = old.to_vec();
    for sector in (page * SECTORS..(page + 1) * SECTORS).filter(|sector| sector % 2 == parity) {
        let bytes = sector * SECTOR..(sector + 1) * SECTOR;
        torn[bytes.clone()].copy_from_slice(&new[bytes]);
    }
    torn
}

#[tokio::test]
async fn a_record_that_is_gone_is_not_absent_and_others_go_on() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    for n in 0..10 {
        answer(&store, n).await;
    }
    drop(store);
    let database = Connection::open(&path).unwrap();
    database.execute_batch("DROP TRIGGER records_removed").unwrap();
    database.execute("DELETE FROM records WHERE key = ?1", [key(3).as_bytes().as_slice()]).unwrap();
    drop(database);
    let store = SqliteStore::open(&path).unwrap();
    let kind = |error: tower_idempotency::store::StoreError| error.kind();
    assert_eq!(store.swap(&key(3), None, &claim()).await.map_err(kind).unwrap_err(), StoreErrorKind::Corrupt);
    assert_eq!(store.load(&key(3)).await.map_err(kind).unwrap_err(), StoreErrorKind::Corrupt);
    let version = claim().version();
    assert_eq!(store.remove(&key(3), version).await.map_err(kind).unwrap_err(), StoreErrorKind::Corrupt);
    assert_eq!(store.swap(&key(3), Some(version), &claim()).await.map_err(kind).unwrap_err(), StoreErrorKind::Corrupt);
    for n in (0..10).filter(|n| *n != 3) {
        assert!(load(&store, &key(n)).await.is_some(), "{n}");
    }
    answer(&store, "new").await;
    let warnings = store.durability().await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("1 of 128")), "{warnings:?}");
}

#[tokio::test]
async fn a_record_whose_key_was_changed_is_not_absent() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    answer(&store, "a").await;
    drop(store);
    let mut changed = *key("a").as_bytes();
    changed[31] ^= 1;
    let database = Connection::open(&path).unwrap();
    // As a flipped bit would leave it: no trigger hears of that.
    database.execute_batch("DROP TRIGGER records_changed").unwrap();
    database.execute("UPDATE records SET key = ?1", [changed.as_slice()]).unwrap();
    drop(database);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.load(&key("a")).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(store.swap(&key("a"), None, &claim()).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn a_key_that_was_changed_in_its_row_and_not_in_the_index_is_damage_and_others_go_on() {
    let directory = tempdir().unwrap();
    let (path, clock) = (directory.path().join("keys.db"), ManualClock::new());
    let open = || SqliteStore::options().with_clock(clock.clone()).open(&path).unwrap();
    let store = open();
    for n in 0..10 {
        answer(&store, n).await;
    }
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let is_in_a_row = |at: &usize| bytes[at / 4096 * 4096] == 13 && bytes[*at..].starts_with(key(3).as_bytes());
    let at = (4096..bytes.len()).find(is_in_a_row).unwrap();
    bytes[at + 31] ^= 1;
    fs::write(&path, bytes).unwrap();
    let store = open();
    assert_eq!(store.load(&key(3)).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(store.swap(&key(3), None, &claim()).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    // It stays where it is as its neighbours expire, which fail for nobody.
    clock.advance(RETENTION);
    answer(&store, "new").await;
    assert!(load(&store, &key(4)).await.is_none());
    assert_eq!(store.load(&key(3)).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn a_record_whose_due_time_is_not_searched_any_more_is_damage() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    super::records::store(&store, &key("a"), None, &claim()).await;
    drop(store);
    let database = Connection::open(&path).unwrap();
    database
        .execute_batch(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'status < 2', 'status < 0') \
             WHERE name = 'records_unfinished';",
        )
        .unwrap();
    drop(database);
    let database = Connection::open(&path).unwrap();
    database.execute_batch("REINDEX records_unfinished; PRAGMA writable_schema = ON;").unwrap();
    let sql =
        "UPDATE sqlite_schema SET sql = replace(sql, 'status < 0', 'status < 2') WHERE name = 'records_unfinished'";
    database.execute(sql, []).unwrap();
    drop(database);
    let store = SqliteStore::open(&path).unwrap();
    assert!(load(&store, &key("a")).await.is_some());
    // Of the same bucket.
    let bucket = |key: &Key| key.as_bytes()[0] >> 1;
    let neighbour = (0..).map(key).find(|other| bucket(other) == bucket(&key("a"))).unwrap();
    // In the background, which looks at every record.
    let begin = std::time::Instant::now();
    let error = loop {
        match store.load(&neighbour).await {
            Ok(_) => assert!(begin.elapsed().as_secs() < 30, "it goes unnoticed"),
            Err(error) => break error,
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn a_changed_record_is_an_error_and_is_not_overwritten() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    let done = answer(&store, "a").await;
    let changes = [
        "version = version + 1",
        "status = 0",
        "due = 0",
        "created = created - 1",
        "attempts = 9",
        "holder = 5",
        "steps = 1",
        "head = x'00'",
        "response = x'00'",
        "written = 'x'",
    ];
    for change in changes {
        let database = Connection::open(&path).unwrap();
        let sql =
            format!("BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM records; UPDATE records SET {change}; COMMIT;");
        database.execute_batch(&sql).unwrap();
        assert_eq!(store.load(&key("a")).await.unwrap_err().kind(), StoreErrorKind::Corrupt, "{change}");
        let over = store.swap(&key("a"), Some(done.version()), &claim()).await;
        assert_eq!(over.map_err(|error| error.kind()).unwrap_err(), StoreErrorKind::Corrupt, "{change}");
        database.execute_batch("DELETE FROM records; INSERT INTO records SELECT * FROM kept;").unwrap();
        assert_same(load(&store, &key("a")).await, &done);
    }
}

#[tokio::test]
async fn a_step_or_a_request_that_is_changed_or_gone_is_an_error() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    let first = claim_with(Some(Bytes::from_static(b"body")));
    let fence = super::records::store(&store, &key("a"), None, &first).await;
    let saved = save(&first, fence, "one", "1");
    super::records::store(&store, &key("a"), Some(fence), &saved).await;
    let changes = [
        "DELETE FROM parts WHERE n = 0",
        "DELETE FROM parts WHERE n = 1",
        "UPDATE parts SET value = x'01'",
        "UPDATE parts SET n = 7 WHERE n = 1",
        "UPDATE parts SET hash = 1 WHERE n = 0",
    ];
    for change in changes {
        let database = Connection::open(&path).unwrap();
        database.execute_batch(&format!("CREATE TEMP TABLE kept AS SELECT * FROM parts; {change};")).unwrap();
        assert_eq!(store.load(&key("a")).await.unwrap_err().kind(), StoreErrorKind::Corrupt, "{change}");
        database.execute_batch("DELETE FROM parts; INSERT INTO parts SELECT * FROM kept;").unwrap();
        assert_same(load(&store, &key("a")).await, &saved);
    }
}

#[tokio::test]
async fn a_loss_is_accepted_by_name_alone() {
    let (_directory, path) = killed().await;
    fs::remove_file(beside(&path, "-wal")).unwrap();
    assert_eq!(refused(&path), Kind::Incomplete);
    let store = SqliteStore::options().accept_the_loss_of_acknowledged_writes().open(&path).unwrap();
    answer(&store, "after").await;
    drop(store);
    assert!(load(&SqliteStore::open(&path).unwrap(), &key("after")).await.is_some());
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    let accepting = SqliteStore::options().accept_the_loss_of_acknowledged_writes();
    assert_eq!(refused_by(accepting, &path), Kind::Incomplete, "of nothing there is nothing to go on with");
}
