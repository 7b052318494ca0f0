//! TLS, as libpq means it: what each `sslmode` takes for good enough, of whom, and what is
//! said where it is not.

use std::process::Command;
use std::sync::OnceLock;

use servers::{FakeClock, Postgres, give_away, program};
use tempfile::TempDir;
use tower_idempotency::store::{self, PostgresStore, Store};

/// A folder of certificates, two CAs among them.
struct Certificates(TempDir);

const NAMED: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1";

impl Certificates {
    fn new() -> Self {
        let all = Self(tempfile::tempdir().expect("a folder"));
        give_away(all.0.path());
        for ca in ["ca", "other"] {
            let (key, certificate) = (all.path(&format!("{ca}.key")), all.path(&format!("{ca}.crt")));
            let subject = format!("/CN={ca}");
            let made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject];
            openssl(&[&made[..], &["-keyout", &key, "-out", &certificate]].concat());
        }
        all.sign("good", "localhost", Some(NAMED));
        all.sign("elsewhere", "localhost", Some("subjectAltName=DNS:db.example"));
        // As `openssl x509 -req` has it without extensions, and so many a page.
        all.sign("version-1", "localhost", None);
        all.sign("client", "certified", Some("subjectAltName=DNS:unused"));
        let clock = FakeClock::new(all.0.path());
        clock.set(-30 * 24 * 60 * 60);
        all.sign_at("expired", "localhost", Some(NAMED), &clock.environment());
        all
    }

    fn sign(&self, name: &str, subject: &str, extension: Option<&str>) {
        self.sign_at(name, subject, extension, &[]);
    }

    /// Makes a certificate of the first CA, which lasts for two days.
    fn sign_at(&self, name: &str, subject: &str, extension: Option<&str>, clock: &[(String, String)]) {
        let [key, request, certificate, extensions] =
            ["key", "csr", "crt", "ext"].map(|end| self.path(&format!("{name}.{end}")));
        let subject = format!("/CN={subject}");
        openssl(&["req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key, "-out", &request]);
        let (ca, ca_key) = (self.path("ca.crt"), self.path("ca.key"));
        let mut sign =
            vec!["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-days", "2", "-out", &certificate];
        if let Some(extension) = extension {
            std::fs::write(&extensions, format!("basicConstraints=CA:FALSE\n{extension}\n")).expect("a file");
            sign.extend(["-extfile", &extensions]);
        }
        openssl_at(&sign, clock);
        give_away(key.as_ref());
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// A server that shows this certificate.
    fn server(&self, name: &str) -> Postgres {
        let rules = "hostssl all only_tls 127.0.0.1/32 trust\n\
            hostnossl all only_plain 127.0.0.1/32 trust\n\
            hostssl all certified 127.0.0.1/32 cert\n\
            hostssl all secret 127.0.0.1/32 scram-sha-256\n\
            host all postgres 127.0.0.1/32 trust\n\
            local all postgres trust\n";
        std::fs::write(self.path("hba"), rules).expect("a file");
        let sockets = format!("unix_socket_directories={}", self.path(""));
        let mut settings = vec![format!("hba_file={}", self.path("hba")), sockets];
        settings.extend(self.shown(name));
        let server = Postgres::start_with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
        for role in ["only_tls", "only_plain", "certified", "secret"] {
            server.sql(&format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'open sesame'"));
        }
        server
    }

    /// What a server must be told to show this certificate.
    fn shown(&self, name: &str) -> [String; 4] {
        let path = |setting: &str, end: &str| format!("{setting}={}", self.path(&format!("{name}.{end}")));
        let ca = format!("ssl_ca_file={}", self.path("ca.crt"));
        ["ssl=on".into(), ca, path("ssl_cert_file", "crt"), path("ssl_key_file", "key")]
    }
}

fn openssl(arguments: &[&str]) {
    openssl_at(arguments, &[]);
}

fn openssl_at(arguments: &[&str], clock: &[(String, String)]) {
    let mut openssl = Command::new(program("openssl", &[], "openssl"));
    let made = openssl.args(arguments).envs(clock.iter().cloned()).output().expect("it starts");
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
}

/// One folder for all tests, of which servers of their own show certificates.
fn certificates() -> &'static Certificates {
    static ALL: OnceLock<Certificates> = OnceLock::new();
    ALL.get_or_init(Certificates::new)
}

/// `encrypted`, `plain`, or what is said instead.
async fn reaches(server: &Postgres, user: &str, host: &str, parameters: &str) -> String {
    reaches_at(server, &format!("postgres://{user}@{host}:{}/postgres?{parameters}", server.port())).await
}

async fn reaches_at(server: &Postgres, url: &str) -> String {
    let store = match PostgresStore::connect(&format!("{url}&application_name=looked-for")) {
        Ok(store) => store,
        Err(error) => return error.to_string(),
    };
    if let Err(error) = store.create_schema().await {
        return error.to_string();
    }
    let looked = server.sql(
        "SELECT ssl, pg_terminate_backend(pid) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'looked-for'",
    );
    match &*looked {
        "t|t" => "encrypted".into(),
        "f|t" => "plain".into(),
        other => panic!("{url}: {other:?}"),
    }
}

const ENCRYPTED: &str = "encrypted";
const PLAIN: &str = "plain";
const UNKNOWN: &str = "name the CA that signed the server's certificate in sslrootcert=PATH";
const NAME: &str = "sslmode=verify-ca takes any name";
const EXPIRED: &str = "give the server a new certificate";
const NO_TLS: &str = "server does not support TLS; turn it on there";
const VERSION: &str = "X.509 version 3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mode_takes_the_certificates_that_libpq_takes() {
    let all = certificates();
    let (ca, other) =
        (format!("&sslrootcert={}", all.path("ca.crt")), format!("&sslrootcert={}", all.path("other.crt")));
    let modes = ["sslmode=disable", "sslmode=allow", "", "sslmode=prefer", "sslmode=require"];
    let checking: Vec<_> = [("require", &ca), ("verify-ca", &ca), ("verify-full", &ca), ("verify-full", &other)]
        .map(|(mode, roots)| format!("sslmode={mode}{roots}"))
        .into();
    let columns: Vec<_> = modes.into_iter().chain(checking.iter().map(String::as_str)).collect();
    let [e, p] = [ENCRYPTED, PLAIN];
    let rows = [
        ("good", [p, p, e, e, e, e, e, e, UNKNOWN]),
        ("elsewhere", [p, p, e, e, e, e, e, NAME, UNKNOWN]),
        ("expired", [p, p, e, e, e, EXPIRED, EXPIRED, EXPIRED, EXPIRED]),
        ("version-1", [p, p, e, e, e, VERSION, VERSION, VERSION, VERSION]),
        ("none", [p, p, p, p, NO_TLS, NO_TLS, NO_TLS, NO_TLS, NO_TLS]),
    ];
    let mut server = all.server("good");
    for (certificate, expected) in rows {
        match certificate {
            "none" => server.set("ssl=off"),
            _ => all.shown(certificate).iter().for_each(|setting| server.set(setting)),
        }
        server.restart();
        for (column, expected) in columns.iter().zip(expected) {
            let found = reaches(&server, "postgres", "localhost", column).await;
            assert!(found.contains(expected), "{certificate}, {column}: {found}, not {expected}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_let_in_by_the_server_is_what_it_asks_for() {
    let all = certificates();
    let server = all.server("good");
    let full = format!("sslmode=verify-full&sslrootcert={}", all.path("ca.crt").replace('/', "%2F"));
    let client = format!("&sslcert={}&sslkey={}", all.path("client.crt"), all.path("client.key"));
    let no_key = format!("&sslcert={}&sslkey={}", all.path("client.crt"), all.path("client.crt"));
    let other_key = format!("&sslcert={}&sslkey={}", all.path("client.crt"), all.path("good.key"));
    let wants = "sslmode=verify-full";
    for (user, parameters, expected) in [
        // Where one way is refused, allow and prefer try the other.
        ("only_tls", "sslmode=allow", ENCRYPTED),
        ("only_tls", "sslmode=prefer", ENCRYPTED),
        ("only_tls", "sslmode=disable", wants),
        ("only_plain", "sslmode=prefer", PLAIN),
        ("only_plain", "sslmode=allow", PLAIN),
        ("only_plain", "sslmode=require", "no pg_hba.conf entry"),
        ("certified", &format!("{full}{client}"), ENCRYPTED),
        ("certified", &format!("sslmode=prefer{client}"), ENCRYPTED),
        ("certified", &full, "sslcert and sslkey"),
        ("certified", &format!("{full}{no_key}"), "sslkey: "),
        ("certified", &format!("{full}{other_key}"), "sslcert and sslkey: "),
        // The password is bound to the channel.
        ("secret:open%20sesame", &format!("{full}&channel_binding=require"), ENCRYPTED),
        ("secret:open%20sesame", "sslmode=require&channel_binding=require", ENCRYPTED),
        ("secret:wrong", &full, "password authentication failed"),
        ("postgres", "sslmode=verify-full", UNKNOWN),
        ("postgres", "sslrootcert=system", UNKNOWN),
        ("postgres", "sslmode=verify-full&sslrootcert=/nowhere", "sslrootcert: \"/nowhere\" can't be read"),
        ("postgres", &format!("sslmode=verify-full&sslrootcert={}", all.path("hba")), "has no certificate in PEM"),
        // What is missing of the name is in the address.
        ("postgres", &format!("{full}&hostaddr=127.0.0.1"), ENCRYPTED),
    ] {
        let found = reaches(&server, user, "localhost", parameters).await;
        assert!(found.contains(expected), "{user}, {parameters}: {found}, not {expected}");
    }
    // An address is a name as well.
    assert_eq!(reaches(&server, "postgres", "127.0.0.1", &full).await, ENCRYPTED);
    // A socket of the machine has no TLS.
    let socket = all.path("").replace('/', "%2F");
    assert_eq!(reaches(&server, "postgres", &socket, &full).await, PLAIN);
    let address = format!("hostaddr=127.0.0.1&port={}", server.port());
    assert_eq!(reaches_at(&server, &format!("postgres:///postgres?user=postgres&{address}&{full}")).await, ENCRYPTED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_hosts_are_tried_each_by_its_certificate() {
    let all = certificates();
    let (wrong, right) = (all.server("elsewhere"), all.server("good"));
    let host = format!("localhost:{},localhost", wrong.port());
    let full = format!("sslmode=verify-full&sslrootcert={}", all.path("ca.crt"));
    assert_eq!(reaches(&right, "postgres", &host, &full).await, ENCRYPTED);
    let store = store::connect(&format!("postgres://postgres@{host}:{}/postgres?{full}", right.port())).expect("a URL");
    store.durability().await.expect("the store works");
}

/// What the system trusts is read from its environment, which is that of a
/// process: this test runs again in one of its own.
#[test]
fn verify_full_without_a_root_trusts_whom_the_system_trusts() {
    if let Ok(url) = std::env::var("URL_TO_TRUST") {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        for parameters in ["sslmode=verify-full", "sslrootcert=system", "sslmode=verify-full&sslrootcert=system"] {
            let store = PostgresStore::connect(&format!("{url}?{parameters}")).expect("a URL");
            runtime.block_on(store.create_schema()).expect(parameters);
        }
        return;
    }
    let server = certificates().server("good");
    let again = Command::new(std::env::current_exe().expect("a path"))
        .args(["tls::verify_full_without_a_root_trusts_whom_the_system_trusts", "--exact", "--nocapture"])
        .env("SSL_CERT_FILE", certificates().path("ca.crt"))
        .env("URL_TO_TRUST", format!("postgres://postgres@localhost:{}/postgres", server.port()))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&again.stderr));
}
