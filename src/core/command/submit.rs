//! Accepting an operation for later.

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
    /// By which an operator finds it.
    pub labels: Labels,
    /// Whether there is room for one more. What was accepted before stays so.
    pub room: bool,
    /// The lease of a process that is about to run it: it is accepted and claimed in one
    /// write.
    pub lease: Option<Duration>,
    /// Whether it is a call that an outbox is to make, and not for a completer.
    pub outgoing: bool,
}

/// The reply to a [`Submit`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every front end must handle all of them")]
pub enum Submitted {
    /// It was accepted just now; and is ours to run, if there is a fence.
    First(Option<Fence>),
    /// It was accepted before, and is not complete.
    Again,
    /// It is complete; this is the response.
    Replay(Arc<StoredResponse>, Option<Duration>),
    /// The key was used for another request.
    Mismatch,
    /// What an attempt did is unknown. No attempt runs until an operator or
    /// a reconciler decides.
    Unknown {
        /// Why it was parked, if it was.
        parked: Option<Arc<str>>,
    },
    /// Its request is not stored, so only its caller can go on with it.
    CallerOnly,
    /// There is no room for one more. Nothing was stored.
    Full,
    /// It would be new, and this process [begins](Intake) nothing new now. Nothing was stored.
    Closed,
}

impl Sealed for Submit {}

impl Command for Submit {
    type Output = Submitted;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Submitted> {
        let Some(current) = current else {
            return match stamp.intake {
                Intake::OnRecord | Intake::Closed => Decision::keep(Submitted::Closed),
                Intake::Open if !self.room => Decision::keep(Submitted::Full),
                Intake::Open => self.first(stamp),
            };
        };
        if !current.fingerprint.matches(&self.fingerprint) {
            return Decision::keep(Submitted::Mismatch);
        }
        if let Some(response) = current.response() {
            return Decision::keep(Submitted::Replay(Arc::clone(response), current.kept_for(stamp.now)));
        }
        let held = current.held_for_now(stamp, Duration::ZERO).is_some();
        Decision::keep(match current.outlook() {
            Outlook::Parked(why) => Submitted::Unknown { parked: Some(Arc::clone(why)) },
            _ if held => Submitted::Again,
            Outlook::InDoubt => Submitted::Unknown { parked: None },
            Outlook::Decided | Outlook::Resumable if current.request.is_none() => Submitted::CallerOnly,
            Outlook::Decided | Outlook::Resumable => Submitted::Again,
        })
    }
}

impl Submit {
    fn first(&self, stamp: Stamp<'_>) -> Decision<Submitted> {
        let (fingerprint, request) = (self.fingerprint.clone(), Some(Arc::clone(&self.request)));
        let first = Record::first(fingerprint, self.mode, request, self.labels.clone(), stamp);
        let accepted = Record { outgoing: self.outgoing, ..first };
        let Some(lease) = self.lease else {
            return Decision::put(accepted, Submitted::First(None));
        };
        let fence = Fence::of(stamp.nonce);
        let hold = Hold::Leased { fence, lease };
        let claimed = Record { hold, attempts: 1, accepted: true, ..accepted };
        Decision::put(claimed, Submitted::First(Some(fence)))
    }
}
