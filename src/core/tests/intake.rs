//! What a process may begin: on every state, and on none.

use super::submit::submit;
use super::transitions::{LATER, NAMES, SOON, START, claim, stamp, state};
use crate::core::{Ask, Claimed, Command, Decision, Exchange, Intake, Mode, Next, Reply, Stamp, Submitted, Version};

fn taking(intake: Intake, now: u64) -> Stamp<'static> {
    Stamp { intake, ..stamp(now, 500) }
}

fn every_case() -> impl Iterator<Item = (Mode, &'static str, u64)> {
    let modes = [Mode::AtMostOnce, Mode::Resumable].into_iter();
    modes.flat_map(|mode| NAMES.into_iter().flat_map(move |name| [SOON, LATER].map(|now| (mode, name, now))))
}

#[test]
fn a_claim_is_closed_where_it_would_be_granted_and_answered_as_ever_elsewhere() {
    let mut closed = 0;
    for (mode, name, now) in every_case() {
        let record = state(mode, name);
        let open = claim(mode).apply(Some(&record), taking(Intake::Open, now));
        let got = claim(mode).apply(Some(&record), taking(Intake::Closed, now));
        if matches!(open.output, Claimed::Granted(_)) {
            assert_eq!(got, Decision { next: Next::Keep, output: Claimed::Closed }, "{mode:?} {name} {now}");
            closed += 1;
        } else {
            assert_eq!(got, open, "{mode:?} {name} {now}");
        }
        let on_record = claim(mode).apply(Some(&record), taking(Intake::OnRecord, now));
        assert_eq!(on_record, open, "what is on record goes on: {mode:?} {name} {now}");
    }
    assert!(closed > 0);
}

#[test]
fn nothing_new_is_begun() {
    for (mode, intake) in [Mode::AtMostOnce, Mode::Resumable]
        .into_iter()
        .flat_map(|mode| [Intake::OnRecord, Intake::Closed].map(|intake| (mode, intake)))
    {
        let claimed = claim(mode).apply(None, taking(intake, START));
        assert_eq!(claimed, Decision { next: Next::Keep, output: Claimed::Closed }, "{mode:?} {intake:?}");
        // Whether or not there is room for it.
        for room in [true, false] {
            let submitted = submit(mode, room).apply(None, taking(intake, START));
            assert_eq!(submitted, Decision { next: Next::Keep, output: Submitted::Closed }, "{mode:?} {intake:?}");
        }
    }
}

#[test]
fn what_was_accepted_before_is_answered_as_ever() {
    for (mode, name, now) in every_case() {
        let record = state(mode, name);
        let open = submit(mode, true).apply(Some(&record), taking(Intake::Open, now));
        for intake in [Intake::OnRecord, Intake::Closed] {
            let got = submit(mode, true).apply(Some(&record), taking(intake, now));
            assert_eq!(got, open, "{mode:?} {name} {now} {intake:?}");
        }
    }
}

/// It guesses that nothing is there: "closed" is answered from what the store says.
#[test]
fn a_closed_claim_looks_before_it_answers() {
    let claim = claim(Mode::AtMostOnce);
    let mut exchange = Exchange::guessing(claim, Version::new(500), None).taking(Intake::Closed);
    assert!(matches!(exchange.ask(), Ask::Load));
    let complete = state(Mode::AtMostOnce, "complete");
    exchange.answer(Reply::Found(Some(complete), crate::core::Timestamp::from_millis(SOON)));
    assert!(matches!(exchange.ask(), Ask::Finish));
    assert!(matches!(exchange.finish().unwrap().output, Claimed::Replay(..)));
}
