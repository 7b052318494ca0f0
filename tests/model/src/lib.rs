//! Every interleaving of workers, crashes, clock steps, late and lost replies,
//! over the very transitions and the very loop that run in production.
//!
//! A state holds the store (one key), what is on its way to it, the workers,
//! the outside world, and what may still go wrong. All states are visited,
//! breadth first, and every promise is checked after every step; a broken one
//! is printed with the shortest way there. Versions are renamed by order of
//! appearance, workers are interchangeable, and times are "now" or "a lease
//! ago", so that what differs only in names is one state.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `MODEL_WORKERS` | workers, 1 to 3 | 2 |
//! | `MODEL_BUDGET` | faults in one history | as tuned below |
//!
//! Not explored: more than one key, stores that lose what they confirmed, and
//! writes that travel for longer than an answer is kept.
//!
//! It walks many states: `MODEL_WORKERS=3 cargo test --release -p model --
//! --nocapture`.

#![cfg(test)]

mod branch;
mod budget;
mod canon;
mod control;
mod explore;
mod promises;
mod state;
mod step;
mod store;
mod telling;
mod trip;
mod words;
mod worker;
mod world;

use crate::branch::{Branch, Branches};
use crate::budget::{Budget, Kind};
use crate::explore::explore;
use crate::state::State;
use crate::worker::Program;

fn setting(name: &str) -> Option<u8> {
    std::env::var(name).ok()?.parse().ok()
}

/// How much may go wrong in one exploration: faults altogether, and of each
/// kind. Some look wide and some deep; everything at once is for long nights.
type Bound<'a> = (u8, &'a [(Kind, u8)]);

