//! The history of an operation, for operators.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use super::Record;
use super::callback::Callback;
use super::entry::{HistoryEntry, HistoryEvent};
use super::hold::{Hold, Progress};
use super::step::{Point, Step};
use super::time::{Stamp, Timestamp};
use super::undo::{Undoing, undo_name};

impl Record {
    /// What happened, in order: attempt by attempt, and in each of them its
    /// steps. Of very many entries those in the middle are left out.
    pub fn history(&self) -> Vec<HistoryEntry> {
        let mut all = self.history.entries().to_vec();
        if all.first().is_none_or(|first| !matches!(first.event, HistoryEvent::Accepted | HistoryEvent::Claimed)) {
            all.insert(0, self.claimed());
        }
        if self.accepted {
            let at = all.first().map_or_else(Timestamp::default, |claimed| claimed.at);
            all.insert(0, HistoryEntry { attempt: 0, event: HistoryEvent::Accepted, text: None, by: None, at });
        }
        if self.history.sealed().is_none() {
            all.extend(entries_of(&self.steps, self.undoing()));
        }
        all.sort_by_key(|entry| (entry.attempt, entry.event.rank()));
        let mut base = Timestamp::default();
        for entry in &mut all {
            if entry.event.is_of_step() {
                entry.at = Timestamp::from_millis(base.as_millis().saturating_add(entry.at.as_millis()));
            } else {
                base = entry.at;
            }
        }
        all.extend(self.ended(self.written_at));
        all
    }

    /// How long ago a step was begun that is in doubt, `since_claim` after the last
    /// claim. By the store's clock up to that claim. Where the entries between are
    /// left out of the history, it is too long rather than too short.
    pub(crate) fn doubt_age(&self, step: &str, since_claim: Duration) -> Option<Duration> {
        let begun =
            |entry: &HistoryEntry| entry.event == HistoryEvent::StepBegun && entry.text.as_deref() == Some(step);
        self.age(begun, since_claim)
    }

    /// The same of its plan of what is undone.
    pub(crate) fn undoing_age(&self, since_claim: Duration) -> Option<Duration> {
        self.age(|entry| entry.event == HistoryEvent::Undoing, since_claim)
    }

    /// How long ago its holder claimed it, when so much of its lease is left.
    pub(crate) fn held_for(&self, left: Duration) -> Duration {
        let is_claim = |entry: &&HistoryEntry| matches!(entry.event, HistoryEvent::Claimed | HistoryEvent::Resumed);
        let claim = self.history.entries().iter().rfind(is_claim).map(|entry| entry.at);
        let claimed_at = claim.or(self.created_at).unwrap_or(self.written_at);
        self.falls_due().since(claimed_at).saturating_sub(left)
    }

    fn age(&self, is_it: impl Fn(&HistoryEntry) -> bool, since_claim: Duration) -> Option<Duration> {
        let history = self.history();
        let it = history.iter().rfind(|entry| is_it(entry))?;
        let claim =
            history.iter().rfind(|entry| matches!(entry.event, HistoryEvent::Claimed | HistoryEvent::Resumed))?;
        Some(claim.at.after(since_claim).since(it.at))
    }

    /// How many entries are left out of [`history`](Self::history).
    pub fn history_dropped(&self) -> u32 {
        self.history.dropped()
    }

    /// How many steps were done, as far as it is remembered: also those that are
    /// left out of [`history`](Self::history).
    pub fn steps_done(&self) -> usize {
        let entries = self.history.entries().iter().filter(|entry| entry.is_step_done()).count();
        let left_out = usize::try_from(self.history.dropped_done()).unwrap_or(usize::MAX);
        let own = entries_of(&self.steps, self.undoing()).filter(HistoryEntry::is_step_done).count();
        entries.saturating_add(own).saturating_add(left_out)
    }

    /// Whether it has had steps, as far as it is remembered.
    #[cfg(feature = "postgres")]
    pub(crate) fn had_steps(&self) -> bool {
        self.history.dropped() > 0 || self.history.entries().iter().any(|entry| entry.event.is_of_step())
    }

    /// The name of the instance that holds it, held it last, or decided about
    /// it since, if it has one.
    pub fn by(&self) -> Option<&str> {
        self.history.by().map(AsRef::as_ref)
    }

    /// Remembers what this write is going to cover.
    pub(in crate::core) fn remember(&mut self, event: HistoryEvent, text: Option<&str>, stamp: Stamp<'_>) {
        if self.history.entries().is_empty() {
            let first = self.claimed();
            self.history.push(first);
        }
        if let Some(ended) = self.ended(stamp.now) {
            self.history.push(ended);
        }
        // It was that attempt's, and is among the entries now.
        self.history.set_reason(None);
        self.note(event, text.map(Arc::from), stamp.by.map(Arc::from), stamp.now);
    }

