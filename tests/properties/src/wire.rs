//! Records as bytes, and bytes as records.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tower_idempotency::core::{PartId, Record, Times, Timestamp};
use tower_idempotency::store::KeptRecord;
use tower_idempotency::store::conformance::assert_same;

use crate::commands::{moves, run};

/// What a store has that keeps the head and the fresh parts of every write.
#[derive(Default)]
struct Kept {
    head: Bytes,
    parts: HashMap<PartId, Bytes>,
}

impl Kept {
    fn write(&mut self, record: &Record) {
        let encoded = record.encode();
        self.head = encoded.head;
        self.parts.extend(encoded.fresh);
    }

    fn read(&self, record: &Record) -> Record {
        let times = Times { created: record.created_at().unwrap_or_default(), written: record.written_at() };
        Record::decode(times, &self.head, |id| self.parts.get(&id).cloned()).expect("a record")
    }
}

proptest! {
    #[test]
    fn every_record_comes_back(moves in moves()) {
        let mut kept = Kept::default();
        for transition in run(&moves) {
            // A claim over an expired record leaves what is there of the old one.
            let Some(record) = transition.after else { continue };
            if transition.before.as_ref() != Some(&record) {
                kept.write(&record);
            }
            let found = kept.read(&record);
            assert_same(Some(&found), Some(&record));
            prop_assert_eq!(found.created_at(), record.created_at());
            prop_assert_eq!(found.due(), record.due());
        }
    }

    #[test]
    fn a_store_may_go_on_from_what_it_read(moves in moves()) {
        // Decoded records forget which write their steps were in; encoded
        // again they bring none, and the kept parts are still right.
        let mut kept = Kept::default();
        for record in run(&moves).into_iter().filter_map(|transition| transition.after) {
            kept.write(&record);
            let read = kept.read(&record);
            kept.write(&read);
            assert_same(Some(&kept.read(&record)), Some(&record));
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(head in vec(any::<u8>(), 0..300), part in vec(any::<u8>(), 0..300)) {
        let times = Times { created: Timestamp::default(), written: Timestamp::default() };
        prop_assert!(Record::decode(times, &head, |_| Some(part.clone().into())).is_err());
        prop_assert!(Record::parts_of(&head).is_err());
    }

    #[test]
    fn changed_bytes_are_an_error(
        moves in moves(), at in any::<prop::sample::Index>(), mask in 1_u8.., in_part in any::<bool>(),
    ) {
        let records = run(&moves);
        let Some(record) = records.into_iter().find_map(|transition| transition.after) else { return Ok(()) };
        let mut kept = Kept::default();
        kept.write(&record);
        let flip = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
            Bytes::from(bytes)
        };
        match kept.parts.values_mut().next().filter(|_| in_part) {
            Some(part) => *part = flip(part),
            None => kept.head = flip(&kept.head),
        }
        let times = Times { created: Timestamp::default(), written: Timestamp::default() };
        prop_assert!(Record::decode(times, &kept.head, |id| kept.parts.get(&id).cloned()).is_err());
    }
}
