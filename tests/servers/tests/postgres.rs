//! What only Postgres does: round trips, plans, failing servers, bad tables.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::{Manager, Pool};
use http::{HeaderMap, StatusCode};
use rustix::process::Signal;
use servers::{Fault, Postgres, Proxy, Trap, Way, wait_until};
use tokio_postgres::NoTls;
use tower_idempotency::core::{
    Change, Claim, Claimed, Fenced, Fingerprint, Key, Labels, Mode, Reached, Record, StoredRequest, StoredResponse,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{
    self, DurabilityLevel, Filter, PostgresStore, Query, Since, Store, StoreErrorKind, Swap,
};
use tower_idempotency::{Runner, StepError};

#[path = "postgres/labels.rs"]
mod labels;
#[path = "postgres/partitions.rs"]
mod partitions;
#[path = "postgres/statements.rs"]
mod statements;
#[path = "postgres/sweep.rs"]
mod sweep;

const HOUR: Duration = Duration::from_secs(3600);

type Error = StepError<std::io::Error>;

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

/// A database of its own on the shared server, with the tables.
async fn fresh() -> (&'static Postgres, String, PostgresStore) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = Postgres::shared();
    let name = format!("fresh_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let store = PostgresStore::connect(&server.database(&name)).expect("a URL");
    store.create_schema().await.expect("a schema");
    (server, name, store)
}

fn claim() -> Claim {
    Claim {
        fingerprint: Fingerprint::of([b"x".as_slice()]),
        mode: Mode::Resumable,
        lease: HOUR,
        request: None,
        labels: Labels::new(),
    }
}

/// Claims `key`, and gives the record.
async fn claimed(store: &PostgresStore, key: &Key) -> Record {
    let done = Ledger::new(store.clone()).apply(key, None, claim()).await.expect("a claim");
    assert!(matches!(done.output, Claimed::Granted(_)), "{:?}", done.output);
    done.record.expect("a record")
}

fn runs(store: &PostgresStore, key: &'static str) -> impl Future<Output = Result<u32, store::StoreError>> + use<> {
    let run = Runner::new(store.clone()).run("s", key, "", |_| async { Ok::<u32, Error>(1) });
    async move {
        run.await.map_err(|error| match error {
            tower_idempotency::RunError::Store(error) => error,
            other => panic!("{other:?}"),
        })
    }
}

#[tokio::test]
async fn it_lives_through_restarts_and_kills() {
    let mut server = Postgres::start();
    let store = PostgresStore::options().creating_schema().connect(&server.url()).expect("a URL");
    runs(&store, "before").await.expect("it runs");
    for end in [Postgres::stop, Postgres::stop_at_once, Postgres::kill] {
        end(&mut server);
        let error = runs(&store, "meanwhile").await.expect_err("it is away");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        server.start_again();
        let found = store.scan(&Query::new(Filter::Unfinished, 10)).await.expect("the stale connections are noticed");
        assert!(found.found.is_empty());
        runs(&store, "before").await.expect("it replays");
        assert_eq!(server.sql("SELECT count(*) FROM idempotency.records"), "1");
    }
}

#[tokio::test]
async fn a_standby_is_refused_until_it_is_promoted() {
    let primary = Postgres::start();
    let store = PostgresStore::options().creating_schema().connect(&primary.url()).expect("a URL");
    runs(&store, "before").await.expect("it runs");
    let before = store.durability().await.expect("settings");
    assert_eq!(before.survives, DurabilityLevel::PowerLoss);
    let standby = primary.standby();
    assert!(store.durability().await.expect("settings").warnings[0].contains("asynchronous"));
    primary.wait_for(&standby);
    let there = PostgresStore::connect(&standby.url()).expect("a URL");
    let error = runs(&there, "new").await.expect_err("it takes no writes");
    assert!(error.kind() == StoreErrorKind::Unavailable && error.to_string().contains("name the primary"), "{error}");
    let error = there.durability().await.expect_err("a standby promises nothing");
    assert!(error.to_string().contains("standby"), "{error}");
    drop(primary);
    standby.promote();
    runs(&there, "before").await.expect("it replays");
    runs(&there, "new").await.expect("it runs");
    let after = there.durability().await.expect("settings").epoch.expect("an epoch");
    assert_eq!(after.since(&before.epoch.expect("an epoch")), Since::Same);
}

#[tokio::test]
async fn durability_is_read_from_the_settings() {
    let mut server = Postgres::start_with(&["synchronous_commit=off"]);
    let store = PostgresStore::options().creating_schema().connect(&server.url()).expect("a URL");
    runs(&store, "k").await.expect("it runs");
    let found = store.durability().await.expect("settings");
    assert_eq!(found.survives, DurabilityLevel::PowerLoss, "our writes set it on");
    assert!(found.warnings[0].contains("synchronous_commit is off"), "{:?}", found.warnings);
    server.set("fsync=off");
    server.restart();
    let found = store.durability().await.expect("settings");
    assert_eq!(found.survives, DurabilityLevel::StoreCrash);
    let picky = PostgresStore::options().require(DurabilityLevel::PowerLoss).connect(&server.url()).expect("a URL");
    let error = runs(&picky, "k2").await.expect_err("it is not good enough");
    assert!(error.to_string().contains("fsync is off"), "{error}");
    let first = found.epoch.expect("an epoch");
    server.sql("DROP SCHEMA idempotency CASCADE");
    store.create_schema().await.expect("a schema");
    let now = store.durability().await.expect("settings").epoch.expect("an epoch");
    assert_eq!(now.since(&first), Since::Wiped);
}

/// A write that is acknowledged is in the log on disk, whatever the default.
#[tokio::test]
async fn writes_wait_for_the_disk_where_the_default_does_not() {
    // The writer of the log all but never wakes up by itself.
    // And nobody but us writes to it.
    let server = Postgres::start_with(&[
        "synchronous_commit=off",
        "wal_writer_delay=10s",
        "wal_level=minimal",
        "max_wal_senders=0",
        "autovacuum=off",
        "checkpoint_timeout=1h",
    ]);
    let store = PostgresStore::options().creating_schema().connect(&server.url()).expect("a URL");
    runs(&store, "warm-up").await.expect("it runs");
    // Sessions of `psql` find nothing to tidy up in the catalogue, which they
    // would write to the log.
    server.sql("VACUUM");
    server.sql("CHECKPOINT");
    let is_on_disk = |what: &str| {
        let ahead = server.sql("SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()");
        // The next place for a record is behind a page's header, of 24 or 40 bytes,
        // where the last one ended a page. A transaction is longer.
        assert!(ahead.parse::<u64>().expect("bytes") <= 40, "{what} is not on disk: {ahead} bytes");
    };
    for n in 0..20 {
        let record = claimed(&store, &key(n)).await;
        is_on_disk("a claim");
        store.swap(&key(n), Some(record.version()), &record).await.expect("a swap");
        is_on_disk("a replacement");
        store.remove(&key(n), record.version()).await.expect("a removal");
        is_on_disk("a removal");
    }
    let before = server.sql("SELECT mark FROM idempotency.meta");
    store.durability().await.expect("settings");
    assert_ne!(server.sql("SELECT mark FROM idempotency.meta"), before);
    is_on_disk("the mark that tells a restored backup");
    server.sql("UPDATE idempotency.records SET status = 2, due = 0, span = 0");
    assert_eq!(store.sweep(100).await.expect("a sweep"), 1);
    is_on_disk("a sweep");
}

/// What a backup lacks is told: it may have forgotten answers.
#[tokio::test]
async fn a_restored_backup_is_noticed() {
    let server = Postgres::start();
    let store = PostgresStore::options().creating_schema().connect(&server.url()).expect("a URL");
    let epoch = async |store: &PostgresStore| store.durability().await.expect("settings").epoch.expect("an epoch");
    let first = epoch(&store).await;
    let backup = server.restored();
    let then = epoch(&store).await;
    assert_eq!(then.since(&first), Since::Same);
    let store = PostgresStore::connect(&backup.url()).expect("a URL");
    assert_eq!(epoch(&store).await.since(&then), Since::Restored);
}

#[tokio::test]
async fn a_pool_without_a_free_connection_says_so_soon() {
    let (server, name, _) = fresh().await;
    let manager = Manager::new(server.url_of("postgres", &name).parse().expect("a URL"), NoTls);
    let pool = Pool::builder(manager).max_size(1).build().expect("a pool");
    let store = PostgresStore::with_pool(pool.clone());
    let held = pool.get().await.expect("the only connection");
    let error = store.load(&key(1)).await.expect_err("nothing is free");
    assert!(error.kind() == StoreErrorKind::Unavailable && error.to_string().contains("in time"), "{error}");
    drop(held);
    store.load(&key(1)).await.expect("a free connection");
}

#[tokio::test]
async fn a_lock_that_others_hold_is_waited_for_only_so_long() {
    let (server, name, store) = fresh().await;
    let record = claimed(&store, &key(1)).await;
    let url = server.url_of("postgres", &name);
    let (mut other, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connects");
    tokio::spawn(connection);
    let lock = other.transaction().await.expect("a transaction");
    lock.batch_execute("SELECT * FROM idempotency.records FOR UPDATE").await.expect("a lock");
    let copy = "INSERT INTO idempotency.records (key, version, status, created, due, span, steps, head) \
                SELECT decode(repeat('02', 32), 'hex'), version, 0, 0, 0, 0, 0, '' FROM idempotency.records";
    lock.batch_execute(copy).await.expect("a row that may or may not come");
    let (one, two) = (key(1), key(2));
    let calls = async {
        tokio::join!(
            store.remove(&one, record.version()),
            store.swap(&one, Some(record.version()), &record),
            store.swap(&two, None, &record),
        )
    };
    let (removed, replaced, created) = tokio::time::timeout(HOUR / 60, calls).await.expect("they wait for ever");
    for error in [removed.err(), replaced.err(), created.err()] {
        let error = error.expect("it has the lock");
        assert!(error.kind() == StoreErrorKind::Unavailable && error.to_string().contains("lock timeout"), "{error}");
    }
    assert_eq!(
        store.load(&key(1)).await.expect("no lock is needed").record.map(|found| found.version()),
        Some(record.version())
    );
    lock.rollback().await.expect("it ends");
    assert!(store.remove(&key(1), record.version()).await.expect("it is free"));
}

/// What was acknowledged is on the standby, and what is not there yet is not
/// acknowledged: the primary's machine may burn down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_synchronous_standby_a_lost_machine_loses_nothing() {
    // Also where the database's default would not wait.
    let mut primary = Postgres::start_with(&["synchronous_commit=off"]);
    let standby = primary.standby();
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
    primary.sql("SELECT pg_reload_conf()");
    wait_until("the setting to be read", || primary.sql("SHOW synchronous_standby_names") == "standby");
    primary.sql("CHECKPOINT");
    let options = PostgresStore::options().creating_schema().require(DurabilityLevel::MachineLoss);
    let store = options.connect(&primary.url()).expect("a URL");
    assert_eq!(store.durability().await.expect("settings").survives, DurabilityLevel::MachineLoss);
    runs(&store, "before").await.expect("it runs");

    standby.signal_all(Signal::STOP);
    let unheard = tokio::spawn(runs(&store, "meanwhile"));
    wait_until("the claim to wait for the standby", || {
        primary.sql("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "t"
    });
    let error = unheard.await.expect("no panic").expect_err("nobody has it but the primary");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    primary.kill();
    standby.signal_all(Signal::CONT);
    standby.promote();
    let there = PostgresStore::connect(&standby.url()).expect("a URL");
    let records = || standby.sql("SELECT count(*) FROM idempotency.records WHERE status = 2");
    assert_eq!(records(), "1");
    runs(&there, "before").await.expect("it replays");
    assert_eq!(records(), "1");
}

#[tokio::test]
async fn bad_tables_are_told_and_left_alone() {
    let (server, name, store) = fresh().await;
    let sql = |sql: &str| server.sql_in(&name, sql);
    let claims = async |store: &PostgresStore| {
        Ledger::new(store.clone()).apply(&key(1), None, claim()).await.expect_err("it is refused")
    };
    claimed(&store, &key(1)).await;
    sql("UPDATE idempotency.records SET head = 'a tale of two cities'");
    assert_eq!(claims(&store).await.kind(), StoreErrorKind::Corrupt);
    let newer = "UPDATE idempotency.records SET head = '\\xf103a0'";
    sql(newer);
    assert_eq!(claims(&store).await.kind(), StoreErrorKind::NewerFormat);
    assert!(sql("SELECT head FROM idempotency.records").starts_with("\\xf103"), "it was overwritten");

    sql("CREATE ROLE nobody_special LOGIN; GRANT USAGE ON SCHEMA idempotency TO nobody_special");
    let weak = PostgresStore::connect(&server.url_of("nobody_special", &name)).expect("a URL");
    let error = claims(&weak).await;
    assert!(error.to_string().contains("permission denied") && error.to_string().contains("SELECT"), "{error}");

    sql("ALTER TABLE idempotency.records RENAME COLUMN head TO tail");
    let error = claims(&store).await;
    assert!(error.to_string().contains("not ours"), "{error}");
    sql("DROP SCHEMA idempotency CASCADE");
    let error = claims(&store).await;
    assert!(error.to_string().contains("create_schema"), "{error}");
    sql("CREATE SCHEMA idempotency; CREATE TABLE idempotency.records (key text, version int, status text)");
    let error = claims(&store).await;
    assert!(error.kind() == StoreErrorKind::Unavailable && error.to_string().contains("migration"), "{error}");
    assert_eq!(sql("SELECT count(*) FROM idempotency.records"), "0");
}

#[tokio::test]
async fn urls_are_checked_before_anything_is_connected() {
    for (url, says) in [
        ("postgres://u@h/d?sslmode=never", "verify-full"),
        ("postgres://u@h/d?sslmod=prefer", "sslmod"),
        ("postgres://u@h:port/d", "port"),
        ("postgres://", "host is missing"),
        ("postgres://u@h/d?schema=", "schema is empty"),
        ("postgres://u@h/d?create_schema=perhaps", "true or false"),
        ("postgres://u@h/d?index_labels=perhaps", "true or false"),
        ("postgres://u@h/d?prepared=perhaps", "true or false"),
        ("postgres://u@h/d?partitions=many", "1 to 64"),
        ("postgres://u@h/d?table_prefix=%ff", "not UTF-8"),
        (&format!("postgres://u@h/d?table_prefix={}", "p".repeat(41)), "up to 40"),
        ("postgres://u@h/d?sslmode=verify-ca", "sslrootcert=PATH"),
        ("postgres://u@h/d?sslcrl=/crl", "sslcrl"),
        ("postgres://u@h/d?schema=%ff", "not UTF-8"),
        (&format!("postgres://u@h/d?schema={}", "s".repeat(64)), "63 bytes"),
    ] {
        let error = store::connect(url).expect_err(url).to_string();
        assert!(error.contains(says), "{url}: {error}");
        assert!(!error.contains("u@h"), "what may be a password is told: {error}");
    }
    store::connect("postgresql://u:p@nowhere.invalid/d?schema=s&create_schema=true").expect("it is lazy");
    store::connect("postgresql:///d?user=u&hostaddr=127.0.0.1").expect("an address is a host");
}

/// Postgres would cut them off, and two stores would share their tables.
#[tokio::test]
async fn names_that_are_too_long_are_refused() {
    let server = Postgres::shared();
    let url = server.url();
    let pool = || Pool::builder(Manager::new(url.parse().expect("a URL"), NoTls)).build().expect("a pool");
    for (schema, prefix) in [("s".repeat(64), ""), (String::new(), ""), ("s".into(), "p")] {
        let options = PostgresStore::options().schema(schema).table_prefix(prefix.repeat(41)).creating_schema();
        let error = options.clone().connect(&url).expect_err("it is too long").to_string();
        assert!(error.contains("63 bytes") && error.contains("40"), "{error}");
        let store = options.with_pool(pool());
        let error = runs(&store, "k").await.expect_err("it is too long");
        assert!(error.to_string().contains("63 bytes"), "{error}");
        store.create_schema().await.expect_err("it is too long");
    }
    // The longest that go.
    let options = PostgresStore::options().schema("s".repeat(63)).table_prefix("p".repeat(40)).creating_schema();
    runs(&options.connect(&url).expect("a URL"), "k").await.expect("it runs");
}

#[tokio::test]
async fn a_schema_in_a_url_is_decoded() {
    let (server, name, _) = fresh().await;
    let url = format!("{}?schema=a%2Db%26c&create_schema=true", server.url_of("postgres", &name));
    runs(&PostgresStore::connect(&url).expect("a URL"), "k").await.expect("it runs");
    assert_eq!(server.sql_in(&name, "SELECT count(*) FROM \"a-b&c\".records"), "1");
}

/// Whoever stops waiting, at whatever point, leaves a pool that works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_dropped_anywhere_poison_no_connection() {
    let (server, name, _) = fresh().await;
    let store = PostgresStore::options().max_connections(2).connect(&server.url_of("postgres", &name));
    let store = store.expect("a URL");
    for polls in 0..40 {
        let record = claimed(&store, &key(polls)).await;
        let key = key(polls);
        let mut call = pin!(store.remove(&key, record.version()));
        for _ in 0..polls % 8 {
            if poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await {
                break;
            }
            tokio::task::yield_now().await;
        }
        // Dropped here.
    }
    claimed(&store, &key(200)).await;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'tower-idempotency' AND state <> 'idle'";
    wait_until("nothing to be left running", || server.sql_in(&name, busy) == "0");
    let open = "SELECT count(*) <= 2 FROM pg_stat_activity WHERE application_name = 'tower-idempotency' \
                AND datname = current_database()";
    wait_until("the dropped connections to be closed", || server.sql_in(&name, open) == "t");
}

/// With 150,000 records, 100,000 of them unfinished, no statement of ours reads them all.
#[tokio::test]
async fn no_statement_reads_the_whole_table() {
    let server = Postgres::start_with(&[
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
    ]);
    let store = PostgresStore::options().creating_schema().connect(&server.url()).expect("a URL");
    let record = claimed(&store, &key(1)).await;
    server.sql(
        "INSERT INTO idempotency.records (key, version, status, created, due, span, steps, head) \
         SELECT decode(md5(n::text) || md5((-n)::text), 'hex'), n, n % 3, 0, \
         (extract(epoch FROM now()) * 1000)::bigint - 15000000 + n * 200, 0, 0, '' FROM generate_series(1, 150000) AS n; \
         ANALYZE idempotency.records; ANALYZE idempotency.steps",
    );
    let before = std::fs::read_to_string(server.log()).expect("a log").len();
    for filter in [Filter::Unfinished, Filter::Lapsed, Filter::Expired] {
        let page = store.scan(&Query::new(filter, 10)).await.expect("a scan");
        let next = store.scan(&Query::new(filter, 10).after(page.next.expect("more"))).await.expect("a scan");
        assert!(next.found[0].due >= page.found[9].due);
    }
    store.sweep(10).await.expect("a sweep");
    let found = store.load(&key(1)).await.expect("load").record.expect("a record");
    let swapped = store.swap(&key(1), Some(found.version()), &record).await.expect("a swap");
    assert!(matches!(swapped, Swap::Stored));
    store.remove(&key(1), record.version()).await.expect("a removal");
    let log = std::fs::read_to_string(server.log()).expect("a log").split_off(before);
    assert!(log.matches("Index").count() >= 10, "plans are not logged:\n{log}");
    let scans: Vec<_> = log.lines().filter(|line| line.contains("Seq Scan on records")).collect();
    assert!(scans.is_empty(), "{scans:?}\n{log}");
}

/// A step writes its own row; the request beside it is not written again.
#[tokio::test]
async fn a_step_costs_what_the_step_costs() {
    // The log is the whole server's: nobody else may write, nor the server itself.
    let server = Postgres::start_with(&["autovacuum=off", "checkpoint_timeout=1d"]);
    let store = PostgresStore::connect(&server.url()).expect("a URL");
    store.create_schema().await.expect("a schema");
    let wal = || server.sql("SELECT pg_current_wal_insert_lsn() - '0/0'").parse::<u64>().expect("bytes");
    let body =
        Bytes::from((0..1 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect::<Vec<_>>());
    let request = StoredRequest::capture(&http::Method::POST, &"/".parse().expect("a path"), &HeaderMap::new(), body);
    let claim = Claim { request: Some(Arc::new(request)), ..claim() };
    let ledger = Ledger::new(store.clone());
    let done = ledger.apply(&key(1), None, claim).await.expect("a claim");
    let mut record = done.record.expect("a record");
    let fence = tower_idempotency::core::Fence::of(record.version());
    server.sql("CHECKPOINT");
    let before = wal();
    for n in 0..20 {
        let save = Change::Save { step: format!("step {n}").into(), value: Bytes::from_static(b"1") };
        let done = ledger.apply(&key(1), Some(record), Fenced { fence, changes: vec![save] }).await.expect("a save");
        done.output.expect("it is ours");
        record = done.record.expect("a record");
    }
    let written = (wal() - before) / 20;
    assert!(written < 64 << 10, "{written} bytes of log for a small step");
}

/// When one connection has fallen silent, those that were idle since before
/// have, too: they do not cost five seconds each.
#[tokio::test]
async fn a_silent_link_is_waited_for_once() {
    let server = Postgres::shared();
    let link = Proxy::to(([127, 0, 0, 1], server.port()).into());
    let url = server.database("stale").replace(&server.port().to_string(), &link.address().port().to_string());
    let store = PostgresStore::connect(&url).expect("a URL");
    store.create_schema().await.expect("a schema");
    let ledger = Ledger::new(store.clone());
    let all = (0..8).map(|n| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.apply(&key(n), None, claim()).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.expect("no panic").expect("a claim");
    }
    assert!(link.open() > 1, "they shared one connection");
    link.apply(Fault::HoldBoth);
    ledger.apply(&key(1), None, claim()).await.expect_err("nobody answers");
    assert!(format!("{store:?}").contains("size: 0"), "{store:?}");
    link.apply(Fault::Cut);
    link.heal();
    ledger.apply(&key(1), None, claim()).await.expect("it answers");
}

/// No error, no reset: whoever calls the store itself is not kept for ever.
#[tokio::test]
async fn a_link_that_falls_silent_is_given_up_in_the_end() {
    let server = Postgres::shared();
    let link = Proxy::to(([127, 0, 0, 1], server.port()).into());
    let url = server.database("silent").replace(&server.port().to_string(), &link.address().port().to_string());
    let store = PostgresStore::connect(&url).expect("a URL");
    store.create_schema().await.expect("a schema");
    for what in ["schema", "sweep", "durability"] {
        store.durability().await.expect("it answers");
        link.apply(Fault::HoldBoth);
        tokio::time::pause();
        let failed = tokio::time::timeout(HOUR, async {
            match what {
                "schema" => store.create_schema().await.err(),
                "sweep" => store.sweep(10).await.err(),
                _ => store.durability().await.err(),
            }
        });
        let failed = failed.await.unwrap_or_else(|_| panic!("{what} waits for ever")).expect("nobody answers");
        tokio::time::resume();
        assert_eq!(failed.kind(), StoreErrorKind::Unavailable);
        assert!(failed.to_string().contains("did not reply in time"), "{what}: {failed}");
        link.apply(Fault::Cut);
        link.heal();
    }
}

/// A first claim of this key, as a store is asked to write it.
async fn first_claim(key: &Key) -> Record {
    let done = Ledger::new(store::MemoryStore::new()).apply(key, None, claim()).await.expect("a claim");
    done.record.expect("a record")
}

/// One call of the store, which must do: the ledger would ask again.
async fn puts(store: &PostgresStore, n: u8) {
    let next = first_claim(&key(n)).await;
    let swapped = store.swap(&key(n), None, &next).await.unwrap_or_else(|error| panic!("{n}: {error}"));
    let took = match swapped {
        Swap::Stored => true,
        // It took before its connection was lost.
        Swap::Conflict(found) => found.record.is_some_and(|found| found.version() == next.version()),
    };
    assert!(took, "{n}: another one was in the way");
}

/// Calls at once, each on a connection of its own.
async fn puts_at_once(store: &PostgresStore, keys: std::ops::Range<u8>) {
    let all: Vec<_> =
        keys.map(|n| (store.clone(), n)).map(|(store, n)| tokio::spawn(async move { puts(&store, n).await })).collect();
    for one in all {
        one.await.expect("it is stored");
    }
}

fn address(server: &Postgres) -> std::net::SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

/// The server's URL, by a name that can be moved to another one.
fn by_name(server: &Postgres) -> (Proxy, String) {
    let name = Proxy::to(address(server));
    let url = server.url().replace(&server.port().to_string(), &name.address().port().to_string());
    (name, url)
}

/// Once new sessions are read-only, those that are open were told, too.
fn set_read_only(server: &Postgres, value: &str) {
    server.sql(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
    server.sql("SELECT pg_reload_conf()");
    wait_until("the setting to hold", || server.sql("SHOW default_transaction_read_only") == value);
}

fn refusals(server: &Postgres) -> usize {
    std::fs::read_to_string(server.log()).expect("a log").matches("in a read-only transaction").count()
}

#[tokio::test]
async fn the_first_call_after_a_failover_behind_one_name_succeeds() {
    let primary = Postgres::start();
    let (name, url) = by_name(&primary);
    let store = PostgresStore::options().creating_schema().connect(&url).expect("a URL");
    puts_at_once(&store, 0..16).await;
    assert!(name.open() > 4, "they shared few connections");
    let standby = primary.standby();
    primary.wait_for(&standby);
    standby.promote();
    set_read_only(&primary, "on");
    name.redirect(address(&standby));
    for n in 16..60 {
        puts(&store, n).await;
    }
    assert_eq!(refusals(&primary), 1, "the old connections were given up together");
    puts_at_once(&store, 60..76).await;
    assert_eq!(standby.sql("SELECT count(*) FROM idempotency.records"), "76");
    assert_eq!(primary.sql("SELECT count(*) FROM idempotency.records"), "16");
}

/// Calls that are under way at the switch each have a connection to the old one.
#[tokio::test]
async fn calls_at_once_after_a_failover_behind_one_name_succeed() {
    let primary = Postgres::start();
    let (name, url) = by_name(&primary);
    let store = PostgresStore::options().creating_schema().connect(&url).expect("a URL");
    puts_at_once(&store, 0..16).await;
    let standby = primary.standby();
    primary.wait_for(&standby);
    standby.promote();
    set_read_only(&primary, "on");
    name.redirect(address(&standby));
    puts_at_once(&store, 16..80).await;
    assert_eq!(standby.sql("SELECT count(*) FROM idempotency.records"), "80");
}

#[tokio::test]
async fn a_database_that_is_read_only_for_a_while_is_refused_only_meanwhile() {
    let server = Postgres::start();
    let store = PostgresStore::options().creating_schema().connect(&server.url()).expect("a URL");
    puts_at_once(&store, 0..8).await;
    set_read_only(&server, "on");
    for n in 8..12 {
        let error = store.swap(&key(n), None, &first_claim(&key(n)).await).await.expect_err("it takes no writes");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
    set_read_only(&server, "off");
    puts(&store, 8).await;
}

/// By a user's own pool, too, whose connections it does not close behind the
/// user's back: those that it draws it does.
#[tokio::test]
async fn a_given_pool_moves_on_after_a_failover_behind_one_name() {
    let primary = Postgres::start();
    let (name, url) = by_name(&primary);
    let pool = Pool::builder(Manager::new(url.parse().expect("a URL"), NoTls)).max_size(8).build().expect("a pool");
    let store = PostgresStore::options().creating_schema().with_pool(pool);
    puts_at_once(&store, 0..8).await;
    let standby = primary.standby();
    primary.wait_for(&standby);
    standby.promote();
    set_read_only(&primary, "on");
    name.redirect(address(&standby));
    for n in 8..24 {
        puts(&store, n).await;
    }
    assert_eq!(refusals(&primary), 1);
}

#[tokio::test]
async fn sessions_that_the_server_ends_cost_no_call() {
    let server = Postgres::start();
    let store = PostgresStore::options().creating_schema().connect(&server.url()).expect("a URL");
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.expect("connects");
    tokio::spawn(connection);
    for n in 0..40 {
        puts(&store, n).await;
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        client.batch_execute(all).await.expect("they end");
        let loaded = store.load(&key(n)).await.unwrap_or_else(|error| panic!("{n}: {error}"));
        assert!(loaded.record.is_some(), "{n}");
    }
}

/// The server did it, and its connection was lost: a write that compares finds
/// itself, and a removal, which could not tell, is left to the ledger.
#[tokio::test]
async fn a_lost_connection_is_replaced_once_where_that_is_safe() {
    let server = Postgres::start();
    let (name, url) = by_name(&server);
    let store = PostgresStore::options().prepared(false).creating_schema().connect(&url).expect("a URL");
    puts(&store, 0).await;
    name.set_trap(Trap::before(Way::Replies, b"INSERT 0 1", Fault::Reset));
    puts(&store, 1).await;
    assert_eq!(name.sprung(), 1);
    let there = store.load(&key(1)).await.expect("a record").record.expect("a record");
    name.set_trap(Trap::before(Way::Replies, b"DELETE 1", Fault::Reset));
    store.remove(&key(1), there.version()).await.expect_err("it can't tell");
    assert_eq!(name.sprung(), 2);
    assert!(store.load(&key(1)).await.expect("it answers").record.is_none(), "it was removed");
    // Once: what nothing answers is an error.
    name.apply(Fault::Cut);
    let error = store.swap(&key(2), None, &first_claim(&key(2)).await).await.expect_err("nothing answers");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    name.heal();
    puts(&store, 2).await;
}

/// Rows that are not ours: more than a page of them, of every kind, at the head.
#[tokio::test]
async fn rows_that_are_not_ours_hide_none_that_is() {
    let (server, name, store) = fresh().await;
    for n in 0..3 {
        claimed(&store, &key(n)).await;
    }
    let copies = |key: &str, also: &str, numbers: &str| {
        server.sql_in(
            &name,
            &format!(
                "INSERT INTO idempotency.records (key, version, status, created, due, span, steps, head) \
                 SELECT {key}, 1, 0, 1, 1, 1, 0, 'x' FROM generate_series({numbers}) AS n; \
                 UPDATE idempotency.records SET {also} WHERE head = 'x'; UPDATE idempotency.records SET head = 'y' WHERE head = 'x'"
            ),
        );
    };
    copies("int4send(n::int4)", "due = 0", "1, 150");
    copies("decode(repeat(lpad(to_hex(n), 8, '0'), 8), 'hex')", "due = -7", "1000, 1149");
    copies("decode(repeat(lpad(to_hex(n), 8, '0'), 8), 'hex')", "created = -5", "2000, 2149");
    for limit in [1, 4, 100, 149, 150, 151, 1000] {
        for filter in [Filter::Unfinished, Filter::Lapsed] {
            let (mut found, mut unreadable, mut query) = (Vec::new(), 0, Query::new(filter, limit));
            loop {
                let page = store.scan(&query).await.expect("it goes past them");
                assert!(page.found.len() <= limit && page.unreadable.keys.len() <= limit);
                unreadable += page.unreadable.count;
                found.extend(page.found);
                let Some(next) = page.next else { break };
                assert!(query.after.is_none_or(|after| after < next), "it gets on");
                query = query.after(next);
            }
            assert_eq!(unreadable, 450, "{filter:?} in pages of {limit}");
            assert_eq!(found.len(), if filter == Filter::Lapsed { 0 } else { 3 }, "{filter:?} in pages of {limit}");
        }
    }
}
