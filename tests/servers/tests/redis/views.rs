//! Nodes of a cluster that don't agree: which of them is believed.
//!
//! These are no Redis servers: what they know of each other is up to the test.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use servers::Redis;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{RedisStore, Store, StoreErrorKind};

use super::support::*;

/// What a node replies to `CLUSTER SLOTS`, and after which other one, and to scripts.
#[derive(Clone)]
struct Says {
    slots: String,
    after: Option<Looks>,
    scripts: String,
}

/// How often a node has replied to `CLUSTER SLOTS`.
type Looks = watch::Receiver<usize>;

struct Fake {
    port: u16,
    looks: Looks,
}

const GRANTS: &str = "grants";

/// As `CLUSTER SLOTS` has it: all of them are of this port.
fn all_of(port: u16) -> String {
    halves(port, port)
}

fn halves(one: u16, other: u16) -> String {
    let half = |slots: &str, port: u16| format!("*3\r\n{slots}*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n");
    format!("*2\r\n{}{}", half(":0\r\n:8191\r\n", one), half(":8192\r\n:16383\r\n", other))
}

/// A port on which nothing listens.
fn dead_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Fake {
    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    fn run((listener, port): (TcpListener, u16), says: Says) -> Self {
        let (counted, looks) = watch::channel(0);
        let counted = Arc::new(counted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, says.clone(), Arc::clone(&counted)));
            }
        });
        Self { port, looks }
    }
}

async fn serve(stream: TcpStream, says: Says, looks: Arc<watch::Sender<usize>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let command = command(&mut stream).await?;
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let reply = match &words[..] {
            ["CLUSTER", "SLOTS"] => {
                let mut count = *looks.borrow() + 1;
                if let Some(mut other) = says.after.clone() {
                    count = *other.wait_for(|other| *other >= count).await.ok()?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                stream.write_all(says.slots.as_bytes()).await.ok()?;
                looks.send_replace(count);
                continue;
            }
            ["INFO", ..] => {
                let info = "role:master\r\nredis_version:7.0.0\r\nmaxmemory_policy:noeviction\r\n";
                format!("${}\r\n{info}\r\n", info.len())
            }
            ["CONFIG", ..] => "*0\r\n".to_owned(),
            ["EVALSHA", ..] if says.scripts != GRANTS => says.scripts.clone(),
            ["EVALSHA", _, _, keys @ ..] if keys.iter().any(|key| key.ends_with(":partitions")) => {
                "$2\r\n16\r\n".to_owned()
            }
            ["EVALSHA", _, _, key, ..] if key.ends_with(":epoch") => "*2\r\n$1\r\na\r\n:1\r\n".to_owned(),
            ["EVALSHA", ..] => ":1000\r\n".to_owned(),
            _ => "+OK\r\n".to_owned(),
        };
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for _ in 0..number(stream).await? {
        let mut word = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    Some(words)
}

/// Behind `*` or `$`.
async fn number(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}

fn ledger(ports: &[u16]) -> Ledger {
    let nodes: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    Ledger::new(RedisStore::options().prefix("t").connect(&format!("redis+cluster://{}", nodes.join(","))).unwrap())
}

async fn is_granted(ledger: &Ledger) {
    let mut errors = Vec::new();
    for n in 0..5 {
        match claim_key(ledger, &key(&n.to_string())).await {
            Ok(granted) => return assert!(granted.is_some()),
            Err(error) => errors.push(error.to_string()),
        }
    }
    panic!("it does not find the node that has the slots: {errors:?}");
}

/// It takes itself for the owner still, and says so first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_cut_off_is_not_believed() {
    let (old, new) = (Fake::listen().await, Fake::listen().await);
    let (old_slots, new_slots) = (all_of(old.1), all_of(new.1));
    let scripts = "-CLUSTERDOWN The cluster is down\r\n".to_owned();
    let old = Fake::run(old, Says { slots: old_slots, after: None, scripts });
    let after = Some(old.looks.clone());
    let new = Fake::run(new, Says { slots: new_slots, after, scripts: GRANTS.to_owned() });
    is_granted(&ledger(&[old.port, new.port])).await;
}

/// Where the owner was that is dead now: that is of no use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_names_a_dead_one_is_not_believed() {
    let (old, new) = (Fake::listen().await, Fake::listen().await);
    let new_slots = all_of(new.1);
    let slots = halves(dead_port(), new.1);
    let old = Fake::run(old, Says { slots, after: None, scripts: "-CLUSTERDOWN\r\n".to_owned() });
    let after = Some(old.looks.clone());
    let new = Fake::run(new, Says { slots: new_slots, after, scripts: GRANTS.to_owned() });
    let ledger = ledger(&[old.port, new.port]);
    for n in 0..10 {
        claim_key(&ledger, &key(&n.to_string())).await.unwrap().expect("granted");
    }
}

