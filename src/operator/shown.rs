//! An operation, as it was shown.

use std::time::Duration;

use bytes::Bytes;

use crate::core::{Hold, Key, Labels, Outlook, Record, Reference, Status, StoredResponse, Timestamp};
use crate::telemetry::finding::Finding;
use crate::workers::watcher::classify::Thresholds;

/// An operation as it was when an [`Operator`](crate::Operator) showed it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shown {
    /// The name of its record.
    pub key: Key,
    /// Its record: its response, its steps, its history.
    pub record: Record,
    /// The store's time when it was read.
    pub now: Timestamp,
    /// How large the bodies are that were left out.
    pub(super) left_out: Option<BodySizes>,
}

/// How many bytes the bodies of an operation have.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodySizes {
    pub(super) request: usize,
    pub(super) response: usize,
    /// Of the response that follows once all is undone.
    pub(super) superseding: usize,
}

/// What an operation that is [shown](Shown) waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OperationState {
    /// An attempt holds it.
    Running,
    /// It has no holder, and waits until it is due, or for its client's retry.
    Waiting,
    /// It has no holder, and a completer should take it.
    Due,
    /// It ran in at-most-once mode and has no holder: what it did is unknown, until an
    /// operator or a reconciler decides.
    OutcomeUnknown,
    /// An operator has to decide.
    Parked,
    /// It has its response, and its callback is still to be made.
    CallbackPending,
    /// It has its response.
    Complete,
}

impl OperationState {
    /// Its name, as JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Due => "due",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Parked => "parked",
            Self::CallbackPending => "callback-pending",
            Self::Complete => "complete",
        }
    }
}

impl Shown {
    pub(super) const fn new(key: Key, record: Record, now: Timestamp) -> Self {
        Self { key, record, now, left_out: None }
    }

    /// As it is listed: 200 of the largest would take all the memory there is.
    pub(super) fn without_bodies(self) -> Self {
        let size = |response: &StoredResponse| response.body().map_or(0, Bytes::len);
        let left_out = BodySizes {
            request: self.record.request().map_or(0, |request| request.body().len()),
            response: self.record.response().map_or(0, |response| size(response)),
            superseding: self.record.undoing().map_or(0, |plan| size(plan.response())),
        };
        Self { record: self.record.without_bodies(), left_out: Some(left_out), ..self }
    }

    /// Whether its record is without the bodies of its request and its response, as
    /// [`Operator::list`](crate::Operator::list) has it.
    pub const fn is_without_bodies(&self) -> bool {
        self.left_out.is_some()
    }

    /// What it waits for.
    pub fn state(&self) -> OperationState {
        let record = &self.record;
        let is_due = record.falls_due() <= self.now;
        match (record.status(), record.hold(), record.outlook()) {
            (Status::Complete, ..) if record.pending_callback().is_some() => OperationState::CallbackPending,
            (Status::Complete, ..) => OperationState::Complete,
            (_, _, Outlook::Parked(_)) => OperationState::Parked,
            (_, Hold::Leased { .. }, _) if !is_due => OperationState::Running,
            (_, _, Outlook::InDoubt) => OperationState::OutcomeUnknown,
            _ if is_due => OperationState::Due,
            _ => OperationState::Waiting,
        }
    }

    /// How long ago it was first stored, by the store's clock.
    pub fn age(&self) -> Duration {
        self.now.since(self.record.created_at().unwrap_or(self.now))
    }

    /// What a [`Watcher`](crate::Watcher) with default settings reports of it, if anything.
    pub fn finding(&self) -> Option<Finding> {
        let (kind, cause, since) = Thresholds::default().classify(&self.record, self.now)?;
        Some(Finding { kind, key: Some(self.key), cause, since, over: false })
    }

    /// Whether an operator should look at it: it has a [finding](Self::finding), or its outcome
    /// is unknown.
    pub fn needs_attention(&self) -> bool {
        self.state() == OperationState::OutcomeUnknown || self.finding().is_some()
    }

    /// By what [`find_by_reference`](crate::Operator::find_by_reference) finds it: the hash of
    /// its key, a dash, and the number of its latest attempt.
    pub fn reference(&self) -> String {
        Reference { key: self.key, attempt: self.record.attempts() }.to_string()
    }

    /// The [labels](crate::IdempotencyLayer::labels) that the layer or the handler gave it.
    pub fn labels(&self) -> &Labels {
        self.record.labels()
    }

    /// Why an operator has to decide, if it is parked.
    pub fn parked(&self) -> Option<&str> {
        self.record.parked_for().map(AsRef::as_ref)
    }

    /// The steps that were begun and have no result.
    pub fn in_doubt(&self) -> impl Iterator<Item = &str> {
        self.record.in_doubt()
    }
}
