//! What is known about one operation.

pub(in crate::core) mod callback;
pub(in crate::core) mod entry;
pub(in crate::core) mod history;
pub(in crate::core) mod hold;
pub(in crate::core) mod hollow;
pub(in crate::core) mod label;
pub(in crate::core) mod moves;
pub(in crate::core) mod outlook;
pub(in crate::core) mod reached;
pub(in crate::core) mod reason;
pub(in crate::core) mod sealed;
pub(in crate::core) mod start;
pub(in crate::core) mod step;
pub(in crate::core) mod time;
pub(in crate::core) mod undo;

use std::sync::Arc;
use std::time::Duration;

use self::callback::{Callback, PendingCallback};
use self::entry::History;
use self::hold::{Hold, Mode, Progress, Status};
use self::label::Labels;
use self::step::{Point, Step};
use self::time::{Timestamp, Version};
use self::undo::Undoing;
use crate::core::fingerprint::Fingerprint;
use crate::core::message::{StoredRequest, StoredResponse, arc, piece};

/// As good as never, and still a time that every store can keep.
pub(crate) const NEVER: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// How far behind all that a completer may find a store files what an outbox is to send. What waits
/// for an operator lies much farther.
pub(crate) const OUTGOING: Duration = Duration::from_secs(50 * 365 * 24 * 3600);

/// What is known about one operation: a small head and write-once parts.
///
/// Cloning is cheap: the parts are shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub(in crate::core) version: Version,
    pub(in crate::core) mode: Mode,
    pub(in crate::core) fingerprint: Fingerprint,
    pub(in crate::core) hold: Hold,
    pub(in crate::core) progress: Progress,
    pub(in crate::core) attempts: u32,
    /// How many of them were before the last decision by hand.
    pub(in crate::core) attempts_before_reset: u32,
    /// How long after the last write no completer should go on with it. As it is stored,
    /// and half as large as a `Duration`.
    pub(in crate::core) retry_in_ms: u64,
    pub(in crate::core) history: History,
    /// The write that claimed it first also accepted it for later.
    pub(in crate::core) accepted: bool,
    /// It is a call to another service: an outbox sends its request, and no layer runs it.
    pub(in crate::core) outgoing: bool,
    /// Boxed: most records have none, and all are copied often.
    pub(in crate::core) callback: Option<Box<Callback>>,
    pub(in crate::core) request: Option<Arc<StoredRequest>>,
    pub(in crate::core) steps: Vec<Arc<Step>>,
    pub(in crate::core) undoing: Option<Arc<Undoing>>,
    pub(in crate::core) created_at: Option<Timestamp>,
    pub(in crate::core) written_at: Timestamp,
}

impl Record {
    /// The version; another one for every write.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// What may be done once its holder is gone.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What the claiming request was.
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Who may go on with it.
    pub const fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Why an operator has to decide, if one has to.
    pub(crate) const fn parked_for(&self) -> Option<&Arc<str>> {
        match &self.hold {
            Hold::Parked { why } => Some(why),
            _ => None,
        }
    }

    /// How far it got, with the response.
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How far it got.
    pub const fn status(&self) -> Status {
        match self.progress {
            Progress::Pending => Status::Pending,
            Progress::Paid => Status::Paid,
            Progress::Complete { .. } => Status::Complete,
        }
    }

    /// The response, once complete.
    pub const fn response(&self) -> Option<&Arc<StoredResponse>> {
        match &self.progress {
            Progress::Complete { response, .. } => Some(response),
            _ => None,
        }
    }

    /// How often it was claimed.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How often it was claimed since it began, or since an operator or a
    /// reconciler last decided about it.
    pub const fn tries(&self) -> u32 {
        self.attempts.saturating_sub(self.attempts_before_reset)
    }

    /// How long after its last write a completer leaves a free operation alone. A client's
    /// retry need not wait.
    pub const fn retry_in(&self) -> Duration {
        Duration::from_millis(self.retry_in_ms)
    }

    /// The request, where a completer may have to run it again.
    pub const fn request(&self) -> Option<&Arc<StoredRequest>> {
        self.request.as_ref()
    }

    /// Whether it is a call to another service: an outbox sends its request, and no layer runs it.
    pub const fn is_outgoing(&self) -> bool {
        self.outgoing
    }

