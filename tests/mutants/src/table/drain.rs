//! A process that comes to its end.

use super::Mutant;

const CLAIM: &str = "src/core/command/claim.rs";
const DRAIN: &str = "src/engine/drain.rs";
const END: &str = "src/engine/attempt/outcome.rs";

planted_under!(unit, "--lib", "core::tests::intake");
planted_under!(drain, "--test http", "drain");
planted_under!(workers, "--test workers", "drain");

pub(super) const MUTANTS: &[Mutant] = &[
    unit(
        "closed-claim-begins",
        CLAIM,
        "if stamp.intake != Intake::Open {",
        "if stamp.intake == Intake::OnRecord {",
        "nothing_new_is_begun",
    ),
    unit(
        "claim-on-record-begins",
        CLAIM,
        "if stamp.intake != Intake::Open {",
        "if stamp.intake == Intake::Closed {",
        "nothing_new_is_begun",
    ),
    unit(
        "closed-claim-resumes",
        CLAIM,
        "            Outlook::Decided | Outlook::Resumable if stamp.intake == Intake::Closed => Decision::keep(Claimed::Closed),\n",
        "",
        "a_claim_is_closed_where_it_would_be_granted",
    ),
    unit(
        "closed-queue-accepts",
        "src/core/command/submit.rs",
        "Intake::OnRecord | Intake::Closed => Decision::keep(Submitted::Closed),",
        "Intake::OnRecord | Intake::Closed => self.first(stamp),",
        "nothing_new_is_begun",
    ),
    drain(
        "drain-begins-new-work",
        DRAIN,
        "let is_first = self.work.close();",
        "let is_first = self.until.borrow().is_none();",
        "new_work_is_refused_and_what_was_begun_goes_on",
    ),
    drain(
        "drain-forgets-work-left-alone",
        "src/http/guarded/run.rs",
        "self.run(attempt, fingerprint, body, (permit, counted))",
        "self.run(attempt, fingerprint, body, (permit, drop(counted)))",
        "it_waits_for_a_handler_whose_client_hung_up",
    ),
    drain(
        "drain-forgets-late-saves",
        END,
        "self.engine.draining().spawn(Arc",
        "tokio::spawn(Arc",
        "it_waits_until_a_response_is_saved_late",
    ),
    drain(
        "drain-forgets-withdrawals",
        "src/engine/claim.rs",
        "engine.draining().spawn(async move {",
        "tokio::spawn(async move {",
        "it_waits_until_a_claim_that_failed_is_withdrawn",
    ),
    drain(
        "drain-waits-for-claims-never-made",
        "src/engine/claim.rs",
        "        if counted.is_some() {\n            withdraw_claim",
        "        if counted.is_some() || engine.is_draining() {\n            withdraw_claim",
        "what_is_refused_while_the_store_is_away_keeps_no_drain_waiting",
    ),
    drain(
        "drain-names-what-has-ended",
        "src/engine/attempt/lease.rs",
        "let Hands { in_hand, listed } = std::mem::take(&mut *lock(&self.lease.hands));\n        drop((in_hand, listed));",
        "let Hands { in_hand, listed } = std::mem::take(&mut *lock(&self.lease.hands));\n        drop(in_hand);\n        std::mem::forget(listed);",
        "at_the_deadline_it_tells_what_was_left",
    ),
    drain(
        "drain-names-no-late-save",
        END,
        "self.hold_on();\n        self.list();",
        "self.hold_on();",
        "an_end_that_is_not_stored_is_left_too",
    ),
    drain(
        "drain-goes-by-the-last-deadline",
        DRAIN,
        "until.is_none_or(|until| deadline < until)",
        "true",
        "the_earliest_deadline_counts",
    ),
    drain(
        "drain-has-another-end-each-time",
        DRAIN,
        "(self.ended.get().cloned().unwrap_or_default(), is_first)",
        "(self.left(), is_first)",
        "the_earliest_deadline_counts_and_all_calls_have_the_same_end",
    ),
    drain(
        "drain-lets-duplicates-wait-for-others",
        "src/http/guarded/wait.rs",
        "() = self.shared.engine.draining().begun() => {",
        "() = std::future::pending() => {",
        "a_duplicate_goes_on_waiting_for_what_runs_here",
    ),
    drain(
        "drain-refuses-what-a-handler-asks",
        "src/http/guarded/run.rs",
        "engine.draining().begin().or_else(belongs)",
        "engine.draining().begin().or_else(|| belongs().filter(|_| false))",
        "a_running_handler_may_use_another_guarded_service",
    ),
    workers(
        "drain-does-not-end-completers",
        "src/workers/completer/run.rs",
        "pin!(engine.draining().begun_or(shutdown))",
        "pin!(shutdown)",
        "a_completer_finishes_what_it_has",
    ),
    workers(
        "drain-lets-completers-begin",
        "src/workers/completer/round.rs",
        "let Some(counted) = self.shared.engine.draining().begin() else { return false };",
        "let counted = self.shared.engine.go_on();",
        "a_completer_finishes_what_it_has",
    ),
    workers(
        "drain-forgets-completers",
        "src/workers/completer/round.rs",
        "drop((running, counted));",
        "drop(running);",
        "it_waits_for_a_callback_that_is_being_made",
    ),
    workers(
        "drain-forgets-runners",
        "src/runner.rs",
        "let (attempt, _counted) = match admission",
        "let (attempt, _) = match admission",
        "it_waits_for_the_work_of_a_runner",
    ),
];
