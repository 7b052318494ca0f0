//! TLS: whom a URL trusts, and connections that trust someone else.

use std::process::Command;

use redis::{Client, TlsCertificates};
use servers::{Cluster, Redis, free_port};
use tempfile::TempDir;
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{RedisStore, Store};

use super::support::*;

/// A certificate for this machine that only vouches for itself.
struct Certificate(TempDir);

impl Certificate {
    fn new() -> Self {
        let certificate = Self(tempfile::tempdir().unwrap());
        let made = Command::new(servers::program("openssl", &[], "openssl"))
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-keyout", &certificate.path("key"), "-out", &certificate.path("cert")])
            .output()
            .unwrap();
        assert!(made.status.success());
        certificate
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// For a server: settings by their names.
    fn settings(&self, port: &str) -> Vec<(&'static str, String)> {
        vec![
            ("tls-port", port.to_owned()),
            ("tls-cert-file", self.path("cert")),
            ("tls-key-file", self.path("key")),
            ("tls-ca-cert-file", self.path("cert")),
            ("tls-auth-clients", "no".to_owned()),
        ]
    }

    fn arguments(&self, port: &str) -> Vec<String> {
        let settings = self.settings(port).into_iter();
        settings.flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }

    fn trusted(&self) -> TlsCertificates {
        TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(self.path("cert")).unwrap()) }
    }
}

/// One of each kind, which nobody but their own certificate vouches for.
struct Servers {
    certificate: Certificate,
    _running: [Redis; 3],
    /// One server, a cluster, a primary behind a sentinel.
    urls: [String; 3],
}

impl Servers {
    fn start() -> Self {
        let certificate = Certificate::new();
        let [one, cluster, sentinel] = [(); 3].map(|()| free_port().to_string());
        let arguments = certificate.arguments(&one);
        let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["--requirepass", "secret"]);
        let single = Redis::start_with(&arguments);
        let arguments = certificate.arguments(&cluster);
        let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["--tls-cluster", "yes"]);
        let node = Cluster::start_alone(&arguments);
        let watched: String = certificate.settings(&sentinel).iter().map(|(k, v)| format!("{k} {v}\n")).collect();
        let watcher = Redis::sentinel(&format!(
            "port {{port}}\nbind 127.0.0.1\n{watched}tls-replication yes\nsentinel monitor shop 127.0.0.1 {one} 1\n\
             sentinel auth-pass shop secret\n"
        ));
        let urls = [
            format!("rediss://:secret@localhost:{one}"),
            format!("rediss+cluster://localhost:{cluster}"),
            format!("rediss+sentinel://:secret@localhost:{sentinel}/shop"),
        ];
        Self { certificate, _running: [single, node, watcher], urls }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let servers = Servers::start();
    for url in &servers.urls {
        let error = refused(&RedisStore::connect(url).unwrap()).await;
        assert!(error.to_string().to_lowercase().contains("cert"), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_applications_own_connection_says_whom_it_trusts() {
    let servers = Servers::start();
    // No URL names a provider of cryptography here.
    drop(RedisStore::connect(&servers.urls[0]).unwrap());
    let client = Client::build_with_tls(&*servers.urls[0], servers.certificate.trusted()).unwrap();
    let manager = redis::aio::ConnectionManager::new(client).await.unwrap();
    let store = RedisStore::options().prefix("t").manager(manager).unwrap();
    claim_key(&Ledger::new(store), &key("a")).await.unwrap().expect("granted");
    let node = servers.urls[1].replace("+cluster", "");
    let node = Client::build_with_tls(node, servers.certificate.trusted()).unwrap();
    let store = RedisStore::options().prefix("t").cluster([node]).unwrap();
    claim_key(&Ledger::new(store), &key("a")).await.unwrap().expect("granted");
}

/// What the system trusts is read from its environment, which is that of a
/// process: this test runs again in one of its own.
#[test]
fn a_url_trusts_whom_the_system_trusts() {
    if let Ok(urls) = std::env::var("URLS_TO_TRUST") {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for (n, url) in urls.split(' ').enumerate() {
            let ledger = Ledger::new(RedisStore::options().prefix(n.to_string()).connect(url).unwrap());
            let granted = runtime.block_on(claim_key(&ledger, &key("a")));
            granted.unwrap_or_else(|error| panic!("{url}: {error}")).expect("granted");
            runtime.block_on(ledger.store().durability()).unwrap();
        }
        return;
    }
    let servers = Servers::start();
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["tls::a_url_trusts_whom_the_system_trusts", "--exact", "--nocapture"])
        .env("SSL_CERT_FILE", servers.certificate.path("cert"))
        .env("URLS_TO_TRUST", servers.urls.join(" "))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&again.stderr));
}
