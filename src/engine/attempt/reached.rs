//! Which steps an attempt came to, and what follows for its response.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Extensions;

use super::Attempt;
use crate::core::{Change, Reached, StoredResponse};
use crate::engine::outcome::{Outcome, Retention};
use crate::telemetry::event::EventKind;
use crate::util::signal::lock;

impl Attempt {
    /// Notes that a step runs, or no longer does.
    pub(crate) fn set_running(&self, step: &str, runs: bool) {
        if !runs {
            let mut running = lock(&self.steps.running);
            if let Some(at) = running.iter().position(|other| **other == *step) {
                running.swap_remove(at);
            }
            return;
        }
        lock(&self.steps.running).push(step.into());
        self.steps.at_work.store(true, Ordering::Relaxed);
        // Only for those of earlier attempts does it ever have to be known.
        if self.claimed.step(step).is_some() {
            lock(&self.steps.reached).push(step.into());
        }
    }

    /// The steps that run now.
    pub(crate) fn running(&self) -> Vec<String> {
        lock(&self.steps.running).iter().map(ToString::to_string).collect()
    }

    /// Whether it came to any step.
    pub(crate) fn is_at_work(&self) -> bool {
        self.steps.at_work.load(Ordering::Relaxed)
    }

    fn reached(&self) -> Reached {
        if self.claimed.steps().is_empty() {
            return Reached::All;
        }
        Reached::Only(lock(&self.steps.reached).as_slice().into())
    }

    /// The end with this response; `said` is what the handler said of it.
    pub(crate) fn complete(&self, response: Arc<StoredResponse>, said: &Extensions) -> Change {
        // Then it knows what it leaves out.
        let reached = if Outcome::is_said_final(said) { Reached::All } else { self.reached() };
        let retention = Retention::said(said).unwrap_or(self.limits.retention);
        Change::Complete { response, retention, reached }
    }

    /// The end with the response of an earlier attempt that failed for good, once all is undone.
    pub(crate) fn complete_undone(&self, response: Arc<StoredResponse>) -> Change {
        Change::Complete { response, retention: self.limits.retention, reached: Reached::All }
    }

    /// Whether this failure would hide what was done: then the attempt is to be
    /// parked at its end. The step that it is about.
    pub(crate) fn hides(&self, response: &StoredResponse, is_known: bool) -> Option<String> {
        let reached = if is_known { Reached::All } else { self.reached() };
        let (step, why) = self.claimed.hidden_by(response, &reached)?;
        self.park(step.name(), &why);
        Some(step.name().to_owned())
    }

    /// Tells what was begun or paid before and is left out by the response that was
    /// stored.
    pub(crate) fn emit_left_out(&self) {
        let reached = self.reached();
        let steps: Vec<_> = self.claimed.unreached(&reached).map(|step| step.name().to_owned()).collect();
        if !steps.is_empty() {
            self.emit(|| EventKind::NotReached { steps });
        }
    }
}
