//! The end of an attempt.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::turn::leave_a_turn;
use super::writer::replace;
use super::{Attempt, End};
use crate::core::{Change, Done, Exchange, Fenced, Lost, Mode, Record, StoredResponse};
use crate::store::{STORE_TIMEOUT, StoreError};
use crate::telemetry::event::EventKind;
use crate::util::backoff;

/// How much of a lease may go by unseen: between its write and the reply to it, and
/// while a store that hangs is asked to save the end.
const SAVING: Duration = STORE_TIMEOUT.saturating_mul(3);

type Write = Exchange<Fenced, Result<(), Lost>>;

/// The write that ends an attempt.
struct LastWrite {
    exchange: Write,
    completes: bool,
    /// How long the operation rests after it.
    retry_in: Option<Duration>,
}

impl Attempt {
    /// Says that an operator has to look. Written when the attempt ends: steps that
    /// run at the same time can still save what they did.
    pub(crate) fn park(&self, step: &str, why: &str) {
        let _ = self.ending.parked.set((step.into(), why.into()));
    }

    /// The step for which an operator has to look, once one has to.
    pub(crate) fn parked(&self) -> Option<&str> {
        self.ending.parked.get().map(|(step, _)| &**step)
    }

    /// The response, if the work has stored it itself.
    pub(crate) fn completed(&self) -> Option<&Arc<StoredResponse>> {
        self.ending.completed.get()
    }

