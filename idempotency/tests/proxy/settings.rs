//! What the proxy is told: what it refuses, where, and what to write instead.

use std::fs;

use tempfile::TempDir;

use super::bed::{Message, Proxy, Service, TRUSTING, command};

/// Starts it with this file and these flags; why it does not.
#[track_caller]
fn refused(file: &str, flags: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("p.toml"), file).unwrap();
    let mut command = command();
    let output = command.args(["--config", "p.toml", "--check"]).args(flags).current_dir(&folder).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

const FLAGS: [&str; 6] = ["--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:3000", "--store", "memory:"];

#[test]
fn what_is_wrong_is_refused_with_its_line_and_what_to_write() {
    let scope = "[scope]\none_tenant = true\n";
    for (file, line, says) in [
        ("listen = \"here\"\n", 1, "as 127.0.0.1:8080"),
        ("\n\nlisten = \"127.0.0.1:80", 3, "invalid basic string"),
        ("upstream = \"https://shop\"\n", 1, "TLS to the upstream"),
        ("upstream = \"http://shop/api\"\n", 1, "it can have none"),
        ("upstream = \"shop:80\"\n", 1, "http://HOST:PORT"),
        ("drain = \"soon\"\n", 1, "as 90s, 10m"),
        ("lease = \"900ms\"\n", 1, "write 1s or more"),
        ("access_log = \"off\"\n", 1, "write true or false, without quotes"),
        ("\naccess_log = 0\n", 2, "write true or false, without quotes"),
        ("trusted_peers = [\"10.0.0.1\", \"gateway\"]\n", 1, "names are not looked up"),
        ("[guard]\nrequird = true\n", 2, "expected one of `path`"),
        ("[guard]\nmethods = [\"POST\", \"GET\"]\n", 2, "methods that change something"),
        ("[guard]\nmethods = [\"post\"]\n", 2, "in capitals"),
        ("[guard]\nnothing_happened = [200]\n", 2, "400 to 599"),
        ("[guard]\npreset = \"stripe\"\n", 2, "`stripe-v1`"),
        ("[guard]\nretention = \"0s\"\n", 2, "as 90s, 10m"),
        ("[guard]\npath = \"/a\"\n", 2, "write [[route]] for one"),
        ("[guard]\nresumable = true\n", 2, "step_key_header = "),
        ("[[route]]\npath = \"/a\"\n[[route]]\nrequired = true\n", 3, "needs its `path`"),
        ("[[route]]\npath = \"/a\"\n[[route]]\npath = \"/a\"\n", 4, "keep one of the two"),
        ("[[route]]\npath = \"/a/*\"\n", 2, "all below it"),
        ("[[route]]\npath = \"/a\"\n[[route]]\npath = \"/a/\"\n", 4, "keep one of the two"),
        ("\nstore = \"postgress://ann:secret@shop\"\n", 2, "postgres://HOST/DATABASE"),
        ("[guard]\nmethods = []\n", 2, "write pass = true"),
        ("[guard]\nstep_key_header = \"Connection\"\n", 2, "the proxy itself sets or removes"),
    ] {
        let whole = format!("{file}{}", if file.contains("\"127.0.0.1:80") { "" } else { scope });
        let said = refused(&whole, &FLAGS);
        assert!(said.contains(&format!("p.toml, line {line}: ")) && said.contains(says), "{file}: {said}");
        assert!(!said.contains("ann:secret"), "{said}");
    }
}

#[test]
fn a_scope_has_to_be_chosen_and_must_keep_clients_apart() {
    for (file, says) in [
        ("", "one_tenant = true"),
        ("[scope]\n", "one_tenant = true"),
        ("[scope]\none_tenant = false\n", "one_tenant = true"),
        ("[scope]\nheader = \"x-user\"\n", "any client can send x-user"),
        ("trusted_peers = [\"::1\"]\n[scope]\nheader = \"Authorization\"\n", "authorization is a credential"),
        ("trusted_peers = [\"::1\"]\n[scope]\nheader = \"cookie\"\n", "cookie is a credential"),
        ("trusted_peers = [\"::1\"]\n[scope]\nheader = \"host\"\n", "host says nothing of the client"),
        ("trusted_peers = [\"::1\"]\n[scope]\nheader = \"x-forwarded-for\"\n", "says nothing of the client"),
        ("trusted_peers = [\"::1\"]\n[scope]\nheader = \"idempotency-key\"\n", "says nothing of the client"),
        ("trusted_peers = [\"::1\"]\n[scope]\nheader = \"x-user\"\none_tenant = true\n", "keep one"),
        ("[scope]\nauth_request = { url = \"https://a\", header = \"x-user\" }\n", "http://127.0.0.1:4000/verify"),
    ] {
        let said = refused(file, &FLAGS);
        assert!(said.contains(says), "{file}: {said}");
    }
    let flags = [&FLAGS[..], &["--scope-header", "authorization", "--trusted-peer", "::1"]].concat();
    assert!(refused("", &flags).contains("authorization is a credential"));
    let flags = [&FLAGS[..], &["--scope-header", "x-user"]].concat();
    assert!(refused("", &flags).contains("--trusted-peer"));
}

#[test]
fn what_is_missing_is_named() {
    for (at, says) in [(0, "--listen"), (2, "--upstream"), (4, "--store")] {
        let mut flags = FLAGS.to_vec();
        flags.drain(at..at + 2);
        assert!(refused("[scope]\none_tenant = true\n", &flags).contains(says));
    }
}

