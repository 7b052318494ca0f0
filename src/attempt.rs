//! One granted claim: its writes, its lease, its end.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, oneshot};
use tokio::time::{Instant, sleep};

use crate::core::{Change, Done, Exchange, Fence, Fenced, Key, Lost, Record, Status};
use crate::event::EventKind;
use crate::ledger::{Ledger, fresh_nonce};
use crate::store::StoreError;
use crate::sync::lock;

/// What an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long one write keeps the operation held.
    pub(crate) lease: Duration,
    /// How long the lease is renewed, and how long saving is tried.
    pub(crate) max_execution: Duration,
}

/// The holder of one claim.
pub(crate) struct Attempt {
    ledger: Ledger,
    key: Key,
    fence: Fence,
    limits: Limits,
    /// As it was claimed: what earlier attempts left.
    claimed: Record,
    /// As it was last written. Its lock is what makes the writes of one
    /// operation go one after another.
    current: Arc<AsyncMutex<Record>>,
    /// Changes that wait for the lock; whoever gets it takes them all.
    queue: Mutex<Vec<Queued>>,
    paid: AtomicBool,
    lost: AtomicBool,
    on_lost: Notify,
    nothing_happened: AtomicBool,
}

type Queued = (Change, oneshot::Sender<Result<(), WriteError>>);

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
    /// Someone else took over; this is what is there.
    Lost(Option<Record>),
    /// The store failed. Saving goes on in the background.
    Unsaved(StoreError),
}

impl Attempt {
    pub(crate) fn new(ledger: Ledger, key: Key, fence: Fence, limits: Limits, claimed: Record) -> Arc<Self> {
        Arc::new(Self {
            paid: AtomicBool::new(claimed.status() == Status::Paid),
            current: Arc::new(AsyncMutex::new(claimed.clone())),
            ledger,
            key,
            fence,
            limits,
            claimed,
            queue: Mutex::default(),
            lost: AtomicBool::new(false),
            on_lost: Notify::new(),
            nothing_happened: AtomicBool::new(false),
        })
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) const fn claimed(&self) -> &Record {
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
            End::Stored => self.emit(|| EventKind::Released),
            End::Unsaved(error) => self.emit(|| EventKind::Unsaved { error: error.clone() }),
            End::Lost(_) => {}
        }
    }

    /// Whether the work said that nothing happened.
    pub(crate) fn nothing_happened(&self) -> bool {
        self.nothing_happened.load(Ordering::Relaxed)
    }

    pub(crate) fn set_nothing_happened(&self) {
        self.nothing_happened.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Resolves once the claim is lost, or in doubt.
    pub(crate) async fn lost(&self) {
        let mut notified = std::pin::pin!(self.on_lost.notified());
        // Listen before looking, or the news could slip in between.
        notified.as_mut().enable();
        if !self.is_lost() {
            notified.await;
        }
    }

    fn set_lost(&self) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            self.emit(|| EventKind::LeaseLost);
            self.on_lost.notify_waiters();
        }
    }

    /// Stores one change, together with all others that are ready by then.
    /// Tries as long as the lease may still be ours.
    ///
    /// The write has a task of its own: a caller that stops waiting does not
    /// leave it half done, nor keep others from theirs.
    pub(crate) async fn write(self: &Arc<Self>, change: Change) -> Result<(), WriteError> {
        let (done, outcome) = oneshot::channel();
        lock(&self.queue).push((change, done));
        tokio::spawn(Arc::clone(self).flush());
        outcome.await.unwrap_or(Err(WriteError::Lost))
    }

    async fn flush(self: Arc<Self>) {
        let mut current = Arc::clone(&self.current).lock_owned().await;
        let (changes, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut *lock(&self.queue)).into_iter().unzip();
        if changes.is_empty() {
            return;
        }
        let mut exchange = self.exchange(changes, &current);
        let outcome = match self.ledger.persist(&self.key, &mut exchange, self.limits.lease).await {
            Ok(()) => self.settle(exchange.finish(), &mut current),
            Err(error) => Err(WriteError::Store(error)),
        };
        for done in waiting {
            // Whoever stopped waiting does not want to know.
            let _ = done.send(outcome.clone());
        }
    }

    fn exchange(&self, changes: Vec<Change>, current: &Record) -> Exchange<Fenced, Result<(), Lost>> {
        let command = Fenced { fence: self.fence, changes };
        Exchange::guessing(command, fresh_nonce(), Some(current.clone()))
    }

    fn settle(&self, done: Option<Done<Result<(), Lost>>>, current: &mut Record) -> Result<(), WriteError> {
        let Some(Done { output: Ok(()), record }) = done else {
            self.set_lost();
            return Err(WriteError::Lost);
        };
        if let Some(record) = record {
            self.paid.store(record.status() == Status::Paid, Ordering::Relaxed);
            *current = record;
        }
        Ok(())
    }

    /// Ends the attempt. A store that fails keeps nobody waiting: saving then
    /// goes on in the background, and the claim is not given up.
    pub(crate) async fn end(self: &Arc<Self>, change: Change) -> End {
        let mut current = Arc::clone(&self.current).lock_owned().await;
        let queued = std::mem::take(&mut *lock(&self.queue));
        let (mut changes, waiting): (Vec<_>, Vec<_>) = queued.into_iter().unzip();
        changes.push(change);
        let mut exchange = self.exchange(changes, &current);
        let outcome = self.ledger.drive(&self.key, &mut exchange).await;
        drop(waiting);
        match outcome {
            Ok(()) => match exchange.finish() {
                Some(Done { output: Ok(()), record }) => {
                    if let Some(record) = record {
                        *current = record;
                    }
                    End::Stored
                }
                lost => {
                    self.set_lost();
                    End::Lost(lost.and_then(|done| done.record))
                }
            },
            Err(error) => {
                tokio::spawn(Arc::clone(self).save_late(exchange, current));
                End::Unsaved(error)
            }
        }
    }

    async fn save_late(
        self: Arc<Self>,
        mut exchange: Exchange<Fenced, Result<(), Lost>>,
        current: OwnedMutexGuard<Record>,
    ) {
        let saved = self.ledger.persist(&self.key, &mut exchange, self.limits.max_execution).await;
        drop(current);
        self.emit(|| match (saved, exchange.finish()) {
            (Ok(()), Some(Done { output: Ok(()), .. })) => EventKind::SavedLate,
            (Ok(()), _) => EventKind::SaveFailed { error: "the claim was lost before the store was back".into() },
            (Err(error), _) => EventKind::SaveFailed { error: error.to_string() },
        });
    }

    /// Renews the lease, at a third of its length, until the attempt ends or
    /// has run for as long as it may.
    pub(crate) async fn keep(self: Arc<Self>) {
        let started = Instant::now();
        let mut renewed = started;
        loop {
            sleep(self.limits.lease / 3).await;
            if started.elapsed() >= self.limits.max_execution {
                self.emit(|| EventKind::Overdue);
                // What was renewed last runs out; from then on anyone may
                // take over, and the handler should stop.
                sleep(self.limits.lease.saturating_sub(renewed.elapsed())).await;
                return self.set_lost();
            }
            match self.write(Change::Renew).await {
                Ok(()) => renewed = Instant::now(),
                Err(WriteError::Lost) => return,
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
