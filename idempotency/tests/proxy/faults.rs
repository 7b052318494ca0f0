//! What the proxy promises when the service behind fails, and when it fails itself.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tempfile::TempDir;

use super::bed::{Message, Proxy, Service, TRUSTING};

#[test]
fn a_retry_gets_the_stored_response_and_the_service_is_asked_once() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    let first = proxy.pay("/payments", "k");
    assert_eq!((first.status(), &*first.body), (201, "number 1"));
    assert_eq!(service.last().header("idempotency-attempt"), Some("1"));
    assert_eq!(service.last().header("idempotency-key"), Some("\"k\""));
    let retry = proxy.pay("/payments", "k");
    assert_eq!((retry.status(), &*retry.body), (201, "number 1"));
    assert_eq!(retry.header("idempotent-replayed"), Some("true"));
    // The key of another client is another key.
    let other = proxy.post("/payments", "x-user: bob\r\nidempotency-key: \"k\"\r\n");
    assert_eq!(other.body, "number 2");
    assert_eq!(proxy.post("/payments", "x-user: ann\r\n").body, "number 3");
}

#[test]
fn a_service_that_is_down_was_sent_nothing_and_the_key_is_free() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let proxy = Proxy::start(address, TRUSTING);
    let first = proxy.pay("/payments", "k");
    assert_eq!((first.status(), &*first.code()), (502, "upstream-unreachable"));
    let service = Service::at(TcpListener::bind(address).unwrap());
    let retry = proxy.pay("/payments", "k");
    assert_eq!((retry.status(), &*retry.body), (201, "number 1"));
    assert_eq!(service.asked(), 1);
}

/// Sends one, and its retry, which must not be sent to the service.
fn in_doubt(path: &str, settings: &str) -> (Option<Message>, Message) {
    let service = Service::start();
    let proxy = Proxy::start(service.address, &format!("{TRUSTING}{settings}"));
    let headers = "x-user: ann\r\nidempotency-key: \"k\"\r\n";
    let first = Message::read(&mut proxy.begin("POST", path, headers));
    let retry = proxy.pay(path, "k");
    assert_eq!(service.asked(), 1, "{first:?} {retry:?}");
    (first, retry)
}

#[test]
fn what_a_service_did_that_closes_the_connection_is_not_known() {
    let (first, retry) = in_doubt("/closes", "");
    assert_eq!(first.unwrap().code(), "upstream-broke-off");
    assert_eq!(retry.code(), "outcome-unknown");
}

/// Its queue of connections is full: no further one is made, and none is refused.
#[test]
fn a_service_that_takes_no_connection_was_sent_nothing_however_short_the_timeout() {
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
    let queue: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
    let proxy = Proxy::start(address, &format!("{TRUSTING}[guard]\ntimeout = \"2s\"\n"));
    let first = proxy.pay("/payments", "k");
    assert_eq!((first.status(), &*first.code()), (502, "upstream-unreachable"));
    drop(queue);
    let service = Service::at(full);
    // What hung up is still in the queue.
    let retry = loop {
        let retry = proxy.pay("/payments", "k");
        if retry.status() != 502 {
            break retry;
        }
    };
    assert_eq!((retry.status(), retry.header("idempotent-replayed")), (201, None));
    assert_eq!(service.asked(), 1);
}

/// Of one that has a key, the layer waits for all.
#[test]
fn a_client_that_stalls_in_an_upload_without_a_key_keeps_no_connection() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, &format!("{TRUSTING}[guard]\ntimeout = \"200ms\"\n"));
    let mut client = proxy.connect();
    client.write_all(b"POST /payments HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\nh").unwrap();
    let mut client = BufReader::new(client);
    let response = Message::read(&mut client).unwrap();
    assert_eq!((response.status(), &*response.code()), (408, "request-timeout"));
    // The proxy has ended the connection.
    assert!(Message::read(&mut client).is_none());
}

#[test]
fn a_service_that_is_too_slow_may_have_done_it() {
    let (first, retry) = in_doubt("/waits", "[guard]\ntimeout = \"100ms\"\n");
    let first = first.unwrap();
    assert_eq!((first.status(), &*first.code()), (504, "upstream-timeout"));
    assert_eq!(retry.code(), "outcome-unknown");
}