#[test]
fn settings_are_read_again_and_wrong_ones_change_nothing() {
    let (one, other) = (Service::start(), Service::start());
    let mut proxy = Proxy::start(one.address, TRUSTING);
    proxy.pay("/payments", "a");
    proxy.reload(other.address, &format!("{TRUSTING}[guard]\nrequired = 1\n"));
    let kept = proxy.event("settings-kept");
    assert!(kept.contains("proxy.toml, line 8"), "{kept}");
    proxy.pay("/payments", "b");
    proxy.reload(other.address, &TRUSTING.replace("memory:", "sqlite:keys.db"));
    assert!(proxy.event("settings-kept").contains("restart it"));
    assert_eq!((one.asked(), other.asked()), (2, 0));
    proxy.reload(other.address, &format!("{TRUSTING}[guard]\nrequired = true\n"));
    proxy.event("settings-read");
    proxy.pay("/payments", "c");
    assert_eq!((one.asked(), other.asked()), (2, 1));
    assert_eq!(proxy.post("/payments", "x-user: ann\r\n").code(), "missing-key");
    // What was stored before is there.
    assert_eq!(proxy.pay("/payments", "a").header("idempotent-replayed"), Some("true"));
}

#[test]
fn the_log_has_a_line_for_each_request_and_no_secret() {
    let service = Service::start();
    let mut proxy = Proxy::start(service.address, TRUSTING);
    let secrets = "authorization: Bearer s3cret\r\nx-user: s3cret\r\nidempotency-key: \"s3cret\"\r\n";
    proxy.post("/payments?token=s3cret", secrets);
    let line = proxy.line();
    assert_eq!((&line["method"], &line["path"]), (&"POST".into(), &"/payments".into()));
    assert_eq!((&line["status"], &line["peer"]), (&201.into(), &"127.0.0.1".into()));
    assert!(!line.to_string().contains("s3cret"), "{line}");
}

#[test]
fn without_an_access_log_only_what_is_about_no_request_is_written() {
    let service = Service::start();
    let off = format!("access_log = false\n{TRUSTING}");
    let mut proxy = Proxy::start(service.address, &off);
    assert_eq!(proxy.pay("/payments", "a").status(), 201);
    // A change of the file counts for the requests after it.
    proxy.reload(service.address, TRUSTING);
    assert_eq!(proxy.line()["event"], "settings-read");
    proxy.pay("/logged", "b");
    assert_eq!(proxy.line()["path"], "/logged");
    proxy.reload(service.address, &off);
    assert_eq!(proxy.line()["event"], "settings-read");
    // In doubt: it needs an operator.
    assert_eq!(proxy.pay("/closes", "c").status(), 502);
    assert_eq!(proxy.line()["event"], "attention");
    proxy.signal("TERM");
    let (_, rest) = proxy.end();
    assert!(!rest.contains("\"path\""), "{rest}");
}

#[test]
fn the_access_log_can_be_turned_off_as_it_is_started() {
    let service = Service::start();
    let said = format!("access_log = true\n{TRUSTING}");
    let mut proxy = Proxy::start_typed(service.address, &said, &["--no-access-log"]);
    assert_eq!(proxy.pay("/payments", "a").status(), 201);
    proxy.signal("TERM");
    assert_eq!(proxy.line()["event"], "stopping");
}

#[test]
fn a_client_that_hangs_up_is_in_the_log_too() {
    let service = Service::start();
    let mut proxy = Proxy::start(service.address, TRUSTING);
    for headers in ["", "x-user: ann\r\nidempotency-key: \"k\"\r\n"] {
        let client = proxy.begin("POST", "/waits", headers);
        service.wait();
        drop(client);
        let line = proxy.line();
        assert_eq!((&line["path"], &line["status"]), (&"/waits".into(), &serde_json::Value::Null));
        service.go_on();
    }
}

#[test]
fn the_time_to_drain_is_read_again_and_counts_for_requests_without_a_key() {
    let service = Service::start();
    let mut proxy = Proxy::start(service.address, TRUSTING);
    proxy.reload(service.address, &format!("drain = \"600s\"\n{TRUSTING}"));
    proxy.event("settings-read");
    let mut running = proxy.begin("POST", "/waits", "connection: close\r\n");
    service.wait();
    proxy.signal("TERM");
    assert!(proxy.event("stopping").contains("600 seconds"));
    let closing = proxy.event("closing");
    assert!(closing.contains("59") || closing.contains("600"), "{closing}");
    service.go_on();
    assert_eq!(Message::read(&mut running).unwrap().body, "number 1");
    assert_eq!(proxy.end().0, Some(0));
}

#[test]
fn what_runs_the_proxy_can_ask_it() {
    let service = Service::start();
    let mut proxy = Proxy::start(service.address, &format!("admin = \"127.0.0.1:0\"\n{TRUSTING}"));
    let admin = proxy.admin;
    let ask = |path: &str| Proxy::get(admin.unwrap(), path);
    assert_eq!((ask("/healthz").status(), ask("/readyz").status()), (200, 200));
    proxy.pay("/payments", "k");
    proxy.pay("/payments", "k");
    let metrics = ask("/metrics").body;
    assert!(metrics.contains("idempotency_operations_total{what=\"replayed\"} 1"), "{metrics}");
    assert!(
        metrics.contains("idempotency_attempt_duration_seconds_bucket{mode=\"at-most-once\",le=\"60\"} 1"),
        "{metrics}"
    );
    let running = proxy.begin("POST", "/waits", "x-user: ann\r\nidempotency-key: \"w\"\r\n");
    service.wait();
    proxy.signal("TERM");
    proxy.event("stopping");
    while ask("/readyz").status() == 200 {}
    assert_eq!((ask("/healthz").status(), ask("/readyz").status()), (200, 503));
    service.go_on();
    drop(running);
    assert_eq!(proxy.end().0, Some(0));
}
