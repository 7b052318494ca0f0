//! The one thread that writes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::batch::{Done, Statements, begin, pragma, roll_back};
use super::checkpoint;
use super::connection::BUSY;
use super::error::{Fault, says_rolled_back, stopped};
use super::open_store::OpenStore;
use super::orphans::{self, Held};
use super::owner::Dead;
use super::request::{Request, WriteRequest};
use super::row;
use super::turn::{self, Asking, Shut};
use crate::core::{Timestamp, Version};
use crate::store::contract::{StoreError, StoreErrorKind};

/// How many writes share one transaction, and how many bytes.
const MAX_WRITES: usize = 256;
/// The same after a wait, or those that waited longest would wait again.
const MAX_LATE_WRITES: usize = 4096;
const MAX_BYTES: usize = 8 << 20;
/// Pauses between two tries for the lock.
const BRIEF: Duration = Duration::from_micros(500);
const MAX_PAUSE: Duration = Duration::from_millis(10);
/// Free pages are given back some at a time, once there are so many.
const FREE_PAGES: i64 = 1024;
const GIVEN_BACK: i64 = 64;
/// Past how many records that can't be read a sweep looks for others.
const PASSED_OVER: usize = 64;
/// How often that is looked at, in batches.
const LOOK_EVERY: u32 = 64;

/// Compares versions and writes, all that waits in one transaction: while one is
/// on its way to the disk, the next one gathers.
pub(super) struct Writer {
    pub(super) shared: Arc<OpenStore>,
    pub(super) requests: Receiver<Request>,
    /// Requests that came while a batch was gathered, and are no part of it.
    pub(super) waiting: VecDeque<Request>,
    /// Another connection just had the lock: the writes that wait are next.
    pub(super) writes_first: bool,
    /// Keeps other processes' transactions from being next.
    pub(super) shut: Option<Shut>,
}

/// What became of a connection.
#[derive(PartialEq, Eq)]
enum Health {
    Sound,
    /// It is to be opened anew.
    Broken,
}

impl Writer {
    /// Returns when every handle is gone and everything is written, with the
    /// connection if there is one.
    pub(super) fn run(mut self, connection: Connection) -> Option<Connection> {
        let mut current = Some(connection);
        loop {
            if let Some(connection) = current.take() {
                // A clock that isn't ours may panic. The callers that wait get an
                // error, since their channels close.
                let served = catch_unwind(AssertUnwindSafe(|| self.serve(&connection)));
                if matches!(served, Ok(true)) {
                    return Some(connection);
                }
            }
            let request = self.next()?;
            let guard = self.shared.guard.check();
            match guard.and_then(|()| self.shared.place.writer().map_err(|error| Fault::from(error).into_store_error()))
            {
                Ok(connection) => {
                    // Frames of a commit that failed may lie behind those that count, and
                    // would look like damage one day.
                    let _ = reset(&connection);
                    self.waiting.push_front(request);
                    current = Some(connection);
                }
                Err(error) => refuse(request, &error),
            }
        }
    }

    /// Serves until every handle is gone (`true`) or the connection is no good.
    fn serve(&mut self, connection: &Connection) -> bool {
        let Ok(statements) = Statements::new(connection, &self.shared.sql) else { return false };
        let mut session = Session { connection, statements, shared: Arc::clone(&self.shared), batches: 0 };
        while let Some(request) = self.next() {
            let health = match request {
                Request::Write(first) => session.write(self, first),
                Request::Free(dead, reply) => {
                    self.go_last();
                    let freed = session.free(dead, &mut self.shut);
                    let _ = reply.send(freed);
                    Health::Sound
                }
                Request::Durability(mark, reply) => {
                    self.go_last();
                    let _ = reply.send(session.durability(mark));
                    Health::Sound
                }
                Request::Turn(asking) => {
                    self.give_turn(asking);
                    Health::Sound
                }
                Request::ResetWal => session.reset_wal(),
            };
            if health == Health::Broken {
                return false;
            }
        }
        true
    }

