//! One granted claim: its writes, its lease, its end.
//!
//! What an attempt knows is here. `writer` stores what it does, in its `turn`; `lease` renews its
//! claim (`renewal` from when on), `outcome` ends it, `reached` says which steps it came to, `reason` why it ends without
//! a response.

mod lease;
mod outcome;
mod reached;
pub(crate) mod reason;
pub(crate) mod renewal;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod transaction;
mod turn;
mod writer;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, SetOnce, oneshot};
use tokio::time::Instant;

use crate::core::{Change, Fence, Key, NotStarted, Record, Reference, Standing, Start, Status, StoredResponse};
use crate::engine::Engine;
use crate::engine::drain::Listed;
use crate::engine::limits::Limits;
use crate::engine::operation::shared::Handled;
use crate::engine::process::InHandGuard;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;

/// The holder of one claim.
pub(crate) struct Attempt {
    engine: Engine,
    key: Key,
    fence: Fence,
    since: Instant,
    limits: Limits,
    /// As it was claimed: what earlier attempts left.
    claimed: Record,
    writer: Writer,
    lease: Lease,
    ending: Ending,
    steps: Steps,
    handled: Handled,
}

/// What was written, and what is to be.
struct Writer {
    /// The writes of one operation go one after another: one has the turn at a time.
    turn: Semaphore,
    /// The record, as this attempt last wrote it; `None` while it is as it was claimed, and while
    /// a caller has the turn.
    current: Mutex<Option<Arc<Record>>>,
    /// The task that gets the turn takes all that is in it.
    queue: Mutex<Queue>,
    /// A step's result went along once.
    defers: AtomicBool,
    paid: AtomicBool,
}

/// Changes that are to be written.
#[derive(Default)]
struct Queue {
    /// Those that go with the next write, whatever that is about, and before it.
    along: Vec<Change>,
    /// Those that wait for their turn.
    waiting: Vec<(Change, Option<Waiting>)>,
}

/// Whether the claim still holds.
#[derive(Default)]
struct Lease {
    lost: SetOnce<()>,
    /// A task renews it.
    renewed: AtomicBool,
    hands: Mutex<Hands>,
}

/// What others of this process know of the attempt.
#[derive(Default)]
struct Hands {
    /// Set once the lease may be over, and until this process no longer goes on with
    /// the operation.
    in_hand: Option<InHandGuard>,
    /// Set once the work had to wait, or its end has to, until that is stored.
    listed: Option<Listed>,
}

/// What is known of the end.
#[derive(Default)]
struct Ending {
    /// The work is over; nothing is written any more but its end.
    over: SetOnce<()>,
    nothing_happened: AtomicBool,
    /// Why an operator has to look, and which step it was about; the first step
    /// that said so counts.
    parked: OnceLock<(Box<str>, Arc<str>)>,
    /// The response, once the work has stored it itself, in a transaction.
    completed: OnceLock<Arc<StoredResponse>>,
    unanswered: Mutex<Option<Box<Unanswered>>>,
}

/// What is known of why it ends without a response. Most attempts end with one.
#[derive(Default)]
struct Unanswered {
    /// What the work itself came to.
    why: Option<String>,
    /// The step that failed last, and its error.
    step: Option<(Box<str>, String)>,
    /// The line that is stored, once it is.
    line: Option<Arc<str>>,
    /// How long it is to rest at least, as a receiver asked.
    rest: Duration,
}

/// Which steps the work came to.
#[derive(Default)]
struct Steps {
    /// Those that run now.
    running: Mutex<Vec<Box<str>>>,
    /// Those of earlier attempts to which this one came.
    reached: Mutex<Vec<Box<str>>>,
    /// It came to a step, of an earlier attempt's or a new one.
    at_work: AtomicBool,
}

type Waiting = oneshot::Sender<Result<(), WriteError>>;

/// Why a write did not take.
#[derive(Clone, Debug)]
pub(crate) enum WriteError {
    Lost,
    Store(StoreError),
}

/// How an attempt ended.
pub(crate) enum End {
    /// As the work meant it to end.
    Stored,
    /// A step asked for an operator, whatever else the work said.
    Parked,
    /// Another holder took over; this is what is there.
    Lost(Option<Record>),
    /// The store failed. Saving goes on in the background.
    Unsaved(StoreError),
}

impl Attempt {
    /// Of a claim that was granted not before `since`, and hardly later.
    pub(crate) fn new(
        engine: Engine,
        key: Key,
        fence: Fence,
        limits: Limits,
        claimed: Record,
        since: Instant,
    ) -> Arc<Self> {
        let writer = Writer {
            turn: Semaphore::new(1),
            current: Mutex::default(),
            queue: Mutex::default(),
            defers: AtomicBool::new(false),
            paid: AtomicBool::new(claimed.status() == Status::Paid),
        };
        Arc::new(Self {
            engine,
            key,
            fence,
            since,
            limits,
            claimed,
            writer,
            lease: Lease::default(),
            ending: Ending::default(),
            steps: Steps::default(),
            handled: Handled::default(),
        })
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    /// Which attempt it is; the first is 1.
    pub(crate) const fn number(&self) -> u32 {
        self.claimed.attempts()
    }

    pub(crate) const fn claimed(&self) -> &Record {
        &self.claimed
    }

    /// What its handler did.
    pub(crate) const fn handled(&self) -> &Handled {
        &self.handled
    }

    pub(crate) fn status(&self) -> Status {
        if self.writer.paid.load(Ordering::Relaxed) { Status::Paid } else { Status::Pending }
    }

    pub(crate) fn emit(&self, kind: impl FnOnce() -> EventKind) {
        self.engine.emit_of(Reference { key: self.key, attempt: self.number() }, kind);
    }

    /// What was last written, as far as this attempt knows.
    pub(crate) async fn current(&self) -> Arc<Record> {
        Arc::clone(&*self.turn().await)
    }

    /// How long ago a step was begun that is in doubt.
    pub(crate) async fn doubt_age(&self, step: &str) -> Option<Duration> {
        self.current().await.doubt_age(step, self.since.elapsed())
    }

    /// How long ago it was decided what is undone.
    pub(crate) async fn undoing_age(&self) -> Option<Duration> {
        self.current().await.undoing_age(self.since.elapsed())
    }

    /// Whether the work is over: what it left running stores nothing any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ending.over.initialized()
    }

    /// Whether that may start now.
    pub(crate) fn check(&self, start: Start, is_undoing: bool) -> Result<(), NotStarted> {
        start.check(Standing { has_ended: self.has_ended(), is_undoing, in_doubt: self.parked() })
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
