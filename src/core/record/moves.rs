//! How a record changes. Commands decide whether it may.

use std::sync::Arc;
use std::time::Duration;

use super::Record;
use super::callback::{Callback, Owed};
use super::hold::{Fence, Hold, Mode, Progress, Status};
use super::moment::{Past, What};
use super::step::{Point, Step};
use super::time::{Stamp, Timestamp};
use crate::core::fingerprint::Fingerprint;
use crate::core::key::KeyForm;
use crate::core::message::{StoredRequest, StoredResponse};

impl Record {
    /// Of an operation that is on record for the first time. Cleared, in any mode:
    /// it is known not to have run.
    pub(in crate::core) fn first(
        fingerprint: Fingerprint,
        mode: Mode,
        request: Option<Arc<StoredRequest>>,
        stamp: Stamp<'_>,
    ) -> Self {
        Self {
            version: stamp.nonce,
            mode,
            fingerprint,
            hold: Hold::Cleared,
            progress: Progress::Pending,
            attempts: 0,
            forgiven: 0,
            retry_in: Duration::ZERO,
            past: Past::begun_by(stamp.by),
            accepted: false,
            callback: stamp.callback.then(|| Box::new(Callback::Wanted)),
            request,
            steps: Vec::new(),
            created_at: None,
            written_at: Timestamp::default(),
        }
    }

    /// The same, held by whoever writes this.
    pub(in crate::core) fn taken(&self, stamp: Stamp<'_>, lease: Duration) -> Self {
        let (mut next, nonce) = (self.clone(), stamp.nonce);
        next.remember(if self.attempts == 0 { What::Claimed } else { What::Resumed }, None, stamp);
        next.past.set_by(stamp.by);
        next.version = nonce;
        next.hold = Hold::Leased { fence: Fence::of(nonce), lease };
        next.attempts = next.attempts.saturating_add(1);
        next.retry_in = Duration::ZERO;
        next
    }

    /// Writes a step, unless its result is already stored: that never changes.
    pub(in crate::core) fn set(&mut self, name: &str, point: Point, after: Duration) {
        let (written, attempt) = (self.version, self.attempts);
        match self.steps.iter_mut().find(|step| &*step.name == name) {
            None => {
                let (input, key, paid) = (None, KeyForm::default(), false);
                self.steps.push(Arc::new(Step { name: name.into(), point, written, attempt, after, input, key, paid }));
            }
            Some(step) if step.point == Point::Begun && point != Point::Begun => {
                let (input, key, paid) = (step.input, step.key, matches!(point, Point::Saved(_)));
                *step = Arc::new(Step { name: name.into(), point, written, attempt, after, input, key, paid });
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
    }

    pub(in crate::core) fn park(&mut self, why: &Arc<str>) {
        self.hold = Hold::Parked { why: Arc::clone(why) };
        self.owe();
    }

    pub(in crate::core) fn complete(&mut self, response: &Arc<StoredResponse>, retention: Duration) {
        self.progress = Progress::Complete { response: Arc::clone(response), retention };
        self.hold = Hold::Free;
        self.retry_in = Duration::ZERO;
        self.request = None;
        self.remember_steps();
        self.owe();
    }

    /// Its version is that of the write that ends it.
    pub(in crate::core) fn owe(&mut self) {
        if self.callback.is_some() {
            let owed = Owed { id: self.version, tries: 0, rest: Duration::ZERO };
            self.callback = Some(Box::new(Callback::Owed(owed)));
        }
    }

    /// It goes on; what was owed would be out of date.
    pub(in crate::core) fn owe_no_more(&mut self) {
        let ended = self.status() == Status::Complete || matches!(self.hold, Hold::Parked { .. });
        if !ended && self.callback.is_some() {
            self.callback = Some(Box::new(Callback::Wanted));
        }
    }
}
