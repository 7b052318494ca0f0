//! A proxy in a process of its own, before a service that does what its paths say.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// What came over the wire: a request or a response.
#[derive(Clone, Debug)]
pub struct Message {
    pub first_line: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The code of a problem.
    pub fn code(&self) -> String {
        let problem: Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no problem: {self:?}"));
        problem["code"].as_str().unwrap().to_owned()
    }

    /// `None` if the other side left without a word.
    pub fn read(stream: &mut impl BufRead) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let headers = lines[1..].iter().map(|line| line.split_once(": ").unwrap());
        let headers: HashMap<_, _> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let body = match headers.get("content-length") {
            Some(length) => exactly(stream, length.parse().unwrap())?,
            None if headers.contains_key("transfer-encoding") => chunks(stream)?,
            None => Vec::new(),
        };
        Some(Self { first_line: lines[0].clone(), headers, body: String::from_utf8(body).unwrap() })
    }
}

fn exactly(stream: &mut impl BufRead, length: usize) -> Option<Vec<u8>> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(body)
}

/// A body whose length is not known at first.
fn chunks(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        body.extend(exactly(stream, length + "\r\n".len())?);
        body.truncate(body.len() - "\r\n".len());
        if length == 0 {
            return Some(body);
        }
    }
}

/// The service behind.
#[derive(Clone)]
pub struct Service {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<Option<Message>>>,
    arrived: Arc<Mutex<Receiver<()>>>,
    go_on: Sender<()>,
}

impl Service {
    pub fn start() -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn at(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let ((arrives, arrived), (go_on, may_go_on)) = (channel(), channel());
        let service = Self {
            address,
            asked: Arc::default(),
            last: Arc::default(),
            arrived: Arc::new(Mutex::new(arrived)),
            go_on,
        };
        let (serves, may_go_on) = (service.clone(), Arc::new(Mutex::new(may_go_on)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (service, arrives, may_go_on) = (serves.clone(), arrives.clone(), Arc::clone(&may_go_on));
                thread::spawn(move || service.connection(&stream.unwrap(), &arrives, &may_go_on));
            }
        });
        service
    }

    /// How many requests came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The request that came last.
    pub fn last(&self) -> Message {
        self.last.lock().unwrap().clone().unwrap()
    }

    /// Waits for a request to `/waits` or `/streams`.
    pub fn wait(&self) {
        self.arrived.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
    }

    /// Lets one of these go on.
    pub fn go_on(&self) {
        self.go_on.send(()).unwrap();
    }

    fn connection(&self, stream: &TcpStream, arrives: &Sender<()>, may_go_on: &Mutex<Receiver<()>>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream.try_clone().unwrap();
        while let Some(request) = Message::read(&mut reader) {
            let count = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            let path = request.first_line.split(' ').nth(1).unwrap().to_owned();
            *self.last.lock().unwrap() = Some(request);
            let answer = |status: &str| {
                let body = format!("number {count}");
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            };
            let pause = || {
                arrives.send(()).unwrap();
                may_go_on.lock().unwrap().recv().unwrap();
            };
            let text = match path.as_str() {
                "/closes" => return,
                "/breaks" => "HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\nonly this".to_owned(),
                "/twice" => answer("201 Created") + &answer("500 Internal Server Error"),
                "/old" => "HTTP/1.0 201 Created\r\ncontent-length: 0\r\n\r\n".to_owned(),
                "/busy" => answer("503 Service Unavailable"),
                "/hops" => "HTTP/1.1 201 Created\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=9\r\n\
                            x-end: 1\r\ncontent-length: 0\r\n\r\n"
                    .to_owned(),
                "/both" => "HTTP/1.1 201 Created\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                            6\r\nabcdef\r\n0\r\n\r\n"
                    .to_owned(),
                "/verify" => match self.last().header("authorization") {
                    Some("Bearer ann") => "HTTP/1.1 200 OK\r\nx-user: ann\r\ncontent-length: 0\r\n\r\n".to_owned(),
                    Some("Bearer nameless") => answer("200 OK"),
                    Some("Bearer broken") => answer("500 Internal Server Error"),
                    _ => "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"shop\"\r\ncontent-length: 0\r\n\r\n"
                        .to_owned(),
                },
                "/waits" => {
                    pause();
                    answer("201 Created")
                }
                "/streams" => {
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: one\n\n";
                    writer.write_all(head.as_bytes()).unwrap();
                    pause();
                    let _ = writer.write_all(b"data: two\n\n");
                    return;
                }
                "/echoes" => {
                    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
                    writer.write_all(head.as_bytes()).unwrap();
                    std::io::copy(&mut reader, &mut writer).unwrap();
                    return;
                }
                _ => answer("201 Created"),
            };
            if writer.write_all(text.as_bytes()).is_err() || path == "/breaks" {
                return;
            }
        }
    }
}

