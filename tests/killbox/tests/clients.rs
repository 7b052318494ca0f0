//! The clients that the guide shows, as it shows them, against the real payment service over a link
//! that drops, cuts and delays.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use killbox::{Server, World};
use serde_json::Value;

const PAGE: &str = include_str!("../../../src/guide/clients.md");

const BODY: &str = r#"{"order":"A-17","amount":1999,"currency":"EUR"}"#;

#[derive(Clone, Copy, Debug)]
enum Language {
    Curl,
    Python,
    JavaScript,
}

impl Language {
    /// What the page shows, and a call of it.
    fn program(self) -> String {
        match self {
            Self::Curl => format!("{}\npost \"$@\"\n", shown("sh")),
            Self::Python => format!(
                "{}\nimport sys\nstatus, content = post(sys.argv[2], sys.argv[1], open(sys.argv[3], 'rb').read())\n\
                 print(content.decode())\nif status >= 300:\n    sys.exit(f'status {{status}}')\n",
                shown("python")
            ),
            Self::JavaScript => format!(
                "{}\nconst [key, url, file] = process.argv.slice(2);\n\
                 post(url, key, require('node:fs').readFileSync(file, 'utf8')).then(({{ status, body }}) => {{\n\
                   console.log(body);\n  if (status >= 300) console.error(`status ${{status}}`);\n\
                   process.exitCode = status >= 300 ? 1 : 0;\n}});\n",
                shown("javascript")
            ),
        }
    }

    const fn interpreter(self) -> &'static str {
        match self {
            Self::Curl => "bash",
            Self::Python => "python3",
            Self::JavaScript => "node",
        }
    }
}

/// The one block of this language.
fn shown(language: &str) -> &'static str {
    let fence = format!("```{language}\n");
    let mut blocks = PAGE.split(&fence).skip(1);
    let block = blocks.next().expect("the page shows it").split("```").next().expect("it ends");
    assert!(blocks.next().is_none(), "there is one client of each language");
    block
}

/// What becomes of one try.
#[derive(Clone, Copy, Debug)]
struct Try {
    /// What the service is to do, as `X-Demo` says it.
    demo: Option<&'static str>,
    link: Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Fine,
    /// The request does not arrive.
    Refused,
    /// The request arrives, and the client is cut off at once.
    Dropped,
    /// The client gets nothing of the response.
    Lost,
    /// The client gets the first line, and no more.
    HalfHead,
    /// The client gets all but the last bytes.
    HalfBody,
}

const fn with(link: Link) -> Try {
    Try { demo: None, link }
}

const fn demo(demo: &'static str, link: Link) -> Try {
    Try { demo: Some(demo), link }
}

/// Between the clients and the service: one request a connection, and one try of the plan for each;
/// after the last all is fine.
struct Bad {
    address: SocketAddr,
    upstream: Arc<Mutex<SocketAddr>>,
    tries: Arc<Mutex<usize>>,
}

impl Bad {
    fn start(upstream: SocketAddr, plan: &[Try]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (upstream, tries, plan) = (Arc::new(Mutex::new(upstream)), Arc::new(Mutex::new(0)), plan.to_vec());
        let (to, count) = (Arc::clone(&upstream), Arc::clone(&tries));
        thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                *count.lock().unwrap() = number + 1;
                let now = plan.get(number).copied().unwrap_or(with(Link::Fine));
                let upstream = *to.lock().unwrap();
                // A side that breaks off is what is tried.
                let _ = client.and_then(|client| relay(client, upstream, now));
            }
        });
        Self { address, upstream, tries }
    }

    fn tries(&self) -> usize {
        *self.tries.lock().unwrap()
    }
}

fn relay(mut client: TcpStream, upstream: SocketAddr, now: Try) -> std::io::Result<()> {
    if now.link == Link::Refused {
        return Ok(());
    }
    let request = request(&mut client, now.demo)?;
    let mut server = TcpStream::connect(upstream)?;
    server.write_all(&request)?;
    if now.link == Link::Dropped {
        // It has begun: what is only sent may not be read any more.
        client.shutdown(std::net::Shutdown::Both)?;
        thread::spawn(move || server.read_to_end(&mut Vec::new()));
        return Ok(());
    }
    let mut response = Vec::new();
    server.read_to_end(&mut response)?;
    let first_line = response.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let sent = match now.link {
        Link::Lost => 0,
        Link::HalfHead => first_line,
        Link::HalfBody => response.len().saturating_sub(5),
        _ => response.len(),
    };
    client.write_all(&response[..sent])
}

