//! What a program finds in its log of a boot where the tables are there already: nothing.

use std::sync::Mutex;
use std::thread::{self, ThreadId};

use log::{LevelFilter, Log, Metadata, Record};
use servers::Postgres;
use tokio_postgres::NoTls;
use tower_idempotency::core::Key;
use tower_idempotency::store::{PostgresStore, Store};

/// Lines of all tests of this program, with the thread that each has to itself.
struct Lines(Mutex<Vec<(ThreadId, String)>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Lines {
    fn own(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let own = lines.iter().filter(|(thread, _)| *thread == thread::current().id());
        own.map(|(_, line)| line.clone()).collect()
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push((thread::current().id(), line));
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn a_boot_with_the_tables_there_logs_nothing_at_info_or_above() {
    log::set_logger(&LINES).expect("no other logger");
    log::set_max_level(LevelFilter::Info);
    let url = Postgres::shared().database("quiet");
    let boot = async || {
        let store = PostgresStore::connect(&url).expect("a URL");
        store.create_schema().await.expect("a schema");
        store.load(&Key::from_bytes([1; 32])).await.expect("an answer");
    };
    for _ in 0..3 {
        boot().await;
    }
    assert_eq!(LINES.own(), [""; 0]);
    // That a notice would be seen, and that others still get theirs.
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
    let connection = tokio::spawn(connection);
    client.batch_execute("CREATE SCHEMA IF NOT EXISTS idempotency").await.expect("it is there");
    assert!(LINES.own().iter().any(|line| line.contains("already exists")), "{:?}", LINES.own());
    drop(client);
    connection.await.expect("no panic").expect("it was closed");
}
