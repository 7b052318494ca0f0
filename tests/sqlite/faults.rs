//! What the system refuses, and what others do to the files: an error that says
//! so, and no restart when the cause is gone.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::tempdir;
use tower_idempotency::clock::Clock;
use tower_idempotency::core::Timestamp;
use tower_idempotency::store::{SqliteOpenErrorKind, SqliteStore, Store, StoreErrorKind, Swap};

use super::processes::Other;
use super::records::*;

async fn swap_kind(store: &SqliteStore, name: &str) -> Result<(), (StoreErrorKind, String)> {
    match store.swap(&key(name), None, &claim()).await {
        Ok(Swap::Stored) => Ok(()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err((error.kind(), error.to_string())),
    }
}

#[tokio::test]
async fn a_transaction_of_somebodys_shell_is_named_and_replays_go_on() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    let done = answer(&store, "a").await;
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let since = Instant::now();
    let (kind, told) = swap_kind(&store, "b").await.unwrap_err();
    // The bound is the promise: a statement waits 6 seconds for a lock, and then says why.
    assert!(since.elapsed() < Duration::from_secs(8), "bounded: {:?}", since.elapsed());
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(told.contains("transaction open"), "{told}");
    assert_same(load(&store, &key("a")).await, &done);
    let Ok(Swap::Conflict(found)) = store.swap(&key("a"), None, &claim()).await else { panic!("it is there") };
    assert_same(found.record, &done);
    shell.execute_batch("ROLLBACK").unwrap();
    swap_kind(&store, "b").await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_moved_away_or_replaced_is_not_written_to() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    answer(&store, "a").await;
    for name in ["keys.db", "keys.db-wal"] {
        let (file, aside) = (directory.path().join(name), directory.path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        let (kind, told) = swap_kind(&store, "b").await.unwrap_err();
        assert_eq!(kind, StoreErrorKind::Unavailable);
        assert!(told.contains("removed") && told.contains(name), "{told}");
        assert_eq!(store.load(&key("a")).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        fs::copy(&aside, &file).unwrap();
        let (_, told) = swap_kind(&store, "b").await.unwrap_err();
        assert!(told.contains("replaced"), "{told}");
        fs::rename(&aside, &file).unwrap();
        swap_kind(&store, &format!("after-{name}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_conflict_in_a_batch_does_not_undo_its_neighbours() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    answer(&store, "taken").await;
    // They gather while the lock is somebody else's.
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let swap = |name: String| {
        let store = store.clone();
        tokio::spawn(async move { store.swap(&key(name), None, &claim()).await.unwrap() })
    };
    let first = swap("first".to_owned());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut swaps = Vec::new();
    for n in 0..30 {
        swaps.push(swap(if n % 3 == 0 { "taken".to_owned() } else { format!("new-{n}") }));
        if n % 3 == 1 {
            swaps.push(swap(format!("new-{n}")));
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    shell.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(first.await.unwrap(), Swap::Stored));
    let mut took = 0;
    for swap in swaps {
        took += usize::from(matches!(swap.await.unwrap(), Swap::Stored));
    }
    assert_eq!(took, 20, "each new key once");
    for n in (0..30).filter(|n| n % 3 != 0) {
        assert!(load(&store, &key(format!("new-{n}"))).await.is_some(), "{n}");
    }
}

#[tokio::test]
async fn a_damaged_page_is_an_error_for_its_records_and_not_for_a_batch() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    let mut answers = Vec::new();
    for n in 0..100 {
        answers.push(answer(&store, n).await);
    }
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    // Where its row is, and not its line in an index.
    // A head: its format, its checksum, and the version as the first field.
    let is_head = |head: &[u8]| head.starts_with(&[0xf1, 2]) && head[11..].starts_with(&[0, 0x1b]);
    let is_row = |at: usize| bytes[at..at + 200].windows(13).any(is_head);
    let page = |n: usize| {
        let key = key(n);
        let places = (0..bytes.len() - 200).filter(|at| bytes[*at..].starts_with(key.as_bytes()) && is_row(*at));
        // A leaf of the table. What was one before it was split has the bytes, too.
        places.map(|at| at / 4096 * 4096).find(|page| bytes[*page] == 13).unwrap()
    };
    // In leaves that are far from each other: records lie in the order in which they came.
    let (hit, other) = (10, 90);
    let at = page(hit);
    assert_ne!(at, page(other));
    bytes[at] = 0x77;
    fs::write(&path, bytes).unwrap();

    let store = SqliteStore::open(&path).unwrap();
    let shell = Connection::open(&path).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    // They gather behind the first one, which waits for the lock.
    let swap = |n: usize| {
        let (store, version) = (store.clone(), answers[n].version());
        tokio::spawn(async move { store.swap(&key(n), Some(version), &claim()).await })
    };
    let first = swap(other);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (damaged, again) = (swap(hit), swap(other));
    tokio::time::sleep(Duration::from_millis(100)).await;
    shell.execute_batch("ROLLBACK").unwrap();
    let first = first.await.unwrap();
    assert!(matches!(first, Ok(Swap::Stored)), "{first:?}");
    assert_eq!(damaged.await.unwrap().unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert!(matches!(again.await.unwrap(), Ok(Swap::Conflict(_))), "its neighbour went on");
}

/// In a process of its own, since the limit is one of a whole process.
#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else_until_there_is_room() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let mut other = Other::start(&path);
    other.tell("answer before");
    let limit = |limit: &str| {
        let id = other.id().to_string();
        let done = Command::new("prlimit").args(["--pid", &id, &format!("--fsize={limit}:unlimited")]).status();
        assert!(done.unwrap().success());
    };
    // Less than a page: neither the WAL nor the database takes one.
    limit("1000");
    for n in 0..3 {
        let told = other.tell(&format!("try full-{n}"));
        assert!(told.starts_with("Full") || told.starts_with("Unavailable"), "{told}");
    }
    assert_eq!(other.tell("try before"), "conflict", "what is there is still told");
    let id = other.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited"]).status().unwrap().success());
    for n in 0..3 {
        assert_eq!(other.tell(&format!("try full-{n}")), "took", "nothing was written, and it goes on");
    }
    other.kill();
    let store = SqliteStore::open(&path).unwrap();
    for name in ["before", "full-0", "full-1", "full-2"] {
        assert!(load(&store, &key(name)).await.is_some(), "{name}");
    }
}

/// Set for the process that runs out of descriptors: where its store is.
const CROWDED: &str = "TOWER_IDEMPOTENCY_SQLITE_CROWDED";

#[tokio::test]
async fn a_store_that_is_open_needs_no_more_descriptors() {
    if let Some(path) = std::env::var_os(CROWDED) {
        return crowded(Path::new(&path)).await;
    }
    let directory = tempdir().unwrap();
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "faults::a_store_that_is_open_needs_no_more_descriptors", "--nocapture"])
        .env(CROWDED, directory.path().join("keys.db"))
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
}

async fn crowded(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    answer(&store, "before").await;
    let mut open = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        open.push(file);
    }
    assert!(open.len() > 10);
    for n in 0..50 {
        answer(&store, n).await;
    }
    assert!(load(&store, &key("before")).await.is_some());
    let refused = SqliteStore::open(path.with_file_name("other.db")).unwrap_err();
    assert_eq!(refused.kind(), SqliteOpenErrorKind::Io, "{refused}");
    let refused = SqliteStore::open(path).unwrap_err();
    assert_eq!(refused.kind(), SqliteOpenErrorKind::Io, "{refused}");
    open.clear();
    answer(&store, "after").await;
    answer(&SqliteStore::open(path).unwrap(), "again").await;
    drop(store);
    assert!(load(&SqliteStore::open(path).unwrap(), &key(49)).await.is_some());
}

/// Panics for as long as it is broken.
#[derive(Debug)]
struct BreakingClock(Arc<AtomicBool>);

impl Clock for BreakingClock {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::SeqCst), "this clock is broken");
        Timestamp::from_millis(1_000_000_000_000)
    }
}