/// As one that was reset, or was not let into the cluster yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_knows_no_other_is_not_asked_for_keys() {
    let (alone, owner) = (Fake::listen().await, Fake::listen().await);
    let slots = all_of(owner.1);
    let scripts = "-CLUSTERDOWN Hash slot not served\r\n".to_owned();
    let alone = Fake::run(alone, Says { slots: "*0\r\n".to_owned(), after: None, scripts });
    let after = Some(alone.looks.clone());
    let owner = Fake::run(owner, Says { slots, after, scripts: GRANTS.to_owned() });
    is_granted(&ledger(&[alone.port, owner.port])).await;
}

/// More than are asked at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_many_that_is_alive_is_asked() {
    let alive = Fake::listen().await;
    let slots = all_of(alive.1);
    let alive = Fake::run(alive, Says { slots, after: None, scripts: GRANTS.to_owned() });
    let mut ports = vec![dead_port(); 100];
    ports.push(alive.port);
    claim_key(&ledger(&ports), &key("first")).await.unwrap().expect("granted");
}

/// Each says that it is the other's, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_of_redirects_ends() {
    let (one, other) = (Fake::listen().await, Fake::listen().await);
    let to = |port: u16| format!("-MOVED 1 127.0.0.1:{port}\r\n");
    let (to_one, to_other, slots) = (to(one.1), to(other.1), all_of(one.1));
    let one = Fake::run(one, Says { slots: slots.clone(), after: None, scripts: to_other });
    let other = Fake::run(other, Says { slots, after: None, scripts: to_one });
    let error = claim_key(&ledger(&[one.port, other.port]), &key("circle")).await.expect_err("no node has it");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(!error.to_string().contains("name it redis+cluster://"), "it is named so: {error}");
}

/// As it is for a busy service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_not_looked_for_by_each_call() {
    let owner = Fake::listen().await;
    let (port, dead) = (owner.1, dead_port());
    let slots = halves(port, dead);
    let owner = Fake::run(owner, Says { slots, after: None, scripts: GRANTS.to_owned() });
    let ledger = ledger(&[owner.port]);
    is_granted(&ledger).await;
    let (before, began) = (*owner.looks.borrow(), Instant::now());
    for n in 0..40 {
        ledger.store().load(&key(&format!("more-{n}"))).await.expect_err("dead, or no Redis");
    }
    let (looks, tenths) = (*owner.looks.borrow() - before, began.elapsed().as_millis() / 100);
    assert!(looks > 0 && looks as u128 <= tenths + 2, "{looks} looks in {tenths} tenths of a second");
}

/// Not for ever.
async fn ends<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), call).await.expect("another call holds it up")
}

/// As in a task that waits for something else by now.
fn begin<F: Future>(call: std::pin::Pin<&mut F>) {
    assert!(matches!(call.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending), "it ended at once");
}

/// It began, and its task does something else now: what it opened for all is theirs, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_polled_any_more_holds_up_no_other() {
    let redis = Redis::start();
    let store = open(&redis);
    let idle = key("idle");
    let mut idle = pin!(store.load(&idle));
    begin(idle.as_mut());
    ends(store.load(&key("other"))).await.expect("the server is there");
    ends(idle).await.expect("and it can go on");
}

/// The same where the node is looked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_a_cluster_that_is_not_polled_any_more_holds_up_no_other() {
    let owner = Fake::listen().await;
    let slots = all_of(owner.1);
    let owner = Fake::run(owner, Says { slots, after: None, scripts: GRANTS.to_owned() });
    let url = format!("redis+cluster://127.0.0.1:{}", owner.port);
    let store = RedisStore::options().prefix("t").connect(&url).unwrap();
    let warm = Ledger::new(store);
    is_granted(&warm).await;
    let store = warm.store();
    let mut idle = pin!(store.durability());
    // It waits for the node's reply by now.
    begin(idle.as_mut());
    ends(store.durability()).await.expect("the node is there");
    ends(idle).await.expect("and it can go on");
}
