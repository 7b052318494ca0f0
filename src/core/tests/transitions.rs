//! Every command on every state.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::core::{
    Change, Claim, Claimed, Command, Decision, Fence, Fenced, Fingerprint, Hold, Labels, Lost, Mode, Next, NotResolved,
    Point, Reached, Record, Resolution, Resolve, Stamp, Status, StoredRequest, StoredResponse, Timestamp, Version,
};

const LEASE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(super) const START: u64 = 1_000_000;
/// While the lease lasts, and after it.
pub(super) const SOON: u64 = START + 1;
pub(super) const LATER: u64 = START + 60_000;

pub(super) fn stamp(now: u64, nonce: u64) -> Stamp<'static> {
    Stamp::new(Timestamp::from_millis(now), Version::new(nonce))
}

pub(super) fn claim(mode: Mode) -> Claim {
    let uri = Uri::from_static("/payments?x=1");
    let request = StoredRequest::capture(&Method::POST, &uri, &HeaderMap::new(), Bytes::from_static(b"{\"amount\":1}"));
    Claim {
        fingerprint: Fingerprint::of([b"a".as_slice()]),
        mode,
        lease: LEASE,
        request: Some(Arc::new(request)),
        labels: Labels::new(),
    }
}

pub(super) fn response() -> Arc<StoredResponse> {
    Arc::new(StoredResponse::capture(StatusCode::CREATED, &HeaderMap::new(), Some(Bytes::from_static(b"{}"))))
}

fn answer() -> Change {
    Change::Complete { response: response(), retention: DAY, reached: Reached::All }
}

fn begin(step: &str) -> Change {
    Change::Begin { step: step.into() }
}

fn save(step: &str) -> Change {
    Change::Save { step: step.into(), value: Bytes::from_static(b"value") }
}

fn fail(step: &str) -> Change {
    Change::Fail { step: step.into(), error: Bytes::from_static(b"declined") }
}

fn park() -> Change {
    Change::Park { why: "who knows".into() }
}

pub(super) fn put<T>(decision: Decision<T>) -> Record {
    match decision.next {
        Next::Put(next) => next,
        other => panic!("{other:?}"),
    }
}

/// Every state that one claim can lead to, by name, with its history: one
/// change for every write.
pub(super) fn history(mode: Mode, changes: &[Change], resolved: Option<Resolution>) -> Vec<Record> {
    let at = Timestamp::from_millis(START);
    let mut history = vec![put(claim(mode).apply(None, stamp(START, 1))).stamped(at)];
    let fence = Fence::of(Version::new(1));
    for (nonce, change) in (2..).zip(changes) {
        let command = Fenced { fence, changes: vec![change.clone()] };
        history.push(put(command.apply(history.last(), stamp(START, nonce))).stamped(at));
    }
    if let Some(resolution) = resolved {
        let next = put(Resolve { resolution, seen: None }.apply(history.last(), stamp(LATER, 100)));
        history.push(next.stamped(at));
    }
    history
}

pub(super) const NAMES: [&str; 9] =
    ["held", "in doubt", "paid", "failed", "free", "free and paid", "parked", "cleared", "complete"];

fn states(mode: Mode) -> Vec<(&'static str, Vec<Record>)> {
    let change_lists = [
        vec![],
        vec![save("a"), begin("b")],
        vec![begin("a"), save("a"), save("b")],
        vec![begin("a"), fail("a")],
        vec![save("a"), Change::Release],
        vec![begin("a"), save("a"), Change::Release],
        vec![begin("a"), park()],
        vec![save("a"), begin("b"), park()],
        vec![begin("a"), save("a"), answer()],
    ];
    let resolved = |name| (name == "cleared").then_some(Resolution::RunAgain);
    NAMES.into_iter().zip(change_lists).map(|(name, list)| (name, history(mode, &list, resolved(name)))).collect()
}

