//! What must have been seen at least once, or the exploration proves nothing.

use tower_idempotency::core::{Change, Claimed, Done, Hold, NotAcknowledged, Record, Resumed, Status, Submitted};

use crate::store::{Author, Shelf};

/// Named so that a missing one says what is not explored any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    GrantedFirst,
    GrantedResumed,
    GrantedCleared,
    Busy,
    Replayed,
    Mismatch,
    MismatchWhileHeld,
    MismatchWhenComplete,
    Unknown,
    Parked,
    OwnClaimRecognised,
    OwnWriteRecognised,
    LateWriteTook,
    LateWriteRejected,
    ZombieLost,
    LapsedStolen,
    ExpiredReplaced,
    Purged,
    Withdrawn,
    Disowned,
    NothingToDisown,
    ChargeRepeated,
    Runnable,
    Renewed,
    Resolved,
    NotResolved,
    ResolvedFromZombie,
    Released,
    Completed,
    Paid,
    ReleasedPaid,
    AnsweredUnsaved,
    ResumedUnasked,
    NotDue,
    Hopeless,
    LeftInDoubt,
    Accepted,
    AcceptedBefore,
    AcceptedOverExpired,
    AcceptedReplayed,
    AcceptedUnknown,
    AcceptanceLost,
    KeptAccepted,
    Acknowledged,
    NotAcknowledged,
    NothingToAcknowledge,
    ForgottenEarly,
    Refused,
    ParkedUnreached,
    Planned,
    UndoneByAnother,
    AllUndone,
    BookedAfterAll,
    TransactionTook,
    TransactionTooLate,
    Delivered,
    DeliveredAgain,
    TellingOvertaken,
    CallbackGivenUp,
    CallbackNotGivenUp,
    RefusedInWindow,
    NotAcceptedInWindow,
    ResumedInWindow,
    ReplayedInWindow,
}

/// The branches that were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Branches(u64);

impl Branches {
    pub(crate) const fn saw(&mut self, branch: Branch) {
        self.0 |= 1 << branch as u64;
    }

    pub(crate) const fn saw_if(&mut self, really: bool, branch: Branch) {
        if really {
            self.saw(branch);
        }
    }

    pub(crate) fn missing(self, wanted: &[Branch]) -> Vec<Branch> {
        wanted.iter().copied().filter(|branch| self.0 & (1 << *branch as u64) == 0).collect()
    }

    pub(crate) const fn add(&mut self, others: Self) {
        self.0 |= others.0;
    }

    pub(crate) const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// What a claim was told.
    pub(crate) fn saw_claim(&mut self, done: &Done<Claimed>) {
        let found = done.record.as_ref();
        self.saw(match &done.output {
            Claimed::Granted(_) if found.is_some_and(|record| record.attempts() > 1) => Branch::GrantedResumed,
            Claimed::Granted(_) => Branch::GrantedFirst,
            Claimed::Busy(_) => Branch::Busy,
            Claimed::Replay(..) => Branch::Replayed,
            Claimed::Mismatch => Branch::Mismatch,
            Claimed::Unknown { parked: Some(_) } => Branch::Parked,
            Claimed::Unknown { parked: None } => Branch::Unknown,
            Claimed::Closed => Branch::RefusedInWindow,
        });
        if let (Claimed::Mismatch, Some(record)) = (&done.output, found) {
            let complete = record.status() == Status::Complete;
            self.saw(if complete { Branch::MismatchWhenComplete } else { Branch::MismatchWhileHeld });
        }
    }

    /// What a completer was told.
    pub(crate) const fn saw_resume(&mut self, resumed: &Resumed) {
        match resumed {
            Resumed::Granted(_) => self.saw(Branch::ResumedUnasked),
            Resumed::NotDue => self.saw(Branch::NotDue),
            Resumed::Parked(_) => self.saw(Branch::Hopeless),
            Resumed::InDoubt => self.saw(Branch::LeftInDoubt),
            Resumed::Left | Resumed::CallbackPending => {}
        }
    }

    /// What a client was told that wants it done later.
    pub(crate) const fn saw_submit(&mut self, submitted: &Submitted) {
        match submitted {
            Submitted::First(_) => self.saw(Branch::Accepted),
            Submitted::Again => self.saw(Branch::AcceptedBefore),
            Submitted::Replay(..) => self.saw(Branch::AcceptedReplayed),
            Submitted::Unknown { .. } => self.saw(Branch::AcceptedUnknown),
            Submitted::Closed => self.saw(Branch::NotAcceptedInWindow),
            Submitted::Mismatch | Submitted::CallerOnly | Submitted::Full => {}
        }
    }

    /// What a client was told that has its answer.
    pub(crate) const fn saw_acknowledgement(&mut self, told: &Result<(), NotAcknowledged>) {
        self.saw(match told {
            Ok(()) => Branch::Acknowledged,
            Err(NotAcknowledged::Unfinished) => Branch::NotAcknowledged,
            Err(NotAcknowledged::Absent) => Branch::NothingToAcknowledge,
        });
    }

    fn saw_undoing(&mut self, was: Option<&Record>, is: &Record) {
        let plan = was.and_then(Record::undoing);
        self.saw_if(plan.is_none() && is.undoing().is_some(), Branch::Planned);
        let complete = is.status() == Status::Complete;
        self.saw_if(plan.is_some() && complete, Branch::AllUndone);
        self.saw_if(plan.is_some_and(|plan| plan.attempt() < is.attempts()) && complete, Branch::UndoneByAnother);
        self.saw_if(
            is.response().is_some_and(|answer| answer.body() == Some(&crate::trip::booked())),
            Branch::BookedAfterAll,
        );
    }

    /// What a write that took did to the record.
    pub(crate) fn saw_write(&mut self, before: &Shelf, after: &Shelf, author: &Author) {
        let (was, is) = (before.record.as_ref(), after.record.as_ref());
        let leased =
            |record: Option<&Record>| record.is_some_and(|record| matches!(record.hold(), Hold::Leased { .. }));
        match author {
            Author::Claim(..) if leased(was) && !before.has_expired() => self.saw(Branch::LapsedStolen),
            Author::Claim(..) if was.is_some_and(|record| *record.hold() == Hold::Runnable) => {
                self.saw(Branch::GrantedCleared);
            }
            Author::Operator(_) if leased(was) => self.saw(Branch::ResolvedFromZombie),
            Author::Submit(..) => return self.saw_if(before.has_expired(), Branch::AcceptedOverExpired),
            Author::Ender(_) => return self.saw(Branch::CallbackGivenUp),
            Author::Acknowledge(_) | Author::Teller(_) => return,
            _ => {}
        }
        let Some(is) = is else { return };
        self.saw_undoing(was, is);
        if let Author::Holder(command) = author
            && command.changes.iter().any(|change| matches!(change, Change::Complete { .. }))
        {
            self.saw_if(matches!(is.hold(), Hold::Parked { .. }), Branch::ParkedUnreached);
            self.saw_if(is.response().is_some_and(|response| response.status() == 400), Branch::Refused);
        }
        let paid = is.status() == Status::Paid;
        match is.hold() {
            Hold::Released if is.status() == Status::Complete => self.saw(Branch::Completed),
            Hold::Released if paid => self.saw(Branch::ReleasedPaid),
            Hold::Released => self.saw(Branch::Released),
            Hold::Leased { .. } if paid => self.saw(Branch::Paid),
            _ => {}
        }
    }
}