#[tokio::test]
async fn a_writer_that_panics_is_an_error_and_no_hang() {
    let directory = tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let options = SqliteStore::options().with_clock(BreakingClock(broken.clone()));
    let store = options.open(directory.path().join("keys.db")).unwrap();
    answer(&store, "a").await;
    broken.store(true, Ordering::SeqCst);
    let limit = Duration::from_secs(5);
    for _ in 0..3 {
        let swap = tokio::time::timeout(limit, swap_kind(&store, "b")).await.expect("an error, and no hang");
        assert_eq!(swap.unwrap_err().0, StoreErrorKind::Unavailable);
    }
    broken.store(false, Ordering::SeqCst);
    swap_kind(&store, "c").await.unwrap();
    assert!(load(&store, &key("a")).await.is_some());
}

#[tokio::test]
async fn a_directory_that_can_not_be_written_to_is_an_error() {
    let path = Path::new("/proc/sys/keys.db");
    let error = SqliteStore::open(path).unwrap_err();
    assert_eq!(error.kind(), SqliteOpenErrorKind::Io, "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn the_file_does_not_grow_as_records_come_and_go() {
    use tower_idempotency::clock::ManualClock;
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let clock = ManualClock::new();
    let store = SqliteStore::options().with_clock(clock.clone()).open(&path).unwrap();
    let mut sizes = Vec::new();
    for round in 0..6 {
        for chunk in 0..20 {
            let writes: Vec<_> = (0..50)
                .map(|n| {
                    let store = store.clone();
                    tokio::spawn(async move { answer(&store, format!("{round}-{chunk}-{n}")).await })
                })
                .collect();
            for write in writes {
                write.await.unwrap();
            }
        }
        clock.advance(RETENTION);
        sizes.push(
            fs::metadata(&path).unwrap().len() + fs::metadata(directory.path().join("keys.db-wal")).unwrap().len(),
        );
    }
    let database = Connection::open(&path).unwrap();
    let pages: i64 = database.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    assert!(pages * 4096 < 6 << 20, "a round takes some 1.5 MB: {pages} pages");
    assert!(sizes.iter().all(|size| *size < 48 << 20), "{sizes:?}");
}
