//! One of the parts that the records are spread over, each behind a lock of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;

use foldhash::fast::RandomState;

use super::order::{Class, Order};
use crate::core::{Key, Label, Packed, Record, Status, Timestamp, Version};
use crate::store::contract::{Cursor, Found};

#[derive(Default)]
pub(super) struct Shard {
    records: HashMap<Key, Kept, RandomState>,
    /// Each record once, in the one of its class.
    orders: [Order; 3],
}

/// A record as it is kept. Boxed: the table stays small, and what is written over one that is not
/// complete takes its place.
pub(super) enum Kept {
    Whole(Box<Slot>),
    /// As most complete ones are, which are read seldom and are many. It has no labels.
    Packed(Packed),
}

pub(super) struct Slot {
    record: Record,
    /// As it was counted.
    size: usize,
    /// Where it waits: what its record says, which need not be asked again.
    turn: (Class, Timestamp),
}

/// About how many bytes the places of a record take in the tables, which have room for some more
/// than they hold.
const PLACES: usize = (size_of::<(Key, Kept)>() + 1) * 8 / 5 + size_of::<Cursor>() * 8 / 5;

/// About how many bytes a record takes here, before it is complete.
pub(super) fn held(record: &Record) -> usize {
    size_of::<Slot>() - size_of::<Record>() + record.size() + PLACES
}

impl Slot {
    /// Of a record that is kept at `now` over one that was first kept at `created`.
    fn of(next: &Record, created: Option<Timestamp>, now: Timestamp) -> Self {
        let record = next.clone().stamped_over(created, now);
        Self { size: held(&record), turn: (Class::of(&record), record.due()), record }
    }
}

impl Kept {
    /// A record that is kept at `now`, for the first time.
    fn of(next: &Record, now: Timestamp) -> Self {
        Packed::of(next, None, now).map_or_else(|| Self::Whole(Box::new(Slot::of(next, None, now))), Self::Packed)
    }

    /// Puts a record in its place.
    fn put(&mut self, next: &Record, now: Timestamp) {
        let created = self.created_at();
        match (self, Packed::of(next, created, now)) {
            (Self::Whole(slot), None) => **slot = Slot::of(next, created, now),
            (kept, None) => *kept = Self::Whole(Box::new(Slot::of(next, created, now))),
            (kept, Some(packed)) => *kept = Self::Packed(packed),
        }
    }

    fn record(&self) -> Record {
        match self {
            Self::Whole(slot) => slot.record.clone(),
            Self::Packed(packed) => packed.record(),
        }
    }

    fn version(&self) -> Version {
        match self {
            Self::Whole(slot) => slot.record.version(),
            Self::Packed(packed) => packed.version(),
        }
    }

    fn index_class(&self) -> Status {
        match self {
            Self::Whole(slot) => slot.record.index_class(),
            Self::Packed(_) => Status::Complete,
        }
    }

    fn created_at(&self) -> Option<Timestamp> {
        match self {
            Self::Whole(slot) => slot.record.created_at(),
            Self::Packed(packed) => Some(packed.created_at()),
        }
    }

    fn turn(&self) -> (Class, Timestamp) {
        match self {
            Self::Whole(slot) => slot.turn,
            Self::Packed(packed) => {
                let (due, is_kept_for_good) = packed.due();
                (if is_kept_for_good { Class::Permanent } else { Class::Droppable }, due)
            }
        }
    }

    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Whole(slot) => slot.size,
            Self::Packed(packed) => packed.size() + PLACES,
        }
    }
}

impl Shard {
    /// The record, on its own.
    pub(super) fn record(&self, key: &Key) -> Option<Record> {
        self.records.get(key).map(Kept::record)
    }

    pub(super) fn version(&self, key: &Key) -> Option<Version> {
        self.records.get(key).map(Kept::version)
    }

    pub(super) const fn order(&self, class: Class) -> &Order {
        &self.orders[class as usize]
    }

    /// If what is at `key` is at `expected`, puts `next` there: how many bytes that takes, and
    /// how many what was there took. `None` if something else is there.
    pub(super) fn swap(
        &mut self,
        key: &Key,
        expected: Option<Version>,
        next: &Record,
        now: Timestamp,
    ) -> Option<(usize, Option<usize>)> {
        let place = self.records.entry(*key);
        let current = match &place {
            Place::Occupied(old) => Some(old.get()),
            Place::Vacant(_) => None,
        };
        if current.map(Kept::version) != expected {
            return None;
        }
        let (old_turn, old_size) = current.map(|old| (old.turn(), old.size())).unzip();
        let kept = match place {
            Place::Occupied(old) => {
                let kept = old.into_mut();
                kept.put(next, now);
                kept
            }
            Place::Vacant(place) => place.insert(Kept::of(next, now)),
        };
        let (turn, size) = (kept.turn(), kept.size());
        if old_turn != Some(turn) {
            if let Some((class, due)) = old_turn {
                self.orders[class as usize].remove(&Cursor { due, key: *key });
            }
            let (class, due) = turn;
            self.orders[class as usize].insert(Cursor { due, key: *key });
        }
        Some((size, old_size))
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Kept> {
        let kept = self.records.remove(key)?;
        let (class, due) = kept.turn();
        self.orders[class as usize].remove(&Cursor { due, key: *key });
        Some(kept)
    }

    /// The complete record that expires first, if it does before `limit`.
    pub(super) fn take_complete(&mut self, limit: Option<Timestamp>) -> Option<Kept> {
        let place = self.orders[Class::Droppable as usize].take_first(limit)?;
        self.records.remove(&place.key)
    }

    /// What a scan tells of the record at this place, if it has the label.
    pub(super) fn found(&self, place: &Cursor, label: Option<&Label>) -> Option<Found> {
        let kept = self.records.get(&place.key)?;
        let has_label = label.is_none_or(|label| match kept {
            Kept::Whole(slot) => slot.record.labels().has(label),
            Kept::Packed(_) => false,
        });
        has_label.then(|| Found {
            key: place.key,
            version: kept.version(),
            status: kept.index_class(),
            created: kept.created_at().unwrap_or_default(),
            due: place.due,
        })
    }
}
