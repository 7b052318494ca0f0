//! How far an operation is, and who may go on with it.

use std::sync::Arc;
use std::time::Duration;

use super::time::Version;
use crate::core::message::StoredResponse;

/// The right to write to a record: the version at which it was claimed.
///
/// A later claim gets another one, and from then on every write under the old
/// one is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence(pub(in crate::core) Version);

impl Fence {
    /// The fence of the claim that was stored as `version`.
    #[doc(hidden)]
    pub const fn of(version: Version) -> Self {
        Self(version)
    }

    /// The version at which the claim was stored.
    pub const fn version(self) -> Version {
        self.0
    }
}

/// What may be done with an operation whose holder is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the two modes of the contract")]
pub enum Mode {
    /// The handler starts at most once, unless an attempt ends and nothing has happened, which
    /// the layer concludes from the responses that [`Outcome`](crate::Outcome) lists. If it is
    /// unknown whether the handler finished, it does not start again until an operator or a
    /// reconciler decides.
    AtMostOnce,
    /// Resumed from its last recovery point.
    Resumable,
}

/// How far an operation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "complete by definition")]
pub enum Status {
    /// Claimed. A step that was begun and has no value is in doubt.
    Pending,
    /// The point of no return is on record.
    Paid,
    /// The response is stored.
    Complete,
}

/// The same as [`Status`], with the response.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "complete by definition")]
pub enum Progress {
    /// See [`Status::Pending`].
    Pending,
    /// See [`Status::Paid`].
    Paid,
    /// See [`Status::Complete`].
    Complete {
        /// The response.
        response: Arc<StoredResponse>,
        /// How long it is remembered, from the moment it was stored.
        retention: Duration,
    },
}

/// Who may go on with an unfinished operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hold {
    /// An attempt holds it, until `lease` after its last write.
    Leased {
        /// What its writes must carry.
        fence: Fence,
        /// How long one write keeps the operation held.
        lease: Duration,
    },
    /// It has no holder: the attempt ended without a response.
    Released,
    /// No attempt may go on until an operator or a reconciler decides.
    Parked {
        /// Why, in one line.
        why: Arc<str>,
    },
    /// An operator or a reconciler decided that it may be run again, in any [`Mode`].
    Runnable,
}
