//! Making the callback for the end of one operation.

use std::time::Duration;

use tokio::time::Instant;

use super::Completer;
use super::calls::Calls;
use super::report::Disposition;
use crate::core::{CallbackAt, CallbackStep, Key, Record};
use crate::http::callback::{Callback, Ended};
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::util::backoff;

/// How much longer a callback stays claimed than it may take.
const GRACE: Duration = Duration::from_secs(30);
/// How long a callback that is another layer's is left alone.
const NOT_OURS: Duration = Duration::from_secs(60);

/// How long one is left alone for which there was no room.
const NO_ROOM: Duration = Duration::from_secs(10);

impl Completer {
    /// Makes the callback that `record` owes, once there is room.
    pub(super) async fn deliver(&self, key: Key, record: Record, calls: &Calls) -> Disposition {
        let Some(callback) = &self.shared.policy.callback else {
            self.quarantine(key, NOT_OURS);
            return Disposition::Skipped;
        };
        let Ok(_place) = calls.line.try_acquire() else {
            self.quarantine(key, NO_ROOM);
            self.shared.engine.due().set(backoff::after(NO_ROOM));
            return Disposition::Skipped;
        };
        let Ok(_slot) = calls.slots.acquire().await else { return Disposition::Skipped };
        // It may have waited in line for long.
        if self.shared.engine.is_closed().await {
            self.quarantine(key, NO_ROOM);
            return Disposition::Skipped;
        }
        self.call_back(callback, key, record).await.unwrap_or_else(|error| self.failed(key, error))
    }

    /// Makes the callback, unless another completer is faster: then what this one notes
    /// does not take.
    async fn call_back(&self, callback: &Callback, key: Key, record: Record) -> Result<Disposition, StoreError> {
        let tries = record.pending_callback().map_or(0, |owed| owed.tries());
        if tries >= callback.max_tries {
            // The completer that made the last call never said how it went.
            let given_up = self.note_callback(&key, record, CallbackStep::GiveUp).await?.is_some();
            if given_up {
                self.callback_failed(
                    &key,
                    tries,
                    "the completer that made the last call never reported its result".to_owned(),
                    true,
                );
            }
            return Ok(if given_up { Disposition::CallbackFailed } else { Disposition::Skipped });
        }
        let (lease, began) = (callback.deadline.saturating_add(GRACE), Instant::now());
        let Some(record) = self.note_callback(&key, record, CallbackStep::Begin { lease }).await? else {
            return Ok(Disposition::Skipped);
        };
        let (id, call) = record.pending_callback().map(|owed| (owed.id(&key), owed.tries())).unwrap_or_default();
        let ended = Ended { id, key, call, record: record.clone() };
        // The claim began before the store replied: not all of it is left for the hook.
        let outcome = callback.call(ended, callback.deadline.min(lease.saturating_sub(began.elapsed()))).await;
        self.called(callback, key, record, outcome, call).await
    }

    async fn called(
        &self,
        callback: &Callback,
        key: Key,
        record: Record,
        outcome: Result<(), String>,
        call: u32,
    ) -> Result<Disposition, StoreError> {
        let Err(error) = outcome else {
            // The event says that it was made, whatever the store says.
            let stored_move = self.note_callback(&key, record, CallbackStep::Delivered).await;
            self.shared.engine.emit(&key, || EventKind::CallbackDelivered { call });
            return stored_move.map(|stored_move| {
                if stored_move.is_some() { Disposition::CallbackDelivered } else { Disposition::Skipped }
            });
        };
        let given_up = call >= callback.max_tries;
        let rest = callback.backoff.pause(call);
        let step = if given_up { CallbackStep::GiveUp } else { CallbackStep::Failed { rest } };
        let stored_move = self.note_callback(&key, record, step).await;
        let stored = matches!(stored_move, Ok(Some(_)));
        if stored && !given_up {
            self.shared.engine.due().set(backoff::after(rest));
        }
        // A callback that is not on record as given up is made again.
        self.callback_failed(&key, call, error, given_up && stored);
        stored_move.map(|_| Disposition::CallbackFailed)
    }

    fn callback_failed(&self, key: &Key, call: u32, error: String, given_up: bool) {
        self.shared.engine.emit(key, || EventKind::CallbackFailed { call, error, given_up });
    }

    /// The record with that on it, unless something else was written since.
    async fn note_callback(&self, key: &Key, looked: Record, step: CallbackStep) -> Result<Option<Record>, StoreError> {
        let Some(command) = looked.pending_callback().map(|owed| CallbackAt::new(owed, step)) else { return Ok(None) };
        let done = self.shared.engine.apply(key, Some(looked), command).await?;
        Ok(done.record.filter(|_| done.output))
    }
}
