//! Background operations and the status resource.

use super::Mutant;

const CREW: &str = "src/workers/completer/slots.rs";
const RECORD: &str = "src/core/record/mod.rs";
const STATUS: &str = "src/http/status.rs";
const SUBMIT: &str = "src/core/command/submit.rs";

planted_under!(unit, "--lib");
planted_under!(background, "--test http", "background");
planted_under!(shares, "--test workers", "completer::shares");

pub(super) const MUTANTS: &[Mutant] = &[
    background(
        "completer-takes-from-its-own-process",
        "src/workers/completer/slots.rs",
        "let running = self.keys.enter(key);",
        "let running = self.keys.enter(Key::from_bytes([0; 32]));",
        "handed_over::a_completer_takes_nothing_from_its_own_process",
    ),
    background(
        "status-shows-internal-steps",
        "src/core/record/history.rs",
        "HistoryEvent::Undoing, None))",
        "HistoryEvent::StepSaved, Some(\"(undo)\".into())))",
        "status::a_status_shows_the_handlers_steps",
    ),
    unit("quoted-preference-counts", "src/http/prefer.rs", "c == ',' && !quoted", "c == ','", "preferences_are_read"),
    background(
        "full-queue-refuses-what-it-accepted",
        SUBMIT,
        "let Some(current) = current else {\n            return match stamp.intake {",
        "let Some(current) = current.filter(|_| self.room) else {\n            return match stamp.intake {",
        "accepted::a_full_queue_pushes_back",
    ),
    background(
        "full-queue-accepts",
        "src/http/queue.rs",
        "        known.has_room(scope, self.most)\n    }",
        "        known.has_room(scope, usize::MAX)\n    }",
        "accepted::a_full_queue_pushes_back",
    ),
    background(
        "nobody-is-woken",
        "src/http/accept.rs",
        "engine.accepted().put(self.key);",
        "",
        "handed_over::without_room_it_waits",
    ),
    background(
        "accepted-is-created-anew-by-its-claim",
        RECORD,
        "self.attempts == 1 && fence.version() == self.version && self.has_no_past()",
        "self.attempts == 1 && fence.version() == self.version",
        "status::the_status_of_every_state",
    ),
    background(
        "route-deadline-ignored",
        "src/http/guarded/run.rs",
        "let Some(deadline) = limits.0 else { return run.await };",
        "let Some(deadline) = limits.0.filter(|_| false) else { return run.await };",
        "accepted::what_hangs_is_cut_off",
    ),
    background(
        "route-tries-ignored",
        "src/http/guarded/run.rs",
        "limits.1.is_some_and(|most| tries > most)",
        "limits.1.is_some_and(|most| tries > most + 1)",
        "accepted::what_hangs_is_cut_off",
    ),
    background(
        "at-most-once-runs-again",
        SUBMIT,
        "Record::first(fingerprint, self.mode, request,",
        "Record::first(fingerprint, Mode::Resumable, request,",
        "accepted::a_process_that_dies",
    ),
    background(
        "status-of-anybody",
        STATUS,
        "return Ok(Key::new(&scope, &key));",
        "return Ok(Key::new(\"ann\", &key));",
        "status::nobody_sees_another_tenants",
    ),
    background(
        "tag-forgets-the-time",
        STATUS,
        "\"\\\"{:x}-{state}\\\"\", record.version().get()",
        "\"\\\"{:x}\\\"\", record.version().get()",
        "status::what_has_not_changed",
    ),
    background(
        "expired-is-shown",
        STATUS,
        "found.record.filter(|record| !record.is_expired(found.now))",
        "found.record",
        "status::the_status_of_every_state",
    ),
    background(
        "acknowledged-goes-at-once",
        super::ACKNOWLEDGE,
        "retention: self.grace }",
        "retention: Duration::ZERO }",
        "status::an_answer_that_was_received",
    ),
    background(
        "acknowledged-again-stays-longer",
        super::ACKNOWLEDGE,
        "if left <= self.grace {",
        "if current.due() <= stamp.now {",
        "status::an_answer_that_was_received",
    ),
    background(
        "accepting-never-claims",
        "src/http/accept.rs",
        "counted.as_ref().and_then(|_| self.shared.handoff.slot(later.scope));",
        "counted.as_ref().and_then(|_| self.shared.handoff.slot(later.scope)).filter(|_| false);",
        "handed_over::with_room_in_the_process",
    ),
    background(
        "handed-over-beyond-the-bound",
        CREW,
        "                completer.run_claimed(key, fence, record).await;\n",
        "                drop(room);\n                let room = ();\n                \
         completer.run_claimed(key, fence, record).await;\n",
        "handed_over::without_room_it_waits",
    ),
    background(
        "stops-before-what-it-was-handed",
        "src/workers/completer/run.rs",
        "        round.all_free().await;\n",
        "",
        "handed_over::a_completer_that_stops",
    ),
    background(
        "handed-over-is-withdrawn",
        "src/core/record/mod.rs",
        " && !self.accepted",
        "",
        "handed_over::what_was_handed_over_and_did_not_start",
    ),
    background(
        "lost-claim-is-kept",
        "src/http/accept.rs",
        "            withdraw_claim(engine, self.key, Fence::of(exchange.nonce()), lease);\n",
        "            let _ = (withdraw_claim, Fence::of(exchange.nonce()));\n",
        "handed_over::a_lost_claim_of_what_is_handed_over",
    ),
    background(
        "claim-for-nobody-is-kept",
        CREW,
        "        withdraw_claim(&completer.shared.engine, key, fence, completer.shared.engine.limits().lease);\n",
        "        let _ = (withdraw_claim, key, fence);\n",
        "handed_over::a_claim_for_a_completer_that_is_gone",
    ),
    shares(
        "what-others-finished-fills-the-queue",
        "src/http/queue.rs",
        "accepted.due.is_none_or(|due| due >= end.due)",
        "accepted.due.is_none_or(|due| due.as_millis() > 0 || due >= end.due)",
        "what_others_finished_leaves_room",
    ),
    shares(
        "what-a-cut-list-does-not-show-is-forgotten",
        "src/http/queue.rs",
        "self.waiting.contains(key) || self.end.is_some_and(is_behind)",
        "self.waiting.contains(key) || self.end.is_some_and(|end| is_behind(end) && end.due.as_millis() == 0)",
        "what_others_finished_leaves_room",
    ),
];
