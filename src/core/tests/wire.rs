//! Records as bytes.

use std::collections::HashMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::transitions::{claim, every_state, stamp};
use crate::core::{
    Claim, Command, DecodeError, Fingerprint, Mode, Next, PartId, Record, Times, Timestamp, WIRE_FORMAT,
};

const TIMES: Times = Times { created: Timestamp::from_millis(1), written: Timestamp::from_millis(2) };

type Pieces = (Bytes, HashMap<PartId, Bytes>);

/// A record's head and all of its parts, as a store that kept every write of
/// its history has them.
fn pieces(history: &[Record]) -> Pieces {
    let mut kept = HashMap::new();
    let mut head = Bytes::new();
    for record in history {
        let encoded = record.encode();
        kept.extend(encoded.fresh);
        head = encoded.head;
    }
    (head, kept)
}

fn decode((head, parts): &Pieces) -> Result<Record, DecodeError> {
    Record::decode(TIMES, head, |id| parts.get(&id).cloned())
}

#[test]
fn every_state_comes_back() {
    for (name, history) in every_state() {
        let expected = history.last().unwrap().clone().stamped(TIMES.written);
        let found = decode(&pieces(&history)).unwrap();
        // A step does not remember in which write it was; all else is equal.
        assert_eq!(found.steps().len(), expected.steps().len(), "{name}");
        for (found, expected) in found.steps().iter().zip(expected.steps()) {
            assert_eq!((found.name(), found.point()), (expected.name(), expected.point()), "{name}");
        }
        let plain = |record: &Record| (record.hold().clone(), record.progress().clone(), record.request().cloned());
        assert_eq!(plain(&found), plain(&expected), "{name}");
        assert_eq!((found.version(), found.mode()), (expected.version(), expected.mode()), "{name}");
        assert_eq!((found.fingerprint(), found.attempts()), (expected.fingerprint(), expected.attempts()), "{name}");
        assert_eq!((found.created_at(), found.written_at()), (Some(TIMES.created), TIMES.written), "{name}");
    }
}

#[test]
fn a_write_carries_its_new_parts_only() {
    for (name, history) in every_state() {
        for record in &history {
            let fresh = record.encode().fresh;
            let steps = fresh.iter().filter(|(id, _)| matches!(id, PartId::Step(_))).count();
            assert!(steps <= 1, "{name}: one change wrote {steps} steps");
            let request = fresh.iter().any(|(id, _)| *id == PartId::Request);
            assert_eq!(request, record.is_first() && record.request().is_some(), "{name}");
        }
    }
}

#[test]
fn parts_of_a_head_are_what_decode_asks_for() {
    for (name, history) in every_state() {
        let (head, parts) = pieces(&history);
        let mut asked = Vec::new();
        Record::decode(TIMES, &head, |id| {
            asked.push(id);
            parts.get(&id).cloned()
        })
        .unwrap();
        assert_eq!(Record::parts_of(&head).unwrap(), asked, "{name}");
    }
}

#[test]
fn a_missing_part_is_corrupt() {
    for (name, history) in every_state() {
        let (head, parts) = pieces(&history);
        for id in Record::parts_of(&head).unwrap() {
            let mut fewer = parts.clone();
            fewer.remove(&id);
            assert!(matches!(decode(&(head.clone(), fewer)), Err(DecodeError::Corrupt(_))), "{name} {id:?}");
        }
    }
}

/// Every way to hurt one piece: cut it short anywhere, or change any byte.
fn wounded(piece: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    let cut = (0..piece.len()).map(|len| piece.slice(..len));
    let changed = (0..piece.len()).flat_map(|at| {
        [0x01, 0x80, 0xff].map(|mask| {
            let mut bytes = piece.to_vec();
            bytes[at] ^= mask;
            Bytes::from(bytes)
        })
    });
    let longer = std::iter::once([piece.as_ref(), b"x"].concat().into());
    cut.chain(changed).chain(longer)
}

