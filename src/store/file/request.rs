//! What a caller asks of the writer.

use std::time::Duration;

use fjall::Slice;
use tokio::sync::oneshot;

use super::layout::value;
use crate::core::{Key, PartId, Record, Status, Version};
use crate::store::StoreError;

/// A write that takes if `key` is at `expected`.
pub(super) struct Request {
    pub(super) key: Key,
    pub(super) expected: Option<Version>,
    /// `None` removes the record.
    pub(super) put: Option<Put>,
    pub(super) reply: oneshot::Sender<Reply>,
}

pub(super) type Reply = Result<Outcome, StoreError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It took, and is on the disk.
    Took,
    /// Something else is there.
    Conflict,
}

/// A record, encoded by the caller: the writer has no time for that.
pub(super) struct Put {
    pub(super) version: Version,
    pub(super) status: Status,
    /// From being written to falling due.
    pub(super) term: Duration,
    /// See [`value`].
    pub(super) value: Vec<u8>,
    /// The parts that are new in this version; none if it is complete.
    pub(super) fresh: Vec<(PartId, Slice)>,
    /// Which parts there are in all.
    pub(super) request: bool,
    pub(super) steps: u32,
}

impl Put {
    pub(super) fn new(record: &Record) -> Self {
        let encoded = record.encode();
        let value = value(&encoded);
        let parts = encoded.fresh.iter().filter(|(id, _)| *id != PartId::Response);
        Self {
            version: record.version(),
            status: record.filed_under(),
            term: record.due().since(record.written_at()),
            value,
            fresh: parts.map(|(id, bytes)| (*id, Slice::from(&bytes[..]))).collect(),
            request: record.request().is_some(),
            steps: u32::try_from(record.steps().len()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.status == Status::Complete
    }
}
