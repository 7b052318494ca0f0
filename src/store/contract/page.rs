//! What a scan looks for, and what it returns.

use crate::core::{Key, Label, Status, Timestamp, Version};

/// What a [`Store::scan`](super::Store::scan) looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every store must handle all of them")]
pub enum Filter {
    /// Unfinished records, held or not.
    Unfinished,
    /// Unfinished records that are [due](crate::core::Record::due): no live lease holds
    /// them, their back-off is over, and they do not wait for an operator. And all
    /// records whose callback is pending and due.
    Lapsed,
    /// Complete records whose retention is over.
    Expired,
    /// Complete records without a pending callback, those that fall due latest first: those
    /// that were completed last, where all are kept for as long.
    Complete,
}

impl Filter {
    /// Whether a scan goes from what falls due latest to what falls due earliest.
    pub(in crate::store) const fn is_latest_first(self) -> bool {
        matches!(self, Self::Complete)
    }

    /// Whether `place` comes after `after` in such a scan.
    #[cfg(any(feature = "redis", feature = "conformance"))]
    pub(in crate::store) fn is_past(self, place: Cursor, after: Cursor) -> bool {
        if self.is_latest_first() { place < after } else { place > after }
    }
}

/// What one page of a scan should contain.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "taken apart by stores")]
pub struct Query {
    /// What to look for.
    pub filter: Filter,
    /// How many records at most, unreadable ones included.
    pub limit: usize,
    /// Where the last page ended.
    pub after: Option<Cursor>,
    /// Only those with this label, of a store that [indexes
    /// labels](super::Store::indexes_labels). A caller looks at each of them itself: the index may
    /// have some that no longer have it.
    pub label: Option<Label>,
}

impl Query {
    /// The first `limit` records that `filter` finds.
    pub const fn new(filter: Filter, limit: usize) -> Self {
        Self { filter, limit, after: None, label: None }
    }

    /// Only those with this label: see [`label`](Self#structfield.label).
    #[must_use]
    pub fn label(mut self, label: Label) -> Self {
        self.label = Some(label);
        self
    }

    /// The page after the one that ended at `cursor`.
    #[must_use]
    pub const fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "built by stores")]
pub struct Cursor {
    /// When the last record of the page falls due, readable or not.
    pub due: Timestamp,
    /// Its key.
    pub key: Key,
}

/// One record that a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "built by stores")]
pub struct Found {
    /// Its key.
    pub key: Key,
    /// Its version when it was found.
    pub version: Version,
    /// What it was [indexed under](super::KeptRecord::index_class).
    pub status: Status,
    /// When it was first stored.
    pub created: Timestamp,
    /// See [`Record::due`](crate::core::Record::due).
    pub due: Timestamp,
}

/// One page of a [`Store::scan`](super::Store::scan).
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "built by stores")]
pub struct Page {
    /// What was found, in the order of the [filter](Filter): earliest due first, or latest.
    pub found: Vec<Found>,
    /// What could not be read.
    pub unreadable: Unreadable,
    /// Where the next page starts; `None` if this was the last.
    pub next: Option<Cursor>,
}

/// What a scan found and could not read: of a newer format, damaged, or not a record.
///
/// A scan skips these. A pass from the first page to the last counts each once.
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
pub(in crate::store) enum Entry {
    Found(Found),
    #[cfg_attr(
        not(any(feature = "redis", feature = "postgres", feature = "sqlite")),
        expect(dead_code, reason = "a memory store reads all that it has")
    )]
    Unreadable(Cursor),
}

impl Entry {
    pub(in crate::store) const fn place(&self) -> Cursor {
        match self {
            Self::Found(found) => Cursor { due: found.due, key: found.key },
            Self::Unreadable(place) => *place,
        }
    }
}

impl Page {
    /// The first `limit` of these, in the order of the filter. What can't be read
    /// takes a place like the others: a page of nothing else goes on, too.
    pub(in crate::store) fn of(mut entries: Vec<Entry>, limit: usize) -> Self {
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

/// What a record is indexed under, as the stores in SQL write it.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(in crate::store) const fn status_code(status: Status) -> i64 {
    match status {
        Status::Pending => 0,
        Status::Paid => 1,
        Status::Complete => 2,
    }
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(in crate::store) const fn status_of(code: i64) -> Option<Status> {
    match code {
        0 => Some(Status::Pending),
        1 => Some(Status::Paid),
        2 => Some(Status::Complete),
        _ => None,
    }
}
