//! One granted claim: its writes, its lease, its end.

mod lease;
mod reached;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod transaction;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::{Instant, sleep};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use self::transaction::{Begun, NotCommitted};

use crate::core::{Change, Done, Exchange, Fence, Fenced, Key, Lost, Mode, Record, Status, StoredResponse};
use crate::engine::in_hand::Hand;
use crate::engine::ledger::Ledger;
use crate::store::{STORE_TIMEOUT, StoreError};
use crate::telemetry::event::EventKind;
use crate::util::backoff::{self, Backoff};
use crate::util::nonce::fresh_nonce;
use crate::util::signal::{Signal, lock};

/// What an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long one write keeps the operation held.
    pub(crate) lease: Duration,
    /// How long the lease is renewed, and how long saving is tried.
    pub(crate) max_execution: Duration,
    /// How long an operation rests before it is run again unasked.
    pub(crate) backoff: Backoff,
    /// How long the answer is remembered.
    pub(crate) retention: Duration,
}

/// The holder of one claim.
pub(crate) struct Attempt {
    ledger: Ledger,
    key: Key,
    fence: Fence,
    since: Instant,
    limits: Limits,
    /// As it was claimed: what earlier attempts left.
    claimed: Arc<Record>,
    /// As it was last written. Its lock is what makes the writes of one
    /// operation go one after another.
    current: Arc<AsyncMutex<Arc<Record>>>,
    /// Changes that wait for the lock; whoever gets it takes them all.
    queue: Mutex<Vec<(Change, Option<Waiting>)>>,
    paid: AtomicBool,
    lost: Signal,
    /// The work is over; nothing is written any more but its end.
    ending: Signal,
    nothing_happened: AtomicBool,
    /// Why a human has to look, and which step it was about; the first one
    /// that said so counts.
    parked: OnceLock<(Box<str>, Arc<str>)>,
    /// The steps that run now.
    running: Mutex<Vec<Box<str>>>,
    /// Those of earlier attempts to which this one came.
    reached: Mutex<Vec<Box<str>>>,
    /// It came to a step, of an earlier attempt's or a new one.
    at_work: AtomicBool,
    /// Someone renews the lease.
    kept: AtomicBool,
    /// Set once the lease may be over, and until this process no longer goes on with
    /// it.
    in_hand: Mutex<Option<Hand>>,
    /// The answer, once the work has stored it itself, in a transaction.
    completed: OnceLock<Arc<StoredResponse>>,
}

/// How much of a lease may go by unseen: between its write and the reply to it, and
/// while a store that hangs is asked to save the end.
const SAVING: Duration = STORE_TIMEOUT.saturating_mul(3);

type Waiting = oneshot::Sender<Result<(), WriteError>>;

/// Why a write did not take.
#[derive(Clone, Debug)]
pub(crate) enum WriteError {
    Lost,
    Store(StoreError),
}

/// How an attempt ended.
pub(crate) enum End {
    /// As it was meant to.
    Stored,
    /// A step asked for a human, whatever else the work said.
    Parked,
    /// Someone else took over; this is what is there.
    Lost(Option<Record>),
    /// The store failed. Saving goes on in the background.
    Unsaved(StoreError),
}

