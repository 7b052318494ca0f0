//! What is known about one operation.

pub(in crate::core) mod history;
pub(in crate::core) mod reached;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::command::callback::Callback;
use self::history::Past;
use crate::core::message::{arc, piece};
use crate::core::{Fingerprint, KeyForm, StoredRequest, StoredResponse};

/// A point on the store's clock, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A time, in milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time, `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long it takes from `earlier` to this time; zero if that is ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// As good as never, and still a time that every store can keep.
const NEVER: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// Names one state of one record: a fresh nonce for every write.
///
/// Never a counter: counters repeat once a record expired, and two workers
/// would hold one fence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(u64);

impl Version {
    /// The version of this nonce.
    pub const fn new(nonce: u64) -> Self {
        Self(nonce)
    }

    /// The nonce.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The nonce for one more write by whoever minted this one: as good as
    /// drawn anew, without a generator (splitmix64).
    pub(in crate::core) const fn successor(self) -> Self {
        let mut bits = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(bits ^ (bits >> 31))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{:x}", self.0)
    }
}

/// The right to write to a record: the version at which it was claimed.
///
/// A later claim gets another one, and from then on every write under the old
/// one is [`Lost`](crate::core::Lost).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence(pub(in crate::core) Version);

impl Fence {
    /// The fence of the claim that was stored as `version`.
    pub const fn of(version: Version) -> Self {
        Self(version)
    }

    /// The version at which the claim was stored.
    pub const fn version(self) -> Version {
        self.0
    }
}

/// Everything impure that a command needs, handed in from outside.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing else outside")]
pub struct Stamp<'a> {
    /// The store's time when it handed out the record that is decided upon.
    pub now: Timestamp,
    /// The version of the record that is written, if one is.
    pub nonce: Version,
    /// How long ago the writer claimed the operation, by its own clock. Only
    /// for the history.
    pub elapsed: Duration,
    /// The name of the instance that writes. Only for the history.
    pub by: Option<&'a str>,
    /// Whether the end of an operation that this write begins is to be told.
    pub callback: bool,
}

impl Stamp<'_> {
    /// A stamp that says nothing for the history, and asks for no callback.
    pub const fn new(now: Timestamp, nonce: Version) -> Self {
        Self { now, nonce, elapsed: Duration::ZERO, by: None, callback: false }
    }
}

/// What may be done with an operation whose holder is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the two modes of the contract")]
pub enum Mode {
    /// Started at most once, unless the attempt said that nothing happened: by
    /// [`Change::Withdraw`](crate::core::Change::Withdraw), which the layer makes of the
    /// answers that [`Outcome`](crate::Outcome) lists. If it cannot be known whether
    /// it finished, it is not started again until an operator or a reconciler
    /// decides.
    AtMostOnce,
    /// Resumed from its last recovery point.
    Resumable,
}

/// How far an operation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "complete by definition")]
pub enum Status {
    /// Claimed. A step that was begun and has no value is in doubt.
    Pending,
    /// The point of no return is on record.
    Paid,
    /// The answer is fixed.
    Complete,
}

/// The same as [`Status`], with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "complete by definition")]
pub enum Progress {
    /// See [`Status::Pending`].
    Pending,
    /// See [`Status::Paid`].
    Paid,
    /// See [`Status::Complete`].
    Complete {
        /// The answer.
        response: Arc<StoredResponse>,
        /// How long it is remembered, from the moment it was stored.
        retention: Duration,
    },
}

/// Who may go on with an unfinished operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every decision must look at all of them")]
pub enum Hold {
    /// An attempt holds it, until `lease` after its last write.
    Leased {
        /// What its writes must carry.
        fence: Fence,
        /// How long one write keeps the operation held.
        lease: Duration,
    },
    /// Nobody holds it: the attempt ended without an answer.
    Free,
    /// Nobody may go on until a human or a reconciler decides.
    Parked {
        /// Why, in one line.
        why: Arc<str>,
    },
    /// Someone decided that it may be run again, in any [`Mode`].
    Cleared,
}

/// One named step of an operation: a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub(in crate::core) name: Box<str>,
    pub(in crate::core) point: Point,
    /// The version this was written under; a swap to that version is the one
    /// that has to store it.
    pub(in crate::core) written: Version,
    /// By which attempt, and how long after its claim.
    pub(in crate::core) attempt: u32,
    pub(in crate::core) after: Duration,
    /// What it depended on, as a hash.
    pub(in crate::core) input: Option<u64>,
    /// How its key is written, since it was begun.
    pub(in crate::core) key: KeyForm,
    /// It was begun before it was done, and made the operation paid.
    pub(in crate::core) paid: bool,
}

impl Step {
    /// The step's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The attempt that wrote it; the first is 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The hash of what it depended on, if the handler said so.
    pub const fn input(&self) -> Option<u64> {
        self.input
    }

    /// How the key is written that was sent with it, if its intent says so.
    pub const fn key_form(&self) -> KeyForm {
        self.key
    }

    /// How far the step got.
    pub const fn point(&self) -> &Point {
        &self.point
    }
}

