//! What failed for good is undone, and nothing else is done.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::transitions::{DAY, LATER, START, claim, put, response, stamp};
use crate::core::{
    Change, Command, Decision, Fence, Fenced, HistoryEvent, Hold, Mode, Next, NotResolved, Point, Reached, Record,
    Resolution, Resolve, Status, StoredResponse, Timestamp, Version,
};

fn failed(body: &'static str) -> Arc<StoredResponse> {
    let body = Some(Bytes::from_static(body.as_bytes()));
    Arc::new(StoredResponse::capture(StatusCode::CONFLICT, &HeaderMap::new(), body))
}

pub(super) fn undo(steps: &[&str], body: &'static str) -> Change {
    Change::Undo { steps: steps.iter().map(|step| Box::from(*step)).collect(), response: failed(body) }
}

fn begin(step: &str) -> Change {
    Change::Begin { step: step.into() }
}

pub(super) fn save(step: &str) -> Change {
    Change::Save { step: step.into(), value: Bytes::from_static(b"17") }
}

pub(super) fn undone(step: &str) -> Change {
    Change::Undone { step: step.into() }
}

fn complete() -> Change {
    Change::Complete { response: response(), retention: DAY, reached: Reached::All }
}

/// A record after these changes of its first holder.
fn after(changes: Vec<Change>) -> Record {
    let held = put(claim(Mode::Resumable).apply(None, stamp(START, 1)));
    change(&held.stamped(Timestamp::from_millis(START)), changes)
}

fn change(record: &Record, changes: Vec<Change>) -> Record {
    let fence = Fence::of(Version::new(1));
    let Decision { next, output } = Fenced { fence, changes }.apply(Some(record), stamp(LATER, 2));
    assert_eq!(output, Ok(()));
    let Next::Put(record) = next else { panic!("{next:?}") };
    record
}

fn names(record: &Record) -> Vec<&str> {
    record.steps().iter().map(|step| step.name()).collect()
}

#[test]
fn once_there_is_a_plan_no_step_begins_and_only_what_had_begun_ends() {
    let fail = |step: &str| Change::Fail { step: step.into(), error: Bytes::new() };
    let planned = after(vec![save("flight"), begin("fee"), begin("tax"), undo(&["flight"], "sold out")]);
    let later = change(&planned, vec![begin("hotel"), save("car"), fail("taxi"), save("fee"), fail("tax")]);
    assert_eq!(names(&later), ["flight", "fee", "tax"]);
    assert!(matches!(later.step("fee").unwrap().point(), Point::Saved(_)));
    assert!(matches!(later.step("tax").unwrap().point(), Point::Failed(_)));
}

#[test]
fn the_first_plan_stands() {
    let planned = after(vec![save("flight"), save("hotel"), undo(&["flight"], "sold out")]);
    let again = change(&planned, vec![undo(&["flight", "hotel"], "another")]);
    assert_eq!(again.undoing(), planned.undoing());
    assert_eq!(again.left_to_undo().collect::<Vec<_>>(), ["flight"]);
}

#[test]
fn only_what_is_planned_is_undone_and_that_once() {
    let done = vec![save("flight"), save("hotel"), save("meal")];
    let unplanned = change(&after(done.clone()), vec![undone("flight")]);
    assert!(!unplanned.step("flight").unwrap().is_undone());
    let planned = change(&after(done), vec![undo(&["flight", "hotel"], "sold out"), undone("meal"), undone("taxi")]);
    assert_eq!(planned.left_to_undo().collect::<Vec<_>>(), ["hotel", "flight"], "the latest first");
    assert!(!planned.step("meal").unwrap().is_undone());
    let once = change(&planned, vec![undone("hotel")]);
    assert_eq!(once.left_to_undo().collect::<Vec<_>>(), ["flight"]);
    assert!(matches!(once.step("hotel").unwrap().point(), Point::Saved(_)), "its result is still there");
    let again = Fenced { fence: Fence::of(Version::new(1)), changes: vec![undone("hotel")] };
    let again = put(again.apply(Some(&once), stamp(LATER + 9, 3)));
    assert_eq!(again.step("hotel"), once.step("hotel"));
}

#[test]
fn the_answer_is_that_of_the_plan_once_all_is_undone() {
    let planned = after(vec![save("flight"), save("hotel"), undo(&["flight", "hotel"], "sold out")]);
    let half = change(&planned, vec![undone("hotel"), complete()]);
    assert_eq!((half.status(), half.response()), (Status::Pending, None));
    assert!(matches!(half.hold(), Hold::Parked { why } if why.contains("\"flight\"")), "{half:?}");
    let whole = change(&planned, vec![undone("hotel"), undone("flight"), complete()]);
    assert_eq!(whole.response(), Some(&failed("sold out")));
    assert!(whole.undoing().is_none());
    // A step that is not on record was not undone.
    let unknown = after(vec![undo(&["taxi"], "sold out"), undone("taxi"), complete()]);
    assert!(matches!(unknown.hold(), Hold::Parked { why } if why.contains("\"taxi\"")), "{unknown:?}");
}

#[test]
fn a_plan_is_never_withdrawn() {
    let planned = after(vec![undo(&[], "sold out"), Change::Withdraw]);
    assert!(planned.undoing().is_some());
    assert_eq!(planned.hold(), &Hold::Released);
}

#[test]
fn the_history_shows_undoing_a_step_as_one() {
    let planned = after(vec![save("flight"), begin("hotel"), save("hotel"), undo(&["flight", "hotel"], "sold out")]);
    let told = |record: &Record| -> Vec<_> {
        let history = record.history().into_iter().filter(|entry| entry.event != HistoryEvent::Completed);
        history.skip(1).map(|entry| (entry.event, entry.text.as_deref().unwrap_or_default().to_owned())).collect()
    };
    let step = |name: &str| (HistoryEvent::StepSaved, name.to_owned());
    let undoing = (HistoryEvent::Undoing, String::new());
    let all = [step("flight"), step("hotel"), undoing, step("undo hotel"), step("undo flight")];
    let half = change(&planned, vec![undone("hotel")]);
    assert_eq!((told(&half), half.steps_done()), (all[..4].to_vec(), 3));
    let whole = change(&half, vec![undone("flight"), complete()]);
    assert_eq!((told(&whole), whole.steps_done()), (all.to_vec(), 4));
}

#[test]
fn an_operator_may_say_that_it_is_undone() {
    let parked = after(vec![save("flight"), undo(&["flight"], "sold out"), Change::Park { why: "who knows".into() }]);
    let decide =
        |resolution: Resolution| Resolve { resolution, seen: None, why: None }.apply(Some(&parked), stamp(LATER, 3));
    let decided = put(decide(Resolution::Undone { step: "flight".into() }));
    assert!(decided.step("flight").unwrap().is_undone());
    assert_eq!((decided.hold(), decided.left_to_undo().count()), (&Hold::Runnable, 0));
    for step in ["hotel", "undo flight"] {
        let refused = decide(Resolution::Undone { step: step.into() });
        assert_eq!(refused.output, Err(NotResolved::NotInDoubt), "{step}");
        // Nor would it start a step.
        let refused = decide(Resolution::StepDone { step: step.into(), value: Bytes::new() });
        assert_eq!(refused.output, Err(NotResolved::NotInDoubt), "{step}");
    }
    // An operator who decides on the answer decides on all of it.
    let answered = put(decide(Resolution::Respond { response: response(), retention: DAY }));
    assert_eq!((answered.response(), answered.undoing()), (Some(&response()), None));
}