    /// Whose operation it is, as JSON, where the layer [keeps](crate::IdempotencyLayer::principal)
    /// that: as long as the request is.
    pub fn principal(&self) -> Option<&[u8]> {
        self.request()?.principal()
    }

    /// The labels by which an operator finds it.
    pub fn labels(&self) -> &Labels {
        self.history.labels()
    }

    /// The steps that were begun and have no result.
    pub(crate) fn in_doubt(&self) -> impl Iterator<Item = &str> {
        let is_begun = |step: &&Arc<Step>| self.history.sealed().is_none() && step.point == Point::Begun;
        self.steps.iter().filter(is_begun).map(|step| &*step.name)
    }

    /// The steps, in the order in which they were first written.
    pub fn steps(&self) -> &[Arc<Step>] {
        &self.steps
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        Step::find(&self.steps, name)
    }

    /// What is undone, if it failed for good and is not complete yet.
    pub fn undoing(&self) -> Option<&Undoing> {
        self.undoing.as_deref()
    }

    /// The steps that are still to be undone, the latest first.
    pub fn left_to_undo(&self) -> impl Iterator<Item = &str> {
        self.undoing().into_iter().flat_map(|plan| plan.left(&self.steps))
    }

    /// The callback that is still to be made for it.
    #[doc(hidden)]
    pub fn pending_callback(&self) -> Option<&PendingCallback> {
        match self.callback.as_deref() {
            Some(Callback::Pending(owed)) => Some(owed),
            _ => None,
        }
    }

    /// Whether the write of this version is what is there, or ended it and only
    /// its callback went on since.
    pub(crate) fn is_of_write(&self, version: Version) -> bool {
        let ended = match self.callback.as_deref() {
            Some(Callback::Pending(PendingCallback { id, .. }) | Callback::Delivered(id) | Callback::GivenUp(id)) => {
                Some(*id)
            }
            _ => None,
        };
        self.version == version || ended == Some(version)
    }

    /// Whether a write that stored this record is to wake a completer, for its callback.
    pub(crate) fn owes_since_now(&self) -> bool {
        self.pending_callback().is_some_and(|owed| owed.id == self.version)
    }

    /// The status that a store files it under: a complete record that still
    /// owes a callback is found, and kept, like an unfinished one.
    ///
    /// For stores, beside [`due`](Self::due); everyone else asks for its
    /// [`status`](Self::status).
    pub(crate) fn index_class(&self) -> Status {
        match self.status() {
            Status::Complete if self.pending_callback().is_some() => Status::Paid,
            status => status,
        }
    }

    /// When the store first kept it; `None` before that.
    pub const fn created_at(&self) -> Option<Timestamp> {
        self.created_at
    }

    /// When the store last kept it.
    pub const fn written_at(&self) -> Timestamp {
        self.written_at
    }

    /// The record as the store keeps it: with the time at which it did. All
    /// lease and retention arithmetic starts from that time.
    ///
    /// A store calls [`stamped_over`](Self::stamped_over), which is this and
    /// keeps the time of creation over later writes.
    #[must_use]
    pub(crate) fn stamped(mut self, at: Timestamp) -> Self {
        self.created_at.get_or_insert(at);
        self.written_at = at;
        self
    }

    /// The record as the store keeps it, with the time at which it did, written over one
    /// that was first kept at `created`; `None` if there was none. A store calls this,
    /// with its own clock, on every record it stores: all lease and retention
    /// arithmetic starts from that time.
    ///
    /// A holder writes from its own copy, which never saw that time; the store
    /// has it. A first claim over an expired record is another operation, and
    /// starts anew.
    #[must_use]
    pub(crate) fn stamped_over(mut self, created: Option<Timestamp>, at: Timestamp) -> Self {
        self.created_at = Some(self.created_over(created, at));
        self.stamped(at)
    }

    /// When it was first kept, as the record that is kept at `at` says.
    pub(in crate::core) fn created_over(&self, created: Option<Timestamp>, at: Timestamp) -> Timestamp {
        let earlier = if self.is_first() { None } else { created.or(self.created_at) };
        earlier.unwrap_or(at)
    }

    /// Whether this is the write that starts the operation: its first claim, or
    /// that it was accepted for later.
    pub(crate) fn is_first(&self) -> bool {
        match &self.hold {
            // A claim of what was accepted before has a past.
            Hold::Leased { fence, .. } => self.attempts == 1 && fence.version() == self.version && self.has_no_past(),
            // And so has what was decided about by hand.
            Hold::Runnable => self.attempts == 0 && self.has_no_past(),
            Hold::Released | Hold::Parked { .. } => false,
        }
    }

