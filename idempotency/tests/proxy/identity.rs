//! Whose request it is: by a token, by a certificate, by another service.

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bed::{Message, Proxy, Service};

fn openssl(folder: &Path, line: &str) -> Vec<u8> {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of the issuer whose private key is `private.pem`.
fn token(folder: &Path, algorithm: &str, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": algorithm })), part(claims));
    fs::write(folder.join("signed"), &signed).unwrap();
    let signature = match algorithm {
        "RS256" => openssl(folder, "dgst -sha256 -sign private.pem signed"),
        "EdDSA" => openssl(folder, "pkeyutl -sign -rawin -inkey private.pem -in signed"),
        "HS256" => openssl(folder, &format!("dgst -sha256 -hmac {SECRET} -binary signed")),
        _ => Vec::new(),
    };
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn with_token(proxy: &Proxy, token: &str) -> Message {
    proxy.post("/payments", &format!("authorization: Bearer {token}\r\nidempotency-key: \"k\"\r\n"))
}

#[test]
fn a_claim_of_a_token_that_is_valid_is_the_client() {
    for (algorithm, makes) in [
        ("RS256", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out private.pem"),
        ("EdDSA", "genpkey -algorithm ed25519 -out private.pem"),
        ("HS256", "rand -out private.pem 1"),
    ] {
        let (service, folder) = (Service::start(), TempDir::new().unwrap());
        openssl(folder.path(), makes);
        match algorithm {
            "HS256" => fs::write(folder.path().join("public.pem"), SECRET).unwrap(),
            _ => drop(openssl(folder.path(), "pkey -in private.pem -pubout -out public.pem")),
        }
        let path = folder.path().to_owned();
        let settings = format!(
            "store = \"memory:\"\n[scope]\njwt = {{ key_file = \"public.pem\", algorithm = \"{algorithm}\", issuer = \"bank\", \
             audience = \"shop\" }}\n"
        );
        let proxy = Proxy::start_in(folder, service.address, &settings);
        let claims = |name: &str, value: Value| {
            let mut claims = json!({ "sub": "ann", "iss": "bank", "aud": "shop", "exp": now() + 600 });
            claims[name] = value;
            claims
        };
        let good = claims("sub", "ann".into());
        let first = with_token(&proxy, &token(&path, algorithm, &good));
        assert_eq!((first.status(), &*first.body), (201, "number 1"), "{algorithm}");
        // A later token of the same client.
        let retry = with_token(&proxy, &token(&path, algorithm, &claims("exp", (now() + 900).into())));
        assert_eq!(retry.header("idempotent-replayed"), Some("true"));
        let other = with_token(&proxy, &token(&path, algorithm, &claims("sub", "bob".into())));
        assert_eq!(other.body, "number 2");
        for wrong in [
            token(&path, algorithm, &claims("exp", (now() - 600).into())),
            token(&path, algorithm, &claims("nbf", (now() + 600).into())),
            token(&path, algorithm, &claims("iss", "other".into())),
            token(&path, algorithm, &claims("aud", "other".into())),
            token(&path, algorithm, &claims("exp", Value::Null)),
            token(&path, algorithm, &claims("sub", Value::Null)),
            token(&path, "none", &good),
            token(&path, algorithm, &good).replace('.', ".e30"),
            format!("{}A", token(&path, algorithm, &good)),
            String::new(),
        ] {
            let refused = with_token(&proxy, &wrong);
            assert_eq!((refused.status(), &*refused.code()), (401, "unauthenticated"), "{algorithm}: {wrong}");
            assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"));
        }
        // What needs no client passes: the service authenticates it.
        assert_eq!(proxy.post("/login", "").body, "number 3");
    }
}

#[test]
fn a_key_must_be_one_of_its_algorithm() {
    let folder = TempDir::new().unwrap();
    openssl(folder.path(), "genpkey -algorithm ed25519 -out key.pem");
    fs::write(folder.path().join("short"), "secret").unwrap();
    for (file, algorithm, says) in [
        ("absent.pem", "RS256", "can't read the key in absent.pem"),
        ("key.pem", "RS256", "it has to be a public key, as PEM"),
        ("short", "HS256", "it has to be a secret of at least 32 bytes"),
    ] {
        let text = format!("\n[scope]\njwt = {{ key_file = \"{file}\", algorithm = \"{algorithm}\" }}\n");
        fs::write(folder.path().join("p.toml"), text).unwrap();
        let flags = ["--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1", "--store", "memory:", "--check"];
        let mut command = super::bed::command();
        let output = command.args(["--config", "p.toml"]).args(flags).current_dir(&folder).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("p.toml, line 2: ") && said.contains(says), "{said}");
    }
}

/// A certificate for this name, signed by `ca`.
fn certificate(folder: &Path, name: &str, alternative: &str) {
    fs::write(folder.join("names"), format!("subjectAltName={alternative}")).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let subject = name.replace('+', "/CN=");
    openssl(folder, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={subject}"));
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
        ),
    );
}

fn authority(folder: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(folder, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
}

/// What a client has to know, to connect as the one with this certificate.
fn client(folder: &Path, name: Option<&str>) -> ClientConfig {
    let certificates = |name: &str| {
        let all = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).unwrap();
        all.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let mut roots = RootCertStore::empty();
    roots.add(certificates("ca").remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    match name {
        None => config.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
            config.with_client_auth_cert(certificates(name), key).unwrap()
        }
    }
}

fn connected(proxy: &Proxy, config: ClientConfig) -> StreamOwned<ClientConnection, TcpStream> {
    let server = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), server).unwrap();
    StreamOwned::new(connection, proxy.connect())
}

