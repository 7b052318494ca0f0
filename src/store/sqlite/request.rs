//! What the writer is asked to do.

use tokio::sync::oneshot;

use super::owner::Dead;
use super::row::{RowWrite, Stored};
use super::turn::Asking;
use crate::core::{Key, Version};
use crate::store::contract::{Durability, StoreError};

/// A write that takes if `key` is at `expected`.
pub(super) struct WriteRequest {
    pub(super) key: Key,
    pub(super) expected: Option<Version>,
    /// `None` removes the record.
    pub(super) row: Option<RowWrite>,
    pub(super) reply: oneshot::Sender<WriteResult>,
}

pub(super) type WriteResult = Result<Outcome, StoreError>;

pub(super) enum Outcome {
    /// It took, and is on the disk.
    Took,
    /// Something else is there, if anything.
    Conflict(Option<Stored>),
}

/// Whether the mark of the epoch is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Moves,
    Stays,
}

pub(super) enum Request {
    Write(WriteRequest),
    /// Frees what a dead store held, and forgets it.
    Free(Dead, oneshot::Sender<Result<(), StoreError>>),
    /// What the settings promise, and which data this is, whose mark is moved or not.
    Durability(Mark, oneshot::Sender<Result<Durability, StoreError>>),
    /// A transaction of the caller's wants the write lock.
    Turn(Asking),
    /// The WAL is long, and nearly all of it is in the database: the rest is done
    /// between two batches, and the WAL begins anew.
    ResetWal,
}
