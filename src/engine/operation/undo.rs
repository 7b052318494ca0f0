//! Taking back what was done, once an operation failed for good.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::{Operation, StepError};
use crate::core::{Change, KeyForm, Point, StepKey, StoredResponse, UNDO_PLAN};
use crate::telemetry::event::EventKind;
use crate::util::signal::lock;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Undoes a step, given the result it had.
pub(super) type UndoWork = Box<dyn FnOnce(Bytes, StepKey) -> BoxFuture<Result<(), NotUndone>> + Send>;

/// Why a step was not [undone](super::StepFuture::undo_with).
///
/// Any error becomes `Later` by `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotUndone {
    /// Not now, for this reason. It is tried again, with the same key.
    Later(String),
    /// It can't be, for this reason. The operation is parked with it.
    Never(String),
}

impl NotUndone {
    /// It can't be undone, for this reason.
    pub fn never(why: impl fmt::Display) -> Self {
        Self::Never(why.to_string())
    }
}

impl<E: std::error::Error> From<E> for NotUndone {
    fn from(error: E) -> Self {
        Self::Later(error.to_string())
    }
}

/// A step that can be undone, as this attempt knows it.
pub(super) struct Undo {
    step: Box<str>,
    /// How; `None` while it is not known whether it happened.
    how: Option<How>,
}

/// How a step is undone.
pub(super) struct How {
    /// The result it had.
    pub(super) result: Bytes,
    pub(super) work: UndoWork,
    /// How the key is written that is sent with it, and how long its receiver
    /// knows that.
    pub(super) form: KeyForm,
    pub(super) key_lifetime: Duration,
}

/// What became of an attempt's failure.
pub(crate) enum Undone {
    /// There is nothing to undo, or all is: the handler's answer counts.
    AsItIs,
    /// All is undone, and an earlier attempt failed with this answer.
    Earlier(Arc<StoredResponse>),
    /// Something is still to be undone, by another attempt or a human.
    NotYet,
}

/// What is to be undone, in the order in which it was done, and what is
/// answered then. Once it is stored nothing else is done.
struct Plan {
    steps: Vec<String>,
    answer: StoredResponse,
}

impl Plan {
    fn encode(&self) -> Option<Bytes> {
        let mut bytes = serde_json::to_vec(&self.steps).ok()?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.answer.to_bytes());
        Some(bytes.into())
    }

    fn decode(bytes: &Bytes) -> Option<Self> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let steps = serde_json::from_slice(&bytes[..end]).ok()?;
        Some(Self { steps, answer: StoredResponse::from_bytes(&bytes.slice(end + 1..))? })
    }
}

impl Operation {
    /// A step that can be undone is in doubt.
    pub(super) fn may_have_happened(&self, step: &str) {
        self.did_not_happen(step);
        lock(&self.inner.undos).push(Undo { step: step.into(), how: None });
    }

    /// A step is about to act; `false` if it may not, as nothing is done any
    /// more but undone. Whatever starts is in the plan that is made after it.
    pub(super) fn may_start(&self, step: &str, can_be_undone: bool) -> bool {
        let mut undos = lock(&self.inner.undos);
        if self.is_undoing() {
            return false;
        }
        undos.retain(|undo| *undo.step != *step);
        if can_be_undone {
            undos.push(Undo { step: step.into(), how: None });
        }
        true
    }

    pub(super) fn did_not_happen(&self, step: &str) {
        lock(&self.inner.undos).retain(|undo| *undo.step != *step);
    }

    /// It is on record, with this result.
    pub(super) fn happened(&self, step: &str, how: How) {
        self.did_not_happen(step);
        lock(&self.inner.undos).push(Undo { step: step.into(), how: Some(how) });
    }

    /// Whether nothing is done any more but undone.
    pub(super) fn is_undoing(&self) -> bool {
        self.inner.undoing.load(Ordering::Relaxed) || self.saved(UNDO_PLAN).is_some()
    }

    /// Whether there is something to undo, should it have failed.
    pub(crate) fn can_undo(&self) -> bool {
        self.is_undoing() || !lock(&self.inner.undos).is_empty()
    }

