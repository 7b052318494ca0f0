//! What is accepted for later, and what is acknowledged.

use std::time::Duration;

use super::transitions::{DAY, LATER, NAMES, SOON, START, claim, put, response, stamp, state};
use crate::core::{
    Acknowledge, Change, Claim, Claimed, Command, Decision, Fence, Fenced, Fingerprint, HistoryEvent, Hold, Labels,
    Mode, Next, NotAcknowledged, NotResolved, OUTGOING, Reached, Record, Resolution, Resolve, Resume, Resumed, Stamp,
    Submit, Submitted, Timestamp, Version,
};

pub(super) fn submit(mode: Mode, room: bool) -> Submit {
    let Claim { fingerprint, mode, request, .. } = claim(mode);
    Submit { fingerprint, mode, request: request.unwrap(), labels: Labels::new(), room, lease: None, outgoing: false }
}

fn accepted(mode: Mode) -> Record {
    let Decision { next, output } = submit(mode, true).apply(None, stamp(START, 1));
    assert_eq!(output, Submitted::First(None));
    let Next::Put(record) = next else { panic!("{next:?}") };
    record.stamped(Timestamp::from_millis(START))
}

fn resume() -> Resume {
    Resume { lease: Duration::from_secs(60), max_tries: 3, max_age: DAY, outgoing: false }
}

#[test]
fn on_every_state() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        for (name, now) in NAMES.iter().flat_map(|name| [(*name, SOON), (*name, LATER)]) {
            let record = state(mode, name);
            let Decision { next, output } = submit(mode, true).apply(Some(&record), stamp(now, 900));
            assert_eq!(next, Next::Keep, "{name}: what is there is not touched");
            // A full queue is full for new ones only.
            assert_eq!(submit(mode, false).apply(Some(&record), stamp(now, 900)).output, output);
            let held = matches!(record.hold(), Hold::Leased { .. }) && now == SOON;
            let expected = match record.hold() {
                _ if record.response().is_some() => {
                    Submitted::Replay(response(), record.kept_for(Timestamp::from_millis(now)))
                }
                Hold::Parked { why } => Submitted::Unknown { parked: Some(why.clone()) },
                _ if held => Submitted::Again,
                Hold::Runnable => Submitted::Again,
                _ if mode == Mode::AtMostOnce => Submitted::Unknown { parked: None },
                _ => Submitted::Again,
            };
            assert_eq!(output, expected, "{mode:?} {name} {now}");
            let other = Submit { fingerprint: Fingerprint::of([b"b".as_slice()]), ..submit(mode, true) };
            assert_eq!(other.apply(Some(&record), stamp(now, 900)).output, Submitted::Mismatch);
        }
    }
    let full = submit(Mode::Resumable, false).apply(None, stamp(START, 1));
    assert_eq!((full.next, full.output), (Next::Keep, Submitted::Full));
}

/// In any mode: it has not run.
#[test]
fn whoever_comes_first_runs_it() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let record = accepted(mode);
        assert!(record.is_first() && record.due() == Timestamp::from_millis(START), "due at once");
        assert_eq!(record.history().iter().map(|entry| entry.event).collect::<Vec<_>>(), [HistoryEvent::Accepted]);
        let by_completer = resume().apply(Some(&record), stamp(START, 2));
        assert!(matches!(by_completer.output, Resumed::Granted(_)));
        let by_client = claim(mode).apply(Some(&record), stamp(START, 2));
        assert_eq!(by_client.next, by_completer.next);
        let running = put(by_client);
        assert_eq!((running.attempts(), running.tries()), (1, 1));
        // Or a store would take it for another operation.
        assert!(!running.is_first());
        let lapsed = resume().apply(Some(&running.stamped(Timestamp::from_millis(START))), stamp(LATER, 3)).output;
        assert_eq!(matches!(lapsed, Resumed::InDoubt), mode == Mode::AtMostOnce);
    }
}

#[test]
fn a_decision_about_it_does_not_begin_it_anew() {
    let record = accepted(Mode::Resumable);
    let decided =
        put(Resolve { resolution: Resolution::RunAgain, seen: None, why: None }.apply(Some(&record), stamp(LATER, 2)));
    assert!(!decided.is_first());
    let park = Resolve { resolution: Resolution::Park { why: "no".into() }, seen: None, why: None };
    assert!(!put(park.apply(Some(&record), stamp(LATER, 2))).is_first());
}