/// Explores, and fails for a broken promise or a branch that was not reached.
fn check(name: &str, program: Program, bounds: &[Bound<'_>], wanted: &[Branch]) {
    let workers = usize::from(setting("MODEL_WORKERS").unwrap_or(2)).clamp(1, 3);
    let mut seen = Branches::default();
    for (faults, kinds) in bounds {
        let faults = setting("MODEL_BUDGET").unwrap_or(*faults);
        let report = explore(State::new(program, workers, Budget::new(faults, kinds).for_workers(workers)));
        println!("{name}: {workers} workers, {faults} faults: {report}");
        if let Some(trace) = &report.broken {
            panic!("{trace}");
        }
        seen.add(report.branches);
    }
    let missing = seen.missing(wanted);
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

/// All that may go wrong with a process, a store and what is between.
const FAULTS: &[(Kind, u8)] = &[
    (Kind::Request, 2),
    (Kind::Crash, 1),
    (Kind::Tick, 2),
    (Kind::Purge, 1),
    (Kind::Lost, 1),
    (Kind::Error, 1),
    (Kind::Late, 1),
    (Kind::Twice, 1),
    (Kind::GiveUp, 1),
    (Kind::Fail, 1),
];

/// Processes that drain, or that a maintenance window covers, each as soon as it hears of it,
/// while others begin and resume.
const WINDOWS: &[(Kind, u8)] =
    &[(Kind::Request, 1), (Kind::Window, 2), (Kind::Crash, 1), (Kind::Tick, 2), (Kind::Purge, 1), (Kind::Fail, 1)];

/// The same with a slow store that repeats itself.
const WINDOWS_AND_LATE: &[(Kind, u8)] =
    &[(Kind::Request, 1), (Kind::Window, 1), (Kind::Tick, 1), (Kind::Lost, 1), (Kind::Late, 1), (Kind::Twice, 1)];

/// Operations that are taken over and taken over again.
const TAKEOVERS: &[(Kind, u8)] = &[(Kind::Request, 3), (Kind::Crash, 2), (Kind::Tick, 2), (Kind::Fail, 1)];

/// Decisions by hand, at any time.
const BY_HAND: &[(Kind, u8)] = &[(Kind::Request, 2), (Kind::Crash, 1), (Kind::Tick, 2), (Kind::Resolve, 1)];

/// The same with a slow store that repeats itself.
const BY_HAND_AND_LATE: &[(Kind, u8)] =
    &[(Kind::Request, 1), (Kind::Tick, 1), (Kind::Lost, 1), (Kind::Twice, 1), (Kind::Resolve, 1)];

/// Completers that find what nobody goes on with, and the faults they meet.
const COMPLETERS: &[(Kind, u8)] =
    &[(Kind::Request, 2), (Kind::Resume, 2), (Kind::Crash, 1), (Kind::Tick, 2), (Kind::Lost, 1), (Kind::GiveUp, 1)];

/// What is accepted for later, while clients also ask for it at once.
const ACCEPTED: &[(Kind, u8)] = &[
    (Kind::Submit, 1),
    (Kind::Request, 1),
    (Kind::Resume, 2),
    (Kind::Crash, 1),
    (Kind::Tick, 2),
    (Kind::Lost, 1),
    (Kind::GiveUp, 1),
    (Kind::Fail, 1),
];

/// The same with a slow store that repeats itself.
const ACCEPTED_AND_LATE: &[(Kind, u8)] =
    &[(Kind::Submit, 2), (Kind::Resume, 1), (Kind::Tick, 1), (Kind::Late, 1), (Kind::Twice, 1), (Kind::GiveUp, 1)];

/// Clients that have their answer, and keys that are used again.
const ACKNOWLEDGED: &[(Kind, u8)] = &[
    (Kind::Submit, 2),
    (Kind::Resume, 1),
    (Kind::Acknowledge, 2),
    (Kind::Purge, 1),
    (Kind::Tick, 1),
    (Kind::Lost, 1),
    (Kind::Twice, 1),
];

/// The same until they give up.
const TOO_OFTEN: &[(Kind, u8)] = &[(Kind::Request, 1), (Kind::Resume, 3), (Kind::Tick, 3), (Kind::Fail, 3)];

/// Handlers that say that they failed, wherever they are, and before they come to
/// what others did.
const REFUSALS: &[(Kind, u8)] = &[
    (Kind::Request, 2),
    (Kind::Resume, 1),
    (Kind::Refuse, 1),
    (Kind::Crash, 1),
    (Kind::Tick, 2),
    (Kind::Lost, 1),
    (Kind::Fail, 1),
];

/// The same with a slow store that repeats itself.
const REFUSALS_AND_LATE: &[(Kind, u8)] =
    &[(Kind::Request, 2), (Kind::Refuse, 2), (Kind::Tick, 1), (Kind::Late, 1), (Kind::Twice, 1), (Kind::Fail, 1)];

/// The same key with another body, at any time; and sign-of-life writes.
const STRANGERS: &[(Kind, u8)] =
    &[(Kind::Request, 1), (Kind::Stranger, 1), (Kind::Crash, 1), (Kind::Tick, 1), (Kind::Renew, 1)];

#[test]
fn a_payment_is_resumed_and_never_repeated() {
    use Branch::*;
    let wanted = [
        GrantedFirst,
        GrantedResumed,
        GrantedCleared,
        Busy,
        Replayed,
        Mismatch,
        MismatchWhileHeld,
        MismatchWhenComplete,
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
        Accepted,
        AcceptedBefore,
        AcceptedOverExpired,
        AcceptedReplayed,
        AcceptanceLost,
        KeptAccepted,
        Acknowledged,
        NotAcknowledged,
        NothingToAcknowledge,
        ForgottenEarly,
        Refused,
        ParkedUnreached,
        RefusedInWindow,
        NotAcceptedInWindow,
        ResumedInWindow,
        ReplayedInWindow,
    ];
    check(
        "payment",
        Program::Payment,
        &[
            (2, FAULTS),
            (3, TAKEOVERS),
            (2, BY_HAND),
            (3, BY_HAND_AND_LATE),
            (2, STRANGERS),
            (2, COMPLETERS),
            (6, TOO_OFTEN),
            (2, ACCEPTED),
            (2, ACCEPTED_AND_LATE),
            (2, ACKNOWLEDGED),
            (2, REFUSALS),
            (2, REFUSALS_AND_LATE),
            (2, WINDOWS),
            (2, WINDOWS_AND_LATE),
        ],
        &wanted,
    );
}

#[test]
fn an_opaque_handler_is_started_at_most_once() {
    use Branch::*;
    let wanted = [
        GrantedFirst,
        GrantedCleared,
        Busy,
        Replayed,
        MismatchWhileHeld,
        MismatchWhenComplete,
        Unknown,
        OwnClaimRecognised,
        OwnWriteRecognised,
        LateWriteTook,
        LateWriteRejected,
        ZombieLost,
        ExpiredReplaced,
        Purged,
        Withdrawn,
        Disowned,
        NothingToDisown,
        Renewed,
        Resolved,
        NotResolved,
        ResolvedFromZombie,
        Released,
        Completed,
        AnsweredUnsaved,
        NotDue,
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
        RefusedInWindow,
        NotAcceptedInWindow,
        ReplayedInWindow,
    ];
    check(
        "at most once",
        Program::Opaque,
        &[
            (3, FAULTS),
            (3, TAKEOVERS),
            (2, BY_HAND),
            (3, BY_HAND_AND_LATE),
            (2, STRANGERS),
            (2, COMPLETERS),
            (2, ACCEPTED),
            (2, ACCEPTED_AND_LATE),
            (2, ACKNOWLEDGED),
            (2, WINDOWS),
            (2, WINDOWS_AND_LATE),
        ],
        &wanted,
    );
}

/// What fails for good, with a transaction beside it.
const TRIPS: &[(Kind, u8)] = &[
    (Kind::Request, 2),
    (Kind::Refuse, 1),
    (Kind::Crash, 1),
    (Kind::Tick, 2),
    (Kind::Lost, 1),
    (Kind::GiveUp, 1),
    (Kind::Fail, 1),
];

/// The same with a slow store that repeats itself.
const TRIPS_AND_LATE: &[(Kind, u8)] =
    &[(Kind::Request, 2), (Kind::Refuse, 2), (Kind::Tick, 1), (Kind::Late, 1), (Kind::Twice, 1)];

/// The same with a transaction beside it.
const TRANSACTIONS: &[(Kind, u8)] = &[(Kind::Request, 1), (Kind::Refuse, 1), (Kind::Aside, 1), (Kind::Lost, 1)];

/// And with a holder that wakes up late.
const TRANSACTIONS_OF_ZOMBIES: &[(Kind, u8)] =
    &[(Kind::Request, 2), (Kind::Refuse, 1), (Kind::Aside, 1), (Kind::Tick, 1)];

#[test]
fn a_trip_is_booked_or_undone_and_never_both() {
    use Branch::*;
    let wanted = [
        GrantedFirst,
        GrantedResumed,
        Replayed,
        OwnWriteRecognised,
        LateWriteTook,
        LateWriteRejected,
        ZombieLost,
        LapsedStolen,
        ReleasedPaid,
        Planned,
        UndoneByAnother,
        AllUndone,
        BookedAfterAll,
        TransactionTook,
        TransactionTooLate,
    ];
    check(
        "trip",
        Program::Trip,
        &[(2, TRIPS), (2, TRIPS_AND_LATE), (1, TRANSACTIONS), (1, TRANSACTIONS_OF_ZOMBIES)],
        &wanted,
    );
}

/// Trips whose end is told, with completers that finish them and tell.
const TRIPS_TOLD: &[(Kind, u8)] = &[
    (Kind::Request, 1),
    (Kind::Resume, 2),
    (Kind::Refuse, 1),
    (Kind::Crash, 1),
    (Kind::Tick, 1),
    (Kind::Lost, 1),
    (Kind::Fail, 1),
];

/// The same with decisions by hand.
const TRIPS_TOLD_BY_HAND: &[(Kind, u8)] =
    &[(Kind::Request, 1), (Kind::Resume, 1), (Kind::Refuse, 1), (Kind::Tick, 1), (Kind::Resolve, 1)];

#[test]
fn the_end_of_a_trip_is_told_once_all_is_undone() {
    use Branch::*;
    let wanted = [GrantedFirst, Planned, AllUndone, BookedAfterAll, Completed, Delivered, DeliveredAgain];
    check("trip-told", Program::TripCallsBack, &[(1, TRIPS_TOLD), (1, TRIPS_TOLD_BY_HAND)], &wanted);
}

/// Ends, and completers that tell of them.
const TOLD: &[(Kind, u8)] = &[
    (Kind::Request, 1),
    (Kind::Resume, 2),
    (Kind::Refuse, 1),
    (Kind::Crash, 1),
    (Kind::Tick, 2),
    (Kind::Lost, 1),
    (Kind::GiveUp, 1),
    (Kind::Fail, 1),
    (Kind::Purge, 1),
];

/// The same with decisions by hand.
const TOLD_BY_HAND: &[(Kind, u8)] =
    &[(Kind::Request, 1), (Kind::Resume, 2), (Kind::Refuse, 1), (Kind::Tick, 1), (Kind::Resolve, 1)];

/// Clients that have their answer before a callback is made.
const TOLD_AND_ACKNOWLEDGED: &[(Kind, u8)] =
    &[(Kind::Request, 2), (Kind::Resume, 1), (Kind::Tick, 1), (Kind::Acknowledge, 1), (Kind::Purge, 1)];

/// The same with a slow store that repeats itself.
const TOLD_AND_LATE: &[(Kind, u8)] =
    &[(Kind::Request, 2), (Kind::Resume, 2), (Kind::Tick, 1), (Kind::Late, 1), (Kind::Twice, 1), (Kind::Purge, 1)];

/// Operators who give callbacks up, while completers make them.
const GIVEN_UP: &[(Kind, u8)] = &[
    (Kind::Request, 1),
    (Kind::Resume, 2),
    (Kind::Refuse, 1),
    (Kind::Tick, 1),
    (Kind::EndCallback, 1),
    (Kind::Lost, 1),
    (Kind::Late, 1),
    (Kind::Purge, 1),
];

#[test]
fn every_end_is_told_and_nothing_else() {
    use Branch::*;
    let wanted = [
        GrantedFirst,
        Replayed,
        Parked,
        Resolved,
        Purged,
        Acknowledged,
        Completed,
        Delivered,
        DeliveredAgain,
        TellingOvertaken,
        CallbackGivenUp,
        CallbackNotGivenUp,
    ];
    check(
        "told",
        Program::CallsBack,
        &[(2, TOLD), (1, TOLD_BY_HAND), (1, TOLD_AND_ACKNOWLEDGED), (2, TOLD_AND_LATE), (1, GIVEN_UP)],
        &wanted,
    );
}

#[test]
fn no_holder_can_break_its_record() {
    use Branch::*;
    let calm = [(Kind::Request, 1), (Kind::Whim, 3), (Kind::Resolve, 1)];
    let wanted = [GrantedFirst, Paid, Released, ReleasedPaid, Withdrawn, Completed, Resolved, NotResolved, ZombieLost];
    check("whims", Program::Whimsical, &[(0, &calm)], &wanted);
}
