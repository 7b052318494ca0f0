//! Steps: what a handler is promised.

use super::Mutant;

const END: &str = "src/engine/attempt/outcome.rs";
const OPERATION: &str = "src/engine/operation/handle.rs";
const STEP: &str = "src/engine/operation/step.rs";

planted_under!(resume, "--test engine", "resume");
planted_under!(unit, "--lib");

pub(super) const MUTANTS: &[Mutant] = &[
    resume(
        "results-not-read-back",
        "src/engine/operation/result.rs",
        ".and_then(|json| serde_json::from_slice::<T>(&json).map(|_| json))",
        "",
        "unreadable::a_result_that_does_not_read_back",
    ),
    resume(
        "unreadable-results-do-not-park",
        STEP,
        "if result::is_unreadable(stored) {",
        "if result::is_unreadable(stored) && stored.len() > 1 {",
        "unreadable::a_result_that_can_not_be_written",
    ),
    resume(
        "keys-sent-for-ever",
        STEP,
        "age >= self.key_lifetime.saturating_sub(self.timeout.unwrap_or_default())",
        "age == Duration::MAX",
        "keys::a_key_is_not_sent_again",
    ),
    resume(
        "key-lifetime-ignores-the-time-out",
        STEP,
        "self.key_lifetime.saturating_sub(self.timeout.unwrap_or_default())",
        "self.key_lifetime",
        "keys::a_key_is_not_sent_again",
    ),
    resume(
        "key-lifetime-by-the-last-claim",
        "src/core/record/history.rs",
        "Some(claim.at.after(since_claim).since(it.at))",
        "Some(since_claim.min(claim.at.since(step.at)))",
        "keys::a_key_is_not_sent_again",
    ),
    resume(
        "undo-keys-sent-for-ever",
        "src/engine/operation/undo.rs",
        "if self.plan_age().await >= how.key_lifetime {",
        "if self.plan_age().await >= how.key_lifetime.saturating_mul(100) {",
        "keys::a_key_that_undoes",
    ),
    resume(
        "form-of-a-begun-key-changes",
        STEP,
        "self.form = current.step(&self.name).map_or(self.form, |step| step.key_form());",
        "self.form = current.step(&self.name).map_or(self.form, |_| self.form);",
        "keys::a_begun_step_keeps",
    ),
    resume(
        "inputs-hashed-as-they-come",
        "src/engine/operation/input.rs",
        "short(&canonical(&json))",
        "short(&json)",
        "input::equal_inputs",
    ),
    unit(
        "runner-and-layer-share-names",
        "src/core/key.rs",
        "Self::derive(b\"R\", scope, idempotency_key)",
        "Self::derive(b\"K\", scope, idempotency_key)",
        "keys::a_runners_operation",
    ),
    resume(
        "reached-steps-forgotten",
        "src/engine/attempt/reached.rs",
        "if self.claimed.step(step).is_some() {",
        "if self.claimed.step(step).is_none() {",
        "reached::a_failure_after",
    ),
    resume(
        "failure-given-that-is-parked",
        END,
        "if !parks {",
        "if !parks || parks {",
        "reached::a_failure_that_can_not_be_parked",
    ),
    resume(
        "said-final-does-not-count",
        "src/engine/outcome.rs",
        "extensions.get::<Self>() == Some(&Self::Final)",
        "extensions.get::<Self>() == Some(&Self::Retryable)",
        "reached::an_answer_that_is_said",
    ),
    resume(
        "left-out-and-not-told",
        END,
        "            self.emit_left_out();\n",
        "",
        "reached::an_answer_that_is_no_failure",
    ),
    resume(
        "step-key-with-the-attempt",
        OPERATION,
        "StepKey::new(self.key(), name)",
        "StepKey::new(self.key(), &format!(\"{name} {}\", self.attempt()))",
        "steps::a_steps_key_is_the_same",
    ),
    resume(
        "duplicate-names-allowed",
        OPERATION,
        "if matches!(on_drop, StepUse::Running | StepUse::Stored) {",
        "if matches!(on_drop, StepUse::Running | StepUse::Stored) && false {",
        "steps::a_name_that_is_used_twice",
    ),
    resume(
        "step-result-not-saved",
        STEP,
        "self.write(attempt, Change::Save { step: self.name.clone(), value: bytes.clone() }).await?;",
        "",
        "steps::every_result_is_remembered",
    ),
    resume(
        "intent-not-awaited",
        STEP,
        "            self.begin(attempt).await?;\n",
        "            let (late, step) = (Arc::clone(attempt), self.name.clone());\n            tokio::spawn(async move { late.write(Change::Begin { step }).await.is_ok() });\n",
        "steps::a_step_of_an_attempt_that_lost",
    ),
    resume(
        "intent-not-stored",
        STEP,
        "(self.kind == Kind::Pay && !begun)",
        "(self.kind == Kind::Pay && !begun && false)",
        "steps::pay_moves_the_operation",
    ),
    resume(
        "once-in-doubt-runs-again",
        STEP,
        "Reconciled::Unknown if self.kind == Kind::Once =>",
        "Reconciled::Unknown if self.kind == Kind::Once && false =>",
        "steps::once_in_doubt_is_parked",
    ),
    resume(
        "earlier-intent-taken-back-by-a-step",
        STEP,
        "let harmless = !self.in_doubt && self",
        "let harmless = self",
        "steps::a_harmless_error_takes_back",
    ),
    resume(
        "intent-taken-back-though-an-earlier-call-may-have-paid",
        STEP,
        "if self.kind != Kind::Step {\n            taken.on_drop = StepUse::InDoubt;",
        "if self.kind == Kind::Once {\n            taken.on_drop = StepUse::InDoubt;",
        "steps::a_harmless_error_takes_back_nothing_of_an_earlier_call",
    ),
    resume(
        "taken-back-step-not-begun-anew",
        STEP,
        "taken.on_drop = StepUse::MayRun;",
        "taken.on_drop = StepUse::Again;",
        "steps::a_step_that_was_taken_back",
    ),
    resume(
        "park-cuts-others-off",
        STEP,
        "happened{and}\", self.name);\n        self.operation.attempt_handle().park(&self.name, &why);",
        "happened{and}\", self.name);\n        let attempt = Arc::clone(self.operation.attempt_handle());\n        attempt.park(&self.name, &why);\n        tokio::spawn(async move { attempt.write(Change::Park { why: why.into() }).await.is_ok() });",
        "doubt::a_step_in_doubt_lets",
    ),
    resume(
        "new-steps-after-a-park",
        STEP,
        "if let Some(step) = attempt.parked() {",
        "if let Some(step) = attempt.parked().filter(|_| false) {",
        "doubt::a_step_in_doubt_lets",
    ),
    resume(
        "answer-for-a-parked-operation",
        END,
        "        self.emit(|| EventKind::Unsaved { error });\n        End::Parked\n",
        "        End::Unsaved(error)\n",
        "doubt::an_answer_is_never_given",
    ),
    resume(
        "park-forgotten-at-the-end",
        END,
        "let change = parked.unwrap_or(change);",
        "let change = parked.filter(|_| false).unwrap_or(change);",
        "doubt::a_once_that_failed_is_parked",
    ),
    resume(
        "completer-forgets-the-steps",
        "src/core/command/resume.rs",
        "Decision::put(current.taken(stamp, self.lease), Resumed",
        "let mut current = current.clone();\n        current.steps.clear();\n        Decision::put(current.taken(stamp, self.lease), Resumed",
        "crash::a_payment_that_crashes_is_finished",
    ),
    resume(
        "dropped-step-drops-its-write",
        "src/engine/attempt/writer.rs",
        "        tokio::spawn(Arc::clone(self).flush());\n",
        "        Arc::clone(self).flush().await;\n",
        "steps::the_intent_of_a_step_that_was_dropped",
    ),
];
