//! Planned maintenance.

use super::Mutant;

const LOOK: &str = "src/engine/look.rs";
const WINDOWS: &str = "src/engine/windows.rs";

planted_under!(http, "--test http", "maintenance");
planted_under!(resting, "--lib", "workers::completer::resting::tests");
planted_under!(workers, "--test workers", "maintenance");

pub(super) const MUTANTS: &[Mutant] = &[
    http(
        "an-operator-is-overtaken-by-its-own-change",
        "src/operator/maintenance.rs",
        "if written.as_ref().is_some_and(|written| *written == at.map(|at| windows[at].clone())) {",
        "if written.as_ref().is_some_and(|written| *written == at.map(|at| windows[at].clone()) && false) {",
        "a_change_whose_reply_is_lost_and_that_another_follows",
    ),
    resting(
        "a-completer-remembers-all-that-rests",
        "src/workers/completer/resting.rs",
        "(self.until.len() < MOST || self.until.contains_key(&key))",
        "(self.until.len() < MOST || !self.until.is_empty())",
        "it_remembers_so_many",
    ),
    http(
        "lead-refuses-what-is-on-record",
        "src/core/window.rs",
        "true => Intake::OnRecord,",
        "true => Intake::Closed,",
        "a_retry_resumes_in_the_lead",
    ),
    http(
        "window-lets-work-on-record-go-on",
        "src/http/guarded/run.rs",
        "if self.context.rest.as_ref().is_some_and(|rest| rest.intake == Intake::Closed) {",
        "if self.context.rest.as_ref().is_some_and(|rest| rest.intake == Intake::Open) {",
        "the_lead_refuses_new_work_and_the_window_all",
    ),
    http(
        "windows-are-forgotten-while-the-store-is-away",
        LOOK,
        "            self.tell_turns();\n        }\n        self.windows().looked();",
        "            self.go_by(&[], Timestamp::default());\n        }\n        self.windows().looked();",
        "what_was_read_holds",
    ),
    http(
        "first-request-does-not-wait-for-the-look",
        LOOK,
        "            self.await_look().await;\n",
        "",
        "a_process_that_starts_in_a_window",
    ),
    http("windows-stand-still-between-looks", WINDOWS, "at.after(since.elapsed())", "at", "what_was_read_holds"),
    http(
        "looking-ends-with-the-engine-that-began-it",
        WINDOWS,
        "            self.is_watched.store(false, Ordering::Release);\n            self.state.store(UNREAD, Ordering::Release);",
        "            self.is_watched.store(false, Ordering::Release);",
        "an_engine_that_is_gone",
    ),
    http(
        "what-an-operator-read-stands-for-good",
        WINDOWS,
        "        if self.is_watched.load(Ordering::Acquire) {\n            self.state",
        "        if self.is_watched.load(Ordering::Acquire) || planned.is_empty() {\n            self.state",
        "a_process_whose_operator_looked_first",
    ),
    http(
        "a-look-is-waited-for-without-end",
        LOOK,
        "if timeout(patience, looks.changed()).await.is_err() {",
        "if looks.changed().await.is_err() {",
        "a_task_that_stands_still_is_not_waited_for",
    ),
    http(
        "a-task-that-stands-still-looks-for-all",
        LOOK,
        "self.windows().is_silent(SILENT, now)\n",
        "self.windows().is_silent(SILENT * 1000, now)\n",
        "a_task_that_stands_still_is_replaced",
    ),
    http(
        "two-tasks-look",
        LOOK,
        "if !shared.process.windows.is_watched_by(watched.1) {",
        "if shared.process.windows.is_silent(Duration::MAX) {",
        "a_task_that_stands_still_is_replaced",
    ),
    http(
        "scope-window-covers-all",
        "src/core/window.rs",
        "scope.is_none_or(|scope| scope == name)",
        "scope.is_none_or(|scope| scope == name || !name.is_empty())",
        "it_covers_a_route_or_a_scope",
    ),
    http(
        "windows-that-touch-end-early",
        "src/core/window.rs",
        "        until = later;\n    }",
        "        until = later.min(until);\n        break;\n    }",
        "windows_that_overlap",
    ),
    workers(
        "what-rests-is-looked-at-again",
        "src/workers/completer/resting.rs",
        "self.until.insert(key, backoff::after(left));",
        "self.until.insert(key, backoff::after(left.min(Duration::from_secs(5))));",
        "what_rests_is_looked_at_once",
    ),
    workers(
        "what-rests-does-not-hear-of-the-end",
        "src/workers/completer/resting.rs",
        "if plan > self.plan {",
        "if plan > self.plan && self.until.is_empty() {",
        "what_rests_is_looked_at_once",
    ),
    workers(
        "callback-in-line-is-made-in-the-window",
        "src/workers/completer/callback.rs",
        "        if self.shared.engine.is_closed().await {\n            self.quarantine(key, NO_ROOM);",
        "        if self.shared.engine.is_draining() {\n            self.quarantine(key, NO_ROOM);",
        "a_callback_that_waits_in_line",
    ),
    workers(
        "reconciler-in-line-is-asked-in-the-window",
        "src/workers/completer/rest.rs",
        "        if let Some(left) = self.left(Work::Store).await {\n            return Some(left);\n        }\n",
        "",
        "a_reconciler_that_waits_in_line",
    ),
    workers(
        "sweep-goes-on-in-the-window",
        "src/workers/sweeper.rs",
        "if let Some(until) = self.engine.closed_until().await {",
        "if let Some(until) = self.engine.closed_until().await.filter(|_| swept.removed == 0) {",
        "a_sweep_that_is_under_way",
    ),
    http(
        "plan-is-doubled-by-a-lost-reply",
        "src/operator/maintenance.rs",
        "            windows.retain(|other| other.id != planned.id);\n",
        "",
        "a_plan_whose_reply_is_lost",
    ),
    http(
        "windows-that-cannot-be-read-are-looked-for-by-each-request",
        LOOK,
        "                self.windows().set_read();\n",
        "",
        "windows_that_cannot_be_read",
    ),
    http(
        "a-window-is-changed-that-was-not-seen",
        "src/operator/maintenance.rs",
        "if windows[at] != *seen {",
        "if windows[at].id != seen.id {",
        "a_window_that_another_operator_changed",
    ),
];