    /// Whether the work said that nothing happened.
    pub(crate) fn nothing_happened(&self) -> bool {
        self.ending.nothing_happened.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nothing_happened(&self) {
        self.ending.nothing_happened.store(true, Ordering::Relaxed);
    }

    /// Tells how it ended.
    pub(crate) fn emit_end(&self, end: &End, withdrawn: bool) {
        match end {
            End::Stored if withdrawn => self.emit(|| EventKind::Withdrawn { reason: self.reason() }),
            End::Stored => {
                self.emit(|| EventKind::Released { mode: self.claimed.mode(), reason: self.reason() });
            }
            End::Unsaved(error) => self.emit(|| EventKind::Unsaved { error: error.clone() }),
            End::Parked | End::Lost(_) => {}
        }
    }

    /// Tells of a step that was found in doubt when a transaction with the response
    /// was on its way already: nothing could stop that, and it stands.
    pub(crate) fn emit_late_doubt(&self) {
        if let Some((_, why)) = self.ending.parked.get() {
            self.emit(|| EventKind::Parked { why: format!("{why}; its response was committed meanwhile, and stands") });
        }
    }

    /// Ends the attempt; if a step asked for an operator, or the response would hide
    /// what was done, by parking it. A store
    /// that fails keeps no client waiting: saving then goes on in the background,
    /// and the claim is not given up.
    pub(crate) async fn end(self: &Arc<Self>, change: Change) -> End {
        if self.engine.is_immediate() {
            leave_a_turn().await;
        }
        let elapsed = self.since.elapsed();
        self.set_ending(elapsed);
        let parked = self.ending.parked.get().map(|(_, why)| Change::Park { why: Arc::clone(why) });
        let change = parked.unwrap_or(change);
        if self.engine.is_immediate()
            && let Some(mut current) = self.try_turn()
        {
            if let Some(end) = self.ended_itself(&current) {
                return end;
            }
            let mut write = self.last_write(change, &current, elapsed);
            return match self.engine.drive_at_once(&self.key, &mut write.exchange) {
                Some(driven) => self.ended(write, driven, &mut current),
                // Boxed, as it is seldom.
                None => Box::pin(self.drive_to_end(write, &mut current)).await,
            };
        }
        // Boxed: who waits for a store keeps no room for this where none has to be waited for.
        Box::pin(async move {
            let mut current = self.turn().await;
            if let Some(end) = self.ended_itself(&current) {
                return end;
            }
            let write = self.last_write(change, &current, self.since.elapsed());
            self.drive_to_end(write, &mut current).await
        })
        .await
    }

    async fn drive_to_end(self: &Arc<Self>, mut write: LastWrite, current: &mut Arc<Record>) -> End {
        let driven = self.engine.drive(&self.key, &mut write.exchange).await;
        self.ended(write, driven, current)
    }

    /// How it ended, if the work stored its end itself, in a transaction of which it did not see
    /// the end.
    fn ended_itself(&self, current: &Record) -> Option<End> {
        self.completed()?;
        self.leave();
        self.emit_late_doubt();
        Some(End::Lost(Some(current.clone())))
    }

    /// The write that ends it, with what still waits to be written.
    fn last_write(&self, change: Change, current: &Arc<Record>, elapsed: Duration) -> LastWrite {
        let completes = matches!(change, Change::Complete { .. });
        let mut changes = self.take_queue();
        let retry_in = self.pause_after(&change);
        let reason = self.reason_for(&change, current, &changes);
        changes.extend(retry_in.map(|retry_in| Change::Postpone { retry_in }));
        changes.extend(reason);
        changes.push(change);
        LastWrite { exchange: self.exchange(changes, current, elapsed), completes, retry_in }
    }

    /// How it ended, now that the store has its end, or has failed.
    fn ended(self: &Arc<Self>, mut write: LastWrite, driven: Result<(), StoreError>, current: &mut Arc<Record>) -> End {
        if let Err(error) = driven {
            return self.leave_unsaved(write.exchange, error);
        }
        self.leave();
        let (stored, found) = match write.exchange.outcome() {
            Some(Done { output, record }) => (output.is_ok(), record),
            None => (false, None),
        };
        if !stored {
            self.set_lost();
            return End::Lost(found);
        }
        if let Some(record) = found {
            replace(current, record);
        }
        if let Some(retry_in) = write.retry_in {
            self.engine.due().set(backoff::after(retry_in));
        }
        self.how_it_ended(current, write.completes)
    }

    /// The work is over after so long, and its end is going to be saved.
    fn set_ending(&self, elapsed: Duration) {
        let is_first = self.ending.over.set(()).is_ok();
        self.handled.forget_undos();
        #[cfg(feature = "metrics")]
        if is_first {
            crate::telemetry::metrics::attempt(elapsed, self.claimed.mode());
        }
        #[cfg(not(feature = "metrics"))]
        let _ = is_first;
        if self.engine.is_draining() {
            // It may be that its end is all that is left.
            self.list();
        }
        if elapsed.saturating_add(SAVING) >= self.limits.lease {
            // The operation stays in hand while its end is being saved, too.
            self.hold_on();
        }
    }

    fn how_it_ended(&self, current: &Record, completes: bool) -> End {
        if let Some(why) = current.parked_for() {
            self.emit(|| EventKind::Parked { why: why.to_string() });
            return End::Parked;
        }
        if completes {
            self.emit_left_out();
        }
        End::Stored
    }

    /// Goes on saving the end in a task of its own.
    fn leave_unsaved(self: &Arc<Self>, exchange: Write, error: StoreError) -> End {
        self.hold_on();
        self.list();
        self.engine.unpersisted().add(self.key, error.to_string(), false);
        let parks = exchange.writes().is_some_and(|record| record.parked_for().is_some());
        self.engine.draining().spawn(Arc::clone(self).save_late(exchange));
        if !parks {
            return End::Unsaved(error);
        }
        self.emit(|| EventKind::Unsaved { error });
        End::Parked
    }

    /// Needs no lock: once an attempt ends, it writes nothing else.
    async fn save_late(self: Arc<Self>, mut exchange: Write) {
        let saved = self.engine.persist(&self.key, &mut exchange, self.limits.max_execution).await;
        self.leave();
        let failed = match (saved, exchange.finish()) {
            (Ok(()), Some(Done { output: Ok(()), .. })) => None,
            (Ok(()), _) => Some("the claim was lost before the store was back".to_owned()),
            (Err(error), _) => Some(error.to_string()),
        };
        match failed {
            None => {
                self.engine.unpersisted().remove(&self.key);
                self.emit(|| EventKind::SavedLate);
            }
            Some(error) => {
                self.engine.unpersisted().add(self.key, error.clone(), true);
                self.emit(|| EventKind::SaveFailed { error });
            }
        }
    }

    /// How long the operation rests, if it ends without a response and a completer
    /// can go on with it.
    fn pause_after(&self, change: &Change) -> Option<Duration> {
        let unanswered = matches!(change, Change::Release | Change::Withdraw);
        // In at-most-once mode, only what did not happen is run again.
        let again = self.claimed.mode() == Mode::Resumable || matches!(change, Change::Withdraw);
        let resumable = again && self.claimed.request().is_some();
        (unanswered && resumable).then(|| self.limits.backoff.pause(self.claimed.tries()).max(self.rest_asked()))
    }

    /// How long the operation rests, once the attempt has ended without a response,
    /// before a completer goes on with it.
    pub(crate) async fn retry_in(&self) -> Duration {
        self.current().await.retry_in()
    }
}