#[test]
fn only_its_caller_can_go_on_with_what_is_not_stored() {
    let bare = Claim { request: None, ..claim(Mode::Resumable) };
    let free = put(bare.apply(None, stamp(START, 1))).stamped(Timestamp::from_millis(START));
    assert_eq!(submit(Mode::Resumable, true).apply(Some(&free), stamp(SOON, 2)).output, Submitted::Again);
    assert_eq!(submit(Mode::Resumable, true).apply(Some(&free), stamp(LATER, 2)).output, Submitted::CallerOnly);
}

#[test]
fn acknowledged_answers_stay_for_the_grace_and_no_longer_than_before() {
    let grace = Duration::from_secs(600);
    let acknowledge = |record: Option<&Record>, now| Acknowledge { grace }.apply(record, stamp(now, 900));
    assert_eq!(acknowledge(None, SOON).output, Err(NotAcknowledged::Absent));
    for name in NAMES.iter().filter(|name| **name != "complete") {
        let decision = acknowledge(Some(&state(Mode::Resumable, name)), LATER);
        assert_eq!((decision.next, decision.output), (Next::Keep, Err(NotAcknowledged::Unfinished)), "{name}");
    }
    let complete = state(Mode::Resumable, "complete");
    let decision = acknowledge(Some(&complete), LATER);
    assert_eq!(decision.output, Ok(()));
    let shorter = put(decision).stamped(Timestamp::from_millis(LATER));
    assert_eq!(shorter.response(), complete.response());
    assert_eq!(shorter.due(), Timestamp::from_millis(LATER).after(grace));
    let soon = shorter.due().as_millis() - 1;
    assert_eq!(acknowledge(Some(&shorter), soon).next, Next::Keep, "and not longer by doing it again");
    let last = complete.due().as_millis() - 1;
    assert_eq!(acknowledge(Some(&complete), last).next, Next::Keep);
}

/// Its client was told that it will be run.
#[test]
fn what_was_accepted_is_not_withdrawn() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let claimed = put(resume().apply(Some(&accepted(mode)), stamp(START, 2)));
        let withdraw = Fenced { fence: Fence::of(Version::new(2)), changes: vec![Change::Withdraw] };
        let left = put(withdraw.apply(Some(&claimed), stamp(SOON, 3)));
        assert!(left.request().is_some(), "{mode:?}");
        let again = resume().apply(Some(&left.stamped(Timestamp::from_millis(SOON))), stamp(LATER, 4));
        assert!(matches!(again.output, Resumed::Granted(_)), "{mode:?}: nothing has happened: {again:?}");
    }
}

/// Another one decided, and it ran: what was found out before says nothing of that.
#[test]
fn a_decision_on_what_was_is_not_one_on_what_is() {
    let seen = state(Mode::AtMostOnce, "free");
    let resolve = Resolve { resolution: Resolution::RunAgain, seen: None, why: None };
    let late = Resolve { seen: Some(seen.version()), ..resolve.clone() };
    assert_eq!(late.apply(Some(&seen), stamp(LATER, 7)), resolve.apply(Some(&seen), stamp(LATER, 7)));
    let decided = put(resolve.apply(Some(&seen), stamp(LATER, 7)));
    let Decision { next, output } = late.apply(Some(&decided), stamp(LATER, 8));
    assert_eq!((next, output), (Next::Keep, Err(NotResolved::Overtaken)));
}

/// An operator decided that it continues, and knew how old it is.
#[test]
fn a_decision_is_not_overtaken_by_the_age() {
    let old = put(Resolve { resolution: Resolution::RunAgain, seen: None, why: None }
        .apply(Some(&state(Mode::Resumable, "free")), stamp(LATER, 7)));
    let ancient = Resume { max_age: Duration::from_millis(1), ..resume() };
    let resumed = ancient.apply(Some(&old), stamp(LATER + 1000, 8));
    assert!(matches!(resumed.output, Resumed::Granted(_)), "{resumed:?}");
}

