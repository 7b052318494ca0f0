//! The thread that moves pages from the WAL into the database, beside the writer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rusqlite::Connection;

use super::connection::Place;
use super::request::Request;
use crate::util::signal::lock;

/// So many pages of the WAL make it worth while.
const PAGES: usize = 2000;
/// The WAL begins anew when it has so many: 32 MiB.
const LONG: i64 = 8000;
/// What is written is in the database so long after, at the latest.
const IDLE: Duration = Duration::from_secs(1);

/// How much there is to move, as the writer counts it.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    pages: AtomicUsize,
    over: AtomicBool,
    waiting: Mutex<()>,
    woken: Condvar,
}

impl Checkpoints {
    /// So many pages more lie in the WAL, about.
    pub(super) fn written(&self, pages: usize) {
        let before = self.pages.fetch_add(pages, Ordering::Relaxed);
        if before < PAGES && before + pages >= PAGES {
            self.woken.notify_all();
        }
    }

    /// Ends the thread.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        // Not between the thread's look at the flag and its wait.
        drop(lock(&self.waiting));
        self.woken.notify_all();
    }

    /// Lets others go first; `false` at the end.
    pub(super) fn pause(&self, length: Duration) -> bool {
        let waiting = lock(&self.waiting);
        let going_on = |_: &mut ()| !self.over.load(Ordering::SeqCst);
        let _ = self.woken.wait_timeout_while(waiting, length, going_on);
        !self.over.load(Ordering::SeqCst)
    }

    /// Waits until it is worth while; `false` at the end.
    fn wait(&self) -> bool {
        let waiting = lock(&self.waiting);
        let enough = |_: &mut ()| !self.over.load(Ordering::SeqCst) && self.pages.load(Ordering::Relaxed) < PAGES;
        let _ = self.woken.wait_timeout_while(waiting, IDLE, enough);
        !self.over.load(Ordering::SeqCst)
    }

    /// Runs until [`end`](Self::end).
    pub(super) fn run(self: Arc<Self>, place: &Place, first: Connection, writer: &Sender<Request>) {
        let mut connection = Some(first);
        while self.wait() {
            if self.pages.swap(0, Ordering::Relaxed) == 0 {
                continue;
            }
            let Some(current) = connection.take().or_else(|| place.checkpointer().ok()) else { continue };
            // After a failure the next check-point tries again, or the writer reports it.
            if let Ok(pages) = run(&current, "PASSIVE") {
                if pages.in_wal >= LONG {
                    let _ = writer.send(Request::ResetWal);
                }
                connection = Some(current);
            }
        }
    }
}

/// What a check-point came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    pub(super) in_wal: i64,
    /// Whether all of them are in the database now.
    pub(super) all: bool,
}

pub(super) fn run(connection: &Connection, mode: &str) -> rusqlite::Result<Pages> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let (busy, in_wal, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Pages { in_wal, all: busy == 0 && in_wal == moved })
    })
}
