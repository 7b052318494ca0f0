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
use serde::Serialize;
use serde_json::json;
use tower_idempotency::Refusal;

use super::config::values::Upstream;
use crate::text::plain_json;

/// How many lines may wait for a reader that is slow.
const WAITING: usize = 8192;

/// How long lines are gathered after some were written. To wake the thread that writes, for each
/// line, would cost every request more than the line itself.
const GATHER: Duration = Duration::from_millis(10);

/// How long a reader may keep the process from its end.
const FINISH: Duration = Duration::from_secs(2);

/// What is said of one request.
#[derive(Debug)]
pub(crate) struct Line {
    peer: IpAddr,
    method: Method,
    path: String,
    started: Instant,
    took: Duration,
    /// `None` if the client left before its response.
    status: Option<StatusCode>,
    refusal: Option<&'static str>,
}

impl Line {
    fn text(&self) -> String {
        let written = Written {
            time: Timestamp::now().to_string(),
            peer: self.peer,
            method: self.method.as_str(),
            path: &self.path,
            status: self.status.map(|status| status.as_u16()),
            milliseconds: self.took.as_millis(),
            refusal: self.refusal,
        };
        // A struct of texts and numbers is always JSON.
        plain_json(&serde_json::to_string(&written).unwrap_or_default())
    }
}

/// A line as it is written.
#[derive(Serialize)]
struct Written<'l> {
    time: String,
    peer: IpAddr,
    method: &'l str,
    path: &'l str,
    status: Option<u16>,
    milliseconds: u128,
    refusal: Option<&'static str>,
}

/// A request that is served. Its line is written when it ends, also by a client that hangs up.
#[derive(Debug)]
pub(crate) struct Served<'l> {
    log: &'l Log,
    line: Option<Line>,
}

impl Served<'_> {
    pub(crate) fn responded<B>(mut self, response: &Response<B>) {
        if let Some(line) = &mut self.line {
            line.status = Some(response.status());
            line.refusal = response.extensions().get::<Refusal>().map(|refusal| refusal.name());
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.took = line.started.elapsed();
            self.log.send(Message::Request(line));
        }
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

    /// A request begins.
    pub(crate) fn request<B>(&self, peer: IpAddr, request: &Request<B>) -> Served<'_> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let line =
            Line { peer, method, path, started: Instant::now(), took: Duration::ZERO, status: None, refusal: None };
        Served { log: self, line: Some(line) }
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

    /// If too many lines wait, this one is counted, and lost.
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
        thread::sleep(GATHER);
    }
}