    fn saved(&self, step: &str) -> Option<Bytes> {
        match self.inner.attempt.claimed().step(step)?.point() {
            Point::Saved(value) => Some(value.clone()),
            Point::Begun | Point::Failed(_) => None,
        }
    }

    /// Undoes what was done, latest first. `answer` is what the operation
    /// failed with, if an earlier attempt has not stored that; `said`: the handler
    /// said that this is final.
    pub(crate) async fn undo(&self, answer: Option<StoredResponse>, said: bool) -> Undone {
        if self.inner.attempt.parked().is_some() {
            return Undone::NotYet;
        }
        let (plan, earlier) = match self.saved(UNDO_PLAN) {
            Some(stored) => match Plan::decode(&stored) {
                Some(plan) => (plan, true),
                None => return self.give_up("what is to be undone can't be read"),
            },
            None => match self.plan(answer, said).await {
                Ok(plan) => (plan, false),
                Err(undone) => return undone,
            },
        };
        for step in plan.steps.iter().rev() {
            if let Err(undone) = self.undo_step(step).await {
                return undone;
            }
        }
        if earlier { Undone::Earlier(Arc::new(plan.answer)) } else { Undone::AsItIs }
    }

    /// Stores what is to be undone before anything is: from then on no attempt
    /// can change its mind.
    async fn plan(&self, answer: Option<StoredResponse>, said: bool) -> Result<Plan, Undone> {
        let Some(answer) = answer else { return Err(Undone::AsItIs) };
        if self.inner.attempt.hides(&answer, said).is_some() {
            // What was not reached did not say how it is undone.
            return Err(Undone::NotYet);
        }
        let (steps, unknown) = {
            let undos = lock(&self.inner.undos);
            // Under this lock: what starts after it would not be in the plan.
            self.inner.undoing.store(true, Ordering::Relaxed);
            let unknown = undos.iter().find(|undo| undo.how.is_none()).map(|undo| undo.step.clone());
            (undos.iter().map(|undo| undo.step.to_string()).collect(), unknown)
        };
        if let Some(step) = unknown {
            let why =
                format!("it failed for good, and it is not known whether step {step:?} happened and must be undone");
            return Err(self.give_up(&why));
        }
        let plan = Plan { steps, answer };
        let Some(value) = plan.encode() else { return Err(Undone::NotYet) };
        let save = Change::Save { step: UNDO_PLAN.into(), value };
        self.inner.attempt.write(save).await.map_err(|_| Undone::NotYet)?;
        self.inner.attempt.emit(|| EventKind::Undoing { steps: plan.steps.clone() });
        Ok(plan)
    }

    async fn undo_step(&self, step: &str) -> Result<(), Undone> {
        let name = format!("undo {step}");
        if self.saved(&name).is_some() {
            return Ok(());
        }
        let known = {
            let mut undos = lock(&self.inner.undos);
            let at = undos.iter().position(|undo| *undo.step == *step);
            at.and_then(|at| undos.swap_remove(at).how)
        };
        let Some(How { result, work, form, key_lifetime }) = known else {
            return Err(self.give_up(&format!("step {step:?} must be undone, and this release did not say how")));
        };
        if self.plan_age().await >= key_lifetime {
            let why = "it is not known whether it is, and its receiver may have forgotten the key";
            return Err(self.give_up(&format!("step {step:?} must be undone, {why}")));
        }
        let undo = self.step(name, move |key| work(result, key)).undoing();
        match if form == KeyForm::Uuid { undo.uuid_key() } else { undo }.await {
            Ok(()) => Ok(()),
            Err(StepError::Retry(NotUndone::Never(why))) => {
                Err(self.give_up(&format!("step {step:?} can't be undone: {why}")))
            }
            Err(_) => Err(Undone::NotYet),
        }
    }

    /// How long ago an earlier attempt decided to undo; from then on it may have
    /// sent the keys of that.
    async fn plan_age(&self) -> Duration {
        match self.saved(UNDO_PLAN) {
            Some(_) => self.inner.attempt.step_age(UNDO_PLAN).await.unwrap_or_default(),
            None => Duration::ZERO,
        }
    }

    fn give_up(&self, why: &str) -> Undone {
        self.inner.attempt.park("", why);
        Undone::NotYet
    }
}
