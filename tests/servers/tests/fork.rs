//! A prefork server: what a process and its copies write is never mistaken for
//! each other's, however much of the parent's randomness they have a copy of.
//!
//! Without the test harness, for a process must have one thread when it forks.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::process::exit;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fork::{Fork, fork, waitpid};
use servers::Redis;
use tower_idempotency::core::{Claim, Claimed, Fingerprint, Key, Labels, Mode};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{MemoryStore, RedisStore, SqliteOpenErrorKind, SqliteStore, Store, StoreErrorKind};
use tower_idempotency::{Runner, StepError};

const WORKERS: usize = 3;

fn main() {
    // It filters by name where `cargo test` is told to.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let tests: [(&str, fn()); 5] = [
        ("no_version_is_drawn_by_a_process_and_its_copies", no_version_is_drawn_by_a_process_and_its_copies),
        ("of_prefork_workers_one_runs", of_prefork_workers_one_runs),
        ("copies_open_stores_of_their_own", copies_open_stores_of_their_own),
        // Last: a store has threads.
        ("a_copy_of_a_process_can_not_use_its_sqlite_store", a_copy_of_a_process_can_not_use_its_sqlite_store),
        ("a_copy_made_within_a_transaction_holds_up_no_other", a_copy_made_within_a_transaction_holds_up_no_other),
    ];
    for (name, test) in tests {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// The versions of as many claims.
fn versions(claims: u8) -> Vec<u64> {
    let ledger = Ledger::new(MemoryStore::new());
    let claim = |n| {
        let fingerprint = Fingerprint::of([b"x".as_slice()]);
        let claim = Claim {
            fingerprint,
            mode: Mode::Resumable,
            lease: Duration::from_secs(60),
            request: None,
            labels: Labels::new(),
        };
        let done = run(ledger.apply(&Key::from_bytes([n; 32]), None, claim)).expect("a claim");
        assert!(matches!(done.output, Claimed::Granted(_)));
        done.record.expect("a record").version().get()
    };
    (0..claims).map(claim).collect()
}

/// What copies of this process say, each to the end of a pipe.
fn copies(work: impl Fn(usize) -> Vec<u64>) -> Vec<Vec<u64>> {
    let mut said = Vec::new();
    let mut running = Vec::new();
    for worker in 0..WORKERS {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        match fork().expect("a copy") {
            Fork::Child => {
                let numbers = work(worker);
                let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
                writer.write_all(&bytes).expect("the parent reads");
                exit(0);
            }
            Fork::Parent(child) => running.push((child, reader)),
        }
    }
    for (child, mut reader) in running {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("the worker writes");
        assert_eq!(waitpid(child).expect("the worker ends"), 0, "a worker failed");
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        said.push(bytes.chunks(8).map(number).collect());
    }
    said
}

fn no_version_is_drawn_by_a_process_and_its_copies() {
    // What the parent has drawn ahead is there when it forks.
    let mut all = versions(3);
    let before = all.len();
    let of_copies = copies(|_| versions(100));
    assert!(of_copies.iter().all(|versions| versions.len() == 100));
    all.extend(versions(100));
    all.extend(of_copies.into_iter().flatten());
    let different: HashSet<_> = all.iter().collect();
    assert_eq!(all.len(), before + 100 * (WORKERS + 1));
    assert_eq!(different.len(), all.len(), "versions that two processes drew");
}

/// Each worker gets the same requests. Who runs one waits until all have come.
fn of_prefork_workers_one_runs() {
    let redis = Redis::start();
    let url = redis.url();
    versions(3);
    let runs = copies(|_| {
        run(async {
            let store = RedisStore::connect(&url).expect("a URL");
            let runner = Runner::new(store);
            let client = redis::Client::open(url.as_str()).expect("a URL");
            let mut counted = client.get_multiplexed_async_connection().await.expect("redis answers");
            let mut runs = 0;
            for request in 0..20 {
                let (arrived, mut others) = (format!("arrived-{request}"), counted.clone());
                let all_here = format!("arrived-{request}");
                let work = move |_| async move {
                    others.incr(&all_here).await;
                    while others.get(&all_here).await < WORKERS as u64 {
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, StepError<String>>(1)
                };
                if runner.run("jobs", &request.to_string(), "input", work).await.is_ok() {
                    runs += 1;
                } else {
                    counted.incr(&arrived).await;
                }
            }
            vec![runs]
        })
    });
    let runs: u64 = runs.iter().flatten().sum();
    assert_eq!(runs, 20, "requests were run by two workers");
}

/// Forked first, each copy opens a store of its own on the same file.
fn copies_open_stores_of_their_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.db");
    let said = copies(|n| {
        let store = SqliteStore::open(&path).expect("it opens");
        let key = Key::from_bytes([u8::try_from(n).expect("few"); 32]);
        vec![u64::from(run(store.load(&key)).is_ok())]
    });
    assert!(said.iter().all(|said| said == &[1]), "{said:?}");
}

/// The store's threads are not in the copy, and SQLite's locks are not its own: it
/// is told so at once, opens no other store, and leaves the files alone when it ends.
/// Once the parent has none open, a copy opens one.
fn a_copy_of_a_process_can_not_use_its_sqlite_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.db");
    let key = Key::from_bytes([7; 32]);
    let store = SqliteStore::open(&path).expect("it opens");
    run(store.load(&key)).expect("it answers");
    let inherited = store.clone();
    let said = copies(|_| {
        let refused = run(inherited.load(&key)).expect_err("a copy's");
        let told = refused.to_string().contains("forked") && refused.kind() == StoreErrorKind::Unavailable;
        drop(inherited.clone());
        let own = SqliteStore::open(&path).expect_err("it is a copy");
        vec![u64::from(told), u64::from(own.kind() == SqliteOpenErrorKind::Forked)]
    });
    assert!(said.iter().all(|said| said == &[1, 1]), "{said:?}");
    drop(inherited);
    run(store.load(&key)).expect("the parent goes on");
    run(store.durability()).expect("and writes");
    drop(store);
    let said = copies(|_| vec![u64::from(SqliteStore::open(&path).is_ok())]);
    assert!(said.iter().all(|said| said == &[1]), "{said:?}");
}

