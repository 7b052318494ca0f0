//! Many writers at once, and writers that go away.

use std::future::ready;

use tower_idempotency::store::{SqliteStore, Store, Swap};

use super::records::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_on_many_keys_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    let run = |task: usize, files: SqliteStore| async move {
        for n in 0..20 {
            let key = key(format!("{task}-{n}"));
            let first = claim();
            let fence = store(&files, &key, None, &first).await;
            let saved = save(&first, fence, "step", &format!("{task}-{n}"));
            let version = store(&files, &key, Some(fence), &saved).await;
            assert_same(load(&files, &key).await, &saved);
            if n % 2 == 0 {
                store(&files, &key, Some(version), &complete(&saved, fence)).await;
            }
        }
    };
    let tasks: Vec<_> = (0..64).map(|task| tokio::spawn(run(task, files.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    drop(files);
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    for (task, n) in (0..64).flat_map(|task| (0..20).map(move |n| (task, n))) {
        let found = load(&files, &key(format!("{task}-{n}"))).await.unwrap();
        assert_eq!(found.response().is_some(), n % 2 == 0);
        assert_eq!(found.step("step").is_some(), n % 2 == 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writes_to_one_key_one_takes_and_the_others_see_it() {
    let directory = tempfile::tempdir().unwrap();
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    for round in 0..50 {
        let race = |files: SqliteStore| async move {
            let mine = claim();
            (mine.version(), files.swap(&key(round), None, &mine).await.unwrap())
        };
        let tasks: Vec<_> = (0..16).map(|_| tokio::spawn(race(files.clone()))).collect();
        let (mut winners, mut seen) = (Vec::new(), Vec::new());
        for task in tasks {
            match task.await.unwrap() {
                (version, Swap::Stored) => winners.push(version),
                (_, Swap::Conflict(found)) => seen.push(found.record.expect("the winner").version()),
            }
        }
        assert_eq!(winners.len(), 1);
        assert!(seen.iter().all(|seen| *seen == winners[0]));
    }
}

/// Asks, and goes away without waiting for the answer.
async fn and_leave<T>(call: impl Future<Output = T>) {
    tokio::select! { biased; _ = call => {}, () = ready(()) => {} }
}

#[tokio::test]
async fn a_write_whose_caller_left_lands_nevertheless() {
    let directory = tempfile::tempdir().unwrap();
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    let first = claim();
    // Once it is known that nothing is missing there, "absent" is not asked about.
    assert!(load(&files, &key("a")).await.is_none());
    and_leave(files.swap(&key("a"), None, &first)).await;
    // Writes are done in their order.
    store(&files, &key("b"), None, &claim()).await;
    assert_same(load(&files, &key("a")).await, &first);
}

#[tokio::test]
async fn several_writes_to_one_key_are_done_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    let first = claim();
    let fence = first.version();
    let saved = save(&first, fence, "one", "1");
    let done = complete(&saved, fence);
    for n in 0..50 {
        let key = key(n);
        assert!(load(&files, &key).await.is_none());
        and_leave(files.swap(&key, None, &first)).await;
        and_leave(files.swap(&key, Some(fence), &saved)).await;
        and_leave(files.swap(&key, Some(fence), &first)).await;
        and_leave(files.remove(&key, fence)).await;
        and_leave(files.swap(&key, Some(saved.version()), &done)).await;
    }
    drop(files);
    let files = SqliteStore::open(directory.path().join("keys.db")).unwrap();
    for n in 0..50 {
        assert_same(load(&files, &key(n)).await, &done);
    }
}
