//! Claiming an operation, to run it.

use std::sync::Arc;
use std::time::Duration;

use super::{Command, Decision, Sealed, is_leased};
use crate::core::fingerprint::Fingerprint;
use crate::core::message::{StoredRequest, StoredResponse};
use crate::core::record::Record;
use crate::core::record::hold::{Fence, Hold, Mode};
use crate::core::record::time::Stamp;

/// Asks for the right to run an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct Claim {
    /// What the request is.
    pub fingerprint: Fingerprint,
    /// What may be done if the holder dies.
    pub mode: Mode,
    /// How long one write keeps the operation held.
    pub lease: Duration,
    /// The request, where a completer may have to run it again.
    pub request: Option<Arc<StoredRequest>>,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every front end must answer all of them")]
pub enum Claimed {
    /// The operation is ours to run, under this fence.
    Granted(Fence),
    /// Another attempt holds it, for at least this long.
    Busy(Duration),
    /// It is complete; this is the response, and how much longer it is kept, if that
    /// is known.
    Replay(Arc<StoredResponse>, Option<Duration>),
    /// The key was used for another request.
    Mismatch,
    /// It can't be known whether it happened. It will not be run until an operator or
    /// a reconciler decides.
    Unknown {
        /// Why it was parked, if it was.
        parked: Option<Arc<str>>,
    },
}

impl Sealed for Claim {}

impl Command for Claim {
    type Output = Claimed;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Claimed> {
        let fence = Fence::of(stamp.nonce);
        let Some(current) = current else {
            return Decision::put(self.first(stamp), Claimed::Granted(fence));
        };
        // Before "busy": a wrong body is never cured by waiting.
        if !current.fingerprint.matches(&self.fingerprint) {
            return Decision::keep(Claimed::Mismatch);
        }
        if let Some(response) = current.response() {
            return Decision::keep(Claimed::Replay(Arc::clone(response), current.kept_for(stamp.now)));
        }
        if let Some(left) = current.lease_left(stamp.now) {
            return Decision::keep(Claimed::Busy(left));
        }
        let both_resumable = current.mode == Mode::Resumable && self.mode == Mode::Resumable;
        let grant = match &current.hold {
            Hold::Cleared => true,
            Hold::Leased { .. } | Hold::Free => both_resumable,
            Hold::Parked { why } => {
                return Decision::keep(Claimed::Unknown { parked: Some(Arc::clone(why)) });
            }
        };
        if !grant {
            return Decision::keep(Claimed::Unknown { parked: None });
        }
        Decision::put(current.taken(stamp, self.lease), Claimed::Granted(fence))
    }
}

impl Claim {
    fn first(&self, stamp: Stamp<'_>) -> Record {
        let hold = Hold::Leased { fence: Fence::of(stamp.nonce), lease: self.lease };
        Record { hold, attempts: 1, ..Record::first(self.fingerprint.clone(), self.mode, self.request.clone(), stamp) }
    }
}

/// A [`Claim`] by a process that knows whether it still runs the operation itself, or
/// still has to store how it ended: then a lease that is over does not say that the
/// operation is abandoned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClaimHere {
    pub(crate) claim: Claim,
    pub(crate) in_hand: bool,
}

impl Sealed for ClaimHere {}

impl Command for ClaimHere {
    type Output = Claimed;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Claimed> {
        let decision = self.claim.apply(current, stamp);
        let abandoned = matches!(decision.output, Claimed::Granted(_) | Claimed::Unknown { parked: None });
        if self.in_hand && is_leased(current) && abandoned {
            return Decision::keep(Claimed::Busy(self.claim.lease));
        }
        decision
    }
}
