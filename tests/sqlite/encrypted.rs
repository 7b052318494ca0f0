//! What is encrypted is not in the files.

use std::fs;
use std::path::Path;

use tempfile::tempdir;
use tower_idempotency::store::{SqliteStore, Store};
use tower_idempotency::{Engine, Operator};

use crate::secrets::{SECRETS, fill, found_in, is_in, key, keys, ring};

/// All bytes of all its files: of the database, and of what is beside it.
fn dump(folder: &Path) -> Vec<u8> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file());
    files.flat_map(|file| fs::read(file).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_have_nothing_of_what_was_said() {
    let (clear, sealed) = (tempdir().unwrap(), tempdir().unwrap());
    let open = |folder: &Path| SqliteStore::open(folder.join("store")).unwrap();
    let store = open(clear.path());
    fill(&Engine::new(store.clone())).await;
    assert_eq!(found_in(&dump(clear.path())), SECRETS, "this test would see it");
    let fingerprint = *store.load(&key("done")).await.unwrap().record.unwrap().fingerprint().as_bytes();
    assert!(is_in(&dump(clear.path()), &fingerprint));

    let store = open(sealed.path());
    fill(&Engine::new(store.clone()).encryption(ring())).await;
    assert_eq!(found_in(&dump(sealed.path())), Vec::<&str>::new());
    assert!(!is_in(&dump(sealed.path()), &fingerprint), "a small body could be guessed");
    for key in keys() {
        assert_eq!(store.load(&key).await.unwrap().record.unwrap().sealed_with(), Some("first"));
    }
    // And after it was opened again.
    drop(store);
    let operator = Operator::new(Engine::new(open(sealed.path())).encryption(ring()));
    let shown = operator.find("", "undoing").await.unwrap();
    assert_eq!(shown.record.left_to_undo().collect::<Vec<_>>(), ["secret-of-a-step-name"]);
    assert_eq!(shown.record.undoing().unwrap().response().body().unwrap().as_ref(), b"secret-of-a-plan");
    assert_eq!(shown.record.request().unwrap().body().as_ref(), br#"{"card":"secret-of-the-body"}"#);
}
