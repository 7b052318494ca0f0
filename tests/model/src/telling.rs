//! A completer that tells of an end, as `completer::callback` does it.

use std::sync::Arc;

use tower_idempotency::core::{CallbackAt, CallbackStep, Exchange, Record, Version};

use crate::store::{Author, Task};
use crate::worker::LEASE;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Telling {
    /// As it was last written.
    pub(crate) record: Record,
    pub(crate) life: u8,
    /// The end that is told.
    pub(crate) end: Version,
    pub(crate) task: Option<Task<CallbackAt, bool>>,
    /// The call was made.
    pub(crate) called: bool,
}

impl Telling {
    /// Of a record that is looked at now.
    pub(crate) fn new(record: Record, life: u8, nonce: Version) -> Option<Self> {
        let end = record.pending_callback()?.end();
        let mut telling = Self { record, life, end, task: None, called: false };
        telling.note(CallbackStep::Begin { lease: LEASE }, nonce);
        telling.task.is_some().then_some(telling)
    }

    pub(crate) fn note(&mut self, step: CallbackStep, nonce: Version) {
        let command = self.record.pending_callback().map(|owed| CallbackAt::new(owed, step));
        self.task = command.map(|command| {
            let author = Author::Teller(command.clone());
            Task::new(Exchange::guessing(command, nonce, Some(Arc::new(self.record.clone()))), author)
        });
    }
}
