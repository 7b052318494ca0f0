//! Records as bytes.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use minicbor::{Decoder, Encoder};
use sha2::{Digest, Sha256};

use super::transitions::{DAY, LATER, SOON, claim, every_state, history, put, response, stamp};
use super::undo::{save, undo, undone};
use crate::core::wire::format::CORRUPT_HEAD;
use crate::core::wire::newer::WholeHead;
use crate::core::wire::seal::open;
use crate::core::{
    Acknowledge, Change, Claim, Command, DecodeError, Fence, Fenced, Fingerprint, Mode, Next, PartId, Reached, Record,
    Resolution, Resolve, SetControl, Stamp, Times, Timestamp, Version, WIRE_FORMAT,
};

pub(super) const TIMES: Times = Times { created: Timestamp::from_millis(1), written: Timestamp::from_millis(2) };

pub(super) type Pieces = (Bytes, HashMap<PartId, Bytes>);

/// A record's head and all of its parts, as a store that kept every write of
/// its history has them.
pub(super) fn pieces(history: &[Record]) -> Pieces {
    let mut kept = HashMap::new();
    let mut head = Bytes::new();
    for record in history {
        let encoded = record.encode();
        kept.extend(encoded.fresh);
        head = encoded.head;
    }
    (head, kept)
}

pub(super) fn decode((head, parts): &Pieces) -> Result<Record, DecodeError> {
    Record::decode(TIMES, head, |id| parts.get(&id).cloned())
}

/// Every state that a record can be in.
pub(super) fn states() -> Vec<(&'static str, Vec<Record>)> {
    let changes = [save("a"), save("b"), undo(&["a", "b"], "sold out"), undone("b")];
    every_state().into_iter().chain([("undoing", history(Mode::Resumable, &changes, None))]).collect()
}

#[test]
fn every_state_comes_back() {
    for (name, history) in states() {
        let expected = history.last().unwrap().clone().stamped(TIMES.written);
        let found = decode(&pieces(&history)).unwrap();
        // A step does not remember in which write it was; all else is equal.
        assert_eq!(found.steps().len(), expected.steps().len(), "{name}");
        for (found, expected) in found.steps().iter().zip(expected.steps()) {
            assert_eq!((found.name(), found.point()), (expected.name(), expected.point()), "{name}");
            assert_eq!(found.is_undone(), expected.is_undone(), "{name}");
        }
        let plan = |record: &Record| {
            record.undoing().map(|plan| (plan.steps().to_vec(), plan.response().clone(), plan.attempt()))
        };
        assert_eq!(plan(&found), plan(&expected), "{name}");
        let plain = |record: &Record| (record.hold().clone(), record.progress().clone(), record.request().cloned());
        assert_eq!(plain(&found), plain(&expected), "{name}");
        assert_eq!((found.version(), found.mode()), (expected.version(), expected.mode()), "{name}");
        assert_eq!((found.fingerprint(), found.attempts()), (expected.fingerprint(), expected.attempts()), "{name}");
        assert_eq!((found.created_at(), found.written_at()), (Some(TIMES.created), TIMES.written), "{name}");
    }
}