impl Attempt {
    pub(crate) fn new(ledger: Ledger, key: Key, fence: Fence, limits: Limits, claimed: Record) -> Arc<Self> {
        let claimed = Arc::new(claimed);
        Arc::new(Self {
            paid: AtomicBool::new(claimed.status() == Status::Paid),
            current: Arc::new(AsyncMutex::new(Arc::clone(&claimed))),
            ledger,
            key,
            fence,
            since: Instant::now(),
            limits,
            claimed,
            queue: Mutex::default(),
            lost: Signal::default(),
            ending: Signal::default(),
            nothing_happened: AtomicBool::new(false),
            parked: OnceLock::new(),
            running: Mutex::default(),
            reached: Mutex::default(),
            at_work: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            in_hand: Mutex::default(),
            completed: OnceLock::new(),
        })
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn claimed(&self) -> &Record {
        &self.claimed
    }

    pub(crate) fn status(&self) -> Status {
        if self.paid.load(Ordering::Relaxed) { Status::Paid } else { Status::Pending }
    }

    pub(crate) fn emit(&self, kind: impl FnOnce() -> EventKind) {
        self.ledger.emit(&self.key, kind);
    }

    /// Tells how it ended.
    pub(crate) fn emit_end(&self, end: &End, withdrawn: bool) {
        match end {
            End::Stored if withdrawn => self.emit(|| EventKind::Withdrawn),
            End::Stored => self.emit(|| EventKind::Released { mode: self.claimed.mode() }),
            End::Unsaved(error) => self.emit(|| EventKind::Unsaved { error: error.clone() }),
            End::Parked | End::Lost(_) => {}
        }
    }

    /// Tells of a step that was found in doubt when a transaction with the answer
    /// was on its way already: nothing could stop that, and it stands.
    pub(crate) fn emit_late_doubt(&self) {
        if let Some((_, why)) = self.parked.get() {
            self.emit(|| EventKind::Parked { why: format!("{why}; its answer was committed meanwhile, and stands") });
        }
    }

    /// Says that a human has to look. Written when the attempt ends: steps that
    /// run at the same time can still save what they did.
    pub(crate) fn park(&self, step: &str, why: &str) {
        let _ = self.parked.set((step.into(), why.into()));
    }

    /// The step for which a human has to look, once one has to.
    pub(crate) fn parked(&self) -> Option<&str> {
        self.parked.get().map(|(step, _)| &**step)
    }

    /// The answer, if the work has stored it itself.
    pub(crate) fn completed(&self) -> Option<&Arc<StoredResponse>> {
        self.completed.get()
    }

    /// Whether whoever asks is the first, and is to [`keep`](Self::keep) it.
    pub(crate) fn starts_keeping(&self) -> bool {
        !self.kept.swap(true, Ordering::Relaxed)
    }

    /// Whether the work said that nothing happened.
    pub(crate) fn nothing_happened(&self) -> bool {
        self.nothing_happened.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nothing_happened(&self) {
        self.nothing_happened.store(true, Ordering::Relaxed);
    }

    /// Given once the claim is lost, or in doubt.
    pub(crate) const fn lost(&self) -> &Signal {
        &self.lost
    }

    /// Whether the work is over: nothing it left running is stored any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ending.is_given()
    }

    fn set_lost(&self) {
        if self.lost.give() {
            self.emit(|| EventKind::LeaseLost);
        }
    }

    /// Stores one change, together with all others that are ready by then.
    /// Tries as long as the lease may still be ours.
    ///
    /// The write has a task of its own: a caller that stops waiting does not
    /// leave it half done, nor keep others from theirs.
    pub(crate) async fn write(self: &Arc<Self>, change: Change) -> Result<(), WriteError> {
        self.write_all([Some(change), None, None]).await
    }

    /// The same for changes that belong together: all of them or none. Nobody
    /// waits for any but the first.
    pub(crate) async fn write_all(self: &Arc<Self>, changes: [Option<Change>; 3]) -> Result<(), WriteError> {
        let (done, outcome) = oneshot::channel();
        if !self.enqueue(changes.into_iter().flatten(), done) {
            return Err(WriteError::Lost);
        }
        tokio::spawn(Arc::clone(self).flush());
        outcome.await.unwrap_or(Err(WriteError::Lost))
    }

    /// Under the queue's lock, or a change could slip in behind the end that
    /// empties the queue, and wait there for ever.
    fn enqueue(&self, changes: impl Iterator<Item = Change>, done: Waiting) -> bool {
        let mut queue = lock(&self.queue);
        if self.has_ended() {
            return false;
        }
        let mut done = Some(done);
        queue.extend(changes.map(|change| (change, done.take())));
        true
    }

    fn take_queue(&self) -> (Vec<Change>, Vec<Option<Waiting>>) {
        std::mem::take(&mut *lock(&self.queue)).into_iter().unzip()
    }

    async fn flush(self: Arc<Self>) {
        let mut current = self.current.lock().await;
        let (changes, waiting) = self.take_queue();
        if changes.is_empty() || self.completed.get().is_some() {
            return;
        }
        let mut exchange = self.exchange(changes.clone(), &current);
        let outcome = tokio::select! {
            biased;
            outcome = self.ledger.persist(&self.key, &mut exchange, self.limits.lease) => outcome,
            // Left to the end, which takes them along and keeps nobody waiting.
            () = self.ending.given() => {
                lock(&self.queue).extend(changes.into_iter().zip(waiting));
                return;
            }
        };
        let outcome = match outcome {
            Ok(()) => self.settle(exchange.finish(), &mut current),
            Err(error) => Err(WriteError::Store(error)),
        };
        for done in waiting.into_iter().flatten() {
            // Whoever stopped waiting does not want to know.
            let _ = done.send(outcome.clone());
        }
    }

    fn exchange(&self, changes: Vec<Change>, current: &Arc<Record>) -> Exchange<Fenced, Result<(), Lost>> {
        let command = Fenced { fence: self.fence, changes };
        Exchange::guessing(command, fresh_nonce(), Some(Arc::clone(current))).noting(None, self.since.elapsed())
    }

    fn settle(&self, done: Option<Done<Result<(), Lost>>>, current: &mut Arc<Record>) -> Result<(), WriteError> {
        let Some(Done { output: Ok(()), record }) = done else {
            self.set_lost();
            return Err(WriteError::Lost);
        };
        if let Some(record) = record {
            self.paid.store(record.status() == Status::Paid, Ordering::Relaxed);
            *current = Arc::new(record);
        }
        Ok(())
    }

    /// Ends the attempt; if a step asked for a human, or the answer would hide
    /// what was done, by parking it. A store
    /// that fails keeps nobody waiting: saving then goes on in the background,
    /// and the claim is not given up.
    pub(crate) async fn end(self: &Arc<Self>, change: Change) -> End {
        let is_first = self.ending.give();
        #[cfg(feature = "metrics")]
        if is_first {
            crate::telemetry::metrics::attempt(self.since.elapsed(), self.claimed.mode());
        }
        #[cfg(not(feature = "metrics"))]
        let _ = is_first;
        if self.since.elapsed().saturating_add(SAVING) >= self.limits.lease {
            // While it is being saved, too.
            self.hold_on();
        }
        let parked = self.parked.get().map(|(_, why)| Change::Park { why: Arc::clone(why) });
        let change = parked.unwrap_or(change);
        let completes = matches!(change, Change::Complete { .. });
        let mut current = self.current.lock().await;
        if self.completed.get().is_some() {
            // A transaction of the work's own, of which it did not see the end.
            self.let_go();
            self.emit_late_doubt();
            return End::Lost(Some(current.as_ref().clone()));
        }
        // Whoever still waits for a write belongs to work that is over.
        let (mut changes, _) = self.take_queue();
        let retry_in = self.retry_in(&change);
        changes.extend(retry_in.map(|retry_in| Change::Postpone { retry_in }));
        changes.push(change);
        let mut exchange = self.exchange(changes, &current);
        if let Err(error) = self.ledger.drive(&self.key, &mut exchange).await {
            self.hold_on();
            self.ledger.unsaved().add(self.key, error.to_string(), false);
            let parks = exchange.writes().is_some_and(|record| record.parked_for().is_some());
            tokio::spawn(Arc::clone(self).save_late(exchange));
            if !parks {
                return End::Unsaved(error);
            }
            self.emit(|| EventKind::Unsaved { error });
            return End::Parked;
        }
        self.let_go();
        let (stored, found) = match exchange.finish() {
            Some(Done { output, record }) => (output.is_ok(), record),
            None => (false, None),
        };
        if !stored {
            self.set_lost();
            return End::Lost(found);
        }
        if let Some(record) = found {
            *current = Arc::new(record);
        }
        if let Some(retry_in) = retry_in {
            self.ledger.due().set(backoff::after(retry_in));
        }
        if let Some(why) = current.parked_for() {
            self.emit(|| EventKind::Parked { why: why.to_string() });
            return End::Parked;
        }
        if completes {
            self.emit_left_out();
        }
        End::Stored
    }

    /// How long the operation rests, if it ends without an answer and someone
    /// else can go on with it.
    fn retry_in(&self, change: &Change) -> Option<Duration> {
        let unanswered = matches!(change, Change::Release | Change::Withdraw);
        // At most once, only what did not happen is run again.
        let again = self.claimed.mode() == Mode::Resumable || matches!(change, Change::Withdraw);
        let resumable = again && self.claimed.request().is_some();
        (unanswered && resumable).then(|| self.limits.backoff.pause(self.claimed.tries()))
    }

    /// How long it rests, once it has ended without an answer, before anyone
    /// goes on with it unasked.
    pub(crate) async fn rests(&self) -> Duration {
        self.current.lock().await.retry_in()
    }

    /// How long ago a step got to where it is.
    pub(crate) async fn step_age(&self, step: &str) -> Option<Duration> {
        self.current.lock().await.step_age(step, self.since.elapsed())
    }

    /// What was last written, as far as this attempt knows.
    pub(crate) async fn current(&self) -> Arc<Record> {
        Arc::clone(&*self.current.lock().await)
    }

    /// Needs no lock: once an attempt ends, nothing else is written.
    async fn save_late(self: Arc<Self>, mut exchange: Exchange<Fenced, Result<(), Lost>>) {
        let saved = self.ledger.persist(&self.key, &mut exchange, self.limits.max_execution).await;
        self.let_go();
        let failed = match (saved, exchange.finish()) {
            (Ok(()), Some(Done { output: Ok(()), .. })) => None,
            (Ok(()), _) => Some("the claim was lost before the store was back".to_owned()),
            (Err(error), _) => Some(error.to_string()),
        };
        match failed {
            None => {
                self.ledger.unsaved().remove(&self.key);
                self.emit(|| EventKind::SavedLate);
            }
            Some(error) => {
                self.ledger.unsaved().add(self.key, error.clone(), true);
                self.emit(|| EventKind::SaveFailed { error });
            }
        }
    }

    /// Renews the lease, at a third of its length, until the attempt ends or
    /// has run for as long as it may.
    pub(crate) async fn keep(self: Arc<Self>) {
        let started = Instant::now();
        let mut renewed = started;
        loop {
            sleep(self.limits.lease / 3).await;
            self.hold_on_while_it_runs();
            if started.elapsed() >= self.limits.max_execution {
                self.emit(|| EventKind::Overdue);
                // What was renewed last runs out; from then on anyone may
                // take over, and the handler should stop.
                sleep(self.limits.lease.saturating_sub(renewed.elapsed())).await;
                self.let_go();
                return self.set_lost();
            }
            match self.write(Change::Renew).await {
                Ok(()) => renewed = Instant::now(),
                Err(WriteError::Lost) => return self.let_go(),
                // Perhaps still ours, perhaps not: whoever is told can stop
                // before the next irrevocable step.
                Err(WriteError::Store(_)) if renewed.elapsed() >= self.limits.lease => self.set_lost(),
                Err(WriteError::Store(_)) => {}
            }
        }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("key", &self.key)
            .field("fence", &self.fence)
            .field("attempt", &self.claimed.attempts())
            .finish_non_exhaustive()
    }
}
