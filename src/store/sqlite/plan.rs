//! The statements of a write, for both that run them: the writer, and a transaction
//! of the caller's.

use super::buckets::Buckets;
use super::error::Fault;
use super::row::{Cell, Columns, RowWrite, Stored, bytes_cell, number_cell};
use super::schema::StatementKind;
use crate::core::{Key, Labels, Timestamp, Version};
use crate::store::contract::StoreError;

/// Whether a write takes.
pub(super) enum Verdict {
    /// It does, over this.
    Takes(Option<Columns>),
    /// Something else is there, if anything.
    Conflict(Option<Stored>),
    /// What lies there can't be read.
    Refused(StoreError),
}

/// Compares what is there with what is expected. A fault is the transaction's.
pub(super) fn compare(
    buckets: &Buckets,
    key: &Key,
    expected: Option<Version>,
    found: Result<Option<Stored>, Fault>,
) -> Result<Verdict, Fault> {
    let found = match found {
        Ok(found) => found,
        Err(Fault::Record(error)) => return Ok(Verdict::Refused(error)),
        Err(fault) => return Err(fault),
    };
    if found.is_none()
        && let Err(error) = buckets.trust(key)
    {
        return Ok(Verdict::Refused(error));
    }
    if found.as_ref().map(|found| found.columns.version) != expected {
        return Ok(Verdict::Conflict(found));
    }
    Ok(Verdict::Takes(found.map(|found| found.columns)))
}

/// Puts a record in the place of what is there.
pub(super) fn put<E>(
    key: &Key,
    put: &RowWrite,
    over: Option<&Columns>,
    (now, holder): (Timestamp, i64),
    run: impl FnMut(StatementKind, &[Cell<'_>]) -> Result<(), E>,
) -> Result<(), E> {
    replace(key, put, over, &put.columns(over, now, holder), run)
}

/// The same with these columns.
pub(super) fn replace<E>(
    key: &Key,
    put: &RowWrite,
    over: Option<&Columns>,
    columns: &Columns,
    mut run: impl FnMut(StatementKind, &[Cell<'_>]) -> Result<(), E>,
) -> Result<(), E> {
    let bytes = || bytes_cell(key.as_bytes());
    let row = if over.is_none() { StatementKind::Insert } else { StatementKind::Update };
    run(row, &put.cells(key, columns))?;
    if let Some(over) = over {
        if over.request && !columns.request {
            run(StatementKind::DropRequest, &[bytes()])?;
        }
        if over.steps > columns.steps {
            run(StatementKind::CutSteps, &[bytes(), number_cell(columns.steps)])?;
        }
    }
    for (n, value, hash) in put.parts() {
        run(StatementKind::PutPart, &[bytes(), number_cell(n), bytes_cell(value), number_cell(hash)])?;
    }
    label(key, put, over.is_some(), run)
}

/// Puts its labels into their index, if there is one, and takes out those that it had. An operation
/// that had a label has one until its end.
fn label<E>(
    key: &Key,
    put: &RowWrite,
    is_over: bool,
    mut run: impl FnMut(StatementKind, &[Cell<'_>]) -> Result<(), E>,
) -> Result<(), E> {
    let Some(tags) = put.tags() else { return Ok(()) };
    let key = || bytes_cell(key.as_bytes());
    if is_over && (put.is_first() || !tags.is_empty()) {
        let kept = (0..Labels::MAX).map(|n| number_cell(tags.get(n).copied().unwrap_or_default()));
        let cells: Vec<_> = std::iter::once(key()).chain(kept).collect();
        run(StatementKind::KeepLabels, &cells)?;
    }
    tags.iter().try_for_each(|tag| run(StatementKind::PutLabel, &[key(), number_cell(*tag)]))
}

/// Removes what is there.
pub(super) fn remove<E>(
    key: &Key,
    over: &Columns,
    mut run: impl FnMut(StatementKind, &[Cell<'_>]) -> Result<(), E>,
) -> Result<(), E> {
    let key = bytes_cell(key.as_bytes());
    if over.has_parts() {
        run(StatementKind::DropParts, std::slice::from_ref(&key))?;
    }
    run(StatementKind::Delete, &[key])
}
