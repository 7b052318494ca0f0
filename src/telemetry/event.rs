//! What the layer tells whoever listens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::core::{Key, Mode};
use crate::store::StoreError;

/// Something that happened to an operation.
///
/// Keys appear as their hash only. Costs nothing while nobody listens.
///
/// ```
/// use tower_idempotency::{EventKind, IdempotencyLayer, Scope, store::MemoryStore};
///
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).on_event(|event| match &event.kind {
///     EventKind::Replayed => println!("a retry, answered from the store"),
///     kind if kind.wants_a_look() => eprintln!("{:?}: {kind:?}", event.key),
///     _ => {}
/// });
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The operation, where there is one.
    pub key: Option<Key>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// An operation was accepted, to be run in the background.
    Accepted,
    /// A first attempt starts.
    Claimed,
    /// A later attempt starts, from the recovery points of the ones before.
    Resumed {
        /// Which attempt it is; the first is 1.
        attempt: u32,
    },
    /// A step is about to act on the outside world.
    StepBegun {
        /// The step's name.
        step: String,
    },
    /// A step was done, and its result is stored.
    StepSaved {
        /// The step's name.
        step: String,
    },
    /// A step failed for good, and that is stored.
    StepFailed {
        /// The step's name.
        step: String,
    },
    /// A step was not run: an earlier attempt did it.
    StepReplayed {
        /// The step's name.
        step: String,
    },
    /// The operation failed for good: what it did is undone now, latest first.
    Undoing {
        /// The names of the steps, in the order in which they were done.
        steps: Vec<String>,
    },
    /// The answer is stored, and the attempt that gave it did not come to steps
    /// that an earlier one began or paid. **Look**: a release may have dropped them,
    /// or the answer says nothing of what was paid.
    NotReached {
        /// The names of the steps.
        steps: Vec<String>,
    },
    /// The answer is stored.
    Completed {
        /// Its status code.
        status: u16,
        /// Whether its body is; one that is too large or endless is not.
        retained: bool,
    },
    /// A stored answer was given.
    Replayed,
    /// The attempt ended without a final answer. **Look**, if it is at most
    /// once: it will not be run again until someone decides.
    Released {
        /// In [`Mode::Resumable`] a retry resumes.
        mode: Mode,
    },
    /// The attempt ended and nothing had happened.
    Withdrawn,
    /// Nobody can know what happened. **Look**: a human has to decide.
    Parked {
        /// Why.
        why: String,
    },
    /// The handler panicked.
    Panicked,
    /// The attempt lost its claim: someone else took over, or its lease is in
    /// doubt because the store does not answer.
    LeaseLost,
    /// The attempt ran longer than it may keep its lease.
    Overdue,
    /// An attempt of the completer took longer than it may and was cut off.
    /// **Look**, if it happens again: something hangs.
    CutOff {
        /// The steps that were running.
        steps: Vec<String>,
    },
    /// A completer drove an operation to where there is no route for it. **Look**,
    /// if it does not stop with a rolling update: it is tried again, by whichever
    /// process, until its tries are over.
    NoRoute {
        /// What was answered: 404, 405, 421, or 501, which stands for `grpc-status` 12 too.
        status: u16,
    },
    /// A completer's service does not lead to its layer. **Look**: it has stopped.
    /// Told once.
    NotWired {
        /// Why, and what to do.
        why: String,
    },
    /// What should be finished can't be read. **Look**: it stays as it is.
    Unreadable {
        /// Why.
        error: StoreError,
    },
    /// A [`Watcher`](crate::Watcher) found something, or it is over. **Look**,
    /// unless it is over.
    Found {
        /// What it found.
        finding: Box<crate::telemetry::finding::Finding>,
    },
    /// A reconciler found out what an at-most-once operation did.
    Reconciled,
    /// Someone was told of the operation's end: see [`Callback`](crate::Callback).
    CallbackMade {
        /// Which call it was; the first is 1.
        call: u32,
    },
    /// Someone could not be told of the operation's end. **Look**, if it is given
    /// up: nobody is going to be told any more.
    CallbackFailed {
        /// Which call it was; the first is 1.
        call: u32,
        /// What the hook said.
        error: String,
        /// It failed for the last time.
        given_up: bool,
    },
    /// A refusal was answered; its reason.
    Refused {
        /// Why.
        refusal: crate::telemetry::refusal::Refusal,
    },
    /// The store failed.
    StoreFailed {
        /// How.
        error: StoreError,
    },
    /// The true answer was given but could not be stored yet. **Look**: saving
    /// goes on in the background, and if the process dies before it succeeds,
    /// nobody will know the outcome.
    Unsaved {
        /// Why.
        error: StoreError,
    },
    /// An answer that could not be stored at first is stored now.
    SavedLate,
    /// An answer could not be stored. **Look**: the client got it, and no
    /// retry will.
    SaveFailed {
        /// Why.
        error: String,
    },
    /// A header or trailer field was taken for a credential by its name, and is not
    /// kept: a replay and an attempt of a completer's lack it. Told once for a
    /// name, and for no more than a hundred names.
    CredentialDropped {
        /// The field's name.
        name: String,
    },
    /// Credentials were seen under [`Scope::shared`](crate::Scope::shared):
    /// callers share answers. Told once.
    SharedScope,
}

/// Listens to events.
pub(crate) type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// Hands an event to the observer, if there is one, and to `tracing`.
pub(crate) fn emit(observer: Option<&Observer>, key: Option<Key>, kind: impl FnOnce() -> EventKind) {
    if observer.is_none() && !others_listen() {
        return;
    }
    let event = Event { key, kind: kind() };
    #[cfg(feature = "metrics")]
    crate::telemetry::metrics::count(&event.kind);
    #[cfg(feature = "tracing")]
    trace(&event);
    if let Some(observer) = observer {
        // One that panics must not take a claim or a write along. The panic
        // hook has reported it.
        let _ = catch_unwind(AssertUnwindSafe(|| observer(&event)));
    }
}

/// Whether a log or a meter may want it. Whether a meter is installed can't be
/// told.
fn others_listen() -> bool {
    #[cfg(feature = "tracing")]
    if tracing::enabled!(target: "tower_idempotency", tracing::Level::WARN) {
        return true;
    }
    cfg!(feature = "metrics")
}

#[cfg(feature = "tracing")]
fn trace(event: &Event) {
    let key = event.key.map(|key| key.to_string()).unwrap_or_default();
    if event.kind.wants_a_look() {
        tracing::warn!(target: "tower_idempotency", key, event = ?event.kind);
    } else {
        tracing::debug!(target: "tower_idempotency", key, event = ?event.kind);
    }
}

impl EventKind {
    /// Whether somebody should look.
    pub const fn wants_a_look(&self) -> bool {
        if let Self::Found { finding } = self {
            return !finding.over;
        }
        matches!(
            self,
            Self::Parked { .. }
                | Self::NotReached { .. }
                | Self::Released { mode: Mode::AtMostOnce }
                | Self::CallbackFailed { given_up: true, .. }
                | Self::Panicked
                | Self::LeaseLost
                | Self::Overdue
                | Self::CutOff { .. }
                | Self::NoRoute { .. }
                | Self::NotWired { .. }
                | Self::Unreadable { .. }
                | Self::StoreFailed { .. }
                | Self::Unsaved { .. }
                | Self::SaveFailed { .. }
                | Self::SharedScope
        )
    }
}
