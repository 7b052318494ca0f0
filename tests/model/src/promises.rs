//! What must hold, whatever happens.

use std::time::Duration;

use tower_idempotency::core::{
    Change, Claimed, Done, Fence, Hold, Intake, Lost, Mode, Point, Progress, Reached, Record, Resolution, Resolve,
    Status, Step, Timestamp, Undoing, Version,
};

use crate::branch::Branches;
use crate::budget::Budget;
use crate::state::{Action, State};
use crate::store::{Author, Shelf, fence_of};
use crate::trip::{ASIDE, LEGS};
use crate::worker::{Attempt, Program, Who, Worker};
use crate::world::Life;

/// Which promise was broken.
pub(crate) type Broken = String;

fn ensure(holds: bool, promise: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(promise.to_owned()) }
}

/// Promises about every write that takes.
///
/// `held`: someone still acts under the record's fence. A late copy of a claim
/// may bring a lease back whose holder is long done; nobody minds its loss.
pub(crate) fn of_write(before: &Shelf, after: &Shelf, author: &Author, held: bool) -> Result<(), Broken> {
    match author {
        Author::Acknowledge(_) => return of_acknowledgement(before, after),
        Author::Teller(_) => return of_callback(before, after),
        Author::Ender(command) => return of_ended_callback(before, after, command.seen),
        Author::Claim(_, intake) | Author::Submit(_, intake) => of_intake(before, *intake)?,
        _ => {}
    }
    let Some(was) = before.record.as_ref().filter(|_| !before.has_expired()) else {
        let makes = matches!(author, Author::Claim(..) | Author::Submit(..));
        return ensure(makes, "only a claim or a submission makes something out of nothing");
    };
    ensure(was.status() != Status::Complete, "a complete record never changes until it expires")?;
    let Some(is) = after.record.as_ref() else { return of_removal(was, author) };
    let live = held && fence_of(was).is_some() && before.now < was.due();
    of_hold(was, is, live, before.now, author)?;
    of_identity(was, is, author)?;
    of_plan(was, is, author)?;
    ensure(!hides(was, is, author), "a failure hides nothing that an earlier attempt began or paid")?;
    ensure(is.status() == Status::Complete || keeps_steps(was, is, author), "no step is lost or changed")?;
    ensure(
        is.status() == Status::Complete || is_rightly_paid(was, is, author),
        "paid exactly when a begun step was saved",
    )
}

/// Whether it is complete now with a failure whose maker did not come to what an
/// earlier attempt did. Both steps are begun before they are saved.
fn hides(was: &Record, is: &Record, author: &Author) -> bool {
    let (Author::Holder(command), Some(response)) = (author, is.response()) else { return false };
    let Some(Change::Complete { reached: Reached::Only(reached), .. }) = command.changes.last() else { return false };
    let acts = |step: &&std::sync::Arc<Step>| ["charge", "receipt"].contains(&step.name());
    let earlier = was.steps().iter().filter(acts).filter(|step| step.attempt() < was.attempts());
    let missed = earlier.filter(|step| !reached.iter().any(|name| **name == *step.name())).count();
    response.status() == 400 && missed > 0
}

