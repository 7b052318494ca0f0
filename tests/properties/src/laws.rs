//! What holds over every history of commands.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tower_idempotency::core::{Change, Claim, Claimed, Fingerprint, Labels, Mode, Point, Record, Status, Step};

use crate::commands::{AnyCommand, Move, Transition, moves, run};

/// The results that a record has on file.
fn results(record: &Record) -> impl Iterator<Item = (&str, &Point)> {
    let steps = record.steps().iter().filter(|step| *step.point() != Point::Begun);
    steps.map(|step| (step.name(), step.point()))
}

/// Whether the same write that removes the record says that this step, which was only
/// begun, did nothing.
fn is_taken_back(command: &AnyCommand, step: &Step) -> bool {
    let AnyCommand::Fenced(_, changes) = command else { return false };
    let clears = |change: &Change| matches!(change, Change::Clear { step: name } if **name == *step.name());
    *step.point() == Point::Begun && changes.iter().any(clears)
}

fn unfinished_loses_no_result(transition: &Transition) -> Result<(), TestCaseError> {
    let Transition { before: Some(before), after, .. } = transition else { return Ok(()) };
    let Some(after) = after else {
        let stays = |step: &Arc<Step>| !is_taken_back(&transition.command, step);
        prop_assert!(!before.steps().iter().any(stays), "a record with steps was removed");
        return Ok(());
    };
    prop_assert!(after.status() >= before.status(), "it went back");
    if after.status() != Status::Complete {
        for (name, point) in results(before) {
            prop_assert_eq!(after.step(name).map(|step| step.point()), Some(point), "step {:?}", name);
        }
        prop_assert_eq!(after.request(), before.request());
    }
    prop_assert_eq!(after.fingerprint(), before.fingerprint());
    prop_assert_eq!(after.created_at(), before.created_at());
    Ok(())
}

fn complete_never_changes(transition: &Transition) -> Result<(), TestCaseError> {
    let Transition { before: Some(before), after, now, .. } = transition else { return Ok(()) };
    if before.status() == Status::Complete && !before.is_expired(*now) {
        prop_assert_eq!(after.as_ref(), Some(before));
    }
    Ok(())
}

fn a_write_has_a_new_version(transition: &Transition) -> Result<(), TestCaseError> {
    if let (Some(before), Some(after)) = (&transition.before, &transition.after) {
        prop_assert_eq!(before == after, before.version() == after.version());
    }
    Ok(())
}

fn a_claim_is_answered_in_order(transition: &Transition) -> Result<(), TestCaseError> {
    let AnyCommand::Claim(claim) = &transition.command else { return Ok(()) };
    let claimed = transition.claimed.as_ref().expect("an answer");
    let Some(before) = &transition.before else {
        prop_assert!(matches!(claimed, Claimed::Granted(_)), "absent, and {:?}", claimed);
        return Ok(());
    };
    prop_assert_eq!(*claimed == Claimed::Mismatch, !before.fingerprint().matches(&claim.fingerprint));
    if before.status() == Status::Complete && *claimed != Claimed::Mismatch {
        let answer = before.response().expect("an answer").clone();
        prop_assert!(matches!(claimed, Claimed::Replay(replayed, Some(_)) if *replayed == answer), "{claimed:?}");
    }
    let granted = matches!(claimed, Claimed::Granted(_));
    prop_assert_eq!(granted, transition.after.as_ref() != Some(before), "granted or unchanged");
    Ok(())
}

fn step_names_are_unique(transition: &Transition) -> Result<(), TestCaseError> {
    let Some(after) = &transition.after else { return Ok(()) };
    let mut names: Vec<_> = after.steps().iter().map(|step| step.name()).collect();
    names.sort_unstable();
    names.dedup();
    prop_assert_eq!(names.len(), after.steps().len());
    Ok(())
}

fn check(moves: &[Move]) -> Result<(), TestCaseError> {
    for transition in run(moves) {
        unfinished_loses_no_result(&transition)?;
        complete_never_changes(&transition)?;
        a_write_has_a_new_version(&transition)?;
        a_claim_is_answered_in_order(&transition)?;
        step_names_are_unique(&transition)?;
    }
    Ok(())
}

/// Random moves come to this once in some thousand histories.
#[test]
fn what_is_taken_back_by_the_write_that_withdraws_is_no_step() {
    let claim = Claim {
        fingerprint: Fingerprint::of([b"x".as_slice()]),
        mode: Mode::AtMostOnce,
        lease: Duration::from_secs(1),
        request: None,
        labels: Labels::new(),
    };
    let change = |changes| (AnyCommand::Fenced(0, changes), Duration::ZERO);
    let begin = Change::Begin { step: "b".into() };
    let clear = Change::Clear { step: "b".into() };
    let moves =
        [(AnyCommand::Claim(claim), Duration::ZERO), change(vec![begin]), change(vec![clear, Change::Withdraw])];
    check(&moves).unwrap();
    assert!(run(&moves)[2].after.is_none(), "it was withdrawn");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(1_000)))]

    #[test]
    fn every_move_keeps_the_invariants(moves in moves()) {
        check(&moves)?;
    }
}
