//! Schedules.

use super::Mutant;

planted_under!(timing, "--lib", "schedule::tests");
planted_under!(runs, "--test workers", "schedule");

pub(super) const MUTANTS: &[Mutant] = &[
    timing(
        "the-29th-of-february-is-looked-for-four-years-ahead",
        "src/schedule/timing.rs",
        "[0, 4, 7].into_iter()",
        "[0].into_iter()",
        "months_have",
    ),
    timing(
        "a-time-that-the-day-has-twice-is-taken-twice",
        "src/schedule/timing.rs",
        "hours.starts_with('*') { Kind::Flow }",
        "!hours.is_empty() { Kind::Flow }",
        "a_time_that_the_day_has_twice",
    ),
    timing(
        "a-change-of-the-offset-is-passed-over",
        "src/schedule/timing.rs",
        "change.filter(|change| found.is_none_or(|found| found >= *change))",
        "change.filter(|_| found.is_none())",
        "what_goes_through",
    ),
    timing(
        "new-rules-of-a-zone-bring-a-day-twice",
        "src/schedule/timing.rs",
        "self.next_from(period.name.parse().ok(), period.begin)",
        "self.next_from(None, period.begin)",
        "new_rules",
    ),
    timing(
        "the-oldest-are-caught-up-with-and-the-newest-passed-over",
        "src/schedule/cursor.rs",
        "(passed_over, last) = (passed_over + 1, waiting.pop_front());",
        "(passed_over, last) = (passed_over + 1, waiting.pop_back());",
        "a_week_that",
    ),
    runs(
        "a-runs-record-expires-like-any-other",
        "src/schedule/scheduler.rs",
        "engine.into().retention(NEVER)",
        "{ let _ = NEVER; engine.into() }",
        "a_period_whose_process_died",
    ),
    runs(
        "a-scheduler-that-ends-leaves-an-outage-behind",
        "src/schedule/scheduler.rs",
        "Scanning::new(engine.outage()));",
        "std::mem::ManuallyDrop::new(Scanning::new(engine.outage())));",
        "a_scheduler_that_ends_in_an_outage",
    ),
    runs(
        "another-timing-is-shown-only-after-its-first-period",
        "src/schedule/job.rs",
        "if cursor.go_by(&self.timing, self.missed) || is_new {",
        "if is_new {",
        "an_operator_finds",
    ),
    runs(
        "who-asked-for-a-run-is-kept-for-ever",
        "src/schedule/cursor.rs",
        "self.orders.retain(|id, _| known.contains(id));",
        "self.orders.retain(|id, _| known.contains(id) || !id.is_empty());",
        "an_operator_finds",
    ),
    runs(
        "a-late-process-does-not-look-at-the-cursor",
        "src/schedule/job.rs",
        "if has_ended || !open.any(|open| open == seen) {",
        "if has_ended || !open.any(|open| open == seen) && seen.period.name().is_empty() {",
        "a_process_that_was_held_up",
    ),
    runs(
        "later-periods-wait-for-what-is-in-doubt",
        "src/schedule/cursor.rs",
        "self.open.iter().find(|open| !open.in_doubt)",
        "self.open.first()",
        "a_run_in_doubt",
    ),
    runs(
        "a-run-that-fails-is-tried-once-more-than-it-may-be",
        "src/schedule/job.rs",
        "seen.failures + 1 >= self.max_tries",
        "seen.failures >= self.max_tries",
        "a_run_that_fails",
    ),
    runs(
        "what-is-listed-no-longer-stays-in-the-store",
        "src/schedule/state.rs",
        "self.forget(&ended.period).await?;",
        "let _ = &ended.period;",
        "each_period_runs_once",
    ),
    runs(
        "a-call-of-an-operator-is-not-heard",
        "src/schedule/scheduler.rs",
        "while !is_called() && !is_due() {",
        "while !is_due() {",
        "an_operator_runs_it",
    ),
    runs(
        "each-try-has-a-key-of-its-own",
        "src/schedule/send.rs",
        "operation.step_key(\"request\")",
        "operation.step_key(&operation.attempt().to_string())",
        "a_run_may_be_a_request",
    ),
    runs(
        "the-last-try-of-what-is-in-doubt-is-a-failure",
        "src/schedule/job.rs",
        "if is_parked || is_last && record",
        "if is_parked || is_last && false && record",
        "the_last_try",
    ),
    runs(
        "a-paused-schedule-asks-all-the-time",
        "src/schedule/job.rs",
        "let is_waiting = cursor.paused.is_some() ||",
        "let is_waiting =",
        "a_paused_schedule",
    ),
];