#[test]
fn a_write_carries_its_new_parts_only() {
    for (name, history) in states() {
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
    for (name, history) in states() {
        let (head, parts) = pieces(&history);
        let mut asked = Vec::new();
        Record::decode(TIMES, &head, |id| {
            asked.push(id);
            parts.get(&id).cloned()
        })
        .unwrap();
        assert_eq!(Record::parts_of(&head).unwrap().collect::<Vec<_>>(), asked, "{name}");
    }
}

#[test]
fn a_missing_part_is_corrupt() {
    for (name, history) in states() {
        let (head, parts) = pieces(&history);
        for id in Record::parts_of(&head).unwrap() {
            let mut fewer = parts.clone();
            fewer.remove(&id);
            assert!(matches!(decode(&(head.clone(), fewer)), Err(DecodeError::Corrupt(_))), "{name} {id:?}");
        }
    }
}

/// Every way to hurt one piece: cut it short anywhere, or change any byte.
pub(super) fn wounded(piece: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
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
    for (name, history) in states() {
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

/// What is before the map: a byte, the format, the checksum.
const SEAL: usize = 10;

#[test]
fn a_newer_format_is_told_from_damage() {
    let (head, parts) = pieces(&states()[1].1);
    let with_format = |format: &[u8]| Bytes::from([&head[..1], format, &head[2..]].concat());
    for newer in [WIRE_FORMAT + 1, 99, u32::MAX] {
        let mut format = Vec::new();
        Encoder::new(&mut format).u32(newer).unwrap();
        assert_eq!(decode(&(with_format(&format), parts.clone())), Err(DecodeError::Newer(newer)));
    }
    // Longer than it has to be, none, too large, of another kind.
    for odd in [&[0x18, 2][..], &[0], &[1], &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0], &[0x21], &[0x42], b"2", b""] {
        let found = decode(&(with_format(odd), parts.clone()));
        assert!(matches!(found, Err(DecodeError::Corrupt(_))), "{odd:?}: {found:?}");
    }
}

/// Format 1 was JSON. Nothing reads it, and who has some is told why.
#[test]
fn format_1_is_refused_by_name() {
    let (_, parts) = pieces(&states()[1].1);
    for text in ["9f86d081884c7d65\n{\"version\":1}\n", ""] {
        let head = Bytes::from(format!("tower-idempotency/1 {text}"));
        let error = decode(&(head.clone(), parts.clone())).unwrap_err();
        assert_eq!((&error, Record::parts_of(&head).err()), (&DecodeError::Unreleased(1), Some(error.clone())));
        let said = error.to_string();
        assert!(said.contains("format 1") && said.contains("before the first release"), "{said}");
    }
}

/// The fields of a piece, as CBOR.
pub(super) type Fields = BTreeMap<u32, Vec<u8>>;

pub(super) fn fields(piece: &Bytes) -> Fields {
    let mut map = Decoder::new(&piece[SEAL..]);
    let count = map.map().unwrap().unwrap();
    let fields = (0..count).map(|_| {
        let (number, start) = (map.u32().unwrap(), map.position());
        map.skip().unwrap();
        (number, piece[SEAL + start..SEAL + map.position()].to_vec())
    });
    fields.collect()
}

fn sealed(fields: &Fields) -> Bytes {
    let mut map = Vec::new();
    Encoder::new(&mut map).map(fields.len() as u64).unwrap();
    for (number, value) in fields {
        Encoder::new(&mut map).u32(*number).unwrap();
        map.extend_from_slice(value);
    }
    sealed_map(&map)
}

fn sealed_map(map: &[u8]) -> Bytes {
    sealed_map_as(0xf1, map)
}

fn sealed_map_as(first: u8, map: &[u8]) -> Bytes {
    let digest: [u8; 32] = Sha256::digest(map).into();
    [&[first, 2][..], &digest[..8], map].concat().into()
}

/// The same piece, of either kind, with these fields besides.
pub(super) fn with_all(piece: &Bytes, more: impl IntoIterator<Item = (u32, Vec<u8>)>) -> Bytes {
    let mut fields = fields(piece);
    fields.extend(more);
    sealed_map_as(piece[0], &sealed(&fields)[SEAL..])
}

/// The same piece with another value in a field.
fn with(piece: &Bytes, number: u32, value: &[u8]) -> Bytes {
    let mut fields = fields(piece);
    fields.insert(number, value.to_vec());
    sealed(&fields)
}

/// With fields that this release does not know, as a newer one may write them.
pub(super) fn as_of_a_newer_release(piece: &Bytes) -> Bytes {
    let values: [&[u8]; 7] = [
        &[0x63, b'n', b'e', b'w'],
        &[0xa1, 0x61, b'a', 0x82, 0x01, 0xf6],
        // Of no definite length, and in another one.
        &[0x9f, 0x01, 0xbf, 0x01, 0x02, 0xff, 0xff],
        &[0x82, 0x9f, 0xff, 0x5f, 0x41, 0x00, 0xff],
        // A time, a number with a fraction, a negative one.
        &[0xc1, 0x1a, 0, 0, 0, 1],
        &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    let mut fields = fields(piece);
    fields.extend(NEW.into_iter().zip(values.map(<[u8]>::to_vec)));
    sealed(&fields)
}

/// What the table of the head has no meaning for, that and what may be added.
pub(super) const NEW: [u32; 7] = [20, 23, 29, 30, 31, 1000, u32::MAX];

/// During a rolling upgrade: a newer release writes, this one reads, goes on and
/// writes, and what it writes is what it always writes, with what the newer one added to the
/// head. What was added to a part that it writes anew it drops.
#[test]
fn what_a_newer_release_adds_is_skipped_and_stays_in_the_head() {
    for (name, history) in states() {
        let (head, parts) = pieces(&history);
        assert_eq!(sealed(&fields(&head)), head, "{name}");
        let read = open::<WholeHead<'_>>(&head, &CORRUPT_HEAD).unwrap();
        assert_eq!(read.known.fields(), fields(&head).len() as u64, "{name}: it would be walked twice");
        let newer =
            (as_of_a_newer_release(&head), parts.iter().map(|(id, part)| (*id, as_of_a_newer_release(part))).collect());
        let named = |head| Record::parts_of(head).unwrap().collect::<Vec<_>>();
        assert_eq!(named(&newer.0), named(&head), "{name}");
        let found = decode(&newer).unwrap();
        let known = decode(&(head.clone(), parts.clone())).unwrap();
        assert!(found.size() > known.size(), "{name}: what it keeps in memory counts");
        assert_eq!(fields(&found.encode().head), fields(&newer.0), "{name}");
        assert_eq!(Record { history: known.history.clone(), ..found.clone() }, known, "{name}");
        assert_eq!(found.history(), known.history(), "{name}");
        // And the other way round: the newer release finds its parts as they were.
        for (id, part) in found.encode().fresh {
            assert_eq!(part, parts[&id], "{name} {id:?}");
        }
    }
}

/// Writes it, as a store that keeps the parts there are.
fn write(kept: &mut Pieces, command: &impl Command, stamp: Stamp<'_>) {
    let encoded = put(command.apply(Some(&decode(kept).unwrap()), stamp)).encode();
    kept.0 = encoded.head;
    kept.1.extend(encoded.fresh);
}

/// It describes the operation, so it stays through every move.
#[test]
fn what_a_newer_release_adds_stays_until_the_operation_is_over() {
    let (head, parts) = pieces(&history(Mode::Resumable, &[], None));
    let mut kept = (as_of_a_newer_release(&head), parts);
    let added = |head: &Bytes| fields(head).into_iter().filter(|(number, _)| NEW.contains(number)).collect::<Vec<_>>();
    let expected = added(&kept.0);
    assert_eq!(expected.len(), NEW.len());
    let fenced = |fence, change| Fenced { fence: Fence::of(Version::new(fence)), changes: vec![change] };
    let answer = Change::Complete { response: response(), retention: DAY, reached: Reached::All };
    for (nonce, change) in (2..).zip([Change::Begin { step: "a".into() }, save("a"), Change::Release]) {
        write(&mut kept, &fenced(1, change), stamp(SOON, nonce));
        assert_eq!(added(&kept.0), expected);
    }
    write(&mut kept, &claim(Mode::Resumable), stamp(LATER, 5));
    assert_eq!(added(&kept.0), expected);
    write(&mut kept, &fenced(5, Change::Park { why: "who knows".into() }), stamp(LATER, 6));
    write(&mut kept, &Resolve { resolution: Resolution::RunAgain, seen: None, why: None }, stamp(LATER, 7));
    assert_eq!(added(&kept.0), expected);
    write(&mut kept, &claim(Mode::Resumable), stamp(LATER, 8));
    write(&mut kept, &fenced(8, answer), stamp(LATER, 9));
    write(&mut kept, &Acknowledge { grace: Duration::ZERO }, stamp(TIMES.written.as_millis(), 10));
    assert_eq!((added(&kept.0), decode(&kept).unwrap().attempts()), (expected, 3));
}

/// To a build that does not know what a newer one says of all processes, neither.
#[test]
fn what_a_newer_release_adds_to_a_control_record_stays() {
    let set = |seen| SetControl { seen, content: response() };
    let first = put(set(None).apply(None, stamp(SOON, 1))).stamped(TIMES.written);
    let (head, parts) = pieces(&[first]);
    let newer = as_of_a_newer_release(&head);
    let mut kept = (newer.clone(), parts);
    write(&mut kept, &set(Some(Version::new(1))), stamp(SOON, 2));
    let expected = fields(&newer).into_iter().filter(|(number, _)| NEW.contains(number));
    let found = fields(&kept.0).into_iter().filter(|(number, _)| NEW.contains(number));
    assert!(found.eq(expected));
}

/// The same for what says which state it is in, where that has no fields yet, too.
#[test]
fn what_a_newer_release_adds_to_a_state_is_skipped() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, history) in states() {
        let (head, parts) = pieces(&history);
        let usual = |number| fields(&head).get(&number).cloned().unwrap_or_else(|| vec![0x81, 0]);
        // Of no history here: a callback that is wanted.
        for (number, state) in [(3, usual(3)), (4, usual(4)), (15, usual(15)), (15, vec![0x81, 1])] {
            let (length, rest) = state.split_first().unwrap();
            let longer = [&[length + 1], rest, b"\x63new"].concat();
            let found = decode(&(with(&head, number, &longer), parts.clone()));
            assert_eq!(found, decode(&(with(&head, number, &state), parts.clone())), "{name}: {state:x?}");
            assert!(found.is_ok(), "{name}: {state:x?}");
            seen.insert((number, state[1]));
        }
    }
    let [holds, progress] = [3, 4].map(|number| seen.iter().filter(|(field, _)| *field == number).count());
    assert_eq!((holds, progress), (4, 3), "{seen:?}");
}

/// A kind that decides what may be done is not taken for another one.
#[test]
fn an_unknown_kind_is_refused() {
    let (head, parts) = pieces(&states()[1].1);
    for (number, value) in [(1, &[9][..]), (3, &[0x81, 9]), (4, &[0x81, 9]), (15, &[0x81, 9]), (3, &[0xf6])] {
        let found = decode(&(with(&head, number, value), parts.clone()));
        assert!(matches!(found, Err(DecodeError::Corrupt(_))), "{number}: {found:?}");
    }
    let (_, history) = states().into_iter().find(|(_, history)| !history.last().unwrap().steps().is_empty()).unwrap();
    let (head, mut parts) = pieces(&history);
    let step = &parts[&PartId::Step(0)];
    let step = with(step, 1, &[9]);
    parts.insert(PartId::Step(0), step);
    assert!(matches!(decode(&(head, parts)), Err(DecodeError::Corrupt(_))));
}

/// What happened is only told: of a kind that is not known, that there was something.
#[test]
fn an_unknown_moment_counts_as_dropped() {
    let (name, history) = states().into_iter().find(|(_, history)| !history.last().unwrap().has_no_past()).unwrap();
    let (head, parts) = pieces(&history);
    let known = decode(&(head.clone(), parts.clone())).unwrap();
    let past = &fields(&head)[&11];
    let count = Decoder::new(past).array().unwrap().unwrap();
    let mut more = Vec::new();
    Encoder::new(&mut more).array(count + 1).unwrap();
    more.extend_from_slice(&past[1..]);
    more.extend_from_slice(&[0x83, 1, 0x18, 99, 7]);
    let found = decode(&(with(&head, 11, &more), parts)).unwrap();
    assert_eq!((found.history(), found.history_dropped()), (known.history(), known.history_dropped() + 1), "{name}");
}

/// A fingerprint by a scheme that this release does not know is compared by the
/// one it does know: a 422 would make a client pay twice.
#[test]
fn of_a_newer_scheme_what_is_known_is_compared() {
    let first = Fingerprint::of([b"POST".as_slice()]);
    let second = first.clone().scheme_2(Some(b"a.example"), [b"gzip".as_slice()]);
    let second = second.with_trailers([(b"x-sum".as_slice(), b"1".as_slice())]);
    let first = first.with_trailers([(b"x-sum".as_slice(), b"1".as_slice())]);
    let claim = Claim { fingerprint: second.clone(), request: None, ..claim(Mode::AtMostOnce) };
    let Next::Put(record) = claim.apply(None, stamp(0, 1)).next else { panic!("a first claim") };
    let head = record.encode().head;
    let read = |head: &Bytes| Record::decode(TIMES, head, |_| None).map(|record| record.fingerprint().clone());
    assert_eq!(read(&head), Ok(second));
    let newer = with(&with(&head, 16, &[17]), 23, &[0xa1, 1, 2]);
    assert_eq!(read(&newer), Ok(first));
    for broken in [&[0][..], &[0x61, b'+'], &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]] {
        assert!(matches!(read(&with(&head, 17, broken)), Err(DecodeError::Corrupt(_))), "{broken:?}");
    }
}