pub(super) fn every_state() -> Vec<(&'static str, Vec<Record>)> {
    [Mode::AtMostOnce, Mode::Resumable].into_iter().flat_map(states).collect()
}

pub(super) fn state(mode: Mode, name: &str) -> Record {
    let found = states(mode).into_iter().find(|(found, _)| *found == name);
    found.and_then(|(_, history)| history.into_iter().next_back()).unwrap()
}

/// One word for what a claim is answered.
fn word(claimed: &Claimed) -> &'static str {
    match claimed {
        Claimed::Granted(_) => "granted",
        Claimed::Busy(_) => "busy",
        Claimed::Replay(..) => "replay",
        Claimed::Mismatch => "mismatch",
        Claimed::Closed => "closed",
        Claimed::Unknown { parked: None } => "unknown",
        Claimed::Unknown { parked: Some(_) } => "parked",
    }
}

#[test]
fn claim_on_every_state() {
    //  state, at most once: soon, later; resumable: soon, later
    let table = [
        ("held", ["busy", "unknown", "busy", "granted"]),
        ("in doubt", ["busy", "unknown", "busy", "granted"]),
        ("paid", ["busy", "unknown", "busy", "granted"]),
        ("failed", ["busy", "unknown", "busy", "granted"]),
        ("free", ["unknown", "unknown", "granted", "granted"]),
        ("free and paid", ["unknown", "unknown", "granted", "granted"]),
        ("parked", ["parked"; 4]),
        ("cleared", ["granted"; 4]),
        ("complete", ["replay"; 4]),
    ];
    assert_eq!(table.map(|(name, _)| name), NAMES);
    for (name, expected) in table {
        let cells = [Mode::AtMostOnce, Mode::Resumable].into_iter().flat_map(|mode| [(mode, SOON), (mode, LATER)]);
        for ((mode, now), expected) in cells.zip(expected) {
            let current = state(mode, name);
            let decision = claim(mode).apply(Some(&current), stamp(now, 500));
            assert_eq!(word(&decision.output), expected, "{name}, {mode:?}, at {now}");
            match decision.next {
                Next::Put(next) => assert_granted(&current, &next),
                next => assert_eq!((next, expected == "granted"), (Next::Keep, false), "{name}"),
            }
        }
    }
}

/// A takeover changes who holds the record, and nothing else.
fn assert_granted(before: &Record, after: &Record) {
    let fence = Fence::of(Version::new(500));
    assert_eq!(after.hold(), &Hold::Leased { fence, lease: LEASE });
    assert_eq!((after.version(), after.attempts()), (Version::new(500), before.attempts() + 1));
    assert_eq!((after.steps(), after.status()), (before.steps(), before.status()));
    assert_eq!((after.request(), after.created_at()), (before.request(), before.created_at()));
}

#[test]
fn another_fingerprint_is_a_mismatch_in_every_state() {
    let other = Claim { fingerprint: Fingerprint::of([b"b".as_slice()]), ..claim(Mode::Resumable) };
    for (name, history) in every_state() {
        for now in [SOON, LATER] {
            let decision = other.apply(history.last(), stamp(now, 500));
            assert_eq!((decision.next, decision.output), (Next::Keep, Claimed::Mismatch), "{name} at {now}");
        }
    }
}

#[test]
fn either_side_may_insist_on_at_most_once() {
    let modes = [Mode::AtMostOnce, Mode::Resumable];
    for (recorded, asking) in modes.into_iter().flat_map(|one| modes.map(|other| (one, other))) {
        let decision = claim(asking).apply(Some(&state(recorded, "free")), stamp(LATER, 500));
        let both = recorded == Mode::Resumable && asking == Mode::Resumable;
        assert_eq!(word(&decision.output), if both { "granted" } else { "unknown" });
    }
}

