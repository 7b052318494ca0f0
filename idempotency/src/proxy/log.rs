//! The access log: a line for each request, on standard output.
//!
//! No line has a query, a header or a key: those may be secret.

use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;
use tower_idempotency::Refusal;

use super::config::values::Upstream;
use crate::text::plain_json;

/// How many lines may wait for a reader that is slow.
const WAITING: usize = 8192;

/// How long a reader may keep the process from its end.
const FINISH: Duration = Duration::from_secs(2);

/// What is said of one request.
#[derive(Debug)]
pub(crate) struct Line {
    peer: IpAddr,
    method: Method,
    path: String,
    started: Instant,
    status: StatusCode,
    took: Duration,
    refusal: Option<&'static str>,
}

impl Line {
    pub(crate) fn begin<B>(peer: IpAddr, request: &Request<B>) -> Self {
        Self {
            peer,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            started: Instant::now(),
            status: StatusCode::OK,
            took: Duration::ZERO,
            refusal: None,
        }
    }

    pub(crate) fn end<B>(mut self, response: &Response<B>) -> Self {
        self.status = response.status();
        self.took = self.started.elapsed();
        self.refusal = response.extensions().get::<Refusal>().map(|refusal| refusal.name());
        self
    }

    fn text(&self) -> String {
        let line = json!({
            "time": Timestamp::now().to_string(),
            "peer": self.peer.to_string(),
            "method": self.method.as_str(),
            "path": self.path,
            "status": self.status.as_u16(),
            "milliseconds": self.took.as_millis(),
            "refusal": self.refusal,
        });
        plain_json(&line.to_string())
    }
}

/// Where lines go: to a thread that writes them, so that a slow reader keeps no request waiting.
#[derive(Clone, Debug)]
pub(crate) struct Log(SyncSender<Message>);

#[derive(Debug)]
enum Message {
    Request(Line),
    Event(&'static str, String),
    /// All that was said before is written.
    Finish(SyncSender<()>),
}

impl Log {
    pub(crate) fn start() -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        thread::spawn(move || write(&receiver));
        Self(sender)
    }

    /// If too many lines wait, this one is counted, and lost.
    pub(crate) fn request(&self, line: Line) {
        self.send(Message::Request(line));
    }

    /// What is not about one request: the settings were read, say.
    pub(crate) fn event(&self, name: &'static str, text: impl Into<String>) {
        self.send(Message::Event(name, text.into()));
    }

    pub(crate) fn serving(&self, address: std::net::SocketAddr, upstream: &Upstream) {
        self.event("listening", format!("listening on {address}, before {upstream}"));
    }

    /// Waits until what was said is written, or its reader is gone.
    pub(crate) fn finish(&self) {
        let (written, wait) = sync_channel(1);
        self.send(Message::Finish(written));
        let _ = wait.recv_timeout(FINISH);
    }

    fn send(&self, message: Message) {
        if self.0.try_send(message).is_err() {
            metrics::counter!("proxy_log_lines_lost_total").increment(1);
        }
    }
}

fn write(messages: &Receiver<Message>) {
    let mut stdout = BufWriter::new(std::io::stdout());
    while let Ok(message) = messages.recv() {
        let mut next = Some(message);
        while let Some(message) = next {
            // If standard output is gone, requests are served all the same.
            let _ = match message {
                Message::Request(line) => writeln!(stdout, "{}", line.text()),
                Message::Event(name, text) => {
                    let line = json!({ "time": Timestamp::now().to_string(), "event": name, "text": text });
                    writeln!(stdout, "{}", plain_json(&line.to_string()))
                }
                Message::Finish(written) => stdout.flush().map(|()| drop(written)),
            };
            next = messages.try_recv().ok();
        }
        let _ = stdout.flush();
    }
}
