//! What stands in the place of what is encrypted, or left out.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Uri};

use super::Record;
use super::entry::{Entries, History, HistoryEntry};
use super::hold::{Hold, Progress};
use super::label::Labels;
use super::step::{Point, Step};
use super::time::Version;
use super::undo::Undoing;
use crate::core::fingerprint::Fingerprint;
use crate::core::key::KeyForm;
use crate::core::message::{NotRetained, StoredRequest, StoredResponse};

/// Placeholders. No decision is made by them: what decides is opened first.
impl Record {
    /// The same with nothing of what was said in it. What it is filed under stays, and so does
    /// when what happened.
    pub(in crate::core) fn hollow(&self) -> Self {
        let mut hollow = self.clone();
        hollow.fingerprint = Fingerprint::from_bytes([0; 32]);
        if matches!(self.hold, Hold::Parked { .. }) {
            hollow.hold = Hold::Parked { why: "".into() };
        }
        let entries = self.history.entries().iter();
        hollow.history = History::new(Entries {
            by: None,
            reason: None,
            entries: entries.map(|entry| HistoryEntry { text: None, by: None, ..entry.clone() }).collect(),
            dropped: self.history.dropped(),
            dropped_done: self.history.dropped_done(),
            labels: Labels::new(),
            ..Entries::default()
        });
        hollow.history.set_newer(self.history.newer_in_clear());
        hollow.request = self.request.as_ref().map(|_| hollow_request());
        hollow.steps = self.steps.iter().map(|step| hollow_step(step.written)).collect();
        hollow.undoing = self.undoing().map(|plan| hollow_undoing(plan.written));
        if self.response().is_some() {
            hollow.set_response(hollow_response());
        }
        hollow
    }

    /// The same without the bodies of its request and of its response, which take the most memory: to
    /// be shown, and never to be stored.
    pub(crate) fn without_bodies(mut self) -> Self {
        self.request = self.request.map(|request| Arc::new(request.without_body()));
        if let Some(response) = self.response().map(|response| response.without_body()) {
            self.set_response(Arc::new(response));
        }
        self.undoing = self.undoing.map(|plan| {
            let response = Arc::new(plan.response.without_body());
            Arc::new(Undoing { response, ..Undoing::clone(&plan) })
        });
        self
    }

    /// What its sealed head says, that `head` was read from.
    pub(in crate::core) fn fill_head(&mut self, head: Self) {
        self.fingerprint = head.fingerprint;
        // Each has its own: what a newer release shows may be less than what it says.
        let in_clear = mem::replace(&mut self.history, head.history);
        self.history.set_newer_in_clear(in_clear.newer());
        // Its hold is as the head says in clear: a store frees what a dead process held.
        if let (Hold::Parked { why }, Hold::Parked { why: said }) = (&mut self.hold, head.hold) {
            *why = said;
        }
    }

    pub(in crate::core) fn set_response(&mut self, given: Arc<StoredResponse>) {
        if let Progress::Complete { response, .. } = &mut self.progress {
            *response = given;
        }
    }
}

pub(in crate::core) fn hollow_request() -> Arc<StoredRequest> {
    Arc::new(StoredRequest::from_parts(Method::POST, Uri::default(), Vec::new(), Bytes::new(), Vec::new(), None))
}

pub(in crate::core) fn hollow_response() -> Arc<StoredResponse> {
    Arc::new(StoredResponse::from_parts(StatusCode::OK, Vec::new(), Err(NotRetained::Redacted), Vec::new()))
}

pub(in crate::core) fn hollow_step(written: Version) -> Arc<Step> {
    Arc::new(Step {
        name: Box::default(),
        point: Point::Begun,
        written,
        attempt: 1,
        after: Duration::ZERO,
        input: None,
        key: KeyForm::default(),
        paid: false,
        undone: None,
    })
}

pub(in crate::core) fn hollow_undoing(written: Version) -> Arc<Undoing> {
    Arc::new(Undoing { steps: Box::default(), response: hollow_response(), attempt: 1, after: Duration::ZERO, written })
}
