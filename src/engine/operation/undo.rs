//! Taking back what was done, once an operation failed for good.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::StepError;
use super::handle::Operation;
use super::kind::Kind;
use super::undoable::{How, NotUndone, Undo};
use crate::core::{Change, Start, Step, StepKey, StoredResponse, Undoing, undo_name};
use crate::engine::attempt::Attempt;
use crate::telemetry::event::EventKind;
use crate::telemetry::span::StepSpan;
use crate::util::signal::lock;

/// What became of an attempt's failure.
pub(crate) enum Undone {
    /// There is nothing to undo, or all is undone: the handler's response counts.
    AsItIs,
    /// All is undone, and an earlier attempt failed with this response.
    Earlier(Arc<StoredResponse>),
    /// Another attempt or an operator still has to undo a step.
    NotYet,
}

/// That a step is being undone, until it is dropped.
struct Running<'a> {
    attempt: &'a Attempt,
    name: &'a str,
}

impl<'a> Running<'a> {
    fn new(attempt: &'a Attempt, name: &'a str) -> Self {
        attempt.set_running(name, true);
        Self { attempt, name }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.attempt.set_running(self.name, false);
    }
}

impl Operation {
    /// A step that can be undone is in doubt.
    pub(super) fn may_have_happened(&self, step: &str) {
        self.did_not_happen(step);
        lock(&self.handled().undos).push(Undo { step: step.into(), how: None });
    }

    /// Whether `step` may start, or go on.
    pub(super) fn check<E>(&self, start: Start, step: &str) -> Result<(), StepError<E>> {
        let checked = self.attempt.check(start, self.is_undoing());
        checked.map_err(|why| StepError::not_started(why, step))
    }

    /// A step is about to act, unless it is refused. Whatever starts is in the plan
    /// that is made after it.
    pub(super) fn may_start<E>(&self, step: &str, can_be_undone: bool) -> Result<(), StepError<E>> {
        let mut undos = lock(&self.handled().undos);
        self.check(Start::GoOn, step)?;
        undos.retain(|undo| *undo.step != *step);
        if can_be_undone {
            undos.push(Undo { step: step.into(), how: None });
        }
        Ok(())
    }

    pub(super) fn did_not_happen(&self, step: &str) {
        lock(&self.handled().undos).retain(|undo| *undo.step != *step);
    }

    /// It is on record, with this result.
    pub(super) fn happened(&self, step: &str, how: How) {
        self.did_not_happen(step);
        let undo = Undo { step: step.into(), how: Some(how) };
        let mut undos = lock(&self.handled().undos);
        // After the end there is no undoing, and what it holds may hold the operation.
        if self.attempt.has_ended() {
            drop(undos);
            return drop(undo);
        }
        undos.push(undo);
    }

    /// Whether there is a plan, or one is about to be stored.
    pub(super) fn is_undoing(&self) -> bool {
        self.handled().undoing.load(Ordering::Relaxed) || self.earlier_plan().is_some()
    }

    /// What an earlier attempt decided to undo.
    fn earlier_plan(&self) -> Option<&Undoing> {
        self.attempt.claimed().undoing()
    }

    /// Whether there is something to undo, should it have failed.
    pub(crate) fn can_undo(&self) -> bool {
        self.is_undoing() || !lock(&self.handled().undos).is_empty()
    }

    /// Undoes what was done, latest first. `response` is what the operation
    /// failed with, if an earlier attempt has not stored that; `said`: the handler
    /// said that this is final.
    pub(crate) async fn undo(&self, response: Option<StoredResponse>, said: bool) -> Undone {
        if self.attempt.check(Start::Undo, self.is_undoing()).is_err() {
            return Undone::NotYet;
        }
        let (steps, earlier) = match self.earlier_plan() {
            Some(plan) => (plan.steps().into(), Some(Arc::clone(plan.response()))),
            None => match self.plan(response, said).await {
                Ok(steps) => (steps, None),
                Err(undone) => return undone,
            },
        };
        for step in steps.iter().rev() {
            if let Err(undone) = self.undo_step(step).await {
                return undone;
            }
        }
        earlier.map_or(Undone::AsItIs, Undone::Earlier)
    }