/// What a client with this certificate gets; `None` if it does not get in.
fn over_tls(proxy: &Proxy, folder: &Path, name: Option<&str>) -> Option<Message> {
    let mut stream = connected(proxy, client(folder, name));
    let head = "POST /payments HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\nidempotency-key: \"k\"\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    Message::read(&mut BufReader::new(stream))
}

#[test]
fn a_name_of_a_certificate_that_was_verified_is_the_client() {
    let (service, folder) = (Service::start(), TempDir::new().unwrap());
    let path = folder.path().to_owned();
    authority(&path);
    certificate(&path, "server", "DNS:localhost");
    certificate(&path, "ann", "URI:spiffe://shop/ann,DNS:ann.shop");
    certificate(&path, "renewed", "URI:spiffe://shop/ann");
    certificate(&path, "bob", "URI:spiffe://shop/bob");
    certificate(&path, "both", "URI:spiffe://shop/ann,URI:spiffe://shop/bob");
    openssl(
        &path,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout eve.key -out eve.pem -days 2 -subj /CN=ann",
    );
    let settings = "store = \"memory:\"\n[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\n\
                    [scope]\nclient_certificate = \"uri\"\n";
    let proxy = Proxy::start_in(folder, service.address, settings);
    let ask = |name| over_tls(&proxy, &path, name);
    assert_eq!(ask(Some("ann")).unwrap().body, "number 1");
    assert_eq!(service.last().header("x-forwarded-proto"), Some("https"));
    assert_eq!(ask(Some("renewed")).unwrap().header("idempotent-replayed"), Some("true"));
    assert_eq!(ask(Some("bob")).unwrap().body, "number 2");
    assert_eq!(ask(Some("both")).unwrap().code(), "scope-unknown");
    assert!(ask(None).is_none() && ask(Some("eve")).is_none());
    assert_eq!(service.asked(), 2);
}

#[test]
fn of_several_common_names_none_is_the_client() {
    let (service, folder) = (Service::start(), TempDir::new().unwrap());
    let path = folder.path().to_owned();
    authority(&path);
    certificate(&path, "server", "DNS:localhost");
    for name in ["ann", "ann+bob"] {
        certificate(&path, name, "DNS:client");
    }
    let settings = "store = \"memory:\"\n[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\n\
                    [scope]\nclient_certificate = \"common-name\"\n";
    let proxy = Proxy::start_in(folder, service.address, settings);
    assert_eq!(over_tls(&proxy, &path, Some("ann")).unwrap().status(), 201);
    assert_eq!(over_tls(&proxy, &path, Some("ann+bob")).unwrap().code(), "scope-unknown");
}

#[test]
fn a_certificate_as_the_client_needs_an_authority() {
    let folder = TempDir::new().unwrap();
    let text = "upstream = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:0\"\nstore = \"memory:\"\n[scope]\nclient_certificate = \"dns\"\n";
    fs::write(folder.path().join("p.toml"), text).unwrap();
    let mut command = super::bed::command();
    let output = command.args(["--config", "p.toml", "--check"]).current_dir(&folder).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("line 4: ") && said.contains("client_ca"), "{said}");
}

