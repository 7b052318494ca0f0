//! A host that says nothing does not keep us from the next one.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use servers::{Fault, Postgres, Proxy};
use tower_idempotency::core::Key;
use tower_idempotency::store::{PostgresStore, Store};

/// An address that takes no connection and refuses none: its queue is full.
struct BlackHole {
    _listener: OwnedFd,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&listener, &address).expect("a free address");
        listen(&listener, 0).expect("it listens");
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
        }
        Self { _listener: listener, _waiting: waiting }
    }
}

async fn reaches(url: &str) {
    let store = PostgresStore::connect(url).expect("a URL");
    let found = store.load(&Key::from_bytes([1; 32])).await.expect("the second host answers");
    assert!(found.record.is_none());
}

async fn with_tables(database: &str) -> &'static Postgres {
    let server = Postgres::shared();
    let store = PostgresStore::connect(&server.database(database)).expect("a URL");
    store.create_schema().await.expect("a schema");
    server
}

#[tokio::test]
async fn a_silent_host_leaves_time_for_the_next() {
    let server = with_tables("after_silence").await;
    let silent = Proxy::to(([127, 0, 0, 1], server.port()).into());
    silent.apply(Fault::HoldBoth);
    let hosts = format!("{},127.0.0.1:{}", silent.address(), server.port());
    reaches(&format!("postgres://postgres@{hosts}/after_silence?target_session_attrs=read-write")).await;
    // Longer than a call waits for a connection.
    reaches(&format!("postgres://postgres@{hosts}/after_silence?connect_timeout=10")).await;
}

#[tokio::test]
async fn who_comes_while_a_try_fails_does_not_wait_for_another() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let store = PostgresStore::connect(&format!("postgres://postgres@{address}/d")).expect("a URL");
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        calls.spawn(async move { store.load(&Key::from_bytes([n; 32])).await });
    }
    let mut asked = Vec::new();
    while !calls.is_empty() {
        tokio::select! {
            stream = silent.accept() => asked.push(stream.expect("a connection")),
            Some(call) = calls.join_next() => drop(call.expect("no panic").expect_err("nobody answers")),
        }
    }
    assert_eq!(asked.len(), 1, "one tries for all");
}

#[tokio::test]
async fn an_address_behind_a_black_hole_leaves_time_for_the_next() {
    let server = with_tables("after_a_hole").await;
    let port = server.port();
    let _hole = BlackHole::at(([127, 0, 0, 2], port).into());
    reaches(&format!("postgres://postgres@127.0.0.2:{port},127.0.0.1:{port}/after_a_hole")).await;
    // As the driver sees a name with two addresses: it tries them by itself.
    let parameters = format!("host=127.0.0.2&host=127.0.0.1&port={port},{port}&dbname=after_a_hole");
    reaches(&format!("postgres:///?user=postgres&{parameters}")).await;
}
