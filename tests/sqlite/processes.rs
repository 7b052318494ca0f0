//! Several processes on one file, and processes that are killed.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::tempdir;
use tower_idempotency::core::{Hold, Version};
use tower_idempotency::store::{Filter, Query, SqliteStore, Store, Swap};

use super::records::*;

/// Set for a process that these tests start: where its store is.
const PATH: &str = "TOWER_IDEMPOTENCY_SQLITE";
const KIND: &str = "TOWER_IDEMPOTENCY_SQLITE_KIND";

/// A process with the store open, which does as it is told.
pub(crate) struct Other {
    process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Other {
    pub(crate) fn start(path: &Path) -> Self {
        Self::start_as(path, "own")
    }

    /// With the store in a shop's database.
    pub(crate) fn start_shop(path: &Path) -> Self {
        Self::start_as(path, "shop")
    }

    fn start_as(path: &Path, kind: &str) -> Self {
        // A write that is not allowed is to be an error, and not a signal.
        let mut process = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "processes::another_process", "--nocapture", "--ignored"])
            .env(PATH, path)
            .env(KIND, kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut other = Self { process, orders, answers };
        assert_eq!(other.answer(), "open");
        other
    }

    /// Has it done, and returns what it says.
    pub(crate) fn tell(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> String {
        let mut answers = self.answers.by_ref().map(Result::unwrap);
        // The harness writes lines of its own.
        answers.find_map(|line| line.split_once("> ").map(|(_, said)| said.to_owned())).expect("it says something")
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn end(mut self) {
        drop(self.orders);
        assert!(self.process.wait().unwrap().success());
    }
}

/// Not a test: what the others start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of other tests"]
async fn another_process() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let is_shop = std::env::var(KIND).is_ok_and(|kind| kind == "shop");
    let options = SqliteStore::options();
    let options = if is_shop { options.join_existing_database() } else { options };
    let store = options.open(&path).unwrap();
    println!("> open");
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        let (order, name) = order.split_once(' ').unwrap_or((&order, ""));
        match order {
            "hold" => {
                let held = claim_with(Some("17".into()));
                println!("> {}", super::records::store(&store, &key(name), None, &held).await.get());
            }
            "answer" => println!("> {}", answer(&store, name).await.version().get()),
            "try" => println!("> {}", tried(&store, name).await),
            // Until it is killed.
            "write" => write(&store, name).await,
            #[cfg(feature = "sqlx-sqlite")]
            "orders" if name == "sqlx" => orders::<super::shop::Sqlx>(&store, path.as_ref()).await,
            "orders" => orders::<super::shop::Plain>(&store, path.as_ref()).await,
            "stop" => stop(&store, name).await,
            "take" => println!("> {}", take(&store, name.parse().unwrap()).await),
            other => panic!("{other}"),
        }
    }
}

/// Until it is killed.
async fn orders<D: super::shop::Driver>(store: &SqliteStore, path: &Path) {
    use super::shop::{INSERT, Outcome};
    let joined = D::join(store, path);
    let runner = tower_idempotency::Runner::new(store.clone());
    for n in 0.. {
        let joined = joined.clone();
        let order = runner.run("shop", &format!("order-{n}"), "", move |op| async move {
            op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await
        });
        let order: Outcome = order.await;
        assert_eq!(order.unwrap(), n + 1);
        println!("> {n}");
    }
}

/// Says that it is there, and waits to be killed.
async fn stop(store: &SqliteStore, at: &str) {
    use super::shop::{Failed, INSERT, Outcome};
    let (joined, inside) = (store.transactions(), at == "in the work");
    let stops = async || {
        println!("> stops");
        std::future::pending::<()>().await;
    };
    let order = tower_idempotency::Runner::new(store.clone()).run("shop", "stopped", "", move |op| async move {
        let order = op.transaction(&joined, "order", move |tx| {
            Box::pin(async move {
                let row = tx.call(|db| db.query_row(INSERT, [], |row| row.get::<_, i64>(0))).await;
                if inside {
                    stops().await;
                }
                row.map_err(|error| Failed::from(error.to_string()))
            })
        });
        let order = order.await;
        stops().await;
        order
    });
    let _: Outcome = order.await;
}