#[test]
fn claim_of_nothing_is_granted() {
    let decision = claim(Mode::AtMostOnce).apply(None, stamp(START, 9));
    let fence = Fence::of(Version::new(9));
    assert_eq!(decision.output, Claimed::Granted(fence));
    let next = put(decision);
    assert_eq!((next.attempts(), next.status(), next.is_first()), (1, Status::Pending, true));
    assert_eq!(next.created_at(), None);
}

#[test]
fn leases_end_to_the_millisecond() {
    let held = state(Mode::Resumable, "held");
    let at = |now| word(&claim(Mode::Resumable).apply(Some(&held), stamp(now, 500)).output);
    assert_eq!((at(LATER - 1), at(LATER), at(LATER + 1)), ("busy", "granted", "granted"));
    // A clock that went back makes nobody's lease end.
    assert_eq!(at(0), "busy");
}

/// All changes that a holder can ask for.
fn changes() -> [Change; 9] {
    let clear = Change::Clear { step: "b".into() };
    [begin("c"), save("c"), fail("c"), clear, Change::Renew, Change::Release, Change::Withdraw, park(), answer()]
}

#[test]
fn under_another_fence_every_change_is_lost_in_every_state() {
    for (name, history) in every_state() {
        for change in changes() {
            let command = Fenced { fence: Fence::of(Version::new(77)), changes: vec![change.clone()] };
            let decision = command.apply(history.last(), stamp(SOON, 500));
            assert_eq!((decision.next, decision.output), (Next::Keep, Err(Lost)), "{change:?} on {name}");
        }
    }
}

#[test]
fn once_the_claim_ended_every_change_is_lost() {
    for name in ["free", "free and paid", "parked", "cleared", "complete"] {
        for change in changes() {
            let command = Fenced { fence: Fence::of(Version::new(1)), changes: vec![change.clone()] };
            let decision = command.apply(Some(&state(Mode::Resumable, name)), stamp(SOON, 500));
            assert_eq!((decision.next, decision.output), (Next::Keep, Err(Lost)), "{change:?} on {name}");
            assert_eq!(command.apply(None, stamp(SOON, 500)).output, Err(Lost), "{change:?} on nothing");
        }
    }
}

#[test]
fn every_change_on_every_held_state() {
    // Status after begin, save, fail, clear, renew, release, withdraw, park, answer.
    let table = [
        ("held", Status::Pending, true),
        ("in doubt", Status::Pending, false),
        ("paid", Status::Paid, false),
        ("failed", Status::Pending, false),
    ];
    for (name, status, withdrawn) in table {
        let current = state(Mode::Resumable, name);
        for change in changes() {
            let command = Fenced { fence: Fence::of(Version::new(1)), changes: vec![change.clone()] };
            // Also after the lease: it is still the holder's, as nobody took it.
            let decision = command.apply(Some(&current), stamp(LATER, 500));
            assert_eq!(decision.output, Ok(()), "{change:?} on {name}");
            if withdrawn && change == Change::Withdraw {
                assert_eq!(decision.next, Next::Remove);
                continue;
            }
            let next = put(decision);
            let complete = matches!(change, Change::Complete { .. });
            assert_eq!(next.status(), if complete { Status::Complete } else { status }, "{change:?} on {name}");
            assert_eq!(next.hold(), &hold_after(&change, &current), "{change:?} on {name}");
            assert_eq!((next.version(), next.attempts()), (Version::new(500), 1));
        }
    }
}

fn hold_after(change: &Change, current: &Record) -> Hold {
    match change {
        Change::Release | Change::Withdraw | Change::Complete { .. } => Hold::Released,
        Change::Park { why } => Hold::Parked { why: Arc::clone(why) },
        _ => current.hold().clone(),
    }
}

/// The point of step `name` after `changes` in one command.
fn point_after(changes: Vec<Change>, name: &str) -> Option<Point> {
    let held = state(Mode::Resumable, "held");
    let next = put(Fenced { fence: Fence::of(Version::new(1)), changes }.apply(Some(&held), stamp(SOON, 500)));
    next.step(name).map(|step| step.point().clone())
}