/// What is undone was decided once, and is all that is done from then on.
fn of_plan(was: &Record, is: &Record, author: &Author) -> Result<(), Broken> {
    let undone = |record: &Record, name: &str| record.step(name).is_some_and(Step::is_undone);
    let newly = is.steps().iter().filter(|step| step.is_undone() && !undone(was, step.name()));
    let planned = |name: &str| is.undoing().is_some_and(|plan| plan.steps().iter().any(|step| **step == *name));
    ensure(newly.into_iter().all(|step| planned(step.name())), "only what is planned is undone")?;
    let commits = |change: &Change| matches!(change, Change::Save { step, .. } if &**step == ASIDE);
    let commits = matches!(author, Author::Holder(command) if command.changes.iter().any(commits));
    ensure(!commits || is.step(ASIDE).is_some(), "a transaction commits with its step, or not at all")?;
    let Some(plan) = was.undoing() else { return Ok(()) };
    if is.status() == Status::Complete {
        let Author::Holder(_) = author else { return Ok(()) };
        ensure(was.left_to_undo().next().is_none(), "nothing is answered before all is undone")?;
        return ensure(is.response() == Some(plan.response()), "what failed for good is answered as its plan says");
    }
    let same = |is: &Undoing| (is.steps(), is.response()) == (plan.steps(), plan.response());
    ensure(is.undoing().is_some_and(same), "a plan is never replaced or lost")?;
    ensure(is.steps().iter().all(|step| was.step(step.name()).is_some()), "once there is a plan no step begins")?;
    let stays = |step: &std::sync::Arc<Step>| !step.is_undone() || undone(is, step.name());
    ensure(was.steps().iter().all(stays), "what is undone stays undone")
}

/// A callback changes nothing of the operation.
fn of_callback(before: &Shelf, after: &Shelf) -> Result<(), Broken> {
    let (Some(was), Some(is)) = (before.record.as_ref(), after.record.as_ref()) else {
        return Err("a callback makes and removes nothing".into());
    };
    ensure(was.version() != is.version(), "every write has a version of its own")?;
    let same = was.progress() == is.progress() && was.hold() == is.hold() && was.attempts() == is.attempts();
    ensure(same && was.fingerprint() == is.fingerprint(), "a callback changes nothing of the operation")?;
    let ended = was.status() == Status::Complete || matches!(was.hold(), Hold::Parked { .. });
    ensure(ended, "no callback is made for what goes on")?;
    let (Some(owed), next) = (was.pending_callback(), is.pending_callback()) else {
        return Err("a callback is made only where one is to be".into());
    };
    ensure(next.is_none_or(|next| next.end() == owed.end()), "a callback is made again under the same id")
}

/// An operator gave it up: nothing else changes, and no completer begins it again.
fn of_ended_callback(before: &Shelf, after: &Shelf, seen: Version) -> Result<(), Broken> {
    let was = before.record.as_ref().map(Record::version);
    ensure(was == Some(seen), "an operator gives up only the callback that was shown")?;
    of_callback(before, after)?;
    let owes = after.record.as_ref().is_some_and(|record| record.pending_callback().is_some());
    ensure(!owes, "a callback that was given up is not made again")
}

/// A process that drains, or that a maintenance window covers, leaves no record of what it
/// refuses.
fn of_intake(before: &Shelf, intake: Intake) -> Result<(), Broken> {
    let is_new = before.record.is_none() || before.has_expired();
    ensure(intake == Intake::Open || !is_new, "a process that takes nothing new begins nothing")?;
    ensure(intake != Intake::Closed, "a process that is closed claims nothing")
}

/// A callback is made for an end: it must have been one.
pub(crate) fn of_call(life: &Life, end: Version) -> Result<(), Broken> {
    ensure(life.ends.contains(&end), "no callback is made for what did not end")
}

/// A leg is undone: the plan must be on record, unless this attempt lost its claim
/// since.
pub(crate) fn of_undoing(state: &State, attempt: &Attempt, step: &str) -> Result<(), Broken> {
    let Some(record) = state.shelf.record.as_ref().filter(|_| attempt.life == state.world.current()) else {
        return Ok(());
    };
    let planned = record.undoing().is_some_and(|plan| plan.steps().iter().any(|planned| **planned == *step));
    ensure(planned || record.status() == Status::Complete, "nothing is undone before the plan is on record")?;
    let undone = state.world.lives[usize::from(attempt.life)].undone;
    let later = LEGS.iter().rposition(|leg| *leg == step).map_or(0, |at| at + 1);
    ensure(undone[later..].iter().all(|times| *times > 0), "the latest is undone first")
}