async fn tried(store: &SqliteStore, name: &str) -> String {
    match store.swap(&key(name), None, &claim()).await {
        Ok(Swap::Stored) => "took".to_owned(),
        Ok(Swap::Conflict(_)) => "conflict".to_owned(),
        Err(error) => format!("{:?} {error}", error.kind()),
    }
}

async fn write(store: &SqliteStore, name: &str) {
    for n in 0.. {
        answer(store, format!("{name}-{n}")).await;
        println!("> {n}");
    }
}

/// How many of so many keys this process gets.
async fn take(store: &SqliteStore, keys: usize) -> usize {
    let mut taken = 0;
    for n in 0..keys {
        let swap = store.swap(&key(n), None, &claim()).await.unwrap();
        taken += usize::from(matches!(swap, Swap::Stored));
    }
    taken
}

fn owners(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.to_str().unwrap().contains(".owner-")).collect()
}

#[tokio::test]
async fn what_a_killed_process_held_is_free_for_another_one_at_once() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    let mut other = Other::start(&path);
    let version = Version::new(other.tell("hold a").parse().unwrap());
    other.tell("hold b");
    other.tell("hold c");

    let found = load(&store, &key("a")).await.unwrap();
    assert!(matches!(found.hold(), Hold::Leased { .. }), "it lives");
    assert_eq!(found.version(), version);
    assert!(store.scan(&Query::new(Filter::Lapsed, 10)).await.unwrap().found.is_empty(), "it lives");
    let written = found.written_at();
    other.kill();
    tokio::time::sleep(Duration::from_millis(30)).await;

    // Whoever meets it first: by a claim, by a load, by a scan.
    let Swap::Conflict(met) = store.swap(&key("b"), None, &claim()).await.unwrap() else { panic!("it was held") };
    assert_eq!(*met.record.unwrap().hold(), Hold::Released);
    let found = load(&store, &key("a")).await.unwrap();
    assert_eq!((found.hold(), found.written_at()), (&Hold::Released, written));
    assert_ne!(found.version(), version, "the dead holder's version must not match");
    let lapsed = store.scan(&Query::new(Filter::Lapsed, 10)).await.unwrap();
    assert_eq!(lapsed.found.len(), 3);
    assert_eq!(owners(&path).len(), 1, "its file is gone");
}

#[tokio::test]
async fn what_a_killed_process_held_is_free_when_the_file_is_opened_or_scanned() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let mut other = Other::start(&path);
    other.tell("hold a");
    other.kill();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(*load(&store, &key("a")).await.unwrap().hold(), Hold::Released);

    let mut other = Other::start(&path);
    other.tell("hold b");
    other.kill();
    let lapsed = store.scan(&Query::new(Filter::Lapsed, 10)).await.unwrap();
    assert_eq!(lapsed.found.len(), 2);

    let mut other = Other::start(&path);
    other.tell("hold c");
    other.kill();
    let late = SqliteStore::open(&path).unwrap();
    assert_eq!(*load(&late, &key("c")).await.unwrap().hold(), Hold::Released);
}

#[tokio::test]
async fn what_a_process_held_that_ended_is_free() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    let mut other = Other::start(&path);
    other.tell("hold a");
    other.end();
    assert_eq!(*load(&store, &key("a")).await.unwrap().hold(), Hold::Released);
}