/// How far a step got.
///
/// `Debug` shows how large a value is, and not what.
#[derive(Clone, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every decision must look at all of them")]
pub enum Point {
    /// It was begun, and its outcome is unknown.
    Begun,
    /// It was done, with this value.
    Saved(Bytes),
    /// It failed for good, with this error.
    Failed(Bytes),
}

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
    pub(in crate::core) forgiven: u32,
    /// How long after the last write nobody should go on by themselves.
    pub(in crate::core) retry_in: Duration,
    pub(in crate::core) past: Past,
    /// The write that claimed it first also accepted it for later.
    pub(in crate::core) accepted: bool,
    /// Boxed: most records have none, and all are copied often.
    pub(in crate::core) callback: Option<Box<Callback>>,
    pub(in crate::core) request: Option<Arc<StoredRequest>>,
    pub(in crate::core) steps: Vec<Arc<Step>>,
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

    /// Why a human has to decide, if one has to.
    pub(crate) const fn parked_for(&self) -> Option<&Arc<str>> {
        match &self.hold {
            Hold::Parked { why } => Some(why),
            _ => None,
        }
    }

    /// How far it got, with the answer.
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

    /// The answer, once complete.
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

    /// How often it was claimed since it began, or since a human or a
    /// reconciler last decided about it.
    pub const fn tries(&self) -> u32 {
        self.attempts.saturating_sub(self.forgiven)
    }

    /// How long after its last write a free operation rests before anyone goes
    /// on with it unasked. A client's retry need not wait.
    pub const fn retry_in(&self) -> Duration {
        self.retry_in
    }

    /// The request, where someone may have to run it again.
    pub const fn request(&self) -> Option<&Arc<StoredRequest>> {
        self.request.as_ref()
    }

    /// The steps, in the order in which they were first written.
    pub fn steps(&self) -> &[Arc<Step>] {
        &self.steps
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().map(Arc::as_ref).find(|step| &*step.name == name)
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
    pub fn stamped(mut self, at: Timestamp) -> Self {
        self.created_at.get_or_insert(at);
        self.written_at = at;
        self
    }

    /// The same, for a write over a record that was first kept at `created`;
    /// `None` if there was none. A store calls this, with its own clock, on
    /// every record it stores.
    ///
    /// A holder writes from its own copy, which never saw that time; the store
    /// has it. A first claim over an expired record is another operation, and
    /// starts anew.
    #[must_use]
    pub fn stamped_over(mut self, created: Option<Timestamp>, at: Timestamp) -> Self {
        self.created_at = if self.is_first() { None } else { created.or(self.created_at) };
        self.stamped(at)
    }

    /// Whether this is the write that starts the operation: its first claim, or
    /// that it was accepted for later.
    pub fn is_first(&self) -> bool {
        match &self.hold {
            // A claim of what was accepted before has a past.
            Hold::Leased { fence, .. } => self.attempts == 1 && fence.version() == self.version && self.has_no_past(),
            // And so has what someone decided about.
            Hold::Cleared => self.attempts == 0 && self.has_no_past(),
            Hold::Free | Hold::Parked { .. } => false,
        }
    }

    pub(in crate::core) fn has_no_past(&self) -> bool {
        self.past.moments().is_empty()
    }

    /// The same record after its holder is known to be dead: free at once.
    ///
    /// For a store that nobody else can have open, such as a locked file.
    #[must_use]
    pub fn orphaned(mut self, version: Version) -> Self {
        if matches!(self.hold, Hold::Leased { .. }) {
            self.hold = Hold::Free;
            self.version = version;
        }
        self
    }

    /// When something falls due: the end of the retention of a complete record,
    /// the end of the lease of one that is held, and of one that is free when
    /// someone should go on with it unasked. Of one that ended and owes a callback,
    /// when that is to be made.
    ///
    /// A thousand years ahead, if nobody should: a human has to decide, or its
    /// request is not stored and only its caller can go on.
    pub fn due(&self) -> Timestamp {
        self.written_at.after(self.due_in())
    }

    /// How long after its write that is.
    pub(crate) fn due_in(&self) -> Duration {
        if let Some(owed) = self.owed() {
            return owed.rest;
        }
        let only_its_caller = self.request.is_none();
        match (&self.progress, &self.hold, self.mode) {
            (Progress::Complete { retention, .. }, _, _) => *retention,
            (_, Hold::Leased { lease, .. }, _) => *lease,
            (_, Hold::Parked { .. }, _) => NEVER,
            (_, Hold::Cleared, _) | (_, Hold::Free, Mode::Resumable) if only_its_caller => NEVER,
            (_, Hold::Cleared | Hold::Free, _) => self.retry_in,
        }
    }

    /// Whether the record may be forgotten. Only complete ones ever may, and only
    /// once they owe no callback.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.index_class() == Status::Complete && now >= self.due()
    }

    /// How much of its holder's lease is left.
    pub(in crate::core) fn lease_left(&self, now: Timestamp) -> Option<Duration> {
        match &self.hold {
            Hold::Leased { .. } => Some(self.due().since(now)).filter(|left| !left.is_zero()),
            _ => None,
        }
    }

    /// About how many bytes of memory it takes to keep this record: what it holds,
    /// with what is set aside for it.
    pub fn size(&self) -> usize {
        let request = self.request.as_ref().map_or(0, |request| request.held());
        let response = self.response().map_or(0, |response| response.held());
        let callback = self.callback.as_ref().map_or(0, |callback| piece(size_of_val(&**callback)));
        let why = self.parked_for().map_or(0, |why| arc(why.len()));
        let steps: usize = self.steps.iter().map(|step| step.held()).sum();
        let steps = steps + piece(self.steps.capacity() * size_of::<Arc<Step>>());
        size_of::<Self>() + request + response + callback + why + steps + self.past.size()
    }
}

impl Step {
    fn held(&self) -> usize {
        arc(size_of::<Self>()) + piece(self.name.len()) + piece(self.point.len())
    }
}

impl Point {
    fn len(&self) -> usize {
        match self {
            Self::Begun => 0,
            Self::Saved(bytes) | Self::Failed(bytes) => bytes.len(),
        }
    }
}

/// Results are the handler's, and often what a client sent: how much there is.
impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("Begun"),
            Self::Saved(value) => write!(f, "Saved({} bytes)", value.len()),
            Self::Failed(error) => write!(f, "Failed({} bytes)", error.len()),
        }
    }
}