#[test]
fn a_result_once_stored_never_changes() {
    let other = |step: &str| Change::Save { step: step.into(), value: Bytes::from_static(b"other") };
    let (saved, failed) = (Point::Saved("value".into()), Point::Failed("declined".into()));
    for later in [begin("a"), other("a"), fail("a"), Change::Clear { step: "a".into() }] {
        assert_eq!(point_after(vec![save("a"), later.clone()], "a"), Some(saved.clone()), "{later:?}");
        assert_eq!(point_after(vec![begin("a"), save("a"), later.clone()], "a"), Some(saved.clone()), "{later:?}");
        assert_eq!(point_after(vec![fail("a"), later.clone()], "a"), Some(failed.clone()), "{later:?}");
    }
    assert_eq!(point_after(vec![begin("a"), begin("a")], "a"), Some(Point::Begun));
    assert_eq!(point_after(vec![begin("a"), Change::Clear { step: "a".into() }], "a"), None);
}

#[test]
fn only_a_step_that_was_begun_pays() {
    let held = state(Mode::Resumable, "held");
    let status = |changes| {
        put(Fenced { fence: Fence::of(Version::new(1)), changes }.apply(Some(&held), stamp(SOON, 500))).status()
    };
    assert_eq!(status(vec![save("a")]), Status::Pending);
    assert_eq!(status(vec![begin("a")]), Status::Pending);
    assert_eq!(status(vec![begin("a"), save("b")]), Status::Pending);
    assert_eq!(status(vec![begin("a"), fail("a")]), Status::Pending);
    assert_eq!(status(vec![begin("a"), save("a")]), Status::Paid);
    assert_eq!(status(vec![begin("a"), save("a"), Change::Release]), Status::Paid);
}

#[test]
fn nothing_is_changed_after_the_end_of_a_claim() {
    for end in [Change::Release, park(), answer()] {
        assert_eq!(point_after(vec![end.clone(), save("late")], "late"), None, "{end:?}");
        assert_eq!(point_after(vec![end.clone(), begin("late")], "late"), None, "{end:?}");
    }
}

#[test]
fn completion_drops_request_and_steps() {
    let complete = state(Mode::Resumable, "complete");
    assert_eq!((complete.steps().len(), complete.request()), (0, None));
    assert!(complete.response().is_some());
}

#[test]
fn only_complete_records_expire() {
    for (name, history) in every_state() {
        let record = history.last().unwrap();
        let ages = Timestamp::from_millis(u64::MAX);
        assert_eq!(record.is_expired(ages), name == "complete", "{name}");
    }
    let complete = state(Mode::Resumable, "complete");
    let due = START + u64::try_from(DAY.as_millis()).unwrap();
    assert!(!complete.is_expired(Timestamp::from_millis(due - 1)));
    assert!(complete.is_expired(Timestamp::from_millis(due)));
}

#[test]
fn resolve_on_every_state() {
    let done = Resolution::StepDone { step: "d".into(), value: Bytes::from_static(b"found") };
    let answered = Resolution::Respond { response: response(), retention: DAY };
    for resolution in [Resolution::RunAgain, Resolution::Park { why: "who knows".into() }, done, answered] {
        let resolve = Resolve { resolution, seen: None };
        assert_eq!(resolve.apply(None, stamp(LATER, 500)).output, Err(NotResolved::Absent));
        for (name, history) in every_state() {
            let current = history.last().unwrap();
            let leased = matches!(current.hold(), Hold::Leased { .. });
            let soon = resolve.apply(Some(current), stamp(SOON, 500));
            match (name, leased) {
                ("complete", _) => assert_eq!((soon.next, soon.output), (Next::Keep, Err(NotResolved::Complete))),
                (_, true) => assert!(matches!(soon.output, Err(NotResolved::Busy(_))), "{name}"),
                (_, false) => assert_eq!(soon.output, Ok(()), "{name}"),
            }
            if name != "complete" {
                assert_resolved(&resolve.resolution, current, &put(resolve.apply(Some(current), stamp(LATER, 500))));
            }
        }
    }
}

