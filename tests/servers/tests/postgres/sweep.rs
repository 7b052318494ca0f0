//! What a sweep removes, and how much of the database it has.

use super::*;

/// As the server says in its log: in milliseconds, when a statement was over, and how long it took.
#[derive(Debug)]
struct Ran {
    over: f64,
    took: f64,
}

fn sweeps(log: &str) -> Vec<Ran> {
    let lines = log.lines().filter(|line| line.contains("execute") && line.contains("SKIP LOCKED"));
    lines
        .map(|line| {
            let over: f64 = line.split(' ').next().expect("when").parse().expect("seconds");
            let took = line.split("duration: ").nth(1).and_then(|rest| rest.split(' ').next()).expect("how long");
            Ran { over: over * 1000.0, took: took.parse().expect("milliseconds") }
        })
        .collect()
}

/// Requests have the server for themselves most of the time.
#[tokio::test]
async fn a_sweep_takes_a_hundred_at_once_and_rests() {
    let server = Postgres::start_with(&["log_min_duration_statement=0", "log_line_prefix=%n "]);
    let store = PostgresStore::options().creating_schema().connect(&server.url()).expect("a URL");
    store.sweep(1).await.expect("it is there");
    server.sql(
        "INSERT INTO idempotency.records (key, version, status, created, due, span, steps, head) \
         SELECT decode(md5(n::text) || md5((-n)::text), 'hex'), n, 2, 0, 0, 0, 0, '' FROM generate_series(1, 350) AS n",
    );
    let before = std::fs::read_to_string(server.log()).expect("a log").len();
    assert_eq!(store.sweep(250).await.expect("a sweep"), 250, "no more than it was told");
    assert_eq!(store.sweep(1000).await.expect("a sweep"), 100);
    let ran = sweeps(&std::fs::read_to_string(server.log()).expect("a log").split_off(before));
    // Of 100, 100 and 50; and of 100 and none.
    assert_eq!(ran.len(), 5, "{ran:?}");
    for (n, next) in [(0, 1), (1, 2), (3, 4)] {
        let rested = ran[next].over - ran[next].took - ran[n].over;
        assert!(rested > 3.0 * ran[n].took - 1.0, "{ran:?}");
    }
}

#[tokio::test]
async fn sweeping_takes_what_expired_and_nothing_else() {
    let (server, name, store) = fresh().await;
    let ledger = Ledger::new(store.clone());
    for n in 0..10 {
        let record = claimed(&store, &key(n)).await;
        if n < 6 {
            let body = Some(Bytes::from_static(b"done"));
            let response = Arc::new(StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), body));
            let retention = if n < 5 { Duration::ZERO } else { HOUR };
            let fence = tower_idempotency::core::Fence::of(record.version());
            let complete =
                Fenced { fence, changes: vec![Change::Complete { response, retention, reached: Reached::All }] };
            ledger.apply(&key(n), Some(record), complete).await.expect("it completes").output.expect("it is ours");
        }
    }
    server.sql_in(&name, "UPDATE idempotency.records SET due = span WHERE status < 2");
    assert_eq!(store.sweep(2).await.expect("a sweep"), 2);
    let (one, other) = tokio::join!(store.sweep(100), store.sweep(100));
    assert_eq!(one.expect("a sweep") + other.expect("a sweep"), 3);
    assert_eq!(store.sweep(100).await.expect("a sweep"), 0);
    let left = store.scan(&Query::new(Filter::Unfinished, 100)).await.expect("a scan");
    assert_eq!(left.found.len(), 4, "something unfinished was swept");
    assert!(store.load(&key(5)).await.expect("load").record.is_some(), "it is not expired");
}

/// A replay that is being read, or another sweep, does not hold up a sweep.
#[tokio::test]
async fn sweeping_waits_for_no_lock() {
    let (server, name, store) = fresh().await;
    for n in 0..3 {
        claimed(&store, &key(n)).await;
    }
    server.sql_in(&name, "UPDATE idempotency.records SET status = 2, due = get_byte(key, 0)");
    let url = server.url_of("postgres", &name);
    let (mut other, connection) = tokio_postgres::connect(&url, NoTls).await.expect("connects");
    tokio::spawn(connection);
    let lock = other.transaction().await.expect("a transaction");
    lock.batch_execute("SELECT FROM idempotency.records WHERE get_byte(key, 0) = 0 FOR UPDATE").await.expect("a lock");
    assert_eq!(store.sweep(2).await.expect("it does not wait"), 2, "those behind the lock");
    lock.rollback().await.expect("it ends");
    assert_eq!(store.sweep(2).await.expect("it is free"), 1);
}