#[test]
fn damage_is_an_error_wherever_it_is() {
    for (name, history) in every_state() {
        let (head, parts) = pieces(&history);
        for hurt in wounded(&head) {
            assert!(decode(&(hurt.clone(), parts.clone())).is_err(), "{name}: {hurt:?}");
        }
        for id in Record::parts_of(&head).unwrap() {
            for hurt in wounded(&parts[&id]) {
                let mut parts = parts.clone();
                parts.insert(id, hurt.clone());
                assert!(decode(&(head.clone(), parts)).is_err(), "{name} {id:?}: {hurt:?}");
            }
        }
    }
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let (head, parts) = pieces(&every_state()[1].1);
    let text = String::from_utf8(head.to_vec()).unwrap();
    let old = format!("tower-idempotency/{WIRE_FORMAT} ");
    for newer in [WIRE_FORMAT + 1, 99, u32::MAX] {
        let head = text.replacen(&old, &format!("tower-idempotency/{newer} "), 1);
        assert_eq!(decode(&(head.into(), parts.clone())), Err(DecodeError::Newer(newer)));
    }
    for odd in ["tower-idempotency/ ", "tower-idempotency/-1 ", "tower-idempotency/99999999999 ", "Tower/1 "] {
        let head = text.replacen(&old, odd, 1);
        assert!(matches!(decode(&(head.into(), parts.clone())), Err(DecodeError::Corrupt(_))), "{odd}");
    }
}

/// The same head with another text in it, and a checksum that says so.
fn with_text(head: &Bytes, old: &str, new: &str) -> Bytes {
    let text = String::from_utf8(head.to_vec()).unwrap().replacen(old, new, 1);
    let (_, rest) = text.split_once('\n').unwrap();
    let digest: [u8; 32] = Sha256::digest(rest).into();
    let sum: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("tower-idempotency/{WIRE_FORMAT} {sum}\n{rest}").into()
}

/// A fingerprint by a scheme that this release does not know is compared by the
/// one it does know: a 422 would make a client pay twice.
#[test]
fn of_a_newer_scheme_what_is_known_is_compared() {
    let first = Fingerprint::of([b"POST".as_slice()]);
    let second = first.scheme_2(Some(b"a.example"), [b"gzip".as_slice()]);
    let second = second.with_trailers([(b"x-sum".as_slice(), b"1".as_slice())]);
    let first = first.with_trailers([(b"x-sum".as_slice(), b"1".as_slice())]);
    let claim = Claim { fingerprint: second, request: None, ..claim(Mode::AtMostOnce) };
    let Next::Put(record) = claim.apply(None, stamp(0, 1)).next else { panic!("a first claim") };
    let head = record.encode().head;
    let read = |head: &Bytes| Record::decode(TIMES, head, |_| None).map(|record| *record.fingerprint());
    assert_eq!(read(&head), Ok(second));
    let newer = with_text(&head, "\"scheme\":2", "\"scheme\":17,\"body\":{\"any\":[\"thing\"]}");
    assert_eq!(read(&newer), Ok(first));
    for broken in ["\"authority\":\"+\"", "\"authority\":\"\"", "\"authority\":\"000000000\""] {
        let (_, authority) = std::str::from_utf8(&head).unwrap().split_once("\"authority\":").unwrap();
        let whole = format!("\"authority\":{}", &authority[..10]);
        assert!(matches!(read(&with_text(&head, &whole, broken)), Err(DecodeError::Corrupt(_))), "{broken}");
    }
}

#[test]
fn a_decoded_record_goes_on_as_the_original() {
    for (name, history) in every_state() {
        let found = decode(&pieces(&history)).unwrap();
        assert!(found.encode().fresh.iter().all(|(id, _)| !matches!(id, PartId::Step(_))), "{name}");
        assert_eq!(found.encode().head, history.last().unwrap().encode().head, "{name}");
    }
}
