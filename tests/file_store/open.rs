//! What the store opens and what it leaves alone.

use std::fs;
use std::path::Path;

use tempfile::tempdir;
use tower_idempotency::store::{FileStore, OpenErrorKind, Since, Survives, require};

use super::crash::copy;
use super::records::*;

fn refused(path: &Path) -> OpenErrorKind {
    let error = FileStore::open(path).expect_err("must not open");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    error.kind()
}

#[tokio::test]
async fn a_second_store_is_refused_until_the_first_is_dropped() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("new/store");
    let files = FileStore::open(&path).unwrap();
    let handle = files.clone();
    assert_eq!(refused(&path), OpenErrorKind::AlreadyOpen);
    drop(files);
    assert_eq!(refused(&path), OpenErrorKind::AlreadyOpen);
    store(&handle, &key("a"), None, &claim()).await;
    drop(handle);
    FileStore::open(&path).unwrap();
}

#[test]
fn a_regular_file_is_refused_and_untouched() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    fs::write(&path, "precious").unwrap();
    assert_eq!(refused(&path), OpenErrorKind::NotADirectory);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_foreign_directory_is_refused_and_untouched() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("notes.txt"), "precious").unwrap();
    assert_eq!(refused(directory.path()), OpenErrorKind::Foreign);
    assert_eq!(fs::read(directory.path().join("notes.txt")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_newer_format_is_refused_and_untouched() {
    let directory = tempdir().unwrap();
    drop(FileStore::open(directory.path()).unwrap());
    let marker = directory.path().join("TOWER-IDEMPOTENCY");
    fs::write(&marker, "tower-idempotency file store, format 2\nand more\n").unwrap();
    assert_eq!(refused(directory.path()), OpenErrorKind::NewerFormat);
    assert_eq!(fs::read_to_string(&marker).unwrap(), "tower-idempotency file store, format 2\nand more\n");
    fs::write(&marker, "something else entirely\n").unwrap();
    assert_eq!(refused(directory.path()), OpenErrorKind::Damaged);
}

#[test]
fn a_creation_that_was_cut_short_goes_on() {
    let whole = "tower-idempotency file store, format 1\n";
    for length in [0, 10, whole.len()] {
        let directory = tempdir().unwrap();
        fs::write(directory.path().join("TOWER-IDEMPOTENCY"), &whole[..length]).unwrap();
        fs::create_dir_all(directory.path().join("engine.new/keyspaces")).unwrap();
        fs::write(directory.path().join("engine.new/0.jnl"), "half").unwrap();
        drop(FileStore::open(directory.path()).unwrap());
        assert!(!directory.path().join("engine.new").exists());
        FileStore::open(directory.path()).unwrap();
    }
}

#[tokio::test]
async fn a_creation_that_was_cut_short_at_its_end_loses_nothing() {
    let directory = tempdir().unwrap();
    let files = FileStore::open(directory.path()).unwrap();
    let first = claim();
    store(&files, &key("a"), None, &first).await;
    drop(files);
    // The last line of the marker never reached the disk.
    fs::write(directory.path().join("TOWER-IDEMPOTENCY"), "tower-idempotency file store, format 1\n").unwrap();
    let files = FileStore::open(directory.path()).unwrap();
    assert_same_content(&load(&files, &key("a")).await.unwrap(), &first);
}

#[test]
fn missing_files_are_damage_and_not_an_empty_store() {
    let directory = tempdir().unwrap();
    drop(FileStore::open(directory.path()).unwrap());
    fs::remove_file(directory.path().join("engine/0.jnl")).unwrap();
    assert_eq!(refused(directory.path()), OpenErrorKind::Damaged);
    fs::remove_file(directory.path().join("engine/version")).unwrap();
    assert_eq!(refused(directory.path()), OpenErrorKind::Damaged);
    fs::remove_dir_all(directory.path().join("engine")).unwrap();
    assert_eq!(refused(directory.path()), OpenErrorKind::Damaged);
}

#[cfg(unix)]
#[test]
fn nobody_else_can_look_in() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempdir().unwrap();
    let path = directory.path().join("store");
    let _files = FileStore::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(path.join("engine")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn it_tells_its_own_data_from_a_wiped_or_restored_one() {
    let (kept, backup) = (tempdir().unwrap(), tempdir().unwrap());
    let epoch = async |path: &Path| {
        let store = FileStore::open(path.join("store")).unwrap();
        require(&store, Survives::PowerLoss).await.unwrap().epoch.unwrap()
    };
    let first = epoch(kept.path()).await;
    copy(&kept.path().join("store"), &backup.path().join("store"));
    let second = epoch(kept.path()).await;
    assert_eq!(second.since(&first), Since::Same);
    assert_eq!(epoch(backup.path()).await.since(&second), Since::Restored);
    assert_eq!(epoch(tempdir().unwrap().path()).await.since(&second), Since::Wiped);
}