/// A transaction is under way, and a file is locked so that writers are next. The
/// copy has that lock, too.
fn a_copy_made_within_a_transaction_holds_up_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path().join("keys.db")).expect("it opens");
    let (ends, end) = std::io::pipe().expect("a pipe");
    let mut ends = Some(ends);
    let copy = Arc::new(Mutex::new(None));
    for n in 0..3 {
        let (joined, runner) = (store.transactions(), Runner::new(store.clone()));
        let (ends, seen) = (ends.take(), Arc::clone(&copy));
        let outcome = runner.run("shop", &n.to_string(), "", move |op| async move {
            let work = op.transaction(&joined, "order", move |tx| {
                Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    if let Some(mut ends) = ends {
                        match fork().expect("a copy") {
                            Fork::Child => {
                                // Until it is told to.
                                let _ = ends.read(&mut [0]);
                                std::process::abort();
                            }
                            Fork::Parent(child) => *seen.lock().expect("a lock") = Some(child),
                        }
                    }
                    let one = tx.call(|db| db.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))).await;
                    one.map_err(|error| error.to_string())
                })
            });
            work.await
        });
        assert_eq!(run(outcome).expect("it has its turn"), 1, "{n}");
    }
    let child = copy.lock().expect("a lock").take().expect("a copy was made");
    (&end).write_all(&[0]).expect("the copy lives");
    let _ = waitpid(child);
}

/// Counters beside the store.
trait Counters {
    async fn incr(&mut self, name: &str);
    async fn get(&mut self, name: &str) -> u64;
}

impl Counters for redis::aio::MultiplexedConnection {
    async fn incr(&mut self, name: &str) {
        let () = redis::cmd("INCR").arg(name).query_async(self).await.expect("redis answers");
    }

    async fn get(&mut self, name: &str) -> u64 {
        redis::cmd("GET").arg(name).query_async(self).await.expect("redis answers")
    }
}