    /// Remembers how it ended, by what it shows now.
    pub(in crate::core) fn remember_end(&mut self) {
        if self.history.entries().is_empty() {
            let first = self.claimed();
            self.history.push(first);
        }
        if let Some(ended) = self.ended(self.written_at) {
            self.history.push(ended);
        }
    }

    /// Remembers its steps, and that they were undone, and drops them.
    pub(in crate::core) fn remember_steps(&mut self) {
        if self.steps.is_empty() && self.undoing.is_none() {
            // As of most operations.
            return;
        }
        let (steps, undoing) = (std::mem::take(&mut self.steps), self.undoing.take());
        entries_of(&steps, undoing.as_deref()).for_each(|entry| self.history.push(entry));
    }

    fn note(&mut self, event: HistoryEvent, text: Option<Arc<str>>, by: Option<Arc<str>>, at: Timestamp) {
        let attempt =
            self.attempts.saturating_add(u32::from(matches!(event, HistoryEvent::Claimed | HistoryEvent::Resumed)));
        self.history.push(HistoryEntry { attempt, event, text, by, at });
    }

    fn claimed(&self) -> HistoryEntry {
        let (attempt, event) =
            if self.attempts == 0 { (0, HistoryEvent::Accepted) } else { (1, HistoryEvent::Claimed) };
        let by = self.history.by().filter(|_| self.attempts <= 1).cloned();
        HistoryEntry { attempt, event, text: None, by, at: self.created_at.unwrap_or_default() }
    }

    /// Whether an operator gave its callback up. That decision is on record, and nothing is
    /// written after it but the next decision.
    fn is_callback_ended(&self) -> bool {
        let decided = self.history.entries().last().is_some_and(|last| last.event == HistoryEvent::Decided);
        decided && matches!(self.callback.as_deref(), Some(Callback::GivenUp(_)))
    }

    /// How its last attempt ended, if that is what it shows at `now`.
    fn ended(&self, now: Timestamp) -> Option<HistoryEntry> {
        let told = self.callback.as_deref().and_then(Callback::shows);
        if self.is_callback_ended() {
            return None;
        }
        let (event, text, at) = match (&self.progress, &self.hold) {
            (Progress::Complete { .. }, _) | (_, Hold::Parked { .. }) if told.is_some() => {
                (told.unwrap_or(HistoryEvent::CallbackDelivered), None, self.written_at)
            }
            (Progress::Complete { .. }, _) => (HistoryEvent::Completed, None, self.written_at),
            (_, Hold::Leased { .. }) if self.falls_due() > now => return None,
            (_, Hold::Leased { .. }) => (HistoryEvent::Lapsed, None, self.falls_due()),
            (_, Hold::Released) => (HistoryEvent::Released, self.history.reason().cloned(), self.written_at),
            (_, Hold::Parked { why }) => (HistoryEvent::Parked, Some(Arc::clone(why)), self.written_at),
            (_, Hold::Runnable) => return None,
        };
        Some(HistoryEntry { attempt: self.attempts, event, text, by: self.history.by().cloned(), at })
    }
}

/// What happened to the steps, then that they were to be undone, and then that they
/// were.
fn entries_of<'a>(
    steps: &'a [Arc<Step>],
    undoing: Option<&'a Undoing>,
) -> impl Iterator<Item = HistoryEntry> + use<'a> {
    let done = steps.iter().map(|step| entry_of(step));
    let undone = undoing.into_iter().flat_map(move |plan| {
        iter::once(entry_at(plan.attempt, plan.after, HistoryEvent::Undoing, None))
            .chain(plan.steps.iter().rev().filter_map(|name| undone_of(Step::find(steps, name)?)))
    });
    done.chain(undone)
}

fn entry_of(step: &Step) -> HistoryEntry {
    let event = match step.point {
        Point::Begun => HistoryEvent::StepBegun,
        Point::Saved(_) => HistoryEvent::StepSaved,
        Point::Failed(_) => HistoryEvent::StepFailed,
    };
    entry_at(step.attempt, step.after, event, Some((&*step.name).into()))
}

/// The history shows the undoing of a step as a step.
fn undone_of(step: &Step) -> Option<HistoryEntry> {
    let (attempt, after) = step.undone?;
    Some(entry_at(attempt, after, HistoryEvent::StepSaved, Some(undo_name(&step.name).into())))
}

fn entry_at(attempt: u32, after: Duration, event: HistoryEvent, text: Option<Arc<str>>) -> HistoryEntry {
    HistoryEntry { attempt, event, text, by: None, at: Timestamp::default().after(after) }
}
