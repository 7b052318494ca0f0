//! HTTP/1.1 byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends these bytes at once, and reads until the server closes.
pub async fn exchange(addr: SocketAddr, requests: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(requests).await.unwrap();
    let mut read = Vec::new();
    // A reset is an end like another: what came before it was read.
    while stream.read_buf(&mut read).await.unwrap_or(0) > 0 {}
    read
}

/// A response as a client takes it from the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Status line and header lines, as they came.
    pub head: Vec<String>,
    /// The content, without its framing.
    pub body: Vec<u8>,
    /// Trailer lines.
    pub trailers: Vec<String>,
    /// Whether it is all there; `None` if only the close says so.
    pub whole: Option<bool>,
}

impl Message {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head[0].split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of the first such header line.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head[1..].iter().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Removes the header lines of this name.
    pub fn without(mut self, name: &str) -> Self {
        let prefix = format!("{name}: ");
        self.head.retain(|line| !line.starts_with(&prefix));
        self
    }
}

/// What a client that sent so many requests makes of these bytes.
pub fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            messages.push(Message {
                head: vec![String::from_utf8_lossy(bytes).into_owned()],
                body: vec![],
                trailers: vec![],
                whole: Some(false),
            });
            break;
        };
        let head = lines(&bytes[..end]);
        bytes = &bytes[end + 4..];
        let mut message = Message { head, body: vec![], trailers: vec![], whole: Some(true) };
        if !message.head[0].starts_with("HTTP/1.") {
            message.body = bytes.to_vec();
            message.whole = Some(false);
            bytes = &[];
        } else if ![204, 304].contains(&message.status()) {
            body(&mut message, &mut bytes);
        }
        messages.push(message);
    }
    messages
}

fn body(message: &mut Message, bytes: &mut &[u8]) {
    if message.header("transfer-encoding") == Some("chunked") {
        message.whole = Some(chunks(message, bytes).is_some());
    } else if let Some(length) = message.header("content-length") {
        let length: usize = length.parse().unwrap();
        let (body, rest) = bytes.split_at(length.min(bytes.len()));
        (message.body, message.whole) = (body.to_vec(), Some(body.len() == length));
        *bytes = rest;
    } else {
        (message.body, message.whole) = (bytes.to_vec(), None);
        *bytes = &[];
    }
}

/// `None` if it ends too early.
fn chunks(message: &mut Message, bytes: &mut &[u8]) -> Option<()> {
    loop {
        let end = find(bytes, b"\r\n").or_else(|| {
            *bytes = &[];
            None
        })?;
        let length = usize::from_str_radix(str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        *bytes = &bytes[end + 2..];
        if length == 0 {
            break;
        }
        let (chunk, rest) = bytes.split_at(length.min(bytes.len()));
        message.body.extend_from_slice(chunk);
        *bytes = rest.get(2..).unwrap_or_default();
        if chunk.len() < length || rest.len() < 2 {
            return None;
        }
    }
    loop {
        let end = find(bytes, b"\r\n")?;
        let line = String::from_utf8(bytes[..end].to_vec()).unwrap();
        *bytes = &bytes[end + 2..];
        if line.is_empty() {
            return Some(());
        }
        message.trailers.push(line);
    }
}

fn lines(head: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(head).split("\r\n").map(str::to_owned).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
