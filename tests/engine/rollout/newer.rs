//! What a newer build writes that this one does not know.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tower_idempotency::core::PartId;

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) head: Bytes,
    pub(super) parts: BTreeMap<PartId, Bytes>,
}

/// What is before the map of a piece: a byte, the format, the checksum.
const SEAL: usize = 10;
/// In each piece that a newer build wrote.
const MARK: &[u8] = b"of a newer build";

/// Fields as CBOR, each with its number: a text, a map, an array of no definite length, a
/// time, a flag.
fn unknown_fields() -> [Vec<u8>; 5] {
    [
        [&[20, 0x70], MARK].concat(),
        vec![0x18, 29, 0xa1, 0x61, b'a', 0x82, 0x01, 0xf6],
        vec![23, 0x9f, 0x01, 0xbf, 0x01, 0x02, 0xff, 0xff],
        vec![0x18, 30, 0xc1, 0x1a, 0, 0, 0, 1],
        vec![0x19, 0x03, 0xe8, 0xf5],
    ]
}

/// The same piece with these fields besides.
fn with_fields(piece: &Bytes, fields: &[Vec<u8>]) -> Bytes {
    let (count, rest) = match piece[SEAL] {
        0xb8 => (piece[SEAL + 1], &piece[SEAL + 2..]),
        short => (short - 0xa0, &piece[SEAL + 1..]),
    };
    let count = count + u8::try_from(fields.len()).unwrap();
    let map = [&[0xb8, count], rest, &fields.concat()].concat();
    let sum: [u8; 32] = Sha256::digest(&map).into();
    [&piece[..2], &sum[..8], &map].concat().into()
}

/// As a newer build writes this piece.
fn newer(piece: &Bytes) -> Bytes {
    if is_newer(piece) { piece.clone() } else { with_fields(piece, &unknown_fields()) }
}

/// Whether what a newer build says in this piece is in it.
pub(super) fn is_newer(piece: &[u8]) -> bool {
    piece.windows(MARK.len()).any(|bytes| bytes == MARK)
}

impl Pieces {
    /// As a newer build writes it: with fields that this one does not know in each
    /// piece, and with one piece more.
    pub(super) fn by_a_newer_build(&self) -> Self {
        let mut parts: BTreeMap<_, _> = self.parts.iter().map(|(id, part)| (*id, newer(part))).collect();
        let steps = parts.keys().filter(|id| matches!(id, PartId::Step(_))).count();
        parts.insert(PartId::Step(steps.try_into().unwrap()), MARK.into());
        Self { head: newer(&self.head), parts }
    }

    /// With a head of a format of its own.
    pub(super) fn in_another_format(&self) -> Self {
        Self { head: in_another_format(&self.head), ..self.clone() }
    }

    /// With a part of a format of its own.
    pub(super) fn with_a_part_in_another_format(&self, id: PartId) -> Self {
        let mut changed = self.clone();
        changed.parts.insert(id, in_another_format(&self.parts[&id]));
        changed
    }

    /// With another kind of hold; for a record without a holder, which has none there.
    pub(super) fn held_in_another_way(&self) -> Self {
        Self { head: with_fields(&self.head, &[vec![3, 0x81, 9]]), ..self.clone() }
    }
}

fn in_another_format(piece: &Bytes) -> Bytes {
    [&piece[..1], &[3], &piece[2..]].concat().into()
}
