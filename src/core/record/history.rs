//! The history of an operation, for operators.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use super::Record;
use super::callback::Callback;
use super::hold::{Hold, Progress};
use super::moment::{Moment, What};
use super::step::{Point, Step};
use super::time::{Stamp, Timestamp};
use super::undo::{Undoing, undo_name};

impl Record {
    /// What happened, in order: attempt by attempt, and in each of them its
    /// steps. Of very many moments those in the middle are left out.
    pub fn history(&self) -> Vec<Moment> {
        let mut all = self.past.moments().to_vec();
        if all.first().is_none_or(|first| !matches!(first.what, What::Accepted | What::Claimed)) {
            all.insert(0, self.claimed());
        }
        if self.accepted {
            let at = all.first().map_or_else(Timestamp::default, |claimed| claimed.at);
            all.insert(0, Moment { attempt: 0, what: What::Accepted, text: None, by: None, at });
        }
        if self.past.sealed().is_none() {
            all.extend(moments_of(&self.steps, self.undoing()));
        }
        all.sort_by_key(|moment| (moment.attempt, moment.what.rank()));
        let mut base = Timestamp::default();
        for moment in &mut all {
            if moment.what.is_of_step() {
                moment.at = Timestamp::from_millis(base.as_millis().saturating_add(moment.at.as_millis()));
            } else {
                base = moment.at;
            }
        }
        all.extend(self.ended(self.written_at));
        all
    }

    /// How long ago a step was begun that is in doubt, `since_claim` after the last
    /// claim. By the store's clock up to that claim. Where the moments between are
    /// left out of the history, it is too long rather than too short.
    pub(crate) fn doubt_age(&self, step: &str, since_claim: Duration) -> Option<Duration> {
        let begun = |moment: &Moment| moment.what == What::StepBegun && moment.text.as_deref() == Some(step);
        self.age(begun, since_claim)
    }

    /// The same of its plan of what is undone.
    pub(crate) fn undoing_age(&self, since_claim: Duration) -> Option<Duration> {
        self.age(|moment| moment.what == What::Undoing, since_claim)
    }

    /// How long ago its holder claimed it, when so much of its lease is left.
    pub(crate) fn held_for(&self, left: Duration) -> Duration {
        let is_claim = |moment: &&Moment| matches!(moment.what, What::Claimed | What::Resumed);
        let claim = self.past.moments().iter().rfind(is_claim).map(|moment| moment.at);
        let claimed_at = claim.or(self.created_at).unwrap_or(self.written_at);
        self.due().since(claimed_at).saturating_sub(left)
    }

    fn age(&self, is_it: impl Fn(&Moment) -> bool, since_claim: Duration) -> Option<Duration> {
        let history = self.history();
        let it = history.iter().rfind(|moment| is_it(moment))?;
        let claim = history.iter().rfind(|moment| matches!(moment.what, What::Claimed | What::Resumed))?;
        Some(claim.at.after(since_claim).since(it.at))
    }

    /// How many moments are left out of [`history`](Self::history).
    pub fn history_dropped(&self) -> u32 {
        self.past.dropped()
    }

    /// How many steps were done, as far as it is remembered: also those that are
    /// left out of [`history`](Self::history).
    pub fn steps_done(&self) -> usize {
        let moments = self.past.moments().iter().filter(|moment| moment.is_step_done()).count();
        let left_out = usize::try_from(self.past.dropped_done()).unwrap_or(usize::MAX);
        let own = moments_of(&self.steps, self.undoing()).filter(Moment::is_step_done).count();
        moments.saturating_add(own).saturating_add(left_out)
    }

    /// Whether it has had steps, as far as it is remembered.
    #[cfg(feature = "postgres")]
    pub(crate) fn had_steps(&self) -> bool {
        self.past.dropped() > 0 || self.past.moments().iter().any(|moment| moment.what.is_of_step())
    }

    /// The name of the instance that holds it, held it last, or decided about
    /// it since, if it has one.
    pub fn by(&self) -> Option<&str> {
        self.past.by().map(AsRef::as_ref)
    }

