//! One of the parts that the records are spread over, each behind a lock of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;

use foldhash::fast::RandomState;

use super::order::{Class, Order};
use crate::core::{Key, Record, Timestamp, Version};
use crate::store::contract::{Cursor, Found};

#[derive(Default)]
pub(super) struct Shard {
    /// Boxed: the table stays small, and a record is overwritten in its place.
    records: HashMap<Key, Box<Slot>, RandomState>,
    /// Each record once, in the one of its class.
    orders: [Order; 3],
}

pub(super) struct Slot {
    record: Record,
    /// As it was counted.
    pub(super) size: usize,
    /// Where it waits: what its record says, which need not be asked again.
    turn: (Class, Timestamp),
}

/// About how many bytes a record takes here: with its places in the tables, which
/// have room for some more than they hold.
pub(super) fn held(record: &Record) -> usize {
    const PLACE: usize = (size_of::<(Key, Box<Slot>)>() + 1) * 8 / 5;
    const TURN: usize = size_of::<Cursor>() * 8 / 5;
    size_of::<Slot>() - size_of::<Record>() + record.size() + PLACE + TURN
}

impl Shard {
    pub(super) fn record(&self, key: &Key) -> Option<&Record> {
        self.records.get(key).map(|kept| &kept.record)
    }

    pub(super) const fn order(&self, class: Class) -> &Order {
        &self.orders[class as usize]
    }

    /// If what is at `key` is at `expected`, puts `next` there: the size of what was there.
    /// Otherwise what is there.
    pub(super) fn swap(
        &mut self,
        key: &Key,
        expected: Option<Version>,
        next: &Record,
        (now, size): (Timestamp, usize),
    ) -> Result<Option<usize>, Option<&Record>> {
        let place = self.records.entry(*key);
        let current = match &place {
            Place::Occupied(old) => Some(&old.get().record),
            Place::Vacant(_) => None,
        };
        if current.map(Record::version) != expected {
            return Err(match place {
                Place::Occupied(old) => Some(&old.into_mut().record),
                Place::Vacant(_) => None,
            });
        }
        let record = next.clone().stamped_over(current.and_then(Record::created_at), now);
        let turn = (Class::of(&record), record.due());
        let kept = Slot { record, size, turn };
        let old = match place {
            Place::Occupied(mut old) => Some(std::mem::replace(&mut **old.get_mut(), kept)),
            Place::Vacant(place) => {
                place.insert(Box::new(kept));
                None
            }
        };
        let (old_turn, old_size) = old.map(|old| (old.turn, old.size)).unzip();
        if old_turn != Some(turn) {
            if let Some((class, due)) = old_turn {
                self.orders[class as usize].remove(&Cursor { due, key: *key });
            }
            let (class, due) = turn;
            self.orders[class as usize].insert(Cursor { due, key: *key });
        }
        Ok(old_size)
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Box<Slot>> {
        let kept = self.records.remove(key)?;
        let (class, due) = kept.turn;
        self.orders[class as usize].remove(&Cursor { due, key: *key });
        Some(kept)
    }

    /// The complete record that expires first, if it does before `limit`.
    pub(super) fn take_complete(&mut self, limit: Option<Timestamp>) -> Option<Box<Slot>> {
        let place = self.orders[Class::Droppable as usize].take_first(limit)?;
        self.records.remove(&place.key)
    }

    /// What a scan tells of the record at this place.
    pub(super) fn found(&self, place: &Cursor) -> Option<(&Record, Found)> {
        let record = self.record(&place.key)?;
        let found = Found {
            key: place.key,
            version: record.version(),
            status: record.index_class(),
            created: record.created_at().unwrap_or_default(),
            due: place.due,
        };
        Some((record, found))
    }
}
