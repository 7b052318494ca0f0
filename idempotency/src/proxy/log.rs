//! The access log: a line for each request, on standard output.
//!
//! No line has a query, a header or a key: those may be secret.

use std::io::Write;
use std::net::IpAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use tower_idempotency::Refusal;

use super::config::values::Upstream;
use crate::text::plain_json;

/// How many bytes may wait for a reader that is slow.
const WAITING: usize = 4 * 1024 * 1024;

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
    fn written<'l>(&'l self, time: &'l str) -> WrittenRequest<'l> {
        WrittenRequest {
            time,
            peer: self.peer,
            method: self.method.as_str(),
            path: &self.path,
            status: self.status.map(|status| status.as_u16()),
            milliseconds: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            refusal: self.refusal,
        }
    }
}

/// A request as it is written.
#[derive(Serialize)]
struct WrittenRequest<'l> {
    time: &'l str,
    peer: IpAddr,
    method: &'l str,
    path: &'l str,
    status: Option<u16>,
    milliseconds: u64,
    refusal: Option<&'static str>,
}

/// An event as it is written.
#[derive(Serialize)]
struct WrittenEvent<'l> {
    time: &'l str,
    event: &'static str,
    text: &'l str,
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
            self.log.add(|time, lines| serde_json::to_writer(lines, &line.written(time)));
        }
    }
}

/// Where lines go: to a thread that writes them, so that a slow reader keeps no request waiting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    waiting: Mutex<Waiting>,
    /// There is something to write again.
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    clock: Clock,
    /// The thread waits for lines. Otherwise it comes by itself.
    is_idle: bool,
    /// Dropped once all that was said before is written.
    finish: Option<SyncSender<()>>,
}

impl Log {
    pub(crate) fn start() -> Self {
        let log = Self::default();
        let gathered = Arc::clone(&log.0);
        thread::spawn(move || gathered.write());
        log
    }

    /// A request begins.
    pub(crate) fn request<B>(&self, peer: IpAddr, request: &Request<B>) -> Served<'_> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let line =
            Line { peer, method, path, started: Instant::now(), took: Duration::ZERO, status: None, refusal: None };
        Served { log: self, line: Some(line) }
    }

    /// What is not about one request: the settings were read, say.
    pub(crate) fn event(&self, name: &'static str, text: impl AsRef<str>) {
        let text = text.as_ref();
        self.add(|time, lines| serde_json::to_writer(lines, &WrittenEvent { time, event: name, text }));
    }

    pub(crate) fn serving(&self, address: std::net::SocketAddr, upstream: &Upstream) {
        self.event("listening", format!("listening on {address}, before {upstream}"));
    }

    /// Waits until what was said is written, or its reader is gone.
    pub(crate) fn finish(&self) {
        let (written, wait) = sync_channel(1);
        self.0.lock().finish = Some(written);
        self.0.more.notify_one();
        let _ = wait.recv_timeout(FINISH);
    }

    /// If too much waits, this line is counted, and lost.
    fn add(&self, write: impl FnOnce(&str, &mut Vec<u8>) -> serde_json::Result<()>) {
        let mut waiting = self.0.lock();
        if waiting.lines.len() >= WAITING {
            drop(waiting);
            return metrics::counter!("proxy_log_lines_lost_total").increment(1);
        }
        waiting.add(write);
        if waiting.is_idle {
            waiting.is_idle = false;
            drop(waiting);
            self.0.more.notify_one();
        }
    }
}

impl Waiting {
    fn add(&mut self, write: impl FnOnce(&str, &mut Vec<u8>) -> serde_json::Result<()>) {
        let begin = self.lines.len();
        // Texts and numbers are always JSON, and memory takes it.
        let _ = write(self.clock.text(SystemTime::now()), &mut self.lines);
        let steers = |byte: &u8| !matches!(byte, b' '..=b'~');
        if self.lines[begin..].iter().any(steers) {
            let line = plain_json(&String::from_utf8_lossy(&self.lines[begin..]));
            self.lines.truncate(begin);
            self.lines.extend(line.as_bytes());
        }
        self.lines.push(b'\n');
    }
}

impl Gathered {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.lines.is_empty() && waiting.finish.is_none() {
                waiting.is_idle = true;
                waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            waiting.is_idle = false;
            std::mem::swap(&mut waiting.lines, &mut lines);
            let finish = waiting.finish.take();
            drop(waiting);
            let mut stdout = std::io::stdout().lock();
            // If standard output is gone, requests are served all the same.
            let _ = stdout.write_all(&lines).and_then(|()| stdout.flush());
            drop((stdout, finish));
            lines.clear();
            thread::sleep(GATHER);
        }
    }
}

/// The time, as text. That of a second serves all lines of it.
#[derive(Debug, Default)]
struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    fn text(&mut self, now: SystemTime) -> &str {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            let second = i64::try_from(self.second).ok().and_then(|second| Timestamp::from_second(second).ok());
            self.text = second.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        self.text.truncate(SECOND);
        let digit = |unit: u32| char::from(b'0' + u8::try_from(since.subsec_millis() / unit % 10).unwrap_or(0));
        self.text.extend(['.', digit(100), digit(10), digit(1), 'Z']);
        &self.text
    }
}

/// How long the text of a second is.
const SECOND: usize = "2026-11-30T12:00:00".len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_writes_each_millisecond_as_the_calendar_has_it() {
        let mut clock = Clock::default();
        for millis in [0, 1, 999, 1_000, 1_010, 1_796_003_999_123, 1_796_004_000_000, 5] {
            let text = clock.text(UNIX_EPOCH + Duration::from_millis(millis)).to_owned();
            let read: Timestamp = text.parse().unwrap();
            assert_eq!((read.as_millisecond(), text.len()), (i64::try_from(millis).unwrap(), SECOND + 5), "{text}");
        }
    }

    #[test]
    fn what_steers_a_terminal_is_written_out_in_its_own_line_only() {
        let mut waiting = Waiting::default();
        for text in ["a\u{9b}2J", "plain"] {
            waiting.add(|time, lines| serde_json::to_writer(lines, &WrittenEvent { time, event: "e", text }));
        }
        let text = String::from_utf8(waiting.lines).unwrap();
        let texts: Vec<serde_json::Value> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(text.is_ascii(), "{text}");
        assert_eq!((&texts[0]["text"], &texts[1]["text"]), (&"a\u{9b}2J".into(), &"plain".into()));
    }
}
