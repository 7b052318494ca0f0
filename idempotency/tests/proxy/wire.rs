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
    let said = "x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\nforwarded: for=9.9.9.9\r\nx-user: ann\r\n\
                x-forwarded-prefix: /admin\r\nx-real-ip: 9.9.9.9\r\n";
    let seen = |proxy: &Proxy| {
        proxy.post("/payments", said);
        let names = ["x-forwarded-for", "x-forwarded-proto", "forwarded", "x-user", "x-forwarded-prefix", "x-real-ip"];
        names.map(|name| service.last().header(name).unwrap_or_default().to_owned())
    };
    let trusted = seen(&Proxy::start(service.address, TRUSTING));
    let chain = "for=9.9.9.9, for=127.0.0.1;host=\"shop\";proto=http";
    assert_eq!(trusted, ["9.9.9.9, 127.0.0.1", "https", chain, "ann", "/admin", "9.9.9.9"]);
    let proxy = Proxy::start(service.address, &TRUSTING.replace("127.0.0.1", "10.0.0.0/8"));
    let own = "for=127.0.0.1;host=\"shop\";proto=http";
    assert_eq!(seen(&proxy), ["127.0.0.1", "http", own, "", "", ""]);
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
    proxy.raw("GET /hidden HTTP/1.1\r\nhost: shop\r\nidempotency-key: a\r\n\r\n");
    assert_eq!(service.last().header("idempotency-key"), None);
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
    let head = "GET /echoes HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let response = Message::read(&mut reader).unwrap();
    assert_eq!((response.status(), response.header("upgrade")), (101, Some("websocket")));
    for text in [b"hello", b"again"] {
        stream.write_all(text).unwrap();
        let mut back = [0; 5];
        reader.read_exact(&mut back).unwrap();
        assert_eq!(&back, text);
    }
}

/// Upgraded to HTTP/2, a client could send what it likes past the proxy.
#[test]
fn no_protocol_but_websocket_passes() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    for protocol in ["h2c", "websocket, h2c", "TLS/1.0"] {
        let headers = format!("connection: upgrade, http2-settings\r\nupgrade: {protocol}\r\nhttp2-settings: AAMA\r\n");
        assert_eq!(proxy.post("/payments", &headers).status(), 201);
        let request = service.last();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(request.header(name), None, "{protocol}");
        }
    }
}

/// RFC 9112, sections 3.2 and 6.1.
#[test]
fn a_request_that_two_servers_could_read_in_two_ways_is_refused() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    for (headers, status, code) in [
        ("host: a\r\nhost: b\r\ncontent-length: 0\r\n", 400, "host"),
        ("content-length: 0\r\n", 400, "host"),
        ("host: a\r\ntransfer-encoding: gzip, chunked\r\n", 501, "transfer-coding"),
        ("host: a\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", 501, "transfer-coding"),
    ] {
        let refused = proxy.raw(&format!("POST /payments HTTP/1.1\r\n{headers}\r\n"));
        assert_eq!((refused.status(), &*refused.code()), (status, code), "{headers}");
    }
    assert_eq!(service.asked(), 0);
}

#[test]
fn chunks_say_where_a_body_ends_whatever_its_length_says() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    for key in ["", "x-user: ann\r\nidempotency-key: \"k\"\r\n"] {
        let both = "content-length: 3\r\ntransfer-encoding: chunked\r\n";
        let head = format!("POST /both HTTP/1.1\r\nhost: shop\r\n{key}{both}\r\n");
        let response = proxy.raw(&format!("{head}6\r\nabcdef\r\n0\r\n\r\n"));
        assert_eq!((response.status(), &*response.body), (201, "abcdef"), "{key}");
        assert_eq!(service.last().body, "abcdef", "{key}");
    }
    let retry = "host: shop\r\nx-user: ann\r\nidempotency-key: \"k\"\r\ncontent-length: 6\r\n\r\nabcdef";
    let replay = proxy.raw(&format!("POST /both HTTP/1.1\r\n{retry}"));
    assert_eq!((replay.header("idempotent-replayed"), &*replay.body), (Some("true"), "abcdef"));
}

/// RFC 9112, section 3.2.2.
#[test]
fn the_target_says_which_host_a_request_is_for() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    let target = "http://ann:secret@shop:81/payments?x=1";
    let response = proxy.raw(&format!("POST {target} HTTP/1.1\r\nhost: other\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(response.status(), 201);
    let request = service.last();
    assert_eq!(request.first_line, "POST /payments?x=1 HTTP/1.1");
    assert_eq!((request.header("host"), request.header("x-forwarded-host")), (Some("shop:81"), Some("shop:81")));
}

#[test]
fn a_request_that_names_no_host_gets_that_of_the_service() {
    let service = Service::start();
    let proxy = Proxy::start(service.address, TRUSTING);
    assert_eq!(proxy.raw("POST /payments HTTP/1.0\r\ncontent-length: 0\r\n\r\n").status(), 201);
    assert_eq!(service.last().header("host"), Some(&*service.address.to_string()));
    assert_eq!(service.last().header("x-forwarded-host"), None);
}

/// It could take the place of another client's request there.
#[test]
fn no_client_gives_the_service_the_key_of_a_step() {
    let service = Service::start();
    let settings = "[[route]]\npath = \"/own\"\nresumable = true\nstep_key_header = \"idempotency-key\"\n\
                    [[route]]\npath = \"/step\"\nresumable = true\nstep_key_header = \"x-step\"\n";
    let proxy = Proxy::start(service.address, &format!("{TRUSTING}{settings}"));
    for path in ["/step", "/own", "/", "/step/../own"] {
        proxy.post(path, "x-step: eve\r\nx-user: eve\r\n");
        assert_eq!(service.last().header("x-step"), None, "{path}");
    }
    // A GET is not guarded.
    for (path, seen) in [("/own", None), ("/step", Some("eve"))] {
        proxy.raw(&format!("GET {path} HTTP/1.1\r\nhost: shop\r\nidempotency-key: eve\r\n\r\n"));
        assert_eq!(service.last().header("idempotency-key"), seen, "{path}");
    }
    proxy.pay("/own", "k");
    assert_eq!(service.last().header("idempotency-key").unwrap().len(), 36);
}
