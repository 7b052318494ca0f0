//! Writes that the system refuses, in a process whose files may not grow.

use std::path::Path;
use std::process::Command;

use tower_idempotency::store::{FileStore, Filter, Query, Store, StoreErrorKind, Swap};

use super::records::*;

/// Set for the process that meets the full disk: where its store is.
const PATH: &str = "TOWER_IDEMPOTENCY_FULL_DISK";

/// In two processes, since the limit is one of a whole process: this one runs
/// itself anew, and that one finds the variable set.
#[tokio::test]
async fn a_full_disk_stops_the_store_and_loses_nothing() {
    if let Some(path) = std::env::var_os(PATH) {
        return write_until_it_is_full(Path::new(&path)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    // Creating a store reserves more than the limit below allows.
    let files = FileStore::open(directory.path()).unwrap();
    store(&files, &key("before"), None, &claim()).await;
    drop(files);

    let script = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk_full::a_full_disk_stops_the_store_and_loses_nothing", "--nocapture"])
        .env(PATH, directory.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
    let acknowledged: Vec<_> =
        output.split_whitespace().filter_map(|word| word.strip_prefix("acknowledged:")).collect();
    assert!(acknowledged.len() > 100, "{output}");

    let files = FileStore::open(directory.path()).unwrap();
    assert!(load(&files, &key("before")).await.is_some());
    for name in acknowledged {
        assert!(load(&files, &key(name)).await.is_some(), "{name} was acknowledged");
    }
    store(&files, &key("after"), None, &claim()).await;
}

async fn write_until_it_is_full(path: &Path) {
    let files = FileStore::open(path).unwrap();
    let mut n = 0;
    let error = loop {
        match files.swap(&key(n), None, &claim()).await {
            Ok(Swap::Stored) => println!(" acknowledged:{n} "),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
        n += 1;
    };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("restart"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    let stopped = |kind| assert_eq!(kind, Some(StoreErrorKind::Unavailable));
    stopped(files.swap(&key("x"), None, &claim()).await.err().map(|error| error.kind()));
    stopped(files.remove(&key(0), claim().version()).await.err().map(|error| error.kind()));
    stopped(files.load(&key(0)).await.err().map(|error| error.kind()));
    stopped(files.scan(&Query::new(Filter::Unfinished, 1)).await.err().map(|error| error.kind()));
}
