//! Times, versions, and all else that comes from outside.

use std::fmt;
use std::time::Duration;

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
        Self(self.0.saturating_add(millis(duration)))
    }

    /// How long it takes from `earlier` to this time; zero if that is ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// As records keep it. What does not fit is as good as for ever.
pub(in crate::core) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

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

    /// The nonce for one more write by the writer that minted this one: as good as
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
    /// Whether an operation that this write begins has a callback.
    pub callback: bool,
    /// Whether the writer's process still runs the operation itself, or still has to store
    /// how it ended: then a lease that is over does not say that it is abandoned.
    pub in_hand: bool,
    /// Which work the writer's process may begin.
    pub intake: Intake,
}

/// Which work a process may begin. What it has begun it finishes, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every command that begins something must know all of them")]
pub enum Intake {
    /// Any.
    #[default]
    Open,
    /// What is on record already: a retry may resume it, and no key becomes a new operation.
    OnRecord,
    /// None.
    Closed,
}

impl Stamp<'_> {
    /// A stamp that says nothing for the history, asks for no callback, and lets anything begin.
    pub const fn new(now: Timestamp, nonce: Version) -> Self {
        Self { now, nonce, elapsed: Duration::ZERO, by: None, callback: false, in_hand: false, intake: Intake::Open }
    }
}
