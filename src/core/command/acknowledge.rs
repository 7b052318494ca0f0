//! Forgetting an operation early.

use std::sync::Arc;
use std::time::Duration;

use super::{Command, Decision, Sealed};
use crate::core::record::Record;
use crate::core::record::hold::Progress;
use crate::core::record::time::Stamp;

/// Its caller has the response: the record may go early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct Acknowledge {
    /// How long the response stays for duplicates that are still on their way.
    /// It is never kept longer than it would have been.
    pub grace: Duration,
}

/// Why an [`Acknowledge`] changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are no others")]
pub enum NotAcknowledged {
    /// There is no such record.
    Absent,
    /// It has no response yet.
    Unfinished,
}

impl Sealed for Acknowledge {}

impl Command for Acknowledge {
    type Output = Result<(), NotAcknowledged>;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Self::Output> {
        let Some(current) = current else {
            return Decision::keep(Err(NotAcknowledged::Absent));
        };
        let Progress::Complete { response, retention } = &current.progress else {
            return Decision::keep(Err(NotAcknowledged::Unfinished));
        };
        // While it owes a callback, its retention has not begun.
        let left = current.pending_callback().map_or_else(|| current.due().since(stamp.now), |_| *retention);
        if left <= self.grace {
            return Decision::keep(Ok(()));
        }
        let mut next = current.clone();
        next.version = stamp.nonce;
        next.progress = Progress::Complete { response: Arc::clone(response), retention: self.grace };
        Decision::put(next, Ok(()))
    }
}