    /// Remembers what this write is going to cover.
    pub(in crate::core) fn remember(&mut self, what: What, text: Option<&str>, stamp: Stamp<'_>) {
        if self.past.moments().is_empty() {
            let first = self.claimed();
            self.past.push(first);
        }
        if let Some(ended) = self.ended(stamp.now) {
            self.past.push(ended);
        }
        self.note(what, text.map(Arc::from), stamp.by.map(Arc::from), stamp.now);
    }

    /// Remembers how it ended, by what it shows now.
    pub(in crate::core) fn remember_end(&mut self) {
        if self.past.moments().is_empty() {
            let first = self.claimed();
            self.past.push(first);
        }
        if let Some(ended) = self.ended(self.written_at) {
            self.past.push(ended);
        }
    }

    /// Remembers its steps, and that they were undone, and drops them.
    pub(in crate::core) fn remember_steps(&mut self) {
        if self.steps.is_empty() && self.undoing.is_none() {
            // As of most operations.
            return;
        }
        let (steps, undoing) = (std::mem::take(&mut self.steps), self.undoing.take());
        moments_of(&steps, undoing.as_deref()).for_each(|moment| self.past.push(moment));
    }

    fn note(&mut self, what: What, text: Option<Arc<str>>, by: Option<Arc<str>>, at: Timestamp) {
        let attempt = self.attempts.saturating_add(u32::from(matches!(what, What::Claimed | What::Resumed)));
        self.past.push(Moment { attempt, what, text, by, at });
    }

    fn claimed(&self) -> Moment {
        let (attempt, what) = if self.attempts == 0 { (0, What::Accepted) } else { (1, What::Claimed) };
        let by = self.past.by().filter(|_| self.attempts <= 1).cloned();
        Moment { attempt, what, text: None, by, at: self.created_at.unwrap_or_default() }
    }

    /// How its last attempt ended, if that is what it shows at `now`.
    fn ended(&self, now: Timestamp) -> Option<Moment> {
        let told = self.callback.as_deref().and_then(Callback::shows);
        let (what, text, at) = match (&self.progress, &self.hold) {
            (Progress::Complete { .. }, _) | (_, Hold::Parked { .. }) if told.is_some() => {
                (told.unwrap_or(What::Told), None, self.written_at)
            }
            (Progress::Complete { .. }, _) => (What::Completed, None, self.written_at),
            (_, Hold::Leased { .. }) if self.due() > now => return None,
            (_, Hold::Leased { .. }) => (What::Lapsed, None, self.due()),
            (_, Hold::Free) => (What::Released, None, self.written_at),
            (_, Hold::Parked { why }) => (What::Parked, Some(Arc::clone(why)), self.written_at),
            (_, Hold::Cleared) => return None,
        };
        Some(Moment { attempt: self.attempts, what, text, by: self.past.by().cloned(), at })
    }
}

/// What happened to the steps, then that they were to be undone, and then that they
/// were.
fn moments_of<'a>(steps: &'a [Arc<Step>], undoing: Option<&'a Undoing>) -> impl Iterator<Item = Moment> + use<'a> {
    let done = steps.iter().map(|step| moment_of(step));
    let undone = undoing.into_iter().flat_map(move |plan| {
        iter::once(moment_at(plan.attempt, plan.after, What::Undoing, None))
            .chain(plan.steps.iter().rev().filter_map(|name| undone_of(Step::find(steps, name)?)))
    });
    done.chain(undone)
}

fn moment_of(step: &Step) -> Moment {
    let what = match step.point {
        Point::Begun => What::StepBegun,
        Point::Saved(_) => What::StepSaved,
        Point::Failed(_) => What::StepFailed,
    };
    moment_at(step.attempt, step.after, what, Some((&*step.name).into()))
}

/// The history shows the undoing of a step as a step.
fn undone_of(step: &Step) -> Option<Moment> {
    let (attempt, after) = step.undone?;
    Some(moment_at(attempt, after, What::StepSaved, Some(undo_name(&step.name).into())))
}

fn moment_at(attempt: u32, after: Duration, what: What, text: Option<Arc<str>>) -> Moment {
    Moment { attempt, what, text, by: None, at: Timestamp::default().after(after) }
}