fn assert_resolved(resolution: &Resolution, before: &Record, after: &Record) {
    assert_eq!(after.version(), Version::new(500));
    if matches!(resolution, Resolution::Respond { .. }) {
        assert_eq!((after.status(), after.hold()), (Status::Complete, &Hold::Released));
        return;
    }
    let by_itself = matches!(resolution, Resolution::RunAgain) || before.mode() == Mode::Resumable;
    match resolution {
        Resolution::Park { why } => assert_eq!(after.hold(), &Hold::Parked { why: Arc::clone(why) }),
        _ if by_itself => assert_eq!(after.hold(), &Hold::Runnable),
        _ => assert!(matches!(after.hold(), Hold::Released | Hold::Parked { .. } | Hold::Runnable)),
    }
    for step in before.steps().iter().filter(|step| *step.point() != Point::Begun) {
        assert_eq!(after.step(step.name()).map(|step| step.point()), Some(step.point()), "a result was lost");
    }
}

/// Whoever answers for one of two doubts says nothing of the other.
#[test]
fn a_decision_on_a_step_is_about_that_step_alone() {
    let two = history(Mode::Resumable, &[begin("a"), begin("b"), save("c"), park()], None);
    let decide = |step: &str| {
        let resolution = Resolution::DidNotHappen { step: step.into() };
        Resolve { resolution, seen: None }.apply(two.last(), stamp(LATER, 500))
    };
    let decided = put(decide("a"));
    assert_eq!((decided.step("a"), decided.hold()), (None, &Hold::Runnable));
    assert_eq!(decided.step("b").map(|step| step.point().clone()), Some(Point::Begun), "the other doubt");
    for step in ["c", "never"] {
        assert_eq!(decide(step).output, Err(NotResolved::NotInDoubt), "{step}");
        assert_eq!(decide(step).next, Next::Keep, "{step}");
    }
    let done = Resolution::StepDone { step: "c".into(), value: Bytes::from_static(b"other") };
    assert_eq!(
        Resolve { resolution: done, seen: None }.apply(two.last(), stamp(LATER, 500)).output,
        Err(NotResolved::NotInDoubt)
    );
}

/// Nobody knows what else an opaque handler did.
#[test]
fn at_most_once_a_decision_on_a_step_lets_nothing_run_again() {
    for end in [Change::Release, park()] {
        let held = history(Mode::AtMostOnce, &[begin("a"), end], None);
        let resolution = Resolution::DidNotHappen { step: "a".into() };
        let decided = put(Resolve { resolution, seen: None }.apply(held.last(), stamp(LATER, 500)));
        let claimed = claim(Mode::AtMostOnce).apply(Some(&decided), stamp(LATER, 501)).output;
        assert!(matches!(claimed, Claimed::Unknown { .. }), "{claimed:?}");
        let again =
            put(Resolve { resolution: Resolution::RunAgain, seen: None }.apply(Some(&decided), stamp(LATER, 502)));
        let claimed = claim(Mode::AtMostOnce).apply(Some(&again), stamp(LATER, 503)).output;
        assert!(matches!(claimed, Claimed::Granted(_)), "{claimed:?}");
    }
}

#[test]
fn a_decision_takes_the_record_from_a_holder_that_wakes_up() {
    let held = state(Mode::Resumable, "in doubt");
    let resolved = put(Resolve { resolution: Resolution::DidNotHappen { step: "b".into() }, seen: None }
        .apply(Some(&held), stamp(LATER, 500)));
    let late = Fenced { fence: Fence::of(Version::new(1)), changes: vec![save("b")] };
    assert_eq!(late.apply(Some(&resolved), stamp(LATER, 501)).output, Err(Lost));
}
