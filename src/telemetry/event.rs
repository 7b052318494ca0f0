//! Events: what the layer and its workers report.

use std::time::Duration;

use crate::core::{Key, Mode, Reference, Timestamp};
use crate::store::StoreError;
use crate::telemetry::scheduled::ScheduleTurn;

/// Something that happened to an operation.
///
/// Keys appear as their hash only. An event is built only if an observer, `tracing` or
/// `metrics` listens.
///
/// ```
/// use tower_idempotency::{Engine, EventKind, store::MemoryStore};
///
/// let engine = Engine::new(MemoryStore::new()).on_event(|event| match &event.kind {
///     EventKind::Replayed => println!("a retry got the stored response"),
///     kind if kind.needs_attention() => eprintln!("{:?}: {kind:?}", event.key),
///     _ => {}
/// });
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The operation, where there is one.
    pub key: Option<Key>,
    /// Which attempt of it, where it is about one; the first is 1.
    pub attempt: Option<u32>,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// The attempt that it is about, as problems and log lines name it, and
    /// [`Operator::find_by_reference`](crate::Operator::find_by_reference) finds it. `None` if it
    /// is about no attempt.
    ///
    /// ```
    /// use tower_idempotency::{Engine, store::MemoryStore};
    ///
    /// let engine = Engine::new(MemoryStore::new()).on_event(|event| {
    ///     if let Some(reference) = event.reference() {
    ///         println!("{reference}: {}", event.kind);
    ///     }
    /// });
    /// ```
    pub fn reference(&self) -> Option<Reference> {
        Some(Reference { key: self.key?, attempt: self.attempt? })
    }
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// An operation was accepted, to be run in the background, or a call by an outbox.
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
    /// A step failed with a final error, and the error is stored.
    StepFailed {
        /// The step's name.
        step: String,
    },
    /// A step was not run: an earlier attempt did it.
    StepReplayed {
        /// The step's name.
        step: String,
    },
    /// The operation failed for good: its finished steps are undone now, latest first.
    Undoing {
        /// The names of the steps, in the order in which they were done.
        steps: Vec<String>,
    },
    /// The response is stored, and the attempt that gave it did not get to steps that
    /// an earlier one began or paid. **Needs attention**: a release may have dropped
    /// them, or the response says nothing of what was paid.
    NotReached {
        /// The names of the steps.
        steps: Vec<String>,
    },
    /// The response is stored.
    Completed {
        /// Its status code.
        status: u16,
        /// Whether its body is stored; one that is too large or endless is not.
        retained: bool,
    },
    /// A retry got the stored response.
    Replayed,
    /// The attempt ended without a final response. In at-most-once mode this **needs
    /// attention**: the operation is not run again until an operator decides.
    Released {
        /// In [`Mode::Resumable`] a retry resumes.
        mode: Mode,
        /// Why, as the history shows it: see [the guide](crate::guide::operations#reasons).
        reason: Option<String>,
    },
    /// The attempt ended and nothing had happened.
    Withdrawn {
        /// Why, as the history shows it, unless the record is gone.
        reason: Option<String>,
    },
    /// The operation is parked. **Needs attention**: an operator has to decide.
    Parked {
        /// The reason, as it is on record.
        why: String,
    },
    /// The handler panicked. **Needs attention.**
    Panicked,
    /// The attempt lost its claim: another attempt took over, or its lease is in doubt
    /// because the store does not reply. **Needs attention.**
    LeaseLost,
    /// The attempt ran longer than it may keep its lease. **Needs attention.**
    Overdue,
    /// An attempt of the completer took longer than it may and was cut off. **Needs
    /// attention**, if it happens again: something hangs.
    CutOff {
        /// The steps that were running.
        steps: Vec<String>,
    },
    /// A completer's service has no route for an operation. **Needs attention**, if it
    /// does not stop after a rolling update: processes try it again until its tries are
    /// used up.
    NoRoute {
        /// The status of the response: 404, 405, 421, or 501, which stands for
        /// `grpc-status` 12 too.
        status: u16,
    },
    /// A completer's service does not lead to its layer. **Needs attention**: the
    /// completer has stopped. Emitted once.
    NotWired {
        /// How the completer noticed, and what to do.
        why: String,
    },
    /// A record that should be finished can't be read. **Needs attention**: it stays as
    /// it is.
    Unreadable {
        /// What the store says of it.
        error: StoreError,
    },
    /// A [`Watcher`](crate::Watcher) has a finding. **Needs attention**, unless the
    /// finding is over.
    Found {
        /// The finding.
        finding: Box<crate::telemetry::finding::Finding>,
    },
    /// An operator decided about the operation.
    Decided {
        /// What: `run again`, say, as the history shows it; `forget`, if the record was removed.
        what: &'static str,
        /// Who, if the [`Operator`](crate::Operator) was told.
        who: Option<String>,
        /// Why, if the operator said so.
        why: Option<String>,
    },
    /// A reconciler found out what an at-most-once operation did.
    Reconciled,
    /// The operation's callback was delivered: see [`Callback`](crate::Callback).
    CallbackDelivered {
        /// Which call it was; the first is 1.
        call: u32,
    },
    /// The operation's callback failed. **Needs attention**, if it is given up: it is
    /// not called again.
    CallbackFailed {
        /// Which call it was; the first is 1.
        call: u32,
        /// The hook's error.
        error: String,
        /// It failed for the last time.
        given_up: bool,
    },
    /// The layer refused a request.
    Refused {
        /// The reason.
        refusal: crate::telemetry::refusal::Refusal,
    },
    /// A call to the store failed. **Needs attention**, unless it only repeats what an earlier
    /// event said.
    StoreFailed {
        /// Its error.
        error: StoreError,
        /// An earlier call of this process failed, and the store is
        /// [not back](Self::StoreBack) since.
        repeated: bool,
    },
    /// The store was lost, and responds again. Emitted once for an outage and process.
    StoreBack,
    /// The client got the true response, which could not be stored yet. **Needs
    /// attention**: saving goes on in the background, and if the process dies before it
    /// succeeds, the outcome is unknown.
    Unsaved {
        /// The store's error.
        error: StoreError,
    },
    /// A [drain](crate::IdempotencyLayer::drain) has begun: new work is refused. Emitted once.
    DrainBegun {
        /// How long it may take.
        deadline: Duration,
    },
    /// A drain is over. **Needs attention**, if anything was left: the deadline is shorter than
    /// what was running. Emitted once.
    DrainEnded {
        /// What was left.
        left: Box<crate::telemetry::drained::Drained>,
    },
    /// A [maintenance window](crate::guide::maintenance) has begun to refuse new work in this
    /// process. Emitted once for a window.
    MaintenanceBegun {
        /// The window's id.
        window: String,
        /// Why, as the operator wrote it.
        reason: String,
        /// When it ends, on the store's clock.
        until: Timestamp,
    },
    /// A maintenance window is over in this process: its time has come, or an operator ended it.
    /// Emitted once for a window.
    MaintenanceEnded {
        /// The window's id.
        window: String,
    },
    /// What became of a run of a [schedule](crate::guide::schedules). **Needs attention**, if it
    /// is given up or in doubt. The process emits it that did the run, once it is on record; if
    /// that process dies just then, no process does.
    Schedule {
        /// The schedule's name.
        schedule: String,
        /// The period's name.
        period: String,
        /// What became of it.
        turn: ScheduleTurn,
    },
    /// A response that could not be stored at first is stored now.
    SavedLate,
    /// A response could not be stored. **Needs attention**: the client got it, and no
    /// retry will.
    SaveFailed {
        /// The last error.
        error: String,
    },
    /// A header or trailer field was taken for a credential by its name, and is not
    /// kept: a replay and an attempt of a completer's lack it. Emitted once for a
    /// name, and for no more than a hundred names.
    CredentialDropped {
        /// The field's name.
        name: String,
    },
    /// A [hook](crate::IdempotencyLayer::redact_request) panicked, or made a request larger
    /// or response larger than its limit: the layer does not store the request, or stores the
    /// response without its body. **Needs attention.**
    RedactionFailed {
        /// Whether it was called for a request; if not, for a response.
        request: bool,
    },
    /// Credentials were seen under [`Scope::shared`](crate::Scope::shared):
    /// callers share responses. Emitted once. **Needs attention.**
    SharedScope,
    /// A request carried a key and its method is not covered: it ran without protection.
    /// Emitted once for methods of HTTP, and once for those of gRPC. **Needs attention**: see
    /// [`IdempotencyLayer::methods`](crate::IdempotencyLayer::methods) and
    /// [`grpc_methods`](crate::IdempotencyLayer::grpc_methods).
    KeyIgnored {
        /// Its method; of a call of gRPC, `/package.Service/Method`.
        method: String,
    },
}

