//! What goes over the wire: what passes, and what the proxy takes off.

use std::io::{BufRead, Read, Write};

use super::bed::{Message, Proxy, Service, TRUSTING};

#[test]
fn what_is_about_one_connection_does_not_pass() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    let headers = "connection: x-mine\r\nx-mine: 1\r\nkeep-alive: 9\r\nproxy-authorization: Basic eA==\r\nte: gzip, trailers\r\n\
                   x-end: 1\r\nidempotency-attempt: 7\r\n";
    let response = proxy.post("/hops", headers);
    let request = service.last();
    for name in ["connection", "x-mine", "keep-alive", "proxy-authorization", "idempotency-attempt", "x-hop"] {
        assert_eq!((request.header(name), response.header(name)), (None, None), "{name}");
    }
    assert_eq!((request.header("x-end"), response.header("x-end")), (Some("1"), Some("1")));
    assert_eq!(request.header("te"), Some("trailers"));
    assert_eq!(request.header("host"), Some("shop"));
    assert_eq!(request.header("via"), Some("1.1 idempotency"));
}

/// Of an old service, such as Python's `http.server`.
#[test]
fn the_version_of_a_response_is_the_proxys_own() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    for headers in ["", "x-user: ann\r\nidempotency-key: \"k\"\r\n"] {
        assert_eq!(proxy.post("/old", headers).first_line, "HTTP/1.1 201 Created", "{headers}");
    }
}

#[test]
fn only_a_trusted_peer_says_who_the_client_is() {
    let service = Service::start();
    let said = "x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\nforwarded: for=9.9.9.9\r\nx-user: ann\r\n";
    let seen = |proxy: &Proxy| {
        proxy.post("/payments", said);
        let names = ["x-forwarded-for", "x-forwarded-proto", "forwarded", "x-user"];
        names.map(|name| service.last().header(name).unwrap_or_default().to_owned())
    };
    let trusted = seen(&Proxy::start(service.address, TRUSTING));
    let chain = "for=9.9.9.9, for=127.0.0.1;host=\"shop\";proto=http";
    assert_eq!(trusted, ["9.9.9.9, 127.0.0.1", "https", chain, "ann"]);
    let proxy = Proxy::start(service.address, &TRUSTING.replace("127.0.0.1", "10.0.0.0/8"));
    let own = "for=127.0.0.1;host=\"shop\";proto=http";
    assert_eq!(seen(&proxy), ["127.0.0.1", "http", own, ""]);
    let refused = proxy.pay("/payments", "k");
    assert_eq!((refused.status(), &*refused.code()), (403, "scope-unknown"));
}

#[test]
fn a_request_for_no_path_is_refused() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    for target in ["CONNECT shop:443", "OPTIONS *"] {
        let mut stream = proxy.connect();
        write!(stream, "{target} HTTP/1.1\r\nhost: shop\r\n\r\n").unwrap();
        let response = Message::read(&mut std::io::BufReader::new(stream)).unwrap();
        assert_eq!((response.status(), &*response.code()), (400, "no-target"), "{target}");
    }
    assert_eq!(service.asked(), 0);
}

#[test]
fn a_key_that_the_service_is_not_to_see_is_taken_off() {
    let service = Service::start();
    let proxy =
        Proxy::start(service.address, &format!("{TRUSTING}[[route]]\npath = \"/hidden\"\nforward_key = false\n"));
    for (path, key) in
        [("/hidden", None), ("/hidden/below", None), ("/hidden-not", Some("\"a\"")), ("/", Some("\"a\""))]
    {
        // Another client each time: a key is for one path.
        proxy.post(path, &format!("x-user: of {path}\r\nidempotency-key: \"a\"\r\n"));
        assert_eq!(service.last().header("idempotency-key"), key, "{path}");
    }
}

#[test]
fn events_pass_as_they_come() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    for (method, key) in [("GET", ""), ("POST", "idempotency-key: \"k\"\r\n")] {
        let mut stream = proxy.begin(method, "/streams", &format!("connection: close\r\nx-user: ann\r\n{key}"));
        let mut lines = String::new();
        while !lines.contains("data: one") {
            assert_ne!(stream.read_line(&mut lines).unwrap(), 0, "{lines}");
        }
        service.wait();
        service.go_on();
        stream.read_to_string(&mut lines).unwrap();
        assert!(lines.contains("data: two"), "{lines}");
    }
    assert_eq!(proxy.pay("/streams", "k").code(), "not-retained");
}

#[test]
fn another_protocol_passes_both_ways() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    let mut stream = proxy.connect();
    let head = "GET /echoes HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let response = Message::read(&mut reader).unwrap();
    assert_eq!((response.status(), response.header("upgrade")), (101, Some("echo")));
    for text in [b"hello", b"again"] {
        stream.write_all(text).unwrap();
        let mut back = [0; 5];
        reader.read_exact(&mut back).unwrap();
        assert_eq!(&back, text);
    }
}