/// The last end was told, where a callback is to be made, or an operator gave that up.
fn is_told(state: &State) -> bool {
    let life = &state.world.lives[usize::from(state.world.current())];
    !state.program.calls_back()
        || life.ends.last().is_none_or(|end| life.delivered.contains(end) || life.given_up.contains(end))
}

/// It may go early, and is what it was. A write that took long may find it
/// expired, and then its answer stays a little longer.
fn of_acknowledgement(before: &Shelf, after: &Shelf) -> Result<(), Broken> {
    let (Some(was), Some(is)) = (before.record.as_ref(), after.record.as_ref()) else {
        return Err("an acknowledgement makes and removes nothing".into());
    };
    ensure(was.status() == Status::Complete, "only what is complete is acknowledged")?;
    ensure(was.version() != is.version(), "every write has a version of its own")?;
    ensure(is.response() == was.response(), "an answer stays the same until it is forgotten")?;
    ensure(is.fingerprint() == was.fingerprint(), "the fingerprint never changes")?;
    let retention = |record: &Record| match record.progress() {
        Progress::Complete { retention, .. } => *retention,
        _ => Duration::MAX,
    };
    // Until its callback is made, its retention has not begun.
    let earlier =
        if was.pending_callback().is_some() { retention(is) <= retention(was) } else { is.due() <= was.due() };
    ensure(earlier || before.has_expired(), "an acknowledgement keeps nothing for longer")
}

/// Promises about what is dropped because of its age.
pub(crate) fn of_expiry(state: &State) -> Result<(), Broken> {
    ensure(is_told(state), "nothing is forgotten before its callback is made")?;
    let complete = state.shelf.record.as_ref().is_none_or(|record| record.status() == Status::Complete);
    ensure(complete, "only what is complete is ever forgotten")
}

/// What was accepted stays until it is forgotten as complete.
pub(crate) fn of_accepted(accepted: bool, after: &Shelf) -> Result<(), Broken> {
    ensure(!accepted || after.record.is_some(), "what was accepted is never lost")
}

fn of_removal(was: &Record, author: &Author) -> Result<(), Broken> {
    let Author::Holder(command) = author else { return Err("only a holder withdraws".into()) };
    let withdraws = command.changes.contains(&Change::Withdraw);
    ensure(withdraws && fence_of(was) == Some(command.fence), "an unfinished record is never forgotten")?;
    ensure(was.undoing().is_none(), "a plan is never withdrawn")?;
    ensure(was.steps().is_empty(), "a record with steps is never withdrawn")
}

/// Who wrote, and whether they might.
fn of_hold(was: &Record, is: &Record, live: bool, now: Timestamp, author: &Author) -> Result<(), Broken> {
    let (had, has) = (fence_of(was), fence_of(is));
    match author {
        Author::Holder(command) => {
            ensure(had == Some(command.fence), "a zombie's write never takes")?;
            ensure(has.is_none() || has == had, "a holder's write never changes the fence")
        }
        Author::Claim(..) => {
            ensure(!live, "a live lease is never taken by a claim")?;
            ensure(has == Some(Fence::of(is.version())), "a claim's fence is its version")?;
            let parked = matches!(was.hold(), Hold::Parked { .. });
            ensure(!parked, "a parked operation is never claimed")
        }
        Author::Completer(_) => {
            ensure(!live, "a live lease is never taken by a completer")?;
            ensure(was.due() <= now, "nothing is resumed before it is due")?;
            let may = was.mode() == Mode::Resumable || *was.hold() == Hold::Runnable;
            ensure(may, "at most once nothing is resumed unasked")?;
            ensure(has.is_none() || has == Some(Fence::of(is.version())), "a completer's fence is its version")?;
            let parked = matches!(was.hold(), Hold::Parked { .. });
            ensure(!parked, "a parked operation is never resumed")
        }
        Author::Submit(..) | Author::Acknowledge(_) | Author::Teller(_) | Author::Ender(_) | Author::Planner => {
            Err("only a claim, a holder or a decision changes what is there".into())
        }
        Author::Operator(_) => {
            ensure(!live, "a live lease is never taken by an operator")?;
            ensure(has.is_none(), "a decision ends the claim it overtakes")
        }
    }
}

