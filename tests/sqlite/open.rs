//! What the store opens and what it leaves alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rusqlite::Connection;
use tempfile::tempdir;
use tower_idempotency::store::{
    self, DurabilityLevel, Since, SqliteOpenErrorKind as Kind, SqliteStore, SqliteStoreOptions, Store, require,
};

use super::records::*;

#[track_caller]
pub(crate) fn refused_by(options: SqliteStoreOptions, path: &Path) -> Kind {
    let error = options.open(path).expect_err("must not open");
    let told = error.to_string();
    assert!(told.contains(&path.display().to_string()), "{told}");
    assert!(!told.contains('\n') && !told.contains("  "), "{told}");
    // Who starts with an empty store runs again what was answered.
    for advice in ["start with", "start empty", "delete", "remove", "move it away"] {
        assert!(!told.contains(advice), "{told}");
    }
    error.kind()
}

#[track_caller]
pub(crate) fn refused(path: &Path) -> Kind {
    refused_by(SqliteStore::options(), path)
}

/// It is refused, and nothing in its directory is another afterwards.
#[track_caller]
fn untouched(path: &Path, kind: Kind) {
    let directory = path.parent().unwrap();
    let before = contents(directory);
    assert_eq!(refused(path), kind);
    assert!(contents(directory) == before, "something was touched");
}

#[test]
fn what_is_no_store_is_refused_and_untouched() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    for text in ["precious", "precious, and longer than the header of a database would be: ".repeat(9).as_str()] {
        fs::write(&path, text).unwrap();
        untouched(&path, Kind::NotADatabase);
    }
    fs::write(&path, "").unwrap();
    untouched(&path, Kind::Incomplete);
    fs::create_dir(directory.path().join("folder")).unwrap();
    untouched(&directory.path().join("folder"), Kind::NotADatabase);
}

#[test]
fn the_directory_of_an_earlier_release_is_refused_with_the_way_out() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("store");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("TOWER-IDEMPOTENCY"), "tower-idempotency file store, format 1\nready\n").unwrap();
    untouched(&path, Kind::NotADatabase);
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("earlier release") && error.contains("another path"), "{error}");
}

#[test]
fn a_foreign_database_is_refused_and_untouched_even_with_a_wal() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let shop = Connection::open(&path).unwrap();
    shop.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE orders (id); INSERT INTO orders VALUES (1);").unwrap();
    untouched(&path, Kind::Foreign);
    assert!(SqliteStore::open(&path).unwrap_err().to_string().contains("join_existing_database"));
    drop(shop);
    untouched(&path, Kind::Foreign);
}

#[test]
fn a_newer_layout_is_refused_and_untouched() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path).unwrap().execute("UPDATE meta SET layout = 2", []).unwrap();
    untouched(&path, Kind::NewerFormat);
}

#[tokio::test]
async fn a_database_of_ones_own_is_joined_by_name_and_keeps_its_marks() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let join = || SqliteStore::options().join_existing_database();
    assert_eq!(refused_by(join(), &path), Kind::Foreign);
    let shop = Connection::open(&path).unwrap();
    shop.execute_batch("PRAGMA application_id = 7; PRAGMA user_version = 8; CREATE TABLE records (id);").unwrap();
    assert_eq!(refused_by(join(), &path), Kind::Foreign, "it is not in WAL mode");
    shop.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    for name in ["a", "b"] {
        let store = join().open(&path).unwrap();
        let done = answer(&store, name).await;
        assert_same(load(&store, &key(name)).await, &done);
        assert!(load(&store, &key("a")).await.is_some());
    }
    let number = |sql: &str| shop.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((number("PRAGMA application_id"), number("PRAGMA user_version")), (7, 8));
    assert_eq!((number("PRAGMA auto_vacuum"), number("SELECT count(*) FROM records")), (0, 0));
    assert_eq!(number("SELECT count(*) FROM idempotency_records"), 2);
}

#[tokio::test]
async fn a_person_can_read_the_records() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    answer(&store, "a").await;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let sql = "SELECT key, status, created FROM overview";
    let (shown, status, created): (String, String, String) =
        Connection::open(&path).unwrap().query_row(sql, [], read).unwrap();
    let hex: String = key("a").as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((shown, status.as_str()), (hex, "complete"));
    assert!(created.starts_with("20"), "{created}");
}

#[test]
fn a_creation_that_was_cut_short_goes_on() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    fs::write(directory.path().join("keys.db.new"), "half").unwrap();
    fs::write(directory.path().join("keys.db.new-wal"), "half").unwrap();
    fs::write(directory.path().join("keys.db.lock"), "").unwrap();
    fs::write(directory.path().join("keys.db.owner-0000000000000007.new"), "ha").unwrap();
    drop(SqliteStore::open(&path).unwrap());
    let names: Vec<_> = contents(directory.path()).into_keys().collect();
    assert_eq!(names, ["keys.db", "keys.db.lock"]);
    SqliteStore::open(&path).unwrap();
}