#[test]
fn another_service_says_whose_request_it_is() {
    let (service, judge) = (Service::start(), Service::start());
    let settings = format!(
        "store = \"memory:\"\n[scope]\nauth_request = {{ url = \"http://{}/verify\", header = \"x-user\" }}\n",
        judge.address
    );
    let proxy = Proxy::start(service.address, &settings);
    let first = with_token(&proxy, "ann");
    assert_eq!((first.status(), &*first.body), (201, "number 1"));
    let asked = judge.last();
    assert_eq!(asked.first_line, "GET /verify HTTP/1.1");
    assert_eq!((asked.header("x-original-method"), asked.header("x-original-uri")), (Some("POST"), Some("/payments")));
    assert_eq!(asked.header("content-length"), None);
    assert_eq!(with_token(&proxy, "ann").header("idempotent-replayed"), Some("true"));
    // What it decides by is the request, of which a client can't say another thing.
    let odd = "POST /pay/é HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\nauthorization: Bearer ann\r\n\
               x-original-method: GET\r\nx-original-uri: /public\r\nx-original-uri: /public\r\n\r\n";
    assert_eq!(proxy.raw(odd).status(), 201);
    let asked = judge.last();
    assert_eq!((asked.header("x-original-method"), asked.header("x-original-uri")), (Some("POST"), Some("/pay/é")));
    // What was revoked gets no replay.
    let revoked = with_token(&proxy, "revoked");
    assert_eq!((revoked.status(), &*revoked.code()), (401, "unauthenticated"));
    assert_eq!(revoked.header("www-authenticate"), Some("Bearer realm=\"shop\""));
    let broken = with_token(&proxy, "broken");
    assert_eq!((broken.status(), &*broken.code()), (503, "authentication-unavailable"));
    assert_eq!(with_token(&proxy, "nameless").code(), "scope-unknown");
    assert_eq!(service.asked(), 2);
    assert_eq!(proxy.post("/login", "authorization: Bearer revoked\r\n").body, "number 3");
}

const OVER_TLS: &str = "store = \"memory:\"\n[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
                        [scope]\none_tenant = true\n";

#[test]
fn a_certificate_is_read_again_and_a_wrong_one_changes_nothing() {
    let (service, folder) = (Service::start(), TempDir::new().unwrap());
    let path = folder.path().to_owned();
    authority(&path);
    certificate(&path, "server", "DNS:localhost");
    let mut proxy = Proxy::start_in(folder, service.address, OVER_TLS);
    let shown = |proxy: &Proxy| {
        let mut stream = connected(proxy, client(&path, None));
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown(&proxy);
    // The key is of another certificate.
    certificate(&path, "other", "DNS:localhost");
    fs::copy(path.join("other.pem"), path.join("server.pem")).unwrap();
    proxy.reload(service.address, OVER_TLS);
    let kept = proxy.event("settings-kept");
    assert!(kept.contains("don't fit together"), "{kept}");
    assert_eq!(shown(&proxy), first);
    fs::copy(path.join("other.key"), path.join("server.key")).unwrap();
    proxy.reload(service.address, OVER_TLS);
    proxy.event("settings-read");
    assert_ne!(shown(&proxy), first);
}

#[tokio::test]
async fn a_client_may_choose_http_2_in_the_handshake() {
    let (service, folder) = (Service::start(), TempDir::new().unwrap());
    let path = folder.path().to_owned();
    authority(&path);
    certificate(&path, "server", "DNS:localhost");
    let proxy = Proxy::start_in(folder, service.address, OVER_TLS);
    let mut config = client(&path, None);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    for replayed in [false, true] {
        let request = Request::post("https://localhost/payments").header("idempotency-key", "\"k\"");
        let response = sender.send_request(request.body(Full::<Bytes>::from("hi")).unwrap()).await.unwrap();
        assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 201));
        assert_eq!(response.headers().contains_key("idempotent-replayed"), replayed);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "number 1");
    }
    assert_eq!(service.last().header("x-forwarded-proto"), Some("https"));
}
