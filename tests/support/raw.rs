//! HTTP/1.1 over a socket, byte by byte.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection that sends what it is told to.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A response as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice())
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some(b"true")
    }

    /// The headers, less those that every delivery has of its own.
    pub(crate) fn stable_headers(&self) -> Vec<(String, Vec<u8>)> {
        let own = ["date", "idempotent-replayed", "content-length", "transfer-encoding", "connection"];
        self.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned().collect()
    }
}

impl Wire {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(addr).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The same to a server that may have hung up.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Closes with a reset instead of a goodbye.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn more(&mut self) -> bool {
        self.stream.read_buf(&mut self.read).await.unwrap_or(0) > 0
    }

    /// Reads one response, and nothing after it: what else came stays for the
    /// next one.
    pub(crate) async fn response(&mut self) -> Raw {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more().await, "closed in the head: {:?}", String::from_utf8_lossy(&self.read));
        };
        let head: Vec<u8> = self.read.drain(..head_end).collect();
        let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let status_line = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, Vec<u8>)> = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let colon = line.iter().position(|byte| *byte == b':').unwrap();
                let name = String::from_utf8(line[..colon].to_ascii_lowercase()).unwrap();
                (name, line[colon + 1..].trim_ascii().to_vec())
            })
            .collect();
        let mut raw = Raw { status, headers, body: Vec::new() };
        raw.body = self.body(&raw).await;
        raw
    }

    async fn body(&mut self, head: &Raw) -> Vec<u8> {
        if head.status < 200 || head.status == 204 || head.status == 304 {
            return Vec::new();
        }
        if head.header("transfer-encoding") == Some(b"chunked") {
            return self.chunks().await;
        }
        if let Some(length) = head.header("content-length") {
            let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
            return self.take(length).await;
        }
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "closed in the body");
        }
        self.read.drain(..length).collect()
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = self.read.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                assert!(self.more().await, "closed in a chunk");
            };
            let line = self.take(line_end + 2).await;
            let length = usize::from_str_radix(std::str::from_utf8(&line[..line_end]).unwrap(), 16).unwrap();
            let chunk = self.take(length + 2).await;
            if length == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    /// Whether the other side closed, with nothing more to say.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }
}

/// One request on a connection of its own.
pub(crate) async fn exchange(addr: SocketAddr, request: &[u8]) -> Raw {
    let mut wire = Wire::connect(addr).await;
    wire.send(request).await;
    wire.response().await
}

/// A request with a key and a body of known length.
pub(crate) fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: test\r\nidempotency-key: {key}\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}
