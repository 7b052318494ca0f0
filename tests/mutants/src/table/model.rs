//! The moves and the loop, against the model checker.

use super::{FENCED, Mutant};

const RECORD: &str = "src/core/record/mod.rs";
const RESUME: &str = "src/core/command/resume.rs";
const SUBMIT: &str = "src/core/command/submit.rs";
const RESOLVE: &str = "src/core/command/resolve.rs";
const EXCHANGE: &str = "src/core/exchange.rs";

const fn model(name: &'static str, file: &'static str, text: &'static str, instead: &'static str) -> Mutant {
    Mutant { name, file, text, instead, target: super::MODEL, module: "", filter: "" }
}

pub(super) const MUTANTS: &[Mutant] = &[
    model("lease-ignored", RECORD, ".filter(|left| !left.is_zero())", ".filter(|_| false)"),
    model("pending-expires", RECORD, "self.index_class() == Status::Complete && now", "now"),
    model("expired-never", RECORD, "now >= self.due()\n", "now > self.due().after(*&Duration::MAX)\n"),
    model("retention-ignored", RECORD, "=> *retention,", "=> Duration::ZERO,"),
    model(
        "mismatch-after-busy",
        super::CLAIM,
        "        // Before \"busy\": a wrong body is never cured by waiting.\n",
        "        if let Some(left) = current.lease_left(stamp.now) {\n            return Decision::keep(Claimed::Busy(left));\n        }\n",
    ),
    model("mismatch-replayed", super::CLAIM, "!current.fingerprint.matches(&self.fingerprint)", "false"),
    model(
        "complete-is-claimed",
        super::CLAIM,
        "if let Some(response) = current.response() {",
        "if let Some(response) = current.response().filter(|_| false) {",
    ),
    model(
        "lapsed-opaque-granted",
        super::CLAIM,
        "Hold::Leased { .. } | Hold::Free => both_resumable,",
        "Hold::Leased { .. } | Hold::Free => both_resumable || current.mode == self.mode,",
    ),
    model(
        "parked-granted",
        super::CLAIM,
        "return Decision::keep(Claimed::Unknown { parked: Some(Arc::clone(why)) });",
        "why.is_ascii()",
    ),
    model(
        "old-fence-kept-on-a-steal",
        super::MOVES,
        "next.hold = Hold::Leased { fence: Fence::of(nonce), lease };",
        "let kept = match next.hold {\n            Hold::Leased { fence: old, .. } => old,\n            _ => Fence::of(nonce),\n        };\n        next.hold = Hold::Leased { fence: kept, lease };",
    ),
    model("attempt-not-counted", super::MOVES, "next.attempts.saturating_add(1)", "next.attempts"),
    model(
        "steps-dropped-at-a-steal",
        super::MOVES,
        "        next.attempts = next",
        "        next.steps.clear();\n        next.attempts = next",
    ),
    model(
        "fence-unchecked",
        FENCED,
        "Hold::Leased { fence, .. } if fence == self.fence",
        "Hold::Leased { fence, .. } if fence == self.fence || fence != self.fence",
    ),
    model("withdraw-with-steps", FENCED, "&& first && nothing {", "&& first {"),
    model(
        "intent-not-recorded",
        FENCED,
        "Self::Begin { step } => record.set(step, Point::Begun, elapsed),",
        "Self::Begin { step: _ } => {}",
    ),
    model(
        "save-does-not-pay",
        FENCED,
        "if begun && record.progress == Progress::Pending {",
        "if begun && record.progress == Progress::Paid {",
    ),
    model(
        "save-always-pays",
        FENCED,
        "if begun && record.progress == Progress::Pending {",
        "if record.progress == Progress::Pending {",
    ),
    model(
        "release-un-pays",
        FENCED,
        "Self::Release | Self::Withdraw => record.hold = Hold::Free,",
        "Self::Release | Self::Withdraw => {\n                record.hold = Hold::Free;\n                record.progress = Progress::Pending;\n            }",
    ),
    model(
        "release-keeps-the-lease",
        FENCED,
        "Self::Release | Self::Withdraw => record.hold = Hold::Free,",
        "Self::Release | Self::Withdraw => {}",
    ),
    model(
        "result-overwritten",
        super::MOVES,
        "Some(step) if step.point == Point::Begun && point != Point::Begun => {",
        "Some(step) if point != Point::Begun => {",
    ),
    model(
        "result-begun-again",
        super::MOVES,
        "Some(step) if step.point == Point::Begun && point != Point::Begun => {",
        "Some(step) => {",
    ),
    model(
        "clear-removes-a-result",
        super::MOVES,
        "&*step.name == name && step.point == Point::Begun;",
        "&*step.name == name;",
    ),
    model(
        "lease-left-on-complete",
        super::MOVES,
        "        self.hold = Hold::Free;\n        self.retry_in",
        "        self.retry_in",
    ),
    model(
        "decision-replaces-an-answer",
        RESOLVE,
        "if current.status() == Status::Complete {",
        "if current.status() == Status::Complete && false {",
    ),
    model(
        "decision-takes-a-live-lease",
        RESOLVE,
        "            return Decision::keep(Err(NotResolved::Busy(left)));",
        "            let _ = left;",
    ),
    model(
        "decision-leaves-the-zombie",
        RESOLVE,
        "(_, Mode::Resumable) | (Hold::Cleared, _) => Hold::Cleared,",
        "(hold, Mode::Resumable) | (hold, _) if *hold != Hold::Free => hold.clone(),\n            (_, Mode::Resumable) => Hold::Cleared,",
    ),
    model(
        "decision-on-one-step-clears-all",
        RESOLVE,
        "Self::DidNotHappen { step } => next.clear(step),",
        "Self::DidNotHappen { .. } => {\n                let begun: Vec<_> = next.steps.iter().filter(|step| step.point == Point::Begun).cloned().collect();\n                begun.iter().for_each(|step| next.clear(&step.name));\n            }",
    ),
    model(
        "lost-ack-not-recognised",
        EXCHANGE,
        "found.is_of_write(self.nonce),",
        "found.is_of_write(self.nonce) && false,",
    ),
    model("other-write-taken-for-ours", EXCHANGE, "found.is_of_write(self.nonce),", "found.version().get() > 0,"),
    model(
        "unknown-is-written",
        EXCHANGE,
        "Reply::Unknown => self.seen = Seen::Nothing,",
        "Reply::Unknown => self.known = self.decision.is_some(),",
    ),
    model("nonce-used-twice", EXCHANGE, "self.nonce = self.nonce.successor();", "self.nonce = self.nonce;"),
    model(
        "failure-hides-a-payment",
        super::MOVES,
        "None => self.hidden_by(response, reached).map(|(_, why)| why),",
        "None => None,",
    ),
    model(
        "failure-hides-what-is-done",
        "src/core/record/reached.rs",
        "step.point == Point::Begun || self.is_paid(step);",
        "step.point == Point::Begun;",
    ),
    // The completer's claim.
    model(
        "resumed-before-it-is-due",
        RESUME,
        "record.due() <= stamp.now",
        "record.due() <= stamp.now || *record.hold() == Hold::Free",
    ),
    model(
        "resumed-from-a-holder",
        RESUME,
        "record.due() <= stamp.now",
        "record.due() <= stamp.now || record.tries() < 9",
    ),
    model("opaque-resumed", RESUME, "current.mode == Mode::AtMostOnce && !by_hand", "false"),
    model("tried-for-ever", RESUME, "if tries >= self.max_tries {", "if tries > self.max_tries + 9 {"),
    // What is accepted for later.
    model(
        "accepted-is-withdrawn",
        FENCED,
        "let first = next.attempts == 1 && held.has_no_past() && !held.accepted;",
        "let first = next.attempts == 1;",
    ),
    model(
        "accepted-over-what-is-there",
        SUBMIT,
        "let Some(current) = current else {\n            return if self.room {",
        "let Some(current) = current.filter(|record| record.attempts > 0) else {\n            return if self.room {",
    ),
    model("accepted-is-in-doubt", super::MOVES, "hold: Hold::Cleared,", "hold: Hold::Free,"),
    model("acknowledged-stays", super::ACKNOWLEDGE, "retention: self.grace }", "retention: Duration::MAX }"),
    // What the core asks of those around it, planted in the model's own parts.
    model(
        "store-ignores-expected",
        "tests/model/src/store.rs",
        "Request::Swap { expected, next } if version == *expected => {",
        "Request::Swap { expected, next } if version == *expected || version.is_some() => {",
    ),
    model(
        "effect-before-intent",
        "tests/model/src/worker.rs",
        "None => self.begin(\"charge\", Stage::Charging { ours: true }, nonce()),",
        "None => return self.stage = Stage::Charging { ours: true },",
    ),
    model(
        "once-repeated",
        "tests/model/src/worker.rs",
        "Some(Point::Begun) => self.write(park(), Stage::Over, nonce()),",
        "Some(Point::Begun) => return self.stage = Stage::Mailing,",
    ),
    model(
        "earlier-intent-taken-back",
        "tests/model/src/step.rs",
        "if attempt.stage == (Stage::Charging { ours: true }) {",
        "if matches!(attempt.stage, Stage::Charging { .. }) {",
    ),
    model(
        "counters-as-versions",
        "tests/model/src/state.rs",
        "mint(&mut self.minted)\n    }\n\n    /// What tells",
        "{\n            let is = self.shelf.record.as_ref().map_or(0, |record| record.version().get());\n            Version::new(is + 1)\n        }\n    }\n\n    /// What tells",
    ),
];