#[test]
fn a_decoded_record_goes_on_as_the_original() {
    for (name, history) in states() {
        let found = decode(&pieces(&history)).unwrap();
        assert!(found.encode().fresh.iter().all(|(id, _)| !matches!(id, PartId::Step(_))), "{name}");
        assert_eq!(found.encode().head, history.last().unwrap().encode().head, "{name}");
    }
}

/// What has a right checksum may be anything, too: of a release with a fault, or by
/// someone who writes to the store.
#[test]
fn strange_pieces_with_a_right_checksum_are_no_panic() {
    let mut rng = fastrand::Rng::with_seed(11);
    let states: Vec<_> = states().iter().map(|(_, history)| pieces(history)).collect();
    let strange = |piece: &Bytes, rng: &mut fastrand::Rng| {
        let mut map = piece[SEAL..].to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..map.len());
            match rng.u8(..4) {
                0 => map.truncate(at.max(1)),
                1 => map.insert(at, rng.u8(..)),
                _ => map[at] = rng.u8(..),
            }
        }
        sealed_map(&map)
    };
    let mut read = 0;
    for round in 0..20_000 {
        let (head, parts) = &states[round % states.len()];
        let head = if rng.bool() { strange(head, &mut rng) } else { head.clone() };
        let parts =
            parts.iter().map(|(id, part)| (*id, if rng.bool() { strange(part, &mut rng) } else { part.clone() }));
        let Ok(found) = decode(&(head, parts.collect())) else { continue };
        read += 1;
        // What was read is written as something that is read.
        let again = found.encode().head;
        assert!(matches!(
            Record::decode(TIMES, &again, |_| None),
            Ok(_) | Err(DecodeError::Corrupt("one of its parts is missing"))
        ));
    }
    assert!(read > 100, "{read}");
}