#[test]
fn a_response_that_breaks_off_is_not_replayed_and_nothing_runs_again() {
    let (first, retry) = in_doubt("/breaks", "");
    // The client's response breaks off as the service's did.
    assert!(first.is_none(), "{first:?}");
    assert_eq!((retry.status(), &*retry.code()), (201, "not-retained"));
}

#[test]
fn of_two_responses_the_first_counts() {
    let (first, retry) = in_doubt("/twice", "");
    assert_eq!(first.unwrap().body, "number 1");
    assert_eq!((retry.status(), &*retry.body), (201, "number 1"));
}

#[test]
fn a_failure_of_the_service_is_its_response_unless_the_settings_say_that_nothing_happened() {
    let (first, retry) = in_doubt("/busy", "");
    assert_eq!((first.unwrap().status(), retry.status()), (503, 503));
    let service = Service::start();
    let proxy = Proxy::start(service.address, &format!("{TRUSTING}[guard]\nnothing_happened = [503]\n"));
    assert_eq!(proxy.pay("/busy", "k").body, "number 1");
    assert_eq!(proxy.pay("/busy", "k").body, "number 2");
}

#[test]
fn with_a_step_key_that_the_service_honours_a_retry_is_sent_again_under_the_same_one() {
    let service = Service::start();
    let settings = format!("{TRUSTING}[guard]\nresumable = true\nstep_key_header = \"x-step\"\n");
    let proxy = Proxy::start(service.address, &settings);
    assert_eq!(proxy.pay("/closes", "k").code(), "upstream-broke-off");
    let first = service.last();
    assert_eq!(proxy.pay("/closes", "k").code(), "upstream-broke-off");
    let second = service.last();
    assert_eq!(service.asked(), 2);
    assert_eq!(first.header("x-step").unwrap().len(), 36);
    assert_eq!(first.header("x-step"), second.header("x-step"));
    assert_eq!([&first, &second].map(|sent| sent.header("idempotency-attempt")), [Some("1"), Some("2")]);
}

#[test]
fn a_client_that_hangs_up_gets_its_response_later() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    let client = proxy.begin("POST", "/waits", "x-user: ann\r\nidempotency-key: \"k\"\r\n");
    service.wait();
    drop(client);
    assert_eq!(proxy.pay("/waits", "k").code(), "in-progress");
    service.go_on();
    let retry = loop {
        let retry = proxy.pay("/waits", "k");
        if retry.status() != 409 {
            break retry;
        }
    };
    assert_eq!((retry.status(), &*retry.body, service.asked()), (201, "number 1", 1));
}

#[test]
fn a_proxy_that_is_killed_does_not_send_a_request_again() {
    let service = Service::start();
    let settings = TRUSTING.replace("memory:", "sqlite:keys.db");
    let proxy = Proxy::start_in(TempDir::new().unwrap(), service.address, &settings);
    assert_eq!(proxy.pay("/payments", "done").body, "number 1");
    let lost = proxy.begin("POST", "/waits", "x-user: ann\r\nidempotency-key: \"k\"\r\n");
    service.wait();
    let folder = proxy.kill();
    let proxy = Proxy::start_in(folder, service.address, &settings);
    drop(lost);
    assert_eq!(proxy.pay("/waits", "k").code(), "outcome-unknown");
    assert_eq!(proxy.pay("/payments", "done").body, "number 1");
    assert_eq!(service.asked(), 2);
}

#[test]
fn a_proxy_that_is_told_to_stop_lets_what_runs_end_and_begins_nothing() {
    let service = Service::start();
    let mut proxy = Proxy::start(service.address, TRUSTING);
    let mut running = proxy.begin("POST", "/waits", "x-user: ann\r\nidempotency-key: \"k\"\r\n");
    service.wait();
    proxy.signal("TERM");
    proxy.event("stopping");
    let refused = loop {
        let refused = proxy.pay("/payments", "new");
        if refused.status() != 201 {
            break refused;
        }
    };
    assert_eq!((refused.status(), &*refused.code()), (503, "draining"));
    service.go_on();
    assert_eq!(Message::read(&mut running).unwrap().body, "number 1");
    drop(running);
    let (code, log) = proxy.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("all that was begun has ended"), "{log}");
}
