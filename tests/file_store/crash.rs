//! Power loss: what the files hold at some moment, opened elsewhere.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tower_idempotency::store::{FileStore, OpenErrorKind};

use super::records::*;

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn journal(store: &Path) -> PathBuf {
    store.join("engine/0.jnl")
}

/// The journal is as long as it may ever become, and zero behind its end.
fn end_of(journal: &Path) -> usize {
    let bytes = fs::read(journal).unwrap();
    bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let files = FileStore::open(&path).unwrap();
    let first = claim();
    let fence = store(&files, &key("a"), None, &first).await;
    copy(&path, &directory.path().join("claimed"));
    let done = complete(&first, fence);
    store(&files, &key("a"), Some(fence), &done).await;
    copy(&path, &directory.path().join("completed"));

    let claimed = FileStore::open(directory.path().join("claimed")).unwrap();
    assert_same_content(&load(&claimed, &key("a")).await.unwrap(), &first);
    let completed = FileStore::open(directory.path().join("completed")).unwrap();
    assert_same(load(&completed, &key("a")).await, &done);
}

#[tokio::test]
async fn a_torn_last_write_is_cut_off_and_takes_nothing_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let files = FileStore::open(&path).unwrap();
    for n in 0..10 {
        store(&files, &key(n), None, &claim()).await;
    }
    let before = end_of(&journal(&path));
    store(&files, &key("last"), None, &claim()).await;
    let after = end_of(&journal(&path));
    for cut in (before + 1..after).step_by(37) {
        let torn = directory.path().join(format!("torn-{cut}"));
        copy(&path, &torn);
        let file = OpenOptions::new().write(true).open(journal(&torn)).unwrap();
        file.set_len(cut as u64).unwrap();
        drop::<File>(file);
        for _ in 0..2 {
            let files = FileStore::open(&torn).unwrap();
            for n in 0..10 {
                assert!(load(&files, &key(n)).await.is_some(), "cut at {cut}");
            }
            assert!(load(&files, &key("last")).await.is_none(), "cut at {cut}");
        }
    }
}

/// The system writes back pages in any order, so a power cut may leave the
/// end of a write without its middle.
#[tokio::test]
async fn a_last_write_with_a_hole_in_it_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let files = FileStore::open(&path).unwrap();
    for n in 0..10 {
        store(&files, &key(n), None, &claim()).await;
    }
    let before = end_of(&journal(&path));
    store(&files, &key("last"), None, &claim_with(Some(Bytes::from(vec![7; 20_000])))).await;
    let after = end_of(&journal(&path));
    for start in (before..after).step_by(4096) {
        let torn = directory.path().join(format!("hole-{start}"));
        copy(&path, &torn);
        let mut bytes = fs::read(journal(&torn)).unwrap();
        bytes[start..after.min(start + 4096)].fill(0);
        fs::write(journal(&torn), bytes).unwrap();
        let files = FileStore::open(&torn).unwrap();
        for n in 0..10 {
            assert!(load(&files, &key(n)).await.is_some(), "hole at {start}");
        }
        assert!(load(&files, &key("last")).await.is_none(), "hole at {start}");
    }
}

#[tokio::test]
async fn damage_before_acknowledged_writes_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let files = FileStore::open(&path).unwrap();
    store(&files, &key("a"), None, &claim()).await;
    let first = end_of(&journal(&path));
    store(&files, &key("b"), None, &claim()).await;
    let torn = directory.path().join("damaged");
    for at in [first - 1, first - 20, first - 100] {
        copy(&path, &torn);
        let mut bytes = fs::read(journal(&torn)).unwrap();
        bytes[at] ^= 0x40;
        fs::write(journal(&torn), &bytes).unwrap();
        assert_eq!(FileStore::open(&torn).unwrap_err().kind(), OpenErrorKind::Damaged);
        assert!(fs::read(journal(&torn)).unwrap() == bytes, "the journal was changed");
    }
}

/// What looks torn in the journal of a store that is open is a write on its
/// way: whoever comes second is refused before it looks.
#[tokio::test]
async fn a_second_opener_leaves_alone_what_the_first_is_writing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let files = FileStore::open(&path).unwrap();
    let first = claim();
    store(&files, &key("a"), None, &first).await;
    let journal = journal(&path);
    let mut bytes = fs::read(&journal).unwrap();
    bytes.truncate(end_of(&journal));
    bytes.extend([7; 8]);
    fs::write(&journal, &bytes).unwrap();

    assert_eq!(FileStore::open(&path).unwrap_err().kind(), OpenErrorKind::AlreadyOpen);
    assert!(fs::read(&journal).unwrap() == bytes, "the journal of an open store was changed");
    drop(files);
    let files = FileStore::open(&path).unwrap();
    assert_same_content(&load(&files, &key("a")).await.unwrap(), &first);
}
