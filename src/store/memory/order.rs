//! Where a record waits for what comes next.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::core::{Record, Status, Timestamp};
use crate::store::contract::Cursor;

/// Which list a record is in. Each is in exactly one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Unfinished,
    /// Complete, and may make room for others.
    Droppable,
    /// Complete, and kept for good.
    Permanent,
}

impl Class {
    pub(super) fn of(record: &Record) -> Self {
        match record.index_class() {
            Status::Complete if record.is_kept_for_good() => Self::Permanent,
            Status::Complete => Self::Droppable,
            Status::Pending | Status::Paid => Self::Unfinished,
        }
    }
}

/// The places of the records of one class, in the order in which they fall due.
#[derive(Default)]
pub(super) struct Order {
    places: BTreeSet<Cursor>,
    /// How many places were looked at.
    #[cfg(test)]
    pub(super) looks: std::cell::Cell<usize>,
}

/// A part of an [`Order`], from either end.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// What falls due by then.
    pub(super) until: Option<Timestamp>,
    pub(super) after: Option<Cursor>,
    pub(super) latest_first: bool,
}

impl Order {
    pub(super) fn insert(&mut self, place: Cursor) {
        self.places.insert(place);
    }

    pub(super) fn remove(&mut self, place: &Cursor) {
        self.places.remove(place);
    }

    /// Takes the place that falls due first, if it does by `limit`.
    pub(super) fn take_first(&mut self, limit: Option<Timestamp>) -> Option<Cursor> {
        let first = self.places.first()?;
        if limit.is_some_and(|limit| first.due > limit) {
            return None;
        }
        self.places.pop_first()
    }

    /// How many fall due by `until`; `most`, if there are as many or more.
    pub(super) fn count(&self, until: Option<Timestamp>, most: usize) -> usize {
        match until {
            None => self.places.len().min(most),
            Some(_) => self.span(Span { until, after: None, latest_first: false }).take(most).count(),
        }
    }

    /// The places of a span, one after another.
    pub(super) fn span(&self, span: Span) -> impl Iterator<Item = &Cursor> {
        let Span { until, after, latest_first } = span;
        let past = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut forward, mut backward) = (None, None);
        match latest_first {
            true => backward = Some(self.places.range((Bound::Unbounded, past)).rev()),
            false => forward = Some(self.places.range((past, Bound::Unbounded))),
        }
        let places = forward.into_iter().flatten().chain(backward.into_iter().flatten());
        #[cfg(test)]
        let places = places.inspect(|_| self.looks.set(self.looks.get() + 1));
        places.take_while(move |place| until.is_none_or(|until| place.due <= until))
    }
}
