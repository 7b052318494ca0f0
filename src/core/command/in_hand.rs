//! Claims by a process that knows whether it still runs the operation itself, or
//! still has to store how it ended: then a lease that is over does not say that the
//! operation is abandoned.

use super::claim::{Claim, Claimed};
use super::resume::{Resume, Resumed};
use super::{Command, Decision, Sealed};
use crate::core::record::Record;
use crate::core::record::hold::Hold;
use crate::core::record::time::Stamp;

/// A [`Claim`] of what may be in hand.
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

/// A [`Resume`] of what may be in hand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ResumeHere {
    pub(crate) resume: Resume,
    pub(crate) in_hand: bool,
}

impl Sealed for ResumeHere {}

impl Command for ResumeHere {
    type Output = Resumed;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Resumed> {
        if self.in_hand && is_leased(current) {
            return Decision::keep(Resumed::NotDue);
        }
        self.resume.apply(current, stamp)
    }
}

/// What is not, its holder has ended, or an operator or a reconciler has decided
/// about.
fn is_leased(current: Option<&Record>) -> bool {
    current.is_some_and(|record| matches!(record.hold, Hold::Leased { .. }))
}
