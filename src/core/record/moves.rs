//! How a record changes. Commands decide whether it may.

use std::sync::Arc;
use std::time::Duration;

use super::Record;
use super::callback::{Callback, PendingCallback};
use super::entry::{History, HistoryEvent};
use super::hold::{Fence, Hold, Mode, Progress, Status};
use super::label::Labels;
use super::reached::Reached;
use super::start::{Standing, Start};
use super::step::{Point, Step};
use super::time::{Stamp, Timestamp, millis};
use super::undo::Undoing;
use crate::core::fingerprint::Fingerprint;
use crate::core::key::KeyForm;
use crate::core::message::{StoredRequest, StoredResponse};

impl Record {
    /// Of an operation that is on record for the first time. Runnable, in any mode:
    /// it is known not to have run.
    #[inline]
    pub(in crate::core) fn first(
        fingerprint: Fingerprint,
        mode: Mode,
        request: Option<Arc<StoredRequest>>,
        labels: Labels,
        stamp: Stamp<'_>,
    ) -> Self {
        Self {
            version: stamp.nonce,
            mode,
            fingerprint,
            hold: Hold::Runnable,
            progress: Progress::Pending,
            attempts: 0,
            attempts_before_reset: 0,
            retry_in_ms: 0,
            history: History::begun_by(stamp.by, labels),
            accepted: false,
            outgoing: false,
            callback: stamp.callback.then(|| Box::new(Callback::Wanted)),
            request,
            steps: Vec::new(),
            undoing: None,
            created_at: None,
            written_at: Timestamp::default(),
        }
    }

    /// The same, held by the writer of this.
    pub(in crate::core) fn taken(&self, stamp: Stamp<'_>, lease: Duration) -> Self {
        let (mut next, nonce) = (self.clone(), stamp.nonce);
        next.remember(if self.attempts == 0 { HistoryEvent::Claimed } else { HistoryEvent::Resumed }, None, stamp);
        next.history.set_by(stamp.by);
        next.version = nonce;
        next.hold = Hold::Leased { fence: Fence::of(nonce), lease };
        next.attempts = next.attempts.saturating_add(1);
        next.retry_in_ms = 0;
        next
    }

    /// Lets it rest for so long once it is free.
    pub(in crate::core) fn rest(&mut self, retry_in: Duration) {
        self.retry_in_ms = millis(retry_in);
    }

    /// Writes a step, unless its result is already stored: that never changes.
    ///
    /// One that is not on record may not start any more once there is a plan of what is
    /// undone. What had begun before may say how it ended.
    pub(in crate::core) fn set(&mut self, name: &str, point: Point, after: Duration) {
        let (written, attempt) = (self.version, self.attempts);
        let standing = Standing { is_undoing: self.undoing.is_some(), ..Standing::default() };
        match self.steps.iter_mut().find(|step| &*step.name == name) {
            None if Start::GoOn.check(standing).is_err() => {}
            None => {
                let (input, key, paid, undone) = (None, KeyForm::default(), false, None);
                let name = name.into();
                self.steps.push(Arc::new(Step { name, point, written, attempt, after, input, key, paid, undone }));
            }
            Some(step) if step.point == Point::Begun && point != Point::Begun => {
                let (input, key, paid, undone) = (step.input, step.key, matches!(point, Point::Saved(_)), None);
                let name = name.into();
                *step = Arc::new(Step { name, point, written, attempt, after, input, key, paid, undone });
            }
            Some(_) => {}
        }
    }

    pub(in crate::core) fn set_input(&mut self, name: &str, hash: u64) {
        if let Some(step) = self.fresh_step(name) {
            step.input = Some(hash);
        }
    }

    pub(in crate::core) fn set_key(&mut self, name: &str, form: KeyForm) {
        if let Some(step) = self.fresh_step(name) {
            step.key = form;
        }
    }

    /// The step, if it is this very write that stores it.
    fn fresh_step(&mut self, name: &str) -> Option<&mut Step> {
        let fresh = |step: &&mut Arc<Step>| &*step.name == name && step.written == self.version;
        self.steps.iter_mut().find(fresh).map(Arc::make_mut)
    }

    pub(in crate::core) fn clear(&mut self, name: &str) {
        let begun = |step: &Arc<Step>| &*step.name == name && step.point == Point::Begun;
        let Some(index) = self.steps.iter().position(begun) else { return };
        self.steps.remove(index);
        // The later ones moved up, so the store has to write them again.
        for step in &mut self.steps[index..] {
            Arc::make_mut(step).written = self.version;
        }
        if let Some(plan) = &mut self.undoing {
            Arc::make_mut(plan).written = self.version;
        }
    }

    /// It failed for good: only these steps are undone from here on, and then its
    /// client gets this response. The first plan stands.
    pub(in crate::core) fn undo(&mut self, steps: &[Box<str>], response: &Arc<StoredResponse>, after: Duration) {
        let (attempt, written) = (self.attempts, self.version);
        let plan =
            || Arc::new(Undoing { steps: steps.into(), response: Arc::clone(response), attempt, after, written });
        self.undoing.get_or_insert_with(plan);
    }

    /// A step of the plan is undone.
    pub(in crate::core) fn set_undone(&mut self, name: &str, after: Duration) {
        let (written, undone) = (self.version, Some((self.attempts, after)));
        if !self.left_to_undo().any(|left| left == name) {
            return;
        }
        if let Some(step) = self.steps.iter_mut().find(|step| &*step.name == name) {
            let step = Arc::make_mut(step);
            (step.undone, step.written) = (undone, written);
        }
    }

    /// Ends with this response, or with that of the plan; unless it would hide what
    /// was done.
    pub(in crate::core) fn respond(&mut self, response: &Arc<StoredResponse>, retention: Duration, reached: &Reached) {
        let Some(plan) = self.undoing.clone() else {
            return match self.hidden_by(response, reached) {
                Some((_, why)) => self.park(&why),
                None => self.complete(response, retention),
            };
        };
        let left = self.left_to_undo().next().map(|step| format!("step {step:?} has to be undone, and is not yet"));
        match left {
            Some(why) => self.park(&why.into()),
            None => self.complete(&plan.response, retention),
        }
    }

    pub(in crate::core) fn park(&mut self, why: &Arc<str>) {
        self.hold = Hold::Parked { why: Arc::clone(why) };
        self.want_callback();
    }

    pub(in crate::core) fn complete(&mut self, response: &Arc<StoredResponse>, retention: Duration) {
        self.progress = Progress::Complete { response: Arc::clone(response), retention };
        self.hold = Hold::Released;
        self.retry_in_ms = 0;
        self.request = None;
        self.remember_steps();
        self.want_callback();
    }

    /// Its version is that of the write that ends it.
    pub(in crate::core) fn want_callback(&mut self) {
        if self.callback.is_some() {
            let owed = PendingCallback { id: self.version, tries: 0, rest: Duration::ZERO };
            self.callback = Some(Box::new(Callback::Pending(owed)));
        }
    }

    /// The operation goes on; a callback that it owed would be out of date.
    pub(in crate::core) fn owe_no_more(&mut self) {
        let ended = self.status() == Status::Complete || matches!(self.hold, Hold::Parked { .. });
        if !ended && self.callback.is_some() {
            self.callback = Some(Box::new(Callback::Wanted));
        }
    }
}
