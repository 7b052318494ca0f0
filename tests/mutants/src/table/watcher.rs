//! The watcher: what needs an operator is reported once.

use super::Mutant;

planted_under!(watcher, "--test workers", "watcher");

pub(super) const MUTANTS: &[Mutant] = &[
    watcher(
        "watcher-tells-every-round",
        "src/workers/watcher/open_findings.rs",
        "if open.finding.same(&finding) {",
        "if false {",
        "a_step_in_doubt",
    ),
    watcher(
        "watcher-passes-what-a-scan-can-not-read",
        "src/workers/watcher/round.rs",
        "                if self.is_news(state, *key) {",
        "                if false && self.is_news(state, *key) {",
        "what_a_scan_can_not_read",
    ),
    watcher(
        "watcher-reads-what-it-can-not-read-again",
        "src/workers/watcher/round.rs",
        "                open.finding.kind != FindingKind::Unreadable\n",
        "                true\n",
        "what_a_scan_can_not_read",
    ),
    watcher(
        "watcher-over-not-told",
        "src/workers/watcher/open_findings.rs",
        "        open.finding.over = true;\n        open.unreported = true;",
        "        open.finding.over = true;",
        "a_step_in_doubt",
    ),
    watcher(
        "watcher-reason-change-not-told",
        "src/telemetry/finding.rs",
        "(loose || self.cause == other.cause)",
        "true",
        "what_is_paid",
    ),
    watcher(
        "watcher-loads-everything",
        "src/workers/watcher/round.rs",
        "        self.settings.thresholds.suspects(found, now)\n",
        "        let _ = (found, now); true\n",
        "records_that_are_in_order",
    ),
    watcher(
        "watcher-no-grace",
        "src/workers/watcher/classify.rs",
        "unattended_since(record, now).filter(|since| now >= since.after(self.in_doubt))",
        "unattended_since(record, now)",
        "a_step_in_doubt",
    ),
    watcher(
        "watcher-forgets-far",
        "src/workers/watcher/classify.rs",
        "unattended || now >=",
        "now >=",
        "at_most_once_a_dead",
    ),
    watcher(
        "watcher-begun-is-no-doubt",
        "src/workers/watcher/classify.rs",
        "if !steps.is_empty() {",
        "if false {",
        "a_step_in_doubt",
    ),
    watcher(
        "watcher-at-most-once-is-no-doubt",
        "src/workers/watcher/classify.rs",
        "(record.outlook() == Outlook::InDoubt)",
        "(record.outlook() == Outlook::InDoubt && false)",
        "at_most_once_a_dead",
    ),
    watcher(
        "watcher-hook-failure-counts-as-told",
        "src/workers/watcher/mod.rs",
        "                    return;\n                }\n            }\n            state.findings.reported",
        "                }\n            }\n            state.findings.reported",
        "a_hook_that_fails",
    ),
    watcher(
        "watcher-no-cap",
        "src/workers/watcher/round.rs",
        "if watched.scanned == MOST || watched.loaded >= MOST_LOADS {",
        "if false {",
        "a_round_is_bounded",
    ),
    watcher(
        "watcher-starts-anew",
        "src/workers/watcher/round.rs",
        "        query.after = state.cursor;\n",
        "        state.cursor = None;\n",
        "a_round_is_bounded",
    ),
    watcher(
        "watcher-unbounded-findings",
        "src/workers/watcher/open_findings.rs",
        "self.open.len() < MOST_OPEN",
        "true",
        "a_round_is_bounded",
    ),
    watcher(
        "watcher-epoch-not-kept",
        "src/workers/watcher/store.rs",
        "state.store.epoch = epoch.or(before);",
        "let _ = &mut state.store.epoch;",
        "a_store_that_was_wiped",
    ),
    watcher(
        "watcher-given-up-is-forgotten",
        "src/engine/attempt/outcome.rs",
        "self.engine.unpersisted().add(self.key, error.clone(), true);",
        "self.engine.unpersisted().remove(&self.key);",
        "an_answer_that_was_given_up",
    ),
];
