//! References, why attempts ended, and what the log says of a store that is lost.

use super::{FENCED, Mutant};

const MINE: &str = "src/engine/attempt/reason.rs";

planted_under!(unit, "--lib");
planted_under!(http, "--test http");
planted_under!(engine, "--test engine", "encryption");
planted_under!(telemetry, "--test telemetry");
planted_under!(servers, "-p servers --test postgres_setup", "quiet");

pub(super) const MUTANTS: &[Mutant] = &[
    http(
        "a-refused-claim-names-another-attempt",
        "src/engine/claim.rs",
        "let attempt = done.record.as_ref().map_or(0, Record::attempts);",
        "let attempt = done.record.as_ref().map_or(0, |_| 1);",
        "references::a_problem_names_the_attempt",
    ),
    http(
        "who-waited-gets-the-attempt-that-it-met",
        "src/http/guarded/wait.rs",
        "let attempt = loaded.record.as_ref().map_or(0, Record::attempts);",
        "let attempt = loaded.record.as_ref().map_or(0, |record| record.attempts() - 1);",
        "references::one_that_waits_hears_of_the_attempt",
    ),
    http(
        "only-failures-have-a-reference",
        "src/http/problem.rs",
        "matches!(refusal, Refusal::OutcomeUnknown | Refusal::InProgress) || status.is_server_error();",
        "matches!(refusal, Refusal::OutcomeUnknown) || status.is_server_error();",
        "references::a_duplicate_gets_the_reference",
    ),
    http(
        "a-reason-is-not-stored",
        FENCED,
        "record.history.set_reason(Some(Arc::clone(why)))",
        "drop(Arc::clone(why))",
        "reasons::each_attempt_leaves_why_it_ended",
    ),
    http(
        "a-reason-stays-for-the-next-attempt",
        "src/core/record/history.rs",
        "        self.history.set_reason(None);\n",
        "",
        "reasons::an_attempt_of_which_nothing_is_said",
    ),
    http(
        "a-reason-has-no-bound",
        "src/core/record/reason.rs",
        "text.trim().chars(), MOST) {",
        "text.trim().chars(), 8 * MOST) {",
        "reasons::a_reason_is_one_line",
    ),
    unit(
        "a-reason-has-several-lines",
        "src/core/line.rs",
        "if steers(c) { ' ' } else { c }",
        "c",
        "core::record::reason",
    ),
    http(
        "a-reason-is-stored-as-the-hook-never-saw-it",
        MINE,
        "catch_unwind(AssertUnwindSafe(|| hook(&mut line))).ok()?;",
        "let _ = catch_unwind(AssertUnwindSafe(|| hook(&mut line.clone())));",
        "reasons::the_engines_hook",
    ),
    http(
        "a-step-that-was-done-is-blamed",
        MINE,
        ".filter(|(step, _)| !is_done(step));",
        ".filter(|(step, _)| !is_done(step) || true);",
        "reasons::a_step_that_was_done_after_all",
    ),
    engine(
        "a-reason-stays-in-clear",
        "src/core/record/hollow.rs",
        "            reason: None,\n",
        "            reason: self.history.reason().cloned(),\n",
        "a_store_is_given_nothing",
    ),
    telemetry(
        "a-line-for-each-call-that-failed",
        "src/engine/mod.rs",
        "error.is_outage() && self.outage().failed(calls);",
        "error.is_outage() && self.outage().failed(calls) && false;",
        "a_store_that_is_lost_is_one_line",
    ),
    unit(
        "a-store-is-back-because-it-scans",
        "src/engine/outage.rs",
        "self.clear(calls) == calls as u8",
        "self.clear(calls) != 0",
        "engine::outage",
    ),
    servers(
        "a-boot-logs-that-the-tables-are-there",
        "src/store/postgres/sql.rs",
        "('client_min_messages', 'warning', true)",
        "('client_min_messages', 'notice', true)",
        "a_boot_with_the_tables_there",
    ),
];
