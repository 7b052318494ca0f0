//! Writes in one transaction.

use rusqlite::{Connection, OptionalExtension, Statement, params_from_iter};

use super::error::Fault;
use super::open_store::OpenStore;
use super::plan::{self, Verdict};
use super::request::{Outcome, WriteRequest};
use super::row::{Cell, Columns, RowWrite, Stored};
use super::schema::Sql;
use super::schema::StatementKind;
use crate::core::{Key, Timestamp};
use crate::store::contract::StoreError;

/// The writer's statements, prepared once.
pub(super) struct Statements<'c> {
    load: Statement<'c>,
    parts: Statement<'c>,
    insert: Statement<'c>,
    update: Statement<'c>,
    delete: Statement<'c>,
    put_part: Statement<'c>,
    cut_steps: Statement<'c>,
    drop_request: Statement<'c>,
    drop_parts: Statement<'c>,
    labels: Option<LabelStatements<'c>>,
    pub(super) expired: Statement<'c>,
    pub(super) committed: Statement<'c>,
    pub(super) begin: Statement<'c>,
    pub(super) commit: Statement<'c>,
}

struct LabelStatements<'c> {
    keep: Statement<'c>,
    put: Statement<'c>,
}

impl<'c> LabelStatements<'c> {
    fn new(connection: &'c Connection, sql: &Sql) -> rusqlite::Result<Self> {
        Ok(Self { keep: connection.prepare(&sql.labels.keep)?, put: connection.prepare(&sql.labels.put)? })
    }
}

/// What became of one write of a batch.
pub(super) enum Done {
    Took,
    Conflict(Option<Stored>),
    /// What lies there can't be read.
    Refused(StoreError),
}

impl Done {
    pub(super) fn outcome(self) -> Result<Outcome, StoreError> {
        match self {
            Self::Took => Ok(Outcome::Took),
            Self::Conflict(found) => Ok(Outcome::Conflict(found)),
            Self::Refused(error) => Err(error),
        }
    }
}

impl<'c> Statements<'c> {
    pub(super) fn new(connection: &'c Connection, sql: &Sql) -> rusqlite::Result<Self> {
        let prepare = |sql: &str| connection.prepare(sql);
        Ok(Self {
            load: prepare(&sql.load)?,
            parts: prepare(&sql.parts)?,
            insert: prepare(&sql.insert)?,
            update: prepare(&sql.update)?,
            delete: prepare(&sql.delete)?,
            put_part: prepare(&sql.put_part)?,
            cut_steps: prepare(&sql.cut_steps)?,
            drop_request: prepare(&sql.drop_request)?,
            drop_parts: prepare(&sql.drop_parts)?,
            labels: if sql.index_labels { Some(LabelStatements::new(connection, sql)?) } else { None },
            expired: prepare(&sql.scans.expired)?,
            committed: prepare(&sql.committed)?,
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
        })
    }

    /// Does one write, or says why it does not take. A fault is the transaction's.
    pub(super) fn apply(&mut self, write: &WriteRequest, shared: &OpenStore, now: Timestamp) -> Result<Done, Fault> {
        let found = self.find(&write.key);
        let over = match plan::compare(&shared.buckets, &write.key, write.expected, found)? {
            Verdict::Takes(over) => over,
            Verdict::Conflict(found) => return self.conflict(&write.key, found),
            Verdict::Refused(error) => return Ok(Done::Refused(error)),
        };
        match (&write.row, over) {
            (Some(put), over) => {
                let by = (now, shared.owner.number());
                plan::put(&write.key, put, over.as_ref(), by, |which, cells| self.run(which, cells))?;
            }
            (None, Some(over)) => self.remove(&write.key, &over)?,
            (None, None) => {}
        }
        Ok(Done::Took)
    }

    fn run(&mut self, which: StatementKind, cells: &[Cell<'_>]) -> Result<(), Fault> {
        let statement = match which {
            StatementKind::Insert => &mut self.insert,
            StatementKind::Update => &mut self.update,
            StatementKind::Delete => &mut self.delete,
            StatementKind::PutPart => &mut self.put_part,
            StatementKind::CutSteps => &mut self.cut_steps,
            StatementKind::DropRequest => &mut self.drop_request,
            StatementKind::DropParts => &mut self.drop_parts,
            StatementKind::KeepLabels | StatementKind::PutLabel => {
                let Some(labels) = &mut self.labels else { return Ok(()) };
                if which == StatementKind::PutLabel { &mut labels.put } else { &mut labels.keep }
            }
        };
        statement.execute(params_from_iter(cells))?;
        Ok(())
    }

    /// Shows what is there, if it can be read as a whole.
    fn conflict(&mut self, key: &Key, found: Option<Stored>) -> Result<Done, Fault> {
        let Some(mut found) = found else { return Ok(Done::Conflict(None)) };
        match found.read_parts(&mut self.parts, key.as_bytes()) {
            Ok(()) => Ok(Done::Conflict(Some(found))),
            Err(Fault::Record(error)) => Ok(Done::Refused(error)),
            Err(fault) => Err(fault),
        }
    }

    /// The row at a key, with its response: what is replaced must be readable.
    fn find(&mut self, key: &Key) -> Result<Option<Stored>, Fault> {
        let key = key.as_bytes();
        let mut rows = self.load.query([key.as_slice()])?;
        rows.next()?.map(|row| Stored::read_whole(row, key)).transpose()
    }

    /// The same with its parts.
    pub(super) fn find_whole(&mut self, key: &Key) -> Result<Option<Stored>, Fault> {
        let Some(mut found) = self.find(key)? else { return Ok(None) };
        found.read_parts(&mut self.parts, key.as_bytes())?;
        Ok(Some(found))
    }

    /// Puts a record with these columns in the place of what is there.
    pub(super) fn replace(
        &mut self,
        key: &Key,
        put: &RowWrite,
        over: Option<&Columns>,
        columns: &Columns,
    ) -> Result<(), Fault> {
        plan::replace(key, put, over, columns, |which, cells| self.run(which, cells))
    }

    pub(super) fn remove(&mut self, key: &Key, over: &Columns) -> Result<(), Fault> {
        plan::remove(key, over, |which, cells| self.run(which, cells))
    }

    /// Counts the transaction, and notes the time. The count.
    pub(super) fn count(&mut self, now: Timestamp) -> rusqlite::Result<i64> {
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.committed.query_row([now], |row| row.get(0))
    }
}

/// Begins a transaction that no other writer is in.
pub(super) fn begin(statements: &mut Statements<'_>) -> rusqlite::Result<()> {
    statements.begin.execute([]).map(drop)
}

/// Undoes what was done since, unless the library has done so already.
pub(super) fn roll_back(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
}

/// One number of a pragma, if it has any.
pub(super) fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).optional()
}
