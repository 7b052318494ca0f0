//! What a failure may not hide.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::transitions::{DAY, LATER, START, claim, put, stamp};
use crate::core::{
    Change, Command, Fence, Fenced, Hold, Mode, Reached, Record, Status, StoredResponse, Timestamp, Version,
};

/// Claimed by a second attempt, after these changes of the first one.
fn resumed(changes: Vec<Change>) -> Record {
    let at = Timestamp::from_millis(START);
    let first = put(claim(Mode::Resumable).apply(None, stamp(START, 1))).stamped(at);
    let fence = Fence::of(Version::new(1));
    let left = put(Fenced { fence, changes }.apply(Some(&first), stamp(START, 2))).stamped(at);
    put(claim(Mode::Resumable).apply(Some(&left), stamp(LATER, 3))).stamped(Timestamp::from_millis(LATER))
}

fn begin(step: &str) -> Change {
    Change::Begin { step: step.into() }
}

fn save(step: &str) -> Change {
    Change::Save { step: step.into(), value: Bytes::from_static(b"1") }
}

fn answered(record: &Record, status: u16, before: &[Change], reached: &[&str]) -> Record {
    let response = StoredResponse::capture(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), None);
    let reached = Reached::Only(reached.iter().map(|step| (*step).into()).collect());
    let complete = Change::Complete { response: Arc::new(response), retention: DAY, reached };
    let changes = before.iter().cloned().chain([complete]).collect();
    put(Fenced { fence: Fence::of(Version::new(3)), changes }.apply(Some(record), stamp(LATER, 4)))
}

fn parks(record: &Record, status: u16, reached: &[&str]) -> bool {
    let ended = answered(record, status, &[], reached);
    let parked = matches!(ended.hold(), Hold::Parked { .. });
    assert_eq!(ended.status() == Status::Complete, !parked, "one or the other");
    assert!(!parked || ended.steps() == record.steps(), "what is parked keeps its steps");
    parked
}

#[test]
fn only_a_failure_that_leaves_out_what_was_begun_or_paid_is_parked() {
    let fail = Change::Fail { step: "card".into(), error: Bytes::from_static(b"declined") };
    let record = resumed(vec![save("order"), begin("charge"), save("charge"), begin("card"), fail, begin("mail")]);
    for (reached, hides) in
        [(&[][..], true), (&["charge"], true), (&["mail", "order"], true), (&["mail", "charge"], false)]
    {
        for status in [400, 404, 409, 422, 499, 500, 503, 599] {
            assert_eq!(parks(&record, status, reached), hides, "{status} after {reached:?}");
        }
        for status in [200, 201, 204, 303, 307] {
            assert!(!parks(&record, status, reached), "{status} after {reached:?}");
        }
    }
}

#[test]
fn what_the_attempt_itself_wrote_was_reached() {
    let record = resumed(vec![save("order")]);
    let ended = answered(&record, 409, &[begin("charge"), save("charge"), begin("mail")], &[]);
    assert_eq!(ended.status(), Status::Complete);
}

/// What was done without being begun first is no payment.
#[test]
fn only_a_step_that_was_begun_first_may_have_paid() {
    let paid = resumed(vec![save("order"), begin("charge"), save("charge")]);
    assert!(!parks(&paid, 400, &["charge"]), "the order was not paid");
    assert!(parks(&paid, 400, &["order"]));
    assert!(!parks(&resumed(vec![save("order")]), 400, &[]));
}