/// A process that still runs an operation, or still has to store its end, knows better
/// than a lease that is over.
#[test]
fn what_a_process_has_in_hand_is_held_whatever_its_lease_says() {
    let in_hand = Stamp { in_hand: true, ..stamp(LATER, 900) };
    for (mode, name) in [Mode::AtMostOnce, Mode::Resumable].into_iter().flat_map(|mode| NAMES.map(|name| (mode, name)))
    {
        let record = state(mode, name);
        let claimed = claim(mode).apply(Some(&record), in_hand);
        let resumed = resume().apply(Some(&record), in_hand);
        let submitted = submit(mode, true).apply(Some(&record), in_hand);
        if matches!(record.hold(), Hold::Leased { .. }) {
            assert_eq!(
                (claimed.next, claimed.output),
                (Next::Keep, Claimed::Busy(claim(mode).lease)),
                "{mode:?} {name}"
            );
            assert_eq!((resumed.next, resumed.output), (Next::Keep, Resumed::NotDue), "{mode:?} {name}");
            assert_eq!((submitted.next, submitted.output), (Next::Keep, Submitted::Again), "{mode:?} {name}");
        } else {
            assert_eq!(claimed, claim(mode).apply(Some(&record), stamp(LATER, 900)), "{mode:?} {name}");
            assert_eq!(resumed, resume().apply(Some(&record), stamp(LATER, 900)), "{mode:?} {name}");
            assert_eq!(submitted, submit(mode, true).apply(Some(&record), stamp(LATER, 900)), "{mode:?} {name}");
        }
    }
}

/// By a process that is about to run it: one write instead of two, to the same record.
#[test]
fn what_is_accepted_under_a_lease_is_as_if_it_was_resumed_at_once() {
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lease = Some(resume().lease);
        let Decision { next, output } = Submit { lease, ..submit(mode, true) }.apply(None, stamp(START, 2));
        assert_eq!(output, Submitted::First(Some(Fence::of(Version::new(2)))));
        let Next::Put(record) = next else { panic!("{next:?}") };
        let resumed = put(resume().apply(Some(&accepted(mode)), stamp(START, 2)));
        assert_eq!((record.hold(), record.attempts()), (resumed.hold(), resumed.attempts()), "{mode:?}");
        let record = record.stamped(Timestamp::from_millis(START));
        let again = Submit { lease, ..submit(mode, true) }.apply(Some(&record), stamp(START, 3));
        assert_eq!((again.next, again.output), (Next::Keep, Submitted::Again), "{mode:?}");
    }
}

/// A call of an outbox is due where no completer looks, and no completer takes it if one meets it
/// all the same; nor does an outbox take a request of a layer's.
#[test]
fn what_is_outgoing_is_for_an_outbox_and_all_else_is_not() {
    let outbox = || Resume { outgoing: true, ..resume() };
    let call = Submit { outgoing: true, ..submit(Mode::Resumable, true) };
    let waits = put(call.apply(None, stamp(START, 1))).stamped(Timestamp::from_millis(START));
    assert!(waits.is_outgoing() && waits.is_first());
    let Decision { output: Resumed::Granted(fence), next: Next::Put(sending) } =
        outbox().apply(Some(&waits), stamp(START, 2))
    else {
        panic!("due at once")
    };
    let sending = sending.stamped(Timestamp::from_millis(START));
    let changes = vec![Change::Postpone { retry_in: Duration::from_secs(60) }, Change::Release];
    let rests = put(Fenced { fence, changes }.apply(Some(&sending), stamp(START, 3)));
    let rests = rests.stamped(Timestamp::from_millis(START));
    for record in [&waits, &sending, &rests] {
        assert!(record.is_outgoing());
        let due = record.falls_due();
        assert_eq!(record.due(), due.after(OUTGOING));
        let now = stamp(due.as_millis(), 9);
        assert!(matches!(outbox().apply(Some(record), now).output, Resumed::Granted(_)));
        let by_completer = resume().apply(Some(record), now);
        assert_eq!((by_completer.next, by_completer.output), (Next::Keep, Resumed::NotDue));
    }
    for record in [&sending, &rests] {
        let early = outbox().apply(Some(record), stamp(LATER - 1, 9));
        assert_eq!((early.next, early.output), (Next::Keep, Resumed::NotDue), "held, or at rest");
    }
    let of_a_layer = outbox().apply(Some(&accepted(Mode::Resumable)), stamp(LATER, 9));
    assert_eq!((of_a_layer.next, of_a_layer.output), (Next::Keep, Resumed::NotDue));
    // What waits for an operator lies where all else of that kind does, and what is complete expires.
    let park = Fenced { fence, changes: vec![Change::Park { why: "who knows".into() }] };
    let parked = put(park.apply(Some(&sending), stamp(START, 3)));
    assert_eq!(parked.due(), parked.falls_due());
    let end = Change::Complete { response: response(), retention: DAY, reached: Reached::All };
    let sent = put(Fenced { fence, changes: vec![end] }.apply(Some(&sending), stamp(START, 3)));
    let sent = sent.stamped(Timestamp::from_millis(START));
    assert!(sent.is_outgoing() && sent.is_expired(Timestamp::from_millis(START).after(DAY)));
}