    /// Whether there is nothing before its first attempt that stands: it was not
    /// accepted for later, nor decided about.
    pub(crate) fn starts_here(&self) -> bool {
        self.attempts == 1 && self.has_no_past() && !self.accepted
    }

    pub(in crate::core) fn has_no_past(&self) -> bool {
        self.history.entries().is_empty()
    }

    /// The same record after its holder is known to be dead: free at once.
    ///
    /// For a store that no other process can have open, such as a locked file.
    #[must_use]
    pub(crate) fn orphaned(mut self, version: Version) -> Self {
        if matches!(self.hold, Hold::Leased { .. }) {
            self.hold = Hold::Released;
            self.version = version;
        }
        self
    }

    /// When something falls due: the end of the retention of a complete record,
    /// the end of the lease of one that is held, and of one that is free when
    /// a completer should go on with it unasked. Of one that ended and owes a callback,
    /// when that is to be made.
    ///
    /// A thousand years ahead, if none should: an operator has to decide, or its
    /// request is not stored and only its caller can go on. Fifty years later, if it is
    /// [outgoing](Self::is_outgoing) and unfinished: completers do not find it, and an outbox looks
    /// there.
    pub fn due(&self) -> Timestamp {
        self.written_at.after(self.due_in())
    }

    /// How long after its write that is.
    pub(crate) fn due_in(&self) -> Duration {
        let rest = self.rests_for();
        let is_to_be_sent = self.outgoing && rest != NEVER && self.index_class() != Status::Complete;
        if is_to_be_sent { rest.saturating_add(OUTGOING) } else { rest }
    }

    /// When something falls due, for the completer or the outbox that drives it.
    pub(crate) fn falls_due(&self) -> Timestamp {
        self.written_at.after(self.rests_for())
    }

    fn rests_for(&self) -> Duration {
        if let Some(owed) = self.pending_callback() {
            return owed.rest;
        }
        let only_its_caller = self.request.is_none();
        match (&self.progress, &self.hold, self.mode) {
            (Progress::Complete { retention, .. }, _, _) => *retention,
            (_, Hold::Leased { lease, .. }, _) => *lease,
            (_, Hold::Parked { .. }, _) => NEVER,
            (_, Hold::Runnable, _) | (_, Hold::Released, Mode::Resumable) if only_its_caller => NEVER,
            (_, Hold::Runnable | Hold::Released, _) => self.retry_in(),
        }
    }

    /// Whether the record may be forgotten. Only complete ones ever may, and only
    /// once they owe no callback.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.index_class() == Status::Complete && now >= self.due()
    }

    /// Whether it is kept for good, as control records are.
    pub(crate) fn is_kept_for_good(&self) -> bool {
        matches!(self.progress, Progress::Complete { retention: NEVER, .. })
    }

    /// How much longer its response is kept, if it has one.
    pub(in crate::core) fn kept_for(&self, now: Timestamp) -> Option<Duration> {
        match &self.progress {
            Progress::Complete { retention, .. } => Some(self.written_at.after(*retention).since(now)),
            _ => None,
        }
    }

    /// How much of its holder's lease is left.
    pub(crate) fn lease_left(&self, now: Timestamp) -> Option<Duration> {
        match &self.hold {
            Hold::Leased { .. } => Some(self.falls_due().since(now)).filter(|left| !left.is_zero()),
            _ => None,
        }
    }

    /// About how many bytes of memory it takes to keep this record: what it holds,
    /// with what is set aside for it.
    pub(crate) fn size(&self) -> usize {
        let request = self.request.as_ref().map_or(0, |request| request.held());
        let response = self.response().map_or(0, |response| response.held());
        let callback = self.callback.as_ref().map_or(0, |callback| piece(size_of_val(&**callback)));
        let why = self.parked_for().map_or(0, |why| arc(why.len()));
        let steps: usize = self.steps.iter().map(|step| step.held()).sum();
        let steps = steps + piece(self.steps.capacity() * size_of::<Arc<Step>>());
        let undoing = self.undoing().map_or(0, Undoing::held);
        size_of::<Self>() + request + response + callback + why + steps + undoing + self.history.size()
    }
}
