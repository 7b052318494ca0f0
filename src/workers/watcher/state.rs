//! What a watcher keeps from round to round.

use tokio::time::Instant;

use super::classify::Violation;
use super::open_findings::OpenFindings;
use crate::core::Key;
use crate::store::{Cursor, Epoch};
use crate::telemetry::finding::Finding;

/// What one round saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watched {
    /// How many unfinished operations it came across.
    pub scanned: usize,
    /// How many of their records can't be read. The watcher looks at the others all the
    /// same.
    pub unreadable: usize,
    /// How many of them it read closely.
    pub loaded: usize,
    /// There were more; the next round continues from here.
    pub capped: bool,
    /// How many findings are open.
    pub open: usize,
}

/// What is kept from round to round.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) findings: OpenFindings,
    /// Where the last round stopped, if it did before the end.
    pub(super) cursor: Option<Cursor>,
    /// Which pass over all that is unfinished this is.
    pub(super) sweep: u64,
    /// What this pass came across that can't be read, and has no key.
    pub(super) nameless: usize,
    pub(super) store: KnownStore,
}

/// What is known of the store.
#[derive(Debug, Default)]
pub(super) struct KnownStore {
    pub(super) asked: Option<Instant>,
    pub(super) epoch: Option<Epoch>,
    pub(super) forgot: Option<Instant>,
}

pub(super) fn finding(key: Option<Key>, (kind, cause, since): Violation) -> Finding {
    Finding { kind, key, cause, since, over: false }
}
