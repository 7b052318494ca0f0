//! A record of a store.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tower_idempotency::core::{PartId, Record, Times, Timestamp, WIRE_FORMAT};
use tower_idempotency::store::KeptRecord;
use tower_idempotency::store::conformance::assert_same;

/// What a piece begins with.
const MARK: u8 = 0xf1;

/// With a seal that fits: without, next to nothing is ever parsed.
fn sealed(piece: &[u8]) -> Bytes {
    let format = u8::try_from(WIRE_FORMAT).unwrap_or_default();
    let digest = Sha256::digest(piece);
    [&[MARK, format], &digest[..8], piece].concat().into()
}

/// The pieces of an input: two bytes say how long each of them is.
fn pieces(mut data: &[u8]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (piece, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*length))));
        pieces.push(sealed(piece));
        data = rest;
    }
    pieces
}

/// What holds of any head and parts.
pub fn check(data: &[u8]) {
    let times = Times { created: Timestamp::from_millis(5), written: Timestamp::from_millis(7) };
    // As they are, without a seal.
    let raw = Bytes::copy_from_slice(data);
    let _ = (Record::parts_of(data), Record::decode(times, data, |_| Some(raw.clone())));

    let pieces = pieces(data);
    let Some((head, parts)) = pieces.split_first() else { return };
    let Ok(ids) = Record::parts_of(head) else {
        assert!(Record::decode(times, head, |_| None).is_err());
        return;
    };
    let kept: BTreeMap<PartId, Bytes> = ids.into_iter().zip(parts.iter().cloned()).collect();
    let read = |head: &[u8]| Record::decode(times, head, |id| kept.get(&id).cloned());
    let Ok(record) = read(head) else { return };
    // What was read is written, and read again as the same.
    let again = read(&record.encode().head);
    assert_same(again.as_ref().ok(), Some(&record));
    assert_eq!(again.map(|again| again.due()), Ok(record.due()));
}
