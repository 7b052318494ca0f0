//! Undoing, and inputs of steps.

use super::Mutant;

planted_under!(undo, "--test resume");

pub(super) const MUTANTS: &[Mutant] = &[
    undo(
        "undo-without-what-was-not-reached",
        "src/operation/undo.rs",
        "if self.inner.attempt.hides(&answer, said).is_some() {",
        "if self.inner.attempt.hides(&answer, said).is_some() && false {",
        "reached::nothing_is_undone",
    ),
    undo(
        "undo-intent-not-stored",
        "src/operation/step.rs",
        "                step.kind = Kind::Pay;\n",
        "",
        "undo::a_step_that_can_be_undone_is_on_record",
    ),
    undo(
        "undo-gives-up-a-doubt-that-is-looked-into",
        "src/operation/step.rs",
        "            self.operation.may_have_happened(&self.name);\n",
        "",
        "undo::a_step_that_can_be_undone_is_on_record",
    ),
    undo(
        "undo-plan-passed-by-what-starts",
        "src/operation/undo.rs",
        "        if self.is_undoing() {\n            return false;\n        }\n",
        "",
        "undo::what_starts_while",
    ),
    undo(
        "undo-in-order-of-doing",
        "src/operation/undo.rs",
        "for step in plan.steps.iter().rev() {",
        "for step in &plan.steps {",
        "undo::a_trip",
    ),
    undo(
        "undo-plan-not-stored",
        "src/operation/undo.rs",
        "        self.inner.attempt.write(save).await.map_err(|_| Undone::NotYet)?;",
        "        drop(save);",
        "undo::a_trip",
    ),
    undo(
        "undo-passes-over-doubt",
        "src/operation/undo.rs",
        "if let Some(step) = unknown {",
        "if let Some(step) = unknown.filter(|_| false) {",
        "undo::a_step_in_doubt",
    ),
    undo(
        "undo-forgets-what-it-does-not-know",
        "src/operation/undo.rs",
        "            return Err(self.give_up(&format!(\"step {step:?} must be undone, and this release did not say how\")));",
        "            return Ok(());",
        "undo::what_nobody_knows",
    ),
    undo(
        "undo-starts-new-steps",
        "src/operation/step.rs",
        "if !done && !self.undoes && self.operation.is_undoing() {",
        "if false {",
        "undo::while_it_is_undone",
    ),
    undo(
        "undo-believes-the-second-answer",
        "src/operation/undo.rs",
        "if earlier { Undone::Earlier",
        "if earlier && false { Undone::Earlier",
        "undo::while_it_is_undone",
    ),
    undo(
        "undo-on-success",
        "src/service/undo.rs",
        "outcome != Outcome::Final || !error",
        "outcome != Outcome::Final",
        "undo::only_a_final",
    ),
    undo(
        "undo-replayed-steps-not-registered",
        "src/operation/step.rs",
        "                self.can_be_undone(&value);\n",
        "",
        "undo::a_trip",
    ),
    undo(
        "undo-completes-when-not-undone",
        "src/operation/undo.rs",
        "            Err(_) => Err(Undone::NotYet),",
        "            Err(_) => Ok(()),",
        "undo::what_can_not",
    ),
    undo(
        "undo-never-is-tried-again",
        "src/operation/undo.rs",
        "Err(StepError::Retry(NotUndone::Never(why))) => {",
        "Err(StepError::Retry(NotUndone::Never(why))) if why.is_empty() => {",
        "undo::what_can_never",
    ),
    undo(
        "input-not-compared",
        "src/operation/input.rs",
        "if !given.is(stored) => {",
        "if !given.is(stored) && false => {",
        "input::a_changed",
    ),
    undo(
        "input-not-stored",
        "src/core/transition.rs",
        "            step.input = Some(hash);",
        "            let _ = (step, hash);",
        "input::a_changed",
    ),
];