#[tokio::test]
async fn without_its_file_nobody_knows_whether_a_holder_lives() {
    for file in [None, Some("something else"), Some("")] {
        let directory = tempdir().unwrap();
        let path = directory.path().join("keys.db");
        let store = SqliteStore::open(&path).unwrap();
        let before = owners(&path);
        let mut other = Other::start(&path);
        other.tell("hold a");
        let owner = owners(&path).into_iter().find(|owner| !before.contains(owner)).unwrap();
        // While it lives: then nothing may be taken from it.
        fs::remove_file(&owner).unwrap();
        if let Some(text) = file {
            fs::write(&owner, text).unwrap();
        }
        let swap = store.swap(&key("a"), None, &claim()).await.unwrap();
        let Swap::Conflict(found) = swap else { panic!("a live claim was taken") };
        assert!(matches!(found.record.unwrap().hold(), Hold::Leased { .. }), "{file:?}");
        let second = SqliteStore::open(&path).unwrap();
        assert!(matches!(load(&second, &key("a")).await.unwrap().hold(), Hold::Leased { .. }), "{file:?}");
        assert!(second.scan(&Query::new(Filter::Lapsed, 10)).await.unwrap().found.is_empty(), "{file:?}");
        other.kill();
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    for round in 0..5 {
        let mut other = Other::start(&path);
        let mut last: usize = other.tell(&format!("write {round}")).parse().unwrap();
        // Killed after more and more writes, at whatever it is doing then.
        while last < 40 * (round + 1) {
            last = other.answer().parse().unwrap();
        }
        other.kill();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = SqliteStore::open(&path).unwrap();
            for n in 0..=last {
                let found = load(&store, &key(format!("{round}-{n}"))).await;
                assert!(found.is_some_and(|found| found.response().is_some()), "{round}-{n} was acknowledged");
            }
            if round == 2 {
                // Is killed, too, as far as the next one can tell.
                std::mem::forget(store);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_gets_each_key() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("keys.db");
    let mut others = [Other::start(&path), Other::start(&path)];
    let store = SqliteStore::open(&path).unwrap();
    for other in &mut others {
        writeln!(other.orders, "take 300").unwrap();
    }
    let mut taken = take(&store, 300).await;
    for other in &mut others {
        taken += other.answer().parse::<usize>().unwrap();
    }
    assert_eq!(taken, 300);
    assert!(others.iter().all(|other| other.id() > 0));
}

/// Keeps each as the body of a request.
async fn keep(store: &SqliteStore, bodies: &[Vec<u8>]) {
    for (n, body) in bodies.iter().enumerate() {
        let held = claim_with(Some(body.clone().into()));
        super::records::store(store, &key(n), None, &held).await;
    }
}

/// How long it takes to open what a killed process left: the shortest of five times, for
/// the machine may do something else meanwhile.
fn opening(live: &Path) -> Duration {
    let times = (0..5).map(|_| {
        let left = tempdir().unwrap();
        copy(live, left.path());
        let since = Instant::now();
        let store = SqliteStore::open(left.path().join("keys.db")).unwrap();
        let took = since.elapsed();
        drop(store);
        took
    });
    times.min().unwrap()
}

/// A body that looks like frames of a WAL, or like the journal of an engine of
/// earlier releases, is a body.
#[tokio::test]
async fn hostile_bodies_are_bodies_after_a_kill() {
    let (live, left) = (tempdir().unwrap(), tempdir().unwrap());
    let store = SqliteStore::open(live.path().join("keys.db")).unwrap();
    answer(&store, "before").await;
    let wal = fs::read(live.path().join("keys.db-wal")).unwrap();
    let mut bodies = vec![wal.clone(), wal[32..].to_vec(), wal[32..].repeat(20)];
    // Shifted through a page, so that one of them lies where a frame would.
    bodies.extend((0..24).map(|shift| [vec![0; shift * 171], wal[32..].to_vec()].concat()));
    bodies.push(b"\x01\x00\x00\x00\x01fjall\x03".repeat(200_000));
    keep(&store, &bodies).await;
    copy(live.path(), left.path());
    let store = SqliteStore::open(left.path().join("keys.db")).unwrap();
    assert!(load(&store, &key("before")).await.is_some());
    for (n, body) in bodies.iter().enumerate() {
        let found = load(&store, &key(n)).await.unwrap();
        assert!(found.request().unwrap().body() == body, "{n}");
    }
    // Nor does it take longer to open them than as many bytes that look like nothing.
    let harmless = tempdir().unwrap();
    let store = SqliteStore::open(harmless.path().join("keys.db")).unwrap();
    answer(&store, "before").await;
    keep(&store, &bodies.iter().map(|body| vec![0; body.len()]).collect::<Vec<_>>()).await;
    let (hostile, harmless) = (opening(live.path()), opening(harmless.path()));
    assert!(hostile < harmless * 10, "{hostile:?}, and harmless ones {harmless:?}");
}