    fn next(&mut self) -> Option<Request> {
        if std::mem::take(&mut self.writes_first) {
            self.waiting.extend(self.requests.try_iter());
            let write = self.waiting.iter().position(|request| matches!(request, Request::Write(_)));
            if let Some(write) = write {
                return self.waiting.remove(write);
            }
            self.shut = None;
        }
        self.waiting.pop_front().or_else(|| self.requests.recv().ok())
    }

    /// What waits to be written, too; transactions of the caller's are passed by.
    fn gather(&mut self, first: WriteRequest, most: usize) -> Vec<WriteRequest> {
        let mut bytes = first.row.as_ref().map_or(0, row::RowWrite::len);
        let (mut writes, mut passed) = (vec![first], Vec::new());
        while writes.len() < most && bytes < MAX_BYTES {
            match self.waiting.pop_front().or_else(|| self.requests.try_recv().ok()) {
                Some(Request::Write(write)) => {
                    bytes += write.row.as_ref().map_or(0, row::RowWrite::len);
                    writes.push(write);
                }
                Some(turn @ Request::Turn(_)) => passed.push(turn),
                other => {
                    passed.extend(other);
                    break;
                }
            }
        }
        for request in passed.into_iter().rev() {
            self.waiting.push_front(request);
        }
        writes
    }

    /// Before something that may wait for the lock: those who wait meanwhile are
    /// not to wait twice.
    fn go_last(&mut self) {
        self.shut = self.shared.gate.shut();
        self.writes_first = true;
    }

    /// Nothing is written while a transaction of the caller's has the lock.
    fn give_turn(&mut self, asking: Asking) {
        self.shut = turn::give(asking, &self.shared.gate);
        self.writes_first = true;
    }
}

fn refuse(request: Request, error: &StoreError) {
    match request {
        Request::Write(write) => drop(write.reply.send(Err(error.clone()))),
        Request::Free(_, reply) => drop(reply.send(Err(error.clone()))),
        Request::Durability(_, reply) => drop(reply.send(Err(error.clone()))),
        Request::Turn(asking) => drop(asking.send(Err(error.clone()))),
        Request::ResetWal => {}
    }
}

/// One connection's time as the writer's.
pub(super) struct Session<'c> {
    pub(super) connection: &'c Connection,
    pub(super) statements: Statements<'c>,
    pub(super) shared: Arc<OpenStore>,
    batches: u32,
}