/// The program, with nothing of the environment that it heeds.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idempotency"));
    for name in ["IDEMPOTENCY_STORE", "IDEMPOTENCY_ENCRYPTION_KEY_FILE", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.arg("proxy").stdin(Stdio::null());
    command
}

/// The proxy, with a file of settings.
pub struct Proxy {
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    child: Child,
    log: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Proxy {
    /// With these lines below those that all have.
    pub fn start(service: SocketAddr, settings: &str) -> Self {
        Self::start_in(TempDir::new().unwrap(), service, settings)
    }

    pub fn start_in(folder: TempDir, service: SocketAddr, settings: &str) -> Self {
        Self::start_with(folder, &format!("http://{service}"), settings)
    }

    pub fn start_with(folder: TempDir, upstream: &str, settings: &str) -> Self {
        Self::launch(folder, upstream, settings, &[])
    }

    /// With these flags.
    pub fn start_typed(service: SocketAddr, settings: &str, flags: &[&str]) -> Self {
        Self::launch(TempDir::new().unwrap(), &format!("http://{service}"), settings, flags)
    }

    fn launch(folder: TempDir, upstream: &str, settings: &str, flags: &[&str]) -> Self {
        write(&folder, upstream, settings);
        let mut child = command()
            .arg("--config")
            .arg(folder.path().join("proxy.toml"))
            .args(flags)
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        let mut proxy = Self { address: ([127, 0, 0, 1], 0).into(), admin: None, child, log, folder };
        if settings.starts_with("admin") {
            proxy.admin = Some(address(&proxy.event("admin")));
        }
        proxy.address = address(&proxy.event("listening"));
        proxy
    }

    /// Waits for this event in the log; its text.
    pub fn event(&mut self, name: &str) -> String {
        loop {
            let line = self.line();
            if line["event"] == name {
                return line["text"].as_str().unwrap().to_owned();
            }
        }
    }

    /// The next line of the log.
    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the log ended");
        line.parse().unwrap()
    }

    pub fn reload(&self, service: SocketAddr, settings: &str) {
        write(&self.folder, &format!("http://{service}"), settings);
        self.signal("HUP");
    }

    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end: its exit code, and what the log says meanwhile.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }

    /// Dies as of SIGKILL; its folder stays.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, TempDir::new().unwrap())
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Sends this text, as it is, on a connection of its own.
    pub fn raw(&self, text: &str) -> Message {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        Message::read(&mut BufReader::new(stream)).unwrap()
    }

    /// Sends a request with these headers on a connection of its own.
    pub fn begin(&self, method: &str, path: &str, headers: &str) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        let text = format!("{method} {path} HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n{headers}\r\nhi");
        stream.write_all(text.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    pub fn get(address: SocketAddr, path: &str) -> Message {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n").unwrap();
        Message::read(&mut BufReader::new(stream)).unwrap()
    }

    /// A POST of ann's with this key.
    pub fn pay(&self, path: &str, key: &str) -> Message {
        self.post(path, &format!("x-user: ann\r\nidempotency-key: \"{key}\"\r\n"))
    }

    pub fn post(&self, path: &str, headers: &str) -> Message {
        Message::read(&mut self.begin("POST", path, headers)).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What all settings begin with.
pub const TRUSTING: &str = "store = \"memory:\"\ntrusted_peers = [\"127.0.0.1\"]\n[scope]\nheader = \"x-user\"\n";

fn write(folder: &TempDir, upstream: &str, settings: &str) {
    let text = format!("listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"\n{settings}");
    fs::write(folder.path().join("proxy.toml"), text).unwrap();
}

/// The address that an event names.
pub fn address(text: &str) -> SocketAddr {
    let mut words = text.split([' ', ',']);
    words.find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no address: {text}"))
}
