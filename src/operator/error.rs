//! Why an operator's decision was refused, and what to do about it.

use std::fmt;
use std::time::Duration;

use crate::core::InvalidKey;
use crate::store::{StoreError, StoreErrorKind};

/// Why an [`Operator`](crate::Operator) did nothing. Its text says what to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OperatorError {
    /// The text is not an idempotency key.
    InvalidKey(InvalidKey),
    /// The text is not the hash of a key.
    InvalidHash,
    /// The text is not the reference of an operation.
    InvalidReference,
    /// There is no such operation, or its retention is over.
    Absent,
    /// An attempt holds it, for at least this long.
    Busy(Duration),
    /// This process still runs it, or has a response that it could not save yet,
    /// even though the lease has expired.
    InHand,
    /// It is complete, and that never changes.
    Complete,
    /// It is not complete, and an unfinished operation is never removed.
    Unfinished,
    /// The step has its result already, or was never begun.
    NotInDoubt,
    /// Its callback is still pending.
    CallbackPending,
    /// No callback of the operation is pending.
    NoCallback,
    /// The operation, or the maintenance window, changed since the operator saw it.
    Overtaken,
    /// The store does not index what was to be listed. The error names the option that makes
    /// it do so.
    NotIndexed(StoreError),
    /// No process has run a schedule of this name.
    NoSuchSchedule,
    /// So much was asked of the schedule by hand that it would not keep it.
    TooManyAsked,
    /// There is no such maintenance window, or it is over.
    NoSuchWindow,
    /// The maintenance window makes no sense, and why.
    InvalidWindow(&'static str),
    /// The store failed, or the record can't be read.
    Store(StoreError),
}

impl fmt::Display for OperatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self {
            Self::InvalidKey(error) => return write!(f, "{error}; give the key as the client sends it"),
            Self::Busy(left) => {
                return write!(f, "an attempt holds the operation for {left:?} more; show it again after that");
            }
            Self::Store(error) => {
                return write!(f, "the store failed: {error}; show the operation before you try again");
            }
            Self::NotIndexed(error) => return write!(f, "the store does not index that; {error}"),
            Self::InvalidReference => {
                "the reference of an operation is the hash of its key, a dash and a number; take it from a problem, an event or a log line"
            }
            Self::NoCallback => "no callback of the operation is pending; show the operation and its history",
            Self::InvalidWindow(advice) => advice,
            Self::NoSuchWindow => {
                "there is no such maintenance window, or it is over; list the windows, or plan another"
            }
            Self::NoSuchSchedule => "no process has run a schedule of this name; check the name and the store",
            Self::TooManyAsked => "more than 1,000 runs would wait; ask for less, or again when some have ended",
            Self::InvalidHash => "the hash of a key has 64 hexadecimal characters; take it from an event or a log line",
            Self::Absent => {
                "there is no such operation; check the scope and the key, and whether its retention is over"
            }
            Self::InHand => "this process still runs the operation or saves its response; show it again later",
            Self::Complete => "the operation is complete and stays so; to let its key run anew, forget it",
            Self::Unfinished => "the operation is not complete; resolve it, or let it run again",
            Self::NotInDoubt => "the step has its result already or was never begun; show the operation and its steps",
            Self::CallbackPending => {
                "the operation's callback is still pending; forget the operation after the callback was delivered"
            }
            Self::Overtaken => "it changed since it was shown, and nothing was done; show it again, and decide again",
        };
        f.write_str(advice)
    }
}

impl std::error::Error for OperatorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InvalidKey(error) => Some(error),
            Self::Store(error) | Self::NotIndexed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for OperatorError {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::NotIndexed => Self::NotIndexed(error),
            _ => Self::Store(error),
        }
    }
}