/// What stays the same, and what only grows.
fn of_identity(was: &Record, is: &Record, author: &Author) -> Result<(), Broken> {
    ensure(was.version() != is.version(), "every write has a version of its own")?;
    ensure(was.fingerprint() == is.fingerprint(), "the fingerprint never changes")?;
    let takes =
        matches!(author, Author::Claim(..)) || (matches!(author, Author::Completer(_)) && fence_of(is).is_some());
    let claims = u32::from(takes);
    ensure(is.attempts() == was.attempts() + claims, "every claim counts as one attempt, and nothing else does")?;
    let left = is.status() == Status::Complete && fence_of(is).is_some();
    ensure(!left, "nobody holds what is complete")
}

fn keeps_steps(was: &Record, is: &Record, author: &Author) -> bool {
    was.steps().iter().all(|step| match (step.point(), is.step(step.name()).map(|step| step.point())) {
        (Point::Begun, None) => may_clear(author, step.name()),
        (Point::Begun, Some(_)) => true,
        (old, new) => new == Some(old),
    })
}

fn may_clear(author: &Author, name: &str) -> bool {
    match author {
        Author::Claim(..) | Author::Completer(_) | Author::Submit(..) => false,
        Author::Acknowledge(_) | Author::Teller(_) | Author::Ender(_) | Author::Planner => false,
        Author::Holder(command) => command.changes.contains(&Change::Clear { step: name.into() }),
        Author::Operator(command) => command.resolution == Resolution::DidNotHappen { step: name.into() },
    }
}

fn is_rightly_paid(was: &Record, is: &Record, author: &Author) -> bool {
    let by_hand = |name: &str| matches!(author, Author::Operator(Resolve { resolution: Resolution::StepDone { step, .. }, .. }) if &**step == name);
    let newly = is.steps().iter().any(|step| {
        let before = was.step(step.name()).map(|step| step.point());
        let begun = before == Some(&Point::Begun) || (before.is_none() && by_hand(step.name()));
        begun && matches!(step.point(), Point::Saved(_))
    });
    (is.status() == Status::Paid) == (was.status() == Status::Paid || newly)
}

/// Promises about the answer to a claim. `own`: the fence under which it took,
/// if it did.
pub(crate) fn of_claim(author: &Author, own: Fence, done: &Done<Claimed>) -> Result<(), Broken> {
    let Author::Claim(claim, _) = author else { return Ok(()) };
    let found = done.record.as_ref();
    let same = found.is_none_or(|record| *record.fingerprint() == claim.fingerprint);
    ensure(same == (done.output != Claimed::Mismatch), "another fingerprint is a mismatch in every state")?;
    let ours = found.and_then(fence_of) == Some(own);
    ensure(
        !ours || done.output == Claimed::Granted(own),
        "a claim whose acknowledgement was lost is recognised as ours",
    )
}

/// Promises about what a holder is told about its write. `took`: the version
/// at which it took, which its nonce may have moved on from since.
pub(crate) fn of_outcome(took: Option<Version>, done: &Done<Result<(), Lost>>) -> Result<(), Broken> {
    let found = done.record.as_ref().map(Record::version);
    if done.output.is_ok() {
        return ensure(took.is_some() || found.is_none(), "a write that is confirmed was made");
    }
    ensure(took.is_none() || found != took, "a write whose acknowledgement was lost is recognised as ours")
}

/// Money moved: the record must show it.
pub(crate) fn of_charge(state: &State, attempt: &Attempt) -> Result<(), Broken> {
    let denied = state.world.lives[usize::from(attempt.life)].charges_denied > 0;
    if denied || attempt.life != state.world.current() {
        return Ok(());
    }
    shows_charge(state)
}

