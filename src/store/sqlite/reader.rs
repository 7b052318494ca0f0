//! The threads that read: no call blocks the async runtime.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};

use rusqlite::{Connection, Statement};

use super::error::Fault;
use super::open_store::OpenStore;
use super::row::Stored;
use super::schema::ScanSql;
use crate::core::Key;
use crate::store::contract::{Filter, StoreError};
use crate::util::signal::lock;

/// What a reader is asked to do; an error is why it can't.
pub(super) type Task = Box<dyn for<'r, 'c> FnOnce(Result<&'r mut Reader<'c>, StoreError>) + Send>;

/// Tasks that wait for a reader.
#[derive(Default)]
pub(super) struct Tasks {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    over: bool,
}

impl Tasks {
    pub(super) fn push(&self, task: Task) {
        lock(&self.waiting).tasks.push_back(task);
        self.more.notify_one();
    }

    /// Ends the readers, once the tasks that wait are done.
    pub(super) fn end(&self) {
        lock(&self.waiting).over = true;
        self.more.notify_all();
    }

    fn next(&self) -> Option<Task> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(task) = waiting.tasks.pop_front() {
                return Some(task);
            }
            if waiting.over {
                return None;
            }
            waiting = self.more.wait(waiting).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Runs until the [end](Self::end).
    pub(super) fn run(&self, shared: &Arc<OpenStore>, first: Connection) {
        let mut current = Some(first);
        loop {
            let connection = match current.take() {
                Some(connection) => connection,
                None => {
                    let Some(task) = self.next() else { return };
                    match shared.place.reader() {
                        Ok(connection) => {
                            lock(&self.waiting).tasks.push_front(task);
                            connection
                        }
                        Err(error) => {
                            task(Err(Fault::from(error).into_store_error()));
                            continue;
                        }
                    }
                }
            };
            let Ok(mut reader) = Reader::new(&connection, shared) else { continue };
            while !reader.broken {
                let Some(task) = self.next() else { return };
                let task = AssertUnwindSafe(|| task(shared.guard.check().map(|()| &mut reader)));
                reader.broken = catch_unwind(task).is_err() || reader.broken;
            }
        }
    }
}

/// A connection with its statements. Each task is one short read transaction, or
/// several: the WAL can't begin anew while one lasts.
pub(super) struct Reader<'c> {
    pub(super) connection: &'c Connection,
    pub(super) shared: Arc<OpenStore>,
    load: Statement<'c>,
    parts: Statement<'c>,
    pub(super) scans: Scans<'c>,
    /// The same of one label, if labels are indexed.
    pub(super) label_scans: Option<Scans<'c>>,
    pub(super) count_unfinished: Statement<'c>,
    pub(super) count_complete: Statement<'c>,
    broken: bool,
}

/// A scan for each filter.
pub(super) struct Scans<'c> {
    unfinished: Statement<'c>,
    lapsed: Statement<'c>,
    expired: Statement<'c>,
    complete: Statement<'c>,
}

impl<'c> Scans<'c> {
    fn new(connection: &'c Connection, sql: &ScanSql) -> rusqlite::Result<Self> {
        Ok(Self {
            unfinished: connection.prepare(&sql.unfinished)?,
            lapsed: connection.prepare(&sql.lapsed)?,
            expired: connection.prepare(&sql.expired)?,
            complete: connection.prepare(&sql.complete)?,
        })
    }

    pub(super) const fn of(&mut self, filter: Filter) -> &mut Statement<'c> {
        match filter {
            Filter::Unfinished => &mut self.unfinished,
            Filter::Lapsed => &mut self.lapsed,
            Filter::Expired => &mut self.expired,
            Filter::Complete => &mut self.complete,
        }
    }
}

impl<'c> Reader<'c> {
    fn new(connection: &'c Connection, shared: &Arc<OpenStore>) -> rusqlite::Result<Self> {
        let sql = &shared.sql;
        Ok(Self {
            connection,
            shared: Arc::clone(shared),
            load: connection.prepare(&sql.load)?,
            parts: connection.prepare(&sql.parts)?,
            scans: Scans::new(connection, &sql.scans)?,
            label_scans: sql.index_labels.then(|| Scans::new(connection, &sql.labels.scans)).transpose()?,
            count_unfinished: connection.prepare(&sql.count_unfinished)?,
            count_complete: connection.prepare(&sql.count_complete)?,
            broken: false,
        })
    }

    /// What is at `key`. Absent only if nothing that was there can be missing.
    pub(super) fn load(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let found = self.find(key).map_err(|fault| self.after_fault(fault))?;
        if found.is_none() {
            self.verify(key)?;
            self.shared.buckets.trust(key)?;
        }
        Ok(found)
    }

    /// Looks whether "absent" can be believed of this key.
    pub(super) fn verify(&mut self, key: &Key) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        shared.buckets.verify(self.connection, &shared.sql, key).map_err(|fault| self.after_fault(fault))
    }

    fn find(&mut self, key: &Key) -> Result<Option<Stored>, Fault> {
        let bytes = key.as_bytes();
        // While it lasts, so does the transaction: what is read below is of the
        // same moment.
        let mut rows = self.load.query([bytes.as_slice()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mut stored = Stored::read_whole(row, bytes)?;
        stored.read_parts(&mut self.parts, bytes)?;
        Ok(Some(stored))
    }

    /// Tells what went wrong, and has the connection opened anew where that may
    /// help.
    pub(super) fn after_fault(&mut self, fault: Fault) -> StoreError {
        self.broken |= matches!(fault, Fault::Engine(_)) && !fault.is_damage();
        fault.into_store_error()
    }
}
