//! Accepting an operation for later.

use std::sync::Arc;
use std::time::Duration;

use super::{Command, Decision, Sealed};
use crate::core::fingerprint::Fingerprint;
use crate::core::message::{StoredRequest, StoredResponse};
use crate::core::record::Record;
use crate::core::record::hold::{Fence, Hold, Mode};
use crate::core::record::time::Stamp;

/// Asks that an operation is run by the completer that comes first, and not by us.
///
/// A [`Claim`](crate::core::Claim) that does not want to hold what it stores. The
/// first attempt is the one that resumes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct Submit {
    /// What the request is.
    pub fingerprint: Fingerprint,
    /// What may be done if a holder dies.
    pub mode: Mode,
    /// The request.
    pub request: Arc<StoredRequest>,
    /// Whether there is room for one more. What was accepted before stays so.
    pub room: bool,
}

/// The answer to a [`Submit`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every front end must answer all of them")]
pub enum Submitted {
    /// It was accepted just now.
    First,
    /// It was accepted before, and is not complete.
    Again,
    /// It is complete; this is the answer.
    Replay(Arc<StoredResponse>, Option<Duration>),
    /// The key was used for another request.
    Mismatch,
    /// It can't be known whether it happened. It will not be run until an operator or
    /// a reconciler decides.
    Unknown {
        /// Why it was parked, if it was.
        parked: Option<Arc<str>>,
    },
    /// Its request is not stored, so only its caller can go on with it.
    CallerOnly,
    /// There is no room for one more. Nothing was stored.
    Full,
}

impl Sealed for Submit {}

impl Command for Submit {
    type Output = Submitted;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Submitted> {
        let Some(current) = current else {
            return if self.room {
                Decision::put(self.accepted(stamp), Submitted::First)
            } else {
                Decision::keep(Submitted::Full)
            };
        };
        if !current.fingerprint.matches(&self.fingerprint) {
            return Decision::keep(Submitted::Mismatch);
        }
        if let Some(response) = current.response() {
            return Decision::keep(Submitted::Replay(Arc::clone(response), current.kept_for(stamp.now)));
        }
        let held = current.lease_left(stamp.now).is_some();
        Decision::keep(match (&current.hold, current.mode) {
            (Hold::Parked { why }, _) => Submitted::Unknown { parked: Some(Arc::clone(why)) },
            _ if held => Submitted::Again,
            (Hold::Leased { .. } | Hold::Free, Mode::AtMostOnce) => Submitted::Unknown { parked: None },
            _ if current.request.is_none() => Submitted::CallerOnly,
            _ => Submitted::Again,
        })
    }
}

impl Submit {
    fn accepted(&self, stamp: Stamp<'_>) -> Record {
        Record::first(self.fingerprint.clone(), self.mode, Some(Arc::clone(&self.request)), stamp)
    }
}

/// A [`Submit`] by a process that is about to run it: accepted and claimed in one
/// write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SubmitHere {
    pub(crate) submit: Submit,
    pub(crate) lease: Duration,
}

impl Sealed for SubmitHere {}

impl Command for SubmitHere {
    /// With the claim, if it was granted.
    type Output = (Submitted, Option<Fence>);

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Self::Output> {
        if current.is_some() {
            let Decision { next, output } = self.submit.apply(current, stamp);
            return Decision { next, output: (output, None) };
        }
        let fence = Fence::of(stamp.nonce);
        let hold = Hold::Leased { fence, lease: self.lease };
        let claimed = Record { hold, attempts: 1, accepted: true, ..self.submit.accepted(stamp) };
        Decision::put(claimed, (Submitted::First, Some(fence)))
    }
}