#[tokio::test]
async fn nobody_else_can_look_in() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("new/store/keys.db");
    let store = SqliteStore::open(&path).unwrap();
    answer(&store, "a").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.path().join("new")), 0o700);
    let files = fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    let files: Vec<_> = files.collect();
    assert_eq!(files.len(), 5, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn it_tells_its_own_data_from_a_wiped_or_restored_one() {
    let (kept, backup) = (tempdir().unwrap(), tempdir().unwrap());
    let epoch = async |path: &Path| {
        let store = SqliteStore::open(path.join("keys.db")).unwrap();
        require(&store, DurabilityLevel::PowerLoss).await.unwrap().epoch.unwrap()
    };
    let first = epoch(kept.path()).await;
    for _ in 0..2 {
        let store = SqliteStore::open(kept.path().join("keys.db")).unwrap();
        assert_eq!(store.inspect().await.unwrap().epoch, Some(first), "who only looks moves no mark");
    }
    copy(kept.path(), backup.path());
    let second = epoch(kept.path()).await;
    assert_eq!(second.since(&first), Since::Same);
    assert_eq!(epoch(backup.path()).await.since(&second), Since::Restored);
    assert_eq!(epoch(tempdir().unwrap().path()).await.since(&second), Since::Wiped);
}

#[tokio::test]
async fn it_is_opened_by_url_and_through_links() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("a ?#%ä.db");
    let store = store::connect(&format!("sqlite:{}", path.display())).unwrap();
    let first = claim();
    store.swap(&key("a"), None, &first).await.unwrap();
    symlink(&path, directory.path().join("link.db")).unwrap();
    let linked = store::connect(&format!("sqlite://{}/link.db", directory.path().display())).unwrap();
    assert_same(linked.load(&key("a")).await.unwrap().record, &first);
    assert!(store::connect("sqlite:").unwrap_err().to_string().contains("sqlite:PATH"));
}

#[tokio::test]
async fn file_is_another_way_to_write_sqlite_and_no_way_into_an_old_folder() {
    let directory = tempdir().unwrap();
    let url = |name: &str| format!("file:{}/{name}", directory.path().display());
    let first = claim();
    let named = store::connect(&url("keys.db")).unwrap();
    named.swap(&key("a"), None, &first).await.unwrap();
    let opened = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    assert_same(load(&opened, &key("a")).await, &first);
    assert!(store::connect("file:").unwrap_err().to_string().contains("sqlite:PATH"));

    let old = directory.path().join("old");
    fs::create_dir_all(old.join("engine")).unwrap();
    fs::write(old.join("TOWER-IDEMPOTENCY"), "tower-idempotency file store, format 1\nready\n").unwrap();
    fs::write(old.join("engine/0.jnl"), "an answer").unwrap();
    let before = (contents(directory.path()), contents(&old), contents(&old.join("engine")));
    let told = store::connect(&url("old")).unwrap_err().to_string();
    assert!(told.contains("earlier release") && told.contains("another path"), "{told}");
    assert!((contents(directory.path()), contents(&old), contents(&old.join("engine"))) == before, "it was touched");
}

/// Network storage and desktops put such things everywhere.
#[tokio::test]
async fn strange_files_and_folders_beside_it_are_left_alone() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let beside = |name: &str| directory.path().join(name);
    let store = SqliteStore::open(&path).unwrap();
    answer(&store, "a").await;
    drop(store);
    let folders = ["@eaDir", "@eaDir/keys.db@SynoEAStream", "lost+found", "keys.db.owner-@eaDir"];
    folders.iter().for_each(|name| fs::create_dir(beside(name)).unwrap());
    let files = [".DS_Store", "keys.db.bak", "keys.db.owner-", "keys.db.owner-backup", "keys.db-conflict", "0.jnl"];
    files.iter().for_each(|name| fs::write(beside(name), "stray").unwrap());
    for name in ["b", "c"] {
        let store = SqliteStore::open(&path).unwrap();
        answer(&store, name).await;
        assert!(load(&store, &key("a")).await.is_some());
    }
    assert!(folders.iter().all(|name| beside(name).is_dir()));
    assert!(files.iter().all(|name| fs::read(beside(name)).unwrap() == b"stray"));
}

/// Where a file of the store should be: an error, and no panic.
#[tokio::test]
async fn a_folder_in_the_place_of_a_file_of_the_store_is_an_error() {
    for name in ["keys.db.lock", "keys.db-wal", "keys.db.owner-0000000000000007"] {
        let directory = tempdir().unwrap();
        let path = directory.path().join("keys.db");
        let store = SqliteStore::open(&path).unwrap();
        answer(&store, "a").await;
        drop(store);
        let folder = directory.path().join(name);
        let _ = fs::remove_file(&folder);
        fs::create_dir(&folder).unwrap();
        assert_eq!(refused(&path), Kind::Io, "{name}");
        fs::remove_dir(&folder).unwrap();
        // A lock file of its own is made anew.
        assert!(load(&SqliteStore::open(&path).unwrap(), &key("a")).await.is_some(), "{name}");
    }
}

#[tokio::test]
async fn handles_of_one_process_share_a_file() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let (one, two) = (SqliteStore::open(&path).unwrap(), SqliteStore::open(&path).unwrap());
    let done = answer(&one, "a").await;
    assert_same(load(&two, &key("a")).await, &done);
    drop(one);
    // The first to close did not take the locks of the other one along.
    let again = SqliteStore::open(&path).unwrap();
    answer(&two, "b").await;
    assert!(load(&again, &key("b")).await.is_some());
    drop((two, again));
    assert!(!directory.path().join("keys.db-wal").exists(), "closed cleanly");
    assert!(load(&SqliteStore::open(&path).unwrap(), &key("b")).await.is_some());
}
