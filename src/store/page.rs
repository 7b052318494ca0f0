//! What a scan returns.

use super::{Cursor, Found};
use crate::core::Key;

/// One page of a [`Store::scan`](super::Store::scan).
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "built by stores")]
pub struct Page {
    /// What was found, earliest due first.
    pub found: Vec<Found>,
    /// What could not be read.
    pub unreadable: Unreadable,
    /// Where the next page starts; `None` if this was the last.
    pub next: Option<Cursor>,
}

/// What a scan found and could not read: of a newer format, damaged, or not a record.
///
/// A scan goes past it. A pass from the first page to the last counts each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by stores")]
pub struct Unreadable {
    /// How many.
    pub count: usize,
    /// The keys of some: of those that have one, at most as many as the query's
    /// [limit](super::Query::limit).
    pub keys: Vec<Key>,
}

/// What lies at one place of a scan.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    Found(Found),
    #[cfg_attr(
        not(any(feature = "redis", feature = "postgres", feature = "sqlite")),
        expect(dead_code, reason = "a memory store reads all that it has")
    )]
    Unreadable(Cursor),
}

impl Entry {
    pub(super) const fn place(&self) -> Cursor {
        match self {
            Self::Found(found) => Cursor { due: found.due, key: found.key },
            Self::Unreadable(place) => *place,
        }
    }
}

impl Page {
    /// The first `limit` of these, which are in their order. What can't be read
    /// takes a place like the others: a page of nothing else goes on, too.
    pub(super) fn of(mut entries: Vec<Entry>, limit: usize) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().map(Entry::place).filter(|_| more);
        let mut page = Self { next, ..Self::default() };
        for entry in entries {
            match entry {
                Entry::Found(found) => page.found.push(found),
                Entry::Unreadable(place) => page.unreadable.add(place.key),
            }
        }
        page
    }
}

impl Unreadable {
    /// One more, with this key.
    pub(crate) fn add(&mut self, key: Key) {
        self.count += 1;
        self.keys.push(key);
    }

    /// Those whose keys are not known.
    pub(crate) const fn nameless(&self) -> usize {
        self.count.saturating_sub(self.keys.len())
    }
}
