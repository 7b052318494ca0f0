//! Why an attempt ends without a response.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::{Attempt, Unanswered};
use crate::core::{Change, Point, Record, one_line};
use crate::util::signal::lock;

/// What a panic comes to.
pub(crate) const PANICKED: &str = "the handler panicked";

/// What an attempt comes to that took too long.
pub(crate) fn cut_off(attempt: &Attempt, limit: Duration) -> String {
    let (seconds, steps) = (limit.as_secs_f32(), attempt.running().join(", "));
    let what = if steps.is_empty() { "" } else { " in step " };
    format!("it was cut off after {seconds} s{what}{steps}")
}

/// What an attempt comes to that found no route.
pub(crate) fn no_route(status: StatusCode) -> String {
    format!("no route: status {}", status.as_u16())
}

impl Attempt {
    /// What the work came to, for if that is no response that counts. What was said last counts.
    pub(crate) fn explain(&self, why: String) {
        self.unanswered(|unanswered| unanswered.why = Some(why));
    }

    /// A step failed, with this error.
    pub(crate) fn step_failed(&self, step: &str, error: String) {
        self.unanswered(|unanswered| unanswered.step = Some((step.into(), error)));
    }

    /// If it ends without a response, no completer goes on with it before this time is over.
    #[cfg(feature = "client")]
    pub(crate) fn rest_at_least(&self, rest: Duration) {
        self.unanswered(|unanswered| unanswered.rest = rest);
    }

    /// How long that is.
    pub(super) fn rest_asked(&self) -> Duration {
        lock(&self.ending.unanswered).as_ref().map_or(Duration::ZERO, |unanswered| unanswered.rest)
    }

    /// The line for this end, if there is anything to say. It is kept for events.
    pub(super) fn reason_for(&self, change: &Change, current: &Record, before: &[Change]) -> Option<Change> {
        if !matches!(change, Change::Release | Change::Withdraw) {
            return None;
        }
        let mut ending = lock(&self.ending.unanswered);
        let unanswered = ending.as_mut()?;
        // It may have been tried again since.
        let is_stored = |step: &str| current.step(step).is_some_and(|step| matches!(step.point(), Point::Saved(_)));
        let is_saved_now =
            |name: &str| before.iter().any(|it| matches!(it, Change::Save { step, .. } if **step == *name));
        let is_done = |step: &str| is_stored(step) || is_saved_now(step);
        let step = unanswered.step.take().filter(|(step, _)| !is_done(step));
        let step = step.map(|(step, error)| format!("step {step}: {error}"));
        let said: Vec<_> = unanswered.why.take().into_iter().chain(step).collect();
        let line = self.redacted(said.join("; "))?;
        unanswered.line = Some(Arc::clone(&line));
        Some(Change::Reason { why: line })
    }

    /// The same for an event.
    pub(super) fn reason(&self) -> Option<String> {
        lock(&self.ending.unanswered).as_ref()?.line.as_ref().map(ToString::to_string)
    }

    /// As the engine's hook leaves it. Of one that panics nothing is left.
    fn redacted(&self, mut line: String) -> Option<Arc<str>> {
        if let Some(hook) = self.engine.redaction_of_reasons() {
            catch_unwind(AssertUnwindSafe(|| hook(&mut line))).ok()?;
        }
        Some(one_line(&line)).filter(|line| !line.is_empty()).map(Arc::from)
    }

    fn unanswered(&self, set: impl FnOnce(&mut Unanswered)) {
        set(lock(&self.ending.unanswered).get_or_insert_default());
    }
}
