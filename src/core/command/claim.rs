//! Claiming an operation, to run it.

use std::sync::Arc;
use std::time::Duration;

use super::{Command, Decision, Sealed};
use crate::core::fingerprint::Fingerprint;
use crate::core::message::{StoredRequest, StoredResponse};
use crate::core::record::Record;
use crate::core::record::hold::{Fence, Hold, Mode};
use crate::core::record::label::Labels;
use crate::core::record::outlook::Outlook;
use crate::core::record::time::{Intake, Stamp};

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
    /// By which an operator finds it, if this is its first claim.
    pub labels: Labels,
}

/// The reply to a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every front end must handle all of them")]
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
    /// What an attempt did is unknown. No attempt runs until an operator or
    /// a reconciler decides.
    Unknown {
        /// Why it was parked, if it was.
        parked: Option<Arc<str>>,
    },
    /// It could be run, and this process [begins](Intake) no such work now. Nothing was stored.
    Closed,
}

impl Sealed for Claim {}

impl Command for Claim {
    type Output = Claimed;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Claimed> {
        let fence = Fence::of(stamp.nonce);
        let Some(current) = current else {
            if stamp.intake != Intake::Open {
                return Decision::keep(Claimed::Closed);
            }
            return Decision::put(self.first(stamp), Claimed::Granted(fence));
        };
        // Before "busy": a wrong body is never cured by waiting.
        if !current.fingerprint.matches(&self.fingerprint) {
            return Decision::keep(Claimed::Mismatch);
        }
        if let Some(response) = current.response() {
            return Decision::keep(Claimed::Replay(Arc::clone(response), current.kept_for(stamp.now)));
        }
        if let Some(left) = current.held_for_now(stamp, self.lease) {
            return Decision::keep(Claimed::Busy(left));
        }
        match current.outlook() {
            Outlook::Parked(why) => Decision::keep(Claimed::Unknown { parked: Some(Arc::clone(why)) }),
            Outlook::Resumable if self.mode == Mode::AtMostOnce => Decision::keep(Claimed::Unknown { parked: None }),
            Outlook::InDoubt => Decision::keep(Claimed::Unknown { parked: None }),
            Outlook::Decided | Outlook::Resumable if stamp.intake == Intake::Closed => Decision::keep(Claimed::Closed),
            Outlook::Decided | Outlook::Resumable => {
                Decision::put(current.taken(stamp, self.lease), Claimed::Granted(fence))
            }
        }
    }
}

impl Claim {
    fn first(&self, stamp: Stamp<'_>) -> Record {
        let hold = Hold::Leased { fence: Fence::of(stamp.nonce), lease: self.lease };
        let (fingerprint, request, labels) = (self.fingerprint.clone(), self.request.clone(), self.labels.clone());
        Record { hold, attempts: 1, ..Record::first(fingerprint, self.mode, request, labels, stamp) }
    }
}