impl EventKind {
    /// Whether an operator should look into it.
    pub const fn needs_attention(&self) -> bool {
        if let Self::Found { finding } = self {
            return !finding.over;
        }
        if let Self::DrainEnded { left } = self {
            return !left.is_empty();
        }
        matches!(
            self,
            Self::Parked { .. }
                | Self::NotReached { .. }
                | Self::Released { mode: Mode::AtMostOnce, .. }
                | Self::CallbackFailed { given_up: true, .. }
                | Self::Panicked
                | Self::LeaseLost
                | Self::Overdue
                | Self::CutOff { .. }
                | Self::NoRoute { .. }
                | Self::NotWired { .. }
                | Self::Unreadable { .. }
                | Self::StoreFailed { repeated: false, .. }
                | Self::Unsaved { .. }
                | Self::SaveFailed { .. }
                | Self::RedactionFailed { .. }
                | Self::SharedScope
                | Self::KeyIgnored { .. }
                | Self::Schedule { turn: ScheduleTurn::GivenUp { .. } | ScheduleTurn::InDoubt, .. }
        )
    }

    /// Whether it is worth a line at the level that most programs show.
    #[cfg(feature = "tracing")]
    pub(crate) const fn is_news(&self) -> bool {
        matches!(
            self,
            Self::Resumed { .. }
                | Self::StoreBack
                | Self::SavedLate
                | Self::Undoing { .. }
                | Self::Reconciled
                | Self::Found { .. }
                | Self::DrainBegun { .. }
                | Self::DrainEnded { .. }
                | Self::Decided { .. }
                | Self::MaintenanceBegun { .. }
                | Self::MaintenanceEnded { .. }
                | Self::Schedule { turn: ScheduleTurn::Failed { .. } | ScheduleTurn::PassedOver { .. }, .. }
        )
    }
}