    /// Stores what is to be undone before anything is: from then on no attempt
    /// can change its mind.
    async fn plan(&self, response: Option<StoredResponse>, said: bool) -> Result<Box<[Box<str>]>, Undone> {
        let Some(response) = response else { return Err(Undone::AsItIs) };
        if self.attempt.hides(&response, said).is_some() {
            // A step that was not reached did not say how it is undone.
            return Err(Undone::NotYet);
        }
        let (steps, unknown) = {
            let undos = lock(&self.handled().undos);
            // Under this lock: what starts after it would not be in the plan.
            self.handled().undoing.store(true, Ordering::Relaxed);
            let unknown = undos.iter().find(|undo| undo.how.is_none()).map(|undo| undo.step.clone());
            (undos.iter().map(|undo| undo.step.clone()).collect::<Box<[_]>>(), unknown)
        };
        if let Some(step) = unknown {
            let why = format!("step {step:?} may or may not have happened, so it can't be undone");
            return Err(self.give_up(&why));
        }
        let plan = Change::Undo { steps: steps.clone(), response: Arc::new(response) };
        self.attempt.write(plan).await.map_err(|_| Undone::NotYet)?;
        self.attempt.emit(|| EventKind::Undoing { steps: steps.iter().map(ToString::to_string).collect() });
        Ok(steps)
    }

    async fn undo_step(&self, step: &str) -> Result<(), Undone> {
        if self.attempt.claimed().step(step).is_some_and(Step::is_undone) {
            return Ok(());
        }
        let known = {
            let mut undos = lock(&self.handled().undos);
            let at = undos.iter().position(|undo| *undo.step == *step);
            at.and_then(|at| undos.swap_remove(at).how)
        };
        let Some(how) = known else {
            return Err(self.give_up(&format!("step {step:?} has to be undone, and this release does not say how")));
        };
        if self.plan_age().await >= how.key_lifetime {
            let why = "an earlier attempt may have undone it, and its receiver may have forgotten the key";
            return Err(self.give_up(&format!("step {step:?} has to be undone, {why}")));
        }
        let name = undo_name(step);
        let span = StepSpan::new(&name, Kind::Step.name());
        match span.clone().around(self.run_undo(step, &name, how, span), StepError::name).await {
            Ok(()) => Ok(()),
            Err(StepError::Retry(NotUndone::Never(why))) => {
                Err(self.give_up(&format!("step {step:?} can't be undone: {why}")))
            }
            Err(error) => {
                let line = match &error {
                    StepError::Retry(NotUndone::Later(why)) => why.clone(),
                    other => other.line(),
                };
                self.attempt.step_failed(&name, line);
                Err(Undone::NotYet)
            }
        }
    }

    /// At least once: the receiver recognises a repeated call by the key.
    async fn run_undo(&self, step: &str, name: &str, how: How, span: StepSpan) -> Result<(), StepError<NotUndone>> {
        let attempt = &self.attempt;
        self.check(Start::Undo, step)?;
        let _running = Running::new(attempt, name);
        (how.work)(how.result, StepKey::of_undo(attempt.key(), step).written(how.form))
            .await
            .map_err(StepError::Retry)?;
        span.outcome("saved");
        attempt.write(Change::Undone { step: step.into() }).await?;
        attempt.emit(|| EventKind::StepSaved { step: name.to_owned() });
        Ok(())
    }

    /// How long ago an earlier attempt decided to undo; from then on it may have
    /// sent the keys of that.
    async fn plan_age(&self) -> Duration {
        match self.earlier_plan() {
            Some(_) => self.attempt.undoing_age().await.unwrap_or_default(),
            None => Duration::ZERO,
        }
    }

    fn give_up(&self, why: &str) -> Undone {
        self.attempt.park("", why);
        Undone::NotYet
    }
}
