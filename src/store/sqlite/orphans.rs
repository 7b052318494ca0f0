//! Frees what dead stores held.

use rusqlite::{Connection, Params};

use super::batch::Statements;
use super::error::Fault;
use super::row::{self, RowWrite};
use super::schema::Sql;
use crate::core::{Key, Timestamp};
use crate::util::nonce::fresh_nonce;

/// Which records to free.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held {
    /// Those of one store.
    By(i64),
    /// All: no store of an earlier boot lives.
    ByAny,
}

/// Frees them within the transaction that is open. Their holders are dead. What
/// can't be read stays as it is. Returns how many were freed.
pub(super) fn free(
    connection: &Connection,
    sql: &Sql,
    statements: &mut Statements<'_>,
    which: Held,
) -> Result<usize, Fault> {
    let keys = match which {
        Held::By(owner) => keys(connection, &sql.held_by, [owner])?,
        Held::ByAny => keys(connection, &sql.held, [])?,
    };
    rewrite(statements, &keys, None)
}

/// Has unfinished records that were written after `now` count as written now: what
/// is to rest must not rest until a clock that went back has caught up.
pub(super) fn pull_back(
    connection: &Connection,
    sql: &Sql,
    statements: &mut Statements<'_>,
    now: Timestamp,
) -> Result<usize, Fault> {
    let keys = keys(connection, &sql.ahead, [now.as_millis().cast_signed()])?;
    rewrite(statements, &keys, Some(now))
}

fn keys(connection: &Connection, sql: &str, which: impl Params) -> Result<Vec<Key>, Fault> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(which)?;
    let mut keys = Vec::new();
    while let Some(found) = rows.next()? {
        if let Ok(key) = row::key(found, 0) {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn rewrite(statements: &mut Statements<'_>, keys: &[Key], written: Option<Timestamp>) -> Result<usize, Fault> {
    let mut count = 0;
    for key in keys {
        let found = match statements.find_whole(key) {
            Ok(Some(found)) => found,
            Ok(None) | Err(Fault::Record(_)) => continue,
            Err(fault) if fault.is_damage() => continue,
            Err(fault) => return Err(fault),
        };
        let Ok(record) = found.record() else { continue };
        // Not written anew otherwise: its history and its age stay.
        let written = written.unwrap_or_else(|| row::time(found.columns.written));
        let put = RowWrite::new(key, &record.orphaned(fresh_nonce()));
        let columns = put.columns(Some(&found.columns), written, 0);
        statements.replace(key, &put, Some(&found.columns), &columns)?;
        count += 1;
    }
    Ok(count)
}