fn shows_charge(state: &State) -> Result<(), Broken> {
    let shows = |record: &Record| record.status() == Status::Complete || record.step("charge").is_some();
    ensure(state.shelf.record.as_ref().is_some_and(shows), "money moved: the record shows the intent")
}

/// Promises about every state.
pub(crate) fn of_state(state: &State) -> Result<(), Broken> {
    let fences: Vec<_> = state.workers.iter().filter_map(Worker::attempt).map(|attempt| attempt.fence).collect();
    let distinct = fences.iter().enumerate().all(|(index, fence)| !fences[..index].contains(fence));
    ensure(distinct, "no two workers hold one fence")?;
    for life in &state.world.lives {
        ensure(life.answers.len() <= 1, "every final answer to one key is the same answer")?;
        ensure(life.receipts <= 1 + life.receipts_denied, "a once-effect happens at most once")?;
        of_trip(life)?;
        ensure(life.started <= 1 + life.allowed, "an opaque handler is started at most once")?;
    }
    let life = &state.world.lives[usize::from(state.world.current())];
    if life.calls > 0 && life.charges_denied == 0 { shows_charge(state) } else { Ok(()) }
}

/// Booked or undone, and never both.
fn of_trip(life: &Life) -> Result<(), Broken> {
    let booked = life.answers.contains(&crate::trip::booked());
    ensure(!booked || life.undone == [0, 0], "what is answered as booked is never undone")?;
    let failed = life.answers.iter().any(|answer| answer.starts_with(b"sold out"));
    ensure(
        !failed || life.undone.iter().all(|times| *times > 0),
        "what failed for good is undone before it is answered",
    )
}

/// Once faults stop, one more client settles it, or is told that nobody knows.
/// What was accepted no client has to ask for again.
pub(crate) fn settles(state: &State) -> Result<(), Broken> {
    let mut seen = Branches::default();
    let mut state = state.clone();
    let accepted = state.world.lives[usize::from(state.world.current())].accepted;
    state.budget = match state.program {
        Program::CallsBack | Program::TripCallsBack => Budget::last_tellers(),
        _ if accepted => Budget::last_completers(),
        _ => Budget::last_round(),
    };
    if state.shelf.record.is_some() {
        state = state.step(&Action::Tick, &mut seen)?;
    }
    // With no handler in its right mind there is nothing to wait for.
    if state.program == Program::Whimsical {
        return Ok(());
    }
    for _ in 0..60 {
        // One after another: who comes next does so when all others are done.
        let actions = state.actions();
        let others = actions.iter().find(|action| is_harmless(action) && !is_new(action));
        let Some(action) = others.or_else(|| actions.iter().find(|action| is_harmless(action))) else { break };
        let action = action.clone();
        state = state.step(&action, &mut seen)?;
    }
    ensure(state.is_quiet(), "nobody is stuck once faults stop")?;
    let Some(record) = &state.shelf.record else { return Err("a request leaves a record".into()) };
    ensure(is_told(&state) && record.pending_callback().is_none(), "every end has its callback once faults stop")?;
    let parked = matches!(record.hold(), Hold::Parked { .. });
    // An opaque handler's fate may be unknown; and a stranger's operation is
    // not for the owner to finish.
    let foreign = record.fingerprint() != &Who::Owner.fingerprint();
    let undecided = !accepted && (state.program == Program::Opaque || foreign);
    ensure(record.status() == Status::Complete || parked || undecided, "everything settles once faults stop")
}

const fn is_new(action: &Action) -> bool {
    matches!(action, Action::Start(..) | Action::Resume(_) | Action::Submit(..) | Action::Acknowledge(_))
}

const fn is_harmless(action: &Action) -> bool {
    !matches!(action, Action::Arrive(_) | Action::Tick)
}
