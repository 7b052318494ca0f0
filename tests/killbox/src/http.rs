//! Just enough HTTP/1.1: one request per connection, and the bytes that came.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything here takes; a hang becomes an error, not a stuck run.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The one header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} came twice: {self:?}");
        value
    }

    /// Whether it says that it is a replay.
    pub fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// What must be the same in every final answer: all but what is added to
    /// replays, and what belongs to the moment.
    pub fn essence(&self) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let momentary = ["date", "connection", "idempotent-replayed"];
        let headers = self.headers.iter().filter(|(name, _)| !momentary.contains(&name.as_str()));
        (self.status, headers.cloned().collect(), self.body.clone())
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let answer = Self { status, headers, body: bytes[end + 4..].to_vec() };
        // A connection that broke in the body gives no answer.
        let length: usize = answer.header("content-length")?.parse().ok()?;
        (answer.body.len() == length).then_some(answer)
    }
}

/// A payment to be asked for.
#[derive(Clone, Debug)]
pub struct Post {
    key: String,
    demo: Option<String>,
    body: String,
}

impl Post {
    /// A payment of 19.99 under this key.
    pub fn new(key: &str) -> Self {
        Self::with_body(key, &format!(r#"{{"order":"{key}","amount":1999,"currency":"EUR"}}"#))
    }

    /// A payment with any body.
    pub fn with_body(key: &str, body: &str) -> Self {
        Self { key: key.to_owned(), demo: None, body: body.to_owned() }
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The same, with something that shall go wrong.
    pub fn demo(&self, demo: &str) -> Self {
        Self { demo: Some(demo.to_owned()), ..self.clone() }
    }

    /// The request as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { key, demo, body } = self;
        let demo = demo.as_ref().map(|demo| format!("x-demo: {demo}\r\n")).unwrap_or_default();
        let length = body.len();
        let request = format!(
            "POST /payments HTTP/1.1\r\nhost: shop\r\nconnection: close\r\nidempotency-key: \"{key}\"\r\n\
             content-type: application/json\r\n{demo}content-length: {length}\r\n\r\n{body}"
        );
        request.into_bytes()
    }
}

/// Sends these bytes and reads the answer. An error if none, or half a one, came.
pub fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    Unfinished::send(address, request, request.len())?.finish()
}

/// A request of which a part was sent.
#[derive(Debug)]
pub struct Unfinished {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Unfinished {
    /// Sends the first `count` bytes.
    pub fn send(address: SocketAddr, request: &[u8], count: usize) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&request[..count])?;
        Ok(Self { stream, rest: request[count..].to_vec() })
    }

    /// Sends the rest and reads the answer.
    pub fn finish(mut self) -> io::Result<Answer> {
        self.stream.write_all(&self.rest)?;
        read(self.stream)
    }
}

fn read(mut stream: TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Answer::parse(&bytes).ok_or_else(|| {
        io::Error::new(io::ErrorKind::UnexpectedEof, format!("not an answer: {:?}", String::from_utf8_lossy(&bytes)))
    })
}

/// Sends any bytes and reads what comes, if anything.
pub fn throw(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).expect("alive");
    // The server may hang up before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
    let _ = stream.read_to_end(&mut answer);
    // It may be waiting for more: say that this was all. (Not before, as that
    // is what a client looks like that hangs up.)
    let _ = stream.shutdown(Shutdown::Write);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let _ = stream.read_to_end(&mut answer);
    Answer::parse(&answer)
}
