//! The moves and the loop, against the model checker.

use super::{ACKNOWLEDGE, CLAIM, FENCED, MOVES, Mutant};

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
        CLAIM,
        "        // Before \"busy\": a wrong body is never cured by waiting.\n",
        "        if let Some(left) = current.lease_left(stamp.now) {\n            return Decision::keep(Claimed::Busy(left));\n        }\n",
    ),
    model("mismatch-replayed", CLAIM, "!current.fingerprint.matches(&self.fingerprint)", "false"),
    model(
        "complete-is-claimed",
        CLAIM,
        "if let Some(response) = current.response() {",
        "if let Some(response) = current.response().filter(|_| false) {",
    ),
    model(
        "lapsed-opaque-granted",
        CLAIM,
        "Outlook::InDoubt => Decision::keep(Claimed::Unknown { parked: None }),",
        "Outlook::InDoubt if current.mode != self.mode => Decision::keep(Claimed::Unknown { parked: None }),\n            Outlook::InDoubt => Decision::put(current.taken(stamp, self.lease), Claimed::Granted(fence)),",
    ),
    model(
        "parked-granted",
        CLAIM,
        "Outlook::Parked(why) => Decision::keep(Claimed::Unknown { parked: Some(Arc::clone(why)) }),",
        "Outlook::Parked(_) => Decision::put(current.taken(stamp, self.lease), Claimed::Granted(fence)),",
    ),
    model(
        "old-fence-kept-on-a-steal",
        MOVES,
        "next.hold = Hold::Leased { fence: Fence::of(nonce), lease };",
        "let kept = match next.hold {\n            Hold::Leased { fence: old, .. } => old,\n            _ => Fence::of(nonce),\n        };\n        next.hold = Hold::Leased { fence: kept, lease };",
    ),
    model("attempt-not-counted", MOVES, "next.attempts.saturating_add(1)", "next.attempts"),
    model(
        "steps-dropped-at-a-steal",
        MOVES,
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
        "Self::Release | Self::Withdraw => record.hold = Hold::Released,",
        "Self::Release | Self::Withdraw => {\n                record.hold = Hold::Released;\n                record.progress = Progress::Pending;\n            }",
    ),
    model(
        "release-keeps-the-lease",
        FENCED,
        "Self::Release | Self::Withdraw => record.hold = Hold::Released,",
        "Self::Release | Self::Withdraw => {}",
    ),
    model(
        "result-overwritten",
        MOVES,
        "Some(step) if step.point == Point::Begun && point != Point::Begun => {",
        "Some(step) if point != Point::Begun => {",
    ),
    model(
        "result-begun-again",
        MOVES,
        "Some(step) if step.point == Point::Begun && point != Point::Begun => {",
        "Some(step) => {",
    ),
    model(
        "clear-removes-a-result",
        MOVES,
        "&*step.name == name && step.point == Point::Begun;",
        "&*step.name == name;",
    ),
    model(
        "lease-left-on-complete",
        MOVES,
        "        self.hold = Hold::Released;\n        self.retry_in",
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
        "(_, Mode::Resumable) | (Hold::Runnable, _) => Hold::Runnable,",
        "(hold, Mode::Resumable) | (hold, _) if *hold != Hold::Released => hold.clone(),\n            (_, Mode::Resumable) => Hold::Runnable,",
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
        MOVES,
        "return match self.hidden_by(response, reached) {",
        "return match self.hidden_by(response, reached).filter(|_| false) {",
    ),
    model(
        "failure-hides-what-is-done",
        "src/core/record/reached.rs",
        "step.point == Point::Begun || self.is_paid(step);",
        "step.point == Point::Begun;",
    ),
    // What failed for good is undone.
    model("plan-replaced", MOVES, "self.undoing.get_or_insert_with(plan);", "self.undoing = Some(plan());"),
    model("step-begun-after-the-plan", MOVES, "            None if Start::GoOn.check(standing).is_err() => {}\n", ""),
    model(
        "answered-before-all-is-undone",
        MOVES,
        "self.left_to_undo().next().map(|step| format!(",
        "self.left_to_undo().next().filter(|_| false).map(|step| format!(",
    ),
    model(
        "plan-does-not-answer",
        MOVES,
        "None => self.complete(&plan.response, retention),",
        "None => self.complete(response, retention),",
    ),
    model("plan-withdrawn", FENCED, "next.steps.is_empty() && next.undoing.is_none();", "next.steps.is_empty();"),
    model("unplanned-undone", MOVES, "if !self.left_to_undo().any(|left| left == name) {", "if false {"),
    model(
        "plan-dropped-at-a-steal",
        MOVES,
        "        next.attempts = next",
        "        next.undoing = None;\n        next.attempts = next",
    ),
    model("undone-in-order-of-doing", "src/core/record/undo.rs", "self.steps.iter().rev()", "self.steps.iter()"),
    model(
        "undone-without-a-plan",
        "tests/model/src/trip.rs",
        "(Stage::Plan, _) => {",
        "(Stage::Plan, _) if self.record.version().get() > 0 => self.stage = Stage::Undoing,\n            (Stage::Plan, _) => {",
    ),
    model(
        "transaction-commits-without-its-step",
        "tests/model/src/trip.rs",
        "_ => next.step(ASIDE).is_some(),",
        "_ => true,",
    ),
    // Callbacks.
    model(
        "told-before-it-is-told",
        "src/core/command/callback.rs",
        "            CallbackStep::Begin { lease } => Callback",
        "            CallbackStep::Begin { .. } if pending.tries == 0 => Callback::Delivered(pending.id),\n            CallbackStep::Begin { lease } => Callback",
    ),
    model(
        "end-not-told",
        MOVES,
        "        self.remember_steps();\n        self.want_callback();\n",
        "        self.remember_steps();\n",
    ),
    model(
        "park-not-told",
        MOVES,
        "        self.hold = Hold::Parked { why: Arc::clone(why) };\n        self.want_callback();\n",
        "        self.hold = Hold::Parked { why: Arc::clone(why) };\n",
    ),
    model(
        "told-again-under-another-id",
        "src/core/command/callback.rs",
        "rest: lease,\n                ..pending.clone()",
        "rest: lease,\n                id: stamp.nonce,",
    ),
    model(
        "told-of-what-goes-on",
        MOVES,
        "if !ended && self.callback.is_some() {",
        "if !ended && self.callback.is_some() && false {",
    ),
    model(
        "forgotten-before-it-is-told",
        RECORD,
        "self.index_class() == Status::Complete && now",
        "self.status() == Status::Complete && now",
    ),
    // The completer's claim.
    model(
        "resumed-before-it-is-due",
        RESUME,
        "record.falls_due() <= stamp.now",
        "record.falls_due() <= stamp.now || *record.hold() == Hold::Released",
    ),
    model(
        "resumed-from-a-holder",
        RESUME,
        "record.falls_due() <= stamp.now",
        "record.falls_due() <= stamp.now || record.tries() < 9",
    ),
    model(
        "opaque-resumed",
        RESUME,
        "Outlook::InDoubt => return Decision::keep(Resumed::InDoubt),",
        "Outlook::InDoubt => {}",
    ),
    model("tried-for-ever", RESUME, "if tries >= self.max_tries {", "if tries > self.max_tries + 9 {"),
    // What is accepted for later.
    model(
        "accepted-is-withdrawn",
        "src/core/record/mod.rs",
        "self.attempts == 1 && self.has_no_past() && !self.accepted",
        "self.attempts == 1",
    ),
    model(
        "accepted-over-what-is-there",
        SUBMIT,
        "let Some(current) = current else {\n            return match stamp.intake {",
        "let Some(current) = current.filter(|record| record.attempts > 0) else {\n            return match stamp.intake {",
    ),
    model("accepted-is-in-doubt", MOVES, "hold: Hold::Runnable,", "hold: Hold::Released,"),
    model("acknowledged-stays", ACKNOWLEDGE, "retention: self.grace }", "retention: Duration::MAX }"),
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
        "a-closed-process-claims-what-is-on-record",
        CLAIM,
        "Outlook::Decided | Outlook::Resumable if stamp.intake == Intake::Closed => Decision::keep(Claimed::Closed),",
        "",
    ),
    model(
        "a-process-that-drains-begins",
        CLAIM,
        "if stamp.intake != Intake::Open {",
        "if stamp.intake == Intake::Closed {",
    ),
    model(
        "a-callback-is-given-up-as-it-is-not-any-more",
        "src/core/command/callback.rs",
        "if self.seen != current.version() {",
        "if false {",
    ),
    model(
        "a-control-record-is-written-over",
        "src/core/command/control.rs",
        "if current.map(Record::version) != self.seen {",
        "if current.is_some() && self.seen.is_none() {",
    ),
    model(
        "counters-as-versions",
        "tests/model/src/state.rs",
        "mint(&mut self.minted)\n    }\n\n    /// What tells",
        "{\n            let is = self.shelf.record.as_ref().map_or(0, |record| record.version().get());\n            Version::new(is + 1)\n        }\n    }\n\n    /// What tells",
    ),
];
