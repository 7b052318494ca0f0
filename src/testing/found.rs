//! What is on record, with assertions.

use super::recording::Recording;
use crate::core::{HistoryEvent, Key, Record, Status};

/// The record of one operation in a [`TestBed`](super::TestBed), as it was when the
/// test asked. An assertion that does not hold panics, and shows the record.
#[derive(Clone, Debug)]
#[must_use = "it was asked for to be looked at"]
pub struct Found {
    key: Key,
    record: Option<Record>,
    recorded: Option<Record>,
}

impl Found {
    pub(super) const fn new(key: Key, record: Option<Record>, recorded: Option<Record>) -> Self {
        Self { key, record, recorded }
    }

    /// The record, for your own assertions.
    pub const fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// Its steps with their results, for [`verify_replay`](super::verify_replay). The test bed
    /// keeps them beside the record, which drops them at its end. `None` if no step was ever
    /// done while no other one was in doubt, or if the operation is in at-most-once mode.
    pub fn recording(&self) -> Option<Recording> {
        self.recorded.clone().map(|record| Recording::new(self.key, record))
    }

    /// The names of the steps that were done, in their order.
    pub fn done(&self) -> Vec<String> {
        let history = self.record.iter().flat_map(Record::history);
        let done = history.filter(|entry| entry.event == HistoryEvent::StepSaved);
        done.filter_map(|entry| entry.text.map(|name| name.to_string())).collect()
    }

    /// The names of the steps that were begun and have no result.
    pub fn in_doubt(&self) -> Vec<String> {
        self.record.iter().flat_map(Record::in_doubt).map(str::to_owned).collect()
    }

    /// Nothing is on record: a retry is a first request.
    #[track_caller]
    pub fn assert_absent(&self) -> &Self {
        assert!(self.record.is_none(), "there is a record: {}", self.shown());
        self
    }

    /// It is complete, with a response of this status.
    #[track_caller]
    pub fn assert_complete(&self, status: u16) -> &Self {
        let response = self.record.as_ref().and_then(Record::response);
        let stored = response.map(|response| response.status().as_u16());
        assert!(stored == Some(status), "it is not complete with {status}: {}", self.shown());
        self
    }

    /// It was begun, and is not complete.
    #[track_caller]
    pub fn assert_unfinished(&self) -> &Self {
        let status = self.record.as_ref().map(Record::status);
        assert!(status.is_some_and(|status| status != Status::Complete), "it is not unfinished: {}", self.shown());
        self
    }

    /// It waits for an operator, for a reason that contains this.
    #[track_caller]
    pub fn assert_parked(&self, why: &str) -> &Self {
        let parked = self.record.as_ref().and_then(Record::parked_for);
        assert!(parked.is_some_and(|reason| reason.contains(why)), "it is not parked for {why:?}: {}", self.shown());
        self
    }

    /// These steps were done, in this order, and no others.
    #[track_caller]
    pub fn assert_done<const N: usize>(&self, steps: [&str; N]) -> &Self {
        assert!(self.done() == steps, "other steps than {steps:?} were done: {}", self.shown());
        self
    }

    /// These steps were begun and have no result, and no others.
    #[track_caller]
    pub fn assert_in_doubt<const N: usize>(&self, steps: [&str; N]) -> &Self {
        assert!(self.in_doubt() == steps, "other steps than {steps:?} are in doubt: {}", self.shown());
        self
    }

    fn shown(&self) -> String {
        let Some(record) = &self.record else { return "nothing is on record".to_owned() };
        let response = record.response().map(|response| response.status().as_u16());
        let (status, parked) = (record.status(), record.parked_for());
        format!(
            "{status:?}, response {response:?}, attempts {}, done {:?}, in doubt {:?}, parked {parked:?}",
            record.attempts(),
            self.done(),
            self.in_doubt()
        )
    }
}