/// The whole request, so that the service closes the connection behind its response.
fn request(client: &mut TcpStream, demo: Option<&str>) -> std::io::Result<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some((head, body)) = std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once("\r\n\r\n")) {
            let field = |line: &str, name: &str| {
                let (field, value) = line.split_once(':')?;
                field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            let length = head.lines().find_map(|line| field(line, "content-length")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                let lines = head.split("\r\n").filter(|line| field(line, "connection").is_none());
                let mut head: Vec<_> = lines.map(str::to_owned).chain(["connection: close".to_owned()]).collect();
                head.extend(demo.map(|demo| format!("x-demo: {demo}")));
                return Ok(format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes());
            }
        }
        match client.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// A client in a process of its own.
struct Client(Child);

struct Ended {
    status: Option<i32>,
    output: String,
    errors: String,
}

impl Client {
    fn start(language: Language, world: &World, address: SocketAddr, body: &str) -> Self {
        let write = |name: String, text: &str| -> PathBuf {
            let path = world.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let program = write(format!("{language:?}"), &language.program());
        let body = write("payment.json".to_owned(), body);
        let mut command = Command::new(language.interpreter());
        command.args([
            program.as_path(),
            Path::new("order-17"),
            Path::new(&format!("http://{address}/payments")),
            &body,
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", language.interpreter())))
    }

    fn end(self) -> Ended {
        let output = self.0.wait_with_output().expect("it ends");
        let [text, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        Ended { status: output.status.code(), output: text, errors }
    }
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error}: {} {}", self.output, self.errors))
    }

    #[track_caller]
    fn assert_final(&self, status: u16) {
        assert_eq!(self.status, Some(1), "{} {}", self.output, self.errors);
        assert!(self.errors.contains(&format!("status {status}")), "{}", self.errors);
    }
}

fn pay(language: Language, plan: &[Try]) -> (World, Server, Bad, Ended) {
    let world = World::new(&[]);
    let server = world.start();
    let link = Bad::start(server.address(), plan);
    let ended = Client::start(language, &world, link.address, BODY).end();
    (world, server, link, ended)
}

/// All that can go wrong with one payment: one charge, and its response.
fn charges_once(language: Language) {
    const PLAN: &[Try] = &[
        with(Link::Refused),
        // It goes on without its client, and the next try comes while it does: 409.
        demo("slow=1200", Link::Dropped),
        with(Link::Fine),
        with(Link::Lost),
        with(Link::HalfHead),
        with(Link::HalfBody),
    ];
    let (world, server, link, ended) = pay(language, PLAN);
    assert_eq!(ended.status, Some(0), "{} {}", ended.output, ended.errors);
    let charged = world.charged();
    assert_eq!((charged.len(), world.receipts()), (1, (1, 1)), "{charged:?} {} {}", ended.output, ended.errors);
    assert_eq!(ended.json()["charge_id"], charged[0]["id"], "the true response");
    assert!(link.tries() > PLAN.len(), "it tried until all was fine: {}", link.tries());
    // One try came while the first still ran.
    server.wait_for("refused: ");
}

/// The gateway is away, then the process dies behind the charge, and another one takes its place.
fn outlives_the_service(language: Language) {
    const PLAN: &[Try] = &[demo("gateway-down", Link::Fine), demo("crash-after-charge", Link::Fine)];
    let world = World::new(&[]);
    let mut server = world.start();
    let link = Bad::start(server.address(), PLAN);
    let client = Client::start(language, &world, link.address, BODY);
    assert!(!server.wait_for_end().success());
    let server = world.start();
    *link.upstream.lock().unwrap() = server.address();
    let ended = client.end();
    assert_eq!(ended.status, Some(0), "{} {}", ended.output, ended.errors);
    let charged = world.charged();
    assert_eq!((charged.len(), world.receipts()), (1, (1, 1)), "{charged:?}");
    assert_eq!(ended.json()["charge_id"], charged[0]["id"]);
}

/// What is final is not asked for again: a declined card, another body, an unknown outcome.
fn stops_at_what_is_final(language: Language) {
    let (world, _server, link, ended) = pay(language, &[demo("decline", Link::Lost)]);
    ended.assert_final(402);
    assert_eq!((link.tries(), world.charged().len()), (2, 0));

    let (world, server, _, ended) = pay(language, &[]);
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    let link = Bad::start(server.address(), &[]);
    let ended = Client::start(language, &world, link.address, &BODY.replace("1999", "4999")).end();
    ended.assert_final(422);
    assert_eq!((link.tries(), world.charged().len()), (1, 1));

    let world = World::new(&["--opaque"]);
    let mut server = world.start();
    let link = Bad::start(server.address(), &[demo("crash-after-charge", Link::Fine)]);
    let client = Client::start(language, &world, link.address, BODY);
    assert!(!server.wait_for_end().success());
    let server = world.start();
    *link.upstream.lock().unwrap() = server.address();
    let ended = client.end();
    ended.assert_final(500);
    assert_eq!(ended.json()["code"], "outcome-unknown");
    server.wait_for("refused: ");
    assert_eq!((server.lines_with("refused: "), world.charged().len()), (1, 1), "{:#?}", server.lines());
}

#[test]
fn curl_charges_once() {
    charges_once(Language::Curl);
}

#[test]
fn python_charges_once() {
    charges_once(Language::Python);
}

#[test]
fn javascript_charges_once() {
    charges_once(Language::JavaScript);
}

#[test]
fn curl_outlives_the_service() {
    outlives_the_service(Language::Curl);
}

#[test]
fn python_outlives_the_service() {
    outlives_the_service(Language::Python);
}

#[test]
fn javascript_outlives_the_service() {
    outlives_the_service(Language::JavaScript);
}

#[test]
fn curl_stops_at_what_is_final() {
    stops_at_what_is_final(Language::Curl);
}

#[test]
fn python_stops_at_what_is_final() {
    stops_at_what_is_final(Language::Python);
}

#[test]
fn javascript_stops_at_what_is_final() {
    stops_at_what_is_final(Language::JavaScript);
}

/// Compiled where there is a compiler, and not run.
#[test]
fn go_and_java_compile_where_they_can() {
    let folder = tempfile::tempdir().expect("a directory");
    let compilers: [(&str, &str, &str, &[&str]); 2] =
        [("go", "client.go", "go", &["vet", "client.go"]), ("javac", "Client.java", "java", &["Client.java"])];
    for (compiler, file, language, arguments) in compilers {
        std::fs::write(folder.path().join(file), shown(language)).expect("written");
        let mut command = Command::new(compiler);
        match command.current_dir(folder.path()).args(arguments).env("GOCACHE", folder.path().join("cache")).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => eprintln!("not compiled, for there is no {compiler}: {file}"),
        }
    }
}