impl Session<'_> {
    /// Does this and all else that waits, as far as it can be done, in its order, and
    /// tells each.
    fn write(&mut self, writer: &mut Writer, first: WriteRequest) -> Health {
        if let Err(error) = self.shared.guard.check() {
            return fail_all(writer.gather(first, MAX_WRITES), &error, Health::Sound);
        }
        let begun = self.begin(&mut writer.shut);
        // Writes that came while this waited for the lock have waited, too.
        let most = if let Ok(false) = begun { MAX_WRITES } else { MAX_LATE_WRITES };
        let writes = writer.gather(first, most);
        writer.shut = None;
        match begun {
            Ok(_) => self.write_all(writes),
            Err(error) => self.without_the_lock(writes, error),
        }
    }

    /// Begins a transaction, and says whether another one had to end first.
    fn begin(&mut self, shut: &mut Option<Shut>) -> rusqlite::Result<bool> {
        if shut.is_none() {
            self.shared.gate.let_go_first();
        }
        self.connection.busy_timeout(Duration::ZERO)?;
        let begun = self.begin_in_time(shut);
        self.connection.busy_timeout(BUSY)?;
        begun
    }

    /// With pauses of our own: those of the library get longer than a lease may be.
    fn begin_in_time(&mut self, shut: &mut Option<Shut>) -> rusqlite::Result<bool> {
        let since = Instant::now();
        loop {
            match begin(&mut self.statements) {
                Ok(()) => return Ok(since.elapsed() > BRIEF),
                Err(error) if !is_busy(&error) || since.elapsed() >= BUSY => return Err(error),
                Err(_) => {}
            }
            if shut.is_none() {
                *shut = self.shared.gate.shut();
            }
            thread::sleep((since.elapsed() / 8).clamp(BRIEF, MAX_PAUSE));
        }
    }

    /// In the transaction that is open.
    fn write_all(&mut self, mut writes: Vec<WriteRequest>) -> Health {
        loop {
            let (damaged, fault) = match self.apply(&writes) {
                Ok(done) => return self.commit(writes, done),
                Err(failed) => failed,
            };
            if roll_back(self.connection).is_err() {
                return fail_all(writes, &fault.into_store_error(), Health::Broken);
            }
            if !fault.is_damage() {
                return fail_all(writes, &fault.into_store_error(), Health::Broken);
            }
            // The others have nothing to do with the page that can't be read.
            let damaged = writes.remove(damaged);
            let _ = damaged.reply.send(Err(fault.into_store_error()));
            if writes.is_empty() {
                return Health::Sound;
            }
            if let Err(error) = begin(&mut self.statements) {
                return self.without_the_lock(writes, error);
            }
        }
    }

    /// What becomes of each; or at which one the transaction failed, and why.
    fn apply(&mut self, writes: &[WriteRequest]) -> Result<Vec<Done>, (usize, Fault)> {
        let now = self.shared.clock.now();
        let mut done = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            done.push(self.statements.apply(write, &self.shared, now).map_err(|fault| (index, fault))?);
        }
        Ok(done)
    }

    fn commit(&mut self, writes: Vec<WriteRequest>, done: Vec<Done>) -> Health {
        if !done.iter().any(|done| matches!(done, Done::Took)) {
            let health = if roll_back(self.connection).is_ok() { Health::Sound } else { Health::Broken };
            return reply_all(writes, done, health);
        }
        let now = self.shared.clock.now();
        if let Err((sure, error)) = self.finish(now, writes.len()) {
            let _ = roll_back(self.connection);
            let error = if sure { error.into_store_error() } else { unsure(error) };
            return fail_all(writes, &error, Health::Broken);
        }
        let pages: usize = writes.iter().map(|write| 3 + write.row.as_ref().map_or(0, row::RowWrite::len) / 4096).sum();
        self.shared.checkpoints.written(pages);
        // What went to a file that is gone by now is gone with it.
        match self.shared.guard.check() {
            Ok(()) => reply_all(writes, done, Health::Sound),
            Err(error) => fail_all(writes, &error, Health::Sound),
        }
    }

    /// Ends the transaction. Of an error, whether nothing was written for sure.
    fn finish(&mut self, now: Timestamp, writes: usize) -> Result<(), (bool, Fault)> {
        // More than come, and not many more, since each that goes touches pages of its own.
        self.sweep(now, writes + 1).map_err(|fault| (true, fault))?;
        self.shrink().map_err(|error| (true, error.into()))?;
        let commits = self.statements.count(now).map_err(|error| (true, error.into()))?;
        self.statements
            .commit
            .execute([])
            .map_err(|error| (says_rolled_back(error.sqlite_error_code()), error.into()))?;
        self.shared.owner.mark(commits);
        Ok(())
    }

    /// Lets some of the complete records that have expired go.
    fn sweep(&mut self, now: Timestamp, most: usize) -> Result<(), Fault> {
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let limit = i64::try_from(most.saturating_add(PASSED_OVER)).unwrap_or(i64::MAX);
        let mut expired = Vec::with_capacity(most);
        let mut rows = self.statements.expired.query((i64::MIN, [0_u8].as_slice(), limit, now))?;
        while expired.len() < most
            && let Some(found) = rows.next()?
        {
            // What can't be read is not ours to forget.
            let Ok(key) = row::key(found, row::KEY) else { continue };
            if let Ok(stored) = row::Stored::read(found, key.as_bytes()) {
                expired.push((key, stored.columns));
            }
        }
        drop(rows);
        expired.iter().try_for_each(|(key, columns)| self.statements.remove(key, columns))
    }

    /// Makes the file smaller, bit by bit, when much of it is free. Does nothing
    /// in a database that is not set up for it.
    fn shrink(&mut self) -> rusqlite::Result<()> {
        self.batches = self.batches.wrapping_add(1);
        if !self.batches.is_multiple_of(LOOK_EVERY) || !self.shared.is_own {
            return Ok(());
        }
        let free = pragma(self.connection, "freelist_count")?.unwrap_or_default();
        let pages = pragma(self.connection, "page_count")?.unwrap_or_default();
        if free > FREE_PAGES && free > pages / 4 {
            self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({GIVEN_BACK})"))?;
        }
        Ok(())
    }

    /// Another connection has a transaction open, or nothing works. A conflict is true
    /// nevertheless, and a replay needs no more.
    fn without_the_lock(&mut self, writes: Vec<WriteRequest>, error: rusqlite::Error) -> Health {
        let error = Fault::from(error);
        let busy = matches!(&error, Fault::Engine(error) if is_busy(error));
        let health = if busy { Health::Sound } else { Health::Broken };
        let error = error.into_store_error();
        for write in writes {
            let outcome = match self.statements.find_whole(&write.key) {
                Ok(found) if busy && version(found.as_ref()) != write.expected => Done::Conflict(found).outcome(),
                Err(Fault::Record(error)) => Err(error),
                _ => Err(error.clone()),
            };
            let _ = write.reply.send(outcome);
        }
        health
    }

    /// Frees what a dead store held. Its count of commits is ours from now on.
    fn free(&mut self, dead: Dead, shut: &mut Option<Shut>) -> Result<(), StoreError> {
        self.shared.guard.check()?;
        let freed = self.begin(shut).map_err(Fault::from).and_then(|_| {
            orphans::free(self.connection, &self.shared.sql, &mut self.statements, Held::By(dead.number))?;
            let commits = self.statements.count(self.shared.clock.now())?;
            self.statements.commit.execute([])?;
            Ok(commits)
        });
        let commits = freed.map_err(|fault| {
            let _ = roll_back(self.connection);
            fault.into_store_error()
        })?;
        if self.shared.owner.mark_durably(commits.max(dead.commits)).is_ok() {
            // A process that finds the file once more finds nothing to free.
            let _ = dead.bury();
        }
        Ok(())
    }

    /// Puts the rest of the WAL into the database, so that the next batch begins
    /// it anew. Nearly everything is there already.
    fn reset_wal(&self) -> Health {
        if reset(self.connection).is_ok() { Health::Sound } else { Health::Broken }
    }
}

/// Has the WAL begin anew with the next transaction, unless a reader has it open for
/// long. An error is one of the connection's.
fn reset(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(20))?;
    // What can't be moved now is moved later.
    let _ = checkpoint::run(connection, "RESTART");
    connection.busy_timeout(BUSY)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn version(found: Option<&row::Stored>) -> Option<Version> {
    found.map(|found| found.columns.version)
}

/// A caller may have gone.
fn reply_all(writes: Vec<WriteRequest>, done: Vec<Done>, health: Health) -> Health {
    for (write, done) in writes.into_iter().zip(done) {
        let _ = write.reply.send(done.outcome());
    }
    health
}

fn fail_all(writes: Vec<WriteRequest>, error: &StoreError, health: Health) -> Health {
    for write in writes {
        let _ = write.reply.send(Err(error.clone()));
    }
    health
}

/// The commit itself failed: the system may have written it all the same.
fn unsure(error: Fault) -> StoreError {
    let cause = error.into_store_error();
    StoreError::new(StoreErrorKind::Unavailable, format!("{cause}; the write may have taken")).caused_by(cause)
}

/// For a caller whose reply will not come.
pub(super) fn unanswered<T>(_: T) -> StoreError {
    stopped()
}
