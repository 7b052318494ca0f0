//! Records that are sealed, and opened again.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::wire::{
    Fields, NEW, Pieces, TIMES, as_of_a_newer_release, decode, fields, pieces, states, with_all, wounded,
};
use crate::core::sealed::{Cipher, SealError};
use crate::core::wire::envelope::{Envelope, NONCE};
use crate::core::{DecodeError, Hold, Key, PartId, Record, Version};

/// Hides nothing from who knows it, and opens a piece only in its place.
#[derive(Debug)]
struct Masked;

impl Cipher for Masked {
    fn seals(&self) -> bool {
        true
    }

    fn seal(&self, about: &[u8], plain: &[u8]) -> Result<Bytes, SealError> {
        let mut piece = Envelope::begun("mask", &[0; NONCE], 1 + about.len() + plain.len());
        piece.push(about.len() as u8);
        piece.extend(about.iter().chain(plain).map(|byte| byte ^ 0x55));
        Ok(piece.into())
    }

    fn open(&self, about: &[u8], sealed: Envelope<'_>) -> Result<Bytes, SealError> {
        let (length, rest) = sealed.ciphertext.split_first().unwrap();
        let (found, plain) = rest.split_at(usize::from(*length));
        let clear = |bytes: &[u8]| bytes.iter().map(|byte| byte ^ 0x55).collect::<Bytes>();
        if clear(found) == about { Ok(clear(plain)) } else { Err(SealError::Refused("mask".into())) }
    }
}

const KEY: Key = Key::from_bytes([1; 32]);

/// What a store has that kept every write of this history.
fn sealed(history: &[Record]) -> Pieces {
    let mut kept = HashMap::new();
    let mut head = Bytes::new();
    for record in history {
        let encoded = record.sealed_by(&KEY, &Masked, false).unwrap().encode();
        kept.extend(encoded.fresh);
        head = encoded.head;
    }
    (head, kept)
}

#[test]
fn every_state_comes_back() {
    for (name, history) in states() {
        let stored = decode(&sealed(&history)).unwrap();
        let clear = decode(&pieces(&history)).unwrap();
        // What it is filed under is as in clear.
        assert_eq!(stored.sealed_with(), Some("mask"), "{name}");
        assert_eq!(
            (stored.version(), stored.index_class(), stored.due()),
            (clear.version(), clear.index_class(), clear.due())
        );
        assert_eq!((stored.is_first(), stored.numbered_parts()), (clear.is_first(), clear.numbered_parts()), "{name}");
        let opened = stored.clone().opened(&KEY, Some(&Masked)).unwrap();
        assert_eq!((&opened, opened.sealed_with()), (&clear, None), "{name}");
        // One that keeps values gets all of it with each write.
        let whole = history.last().unwrap().sealed_by(&KEY, &Masked, true).unwrap();
        let whole = whole.opened(&KEY, Some(&Masked)).unwrap();
        assert_eq!(
            (whole.request(), whole.response(), whole.history()),
            (opened.request(), opened.response(), history.last().unwrap().history()),
            "{name}"
        );
    }
}

/// Of what a newer release adds, what it encrypts stays encrypted, and what it shows beside
/// that stays in clear, as it is.
#[test]
fn what_a_newer_release_adds_stays_where_it_is() {
    let added = |head: &Bytes| fields(head).into_iter().filter(|(number, _)| NEW.contains(number)).collect::<Fields>();
    for (name, history) in states() {
        let (head, parts) = pieces(&history);
        let newer = as_of_a_newer_release(&head);
        let clear = decode(&(newer.clone(), parts)).unwrap();
        let stored = clear.sealed_by(&KEY, &Masked, true).unwrap();
        assert!(added(&stored.head()).is_empty(), "{name}: what came in clear may be secret");
        let shown = with_all(&stored.head(), [(29, vec![0x61, b'a']), (40, vec![1])]);
        let parts: HashMap<_, _> = stored.pieces(true).into_iter().collect();
        let opened = decode(&(shown.clone(), parts)).unwrap().opened(&KEY, Some(&Masked)).unwrap();
        assert_eq!(fields(&opened.encode().head), fields(&newer), "{name}: what is in clear does not come into it");
        assert_eq!(opened.sealed_by(&KEY, &Masked, true).unwrap().head(), shown, "{name}");
    }
}

#[test]
fn without_a_cipher_or_in_another_place_nothing_opens() {
    for (name, history) in states() {
        let stored = decode(&sealed(&history)).unwrap();
        assert_eq!(stored.clone().opened(&KEY, None), Err(SealError::NoKey("mask".into())), "{name}");
        let elsewhere = Key::from_bytes([2; 32]);
        assert_eq!(stored.opened(&elsewhere, Some(&Masked)), Err(SealError::Refused("mask".into())), "{name}");
    }
}

#[test]
fn no_piece_opens_in_the_place_of_another() {
    let mut places = HashSet::new();
    let mut count = 0;
    for (_, history) in states() {
        let (_, parts) = sealed(&history);
        for (id, piece) in &parts {
            let ciphertext = Envelope::of(piece).unwrap().ciphertext;
            let about = ciphertext[1..=usize::from(ciphertext[0])].to_vec();
            count += usize::from(places.insert((*id, about)));
        }
    }
    let abouts: HashSet<_> = places.iter().map(|(_, about)| about).collect();
    let ids: HashSet<_> = places.iter().map(|(id, _)| id).collect();
    assert!(ids.contains(&PartId::Step(1)) && ids.contains(&PartId::Request) && ids.contains(&PartId::Response));
    assert_eq!((abouts.len(), count), (ids.len(), ids.len()), "each place has its own, and always the same");
}

#[test]
fn a_sealed_head_that_is_hurt_is_never_taken_for_one_in_clear() {
    for (name, history) in states() {
        let (head, parts) = sealed(&history);
        for hurt in wounded(&head) {
            assert!(decode(&(hurt.clone(), parts.clone())).is_err(), "{name}: {hurt:?}");
        }
        let (clear, _) = pieces(&history);
        let marked = Bytes::from([&head[..1], &clear[1..]].concat());
        assert!(
            matches!(decode(&(marked, parts.clone())), Err(DecodeError::Corrupt(_))),
            "{name}: nothing in it is sealed"
        );
        let unmarked = Bytes::from([&clear[..1], &head[1..]].concat());
        assert!(
            matches!(decode(&(unmarked, parts)), Err(DecodeError::Corrupt(_))),
            "{name}: it would be read with no fingerprint"
        );
    }
}

/// A store does so that has no key.
#[test]
fn what_a_dead_process_held_is_freed_without_a_key() {
    let (_, history) = states()
        .into_iter()
        .find(|(_, history)| matches!(history.last().unwrap().hold(), Hold::Leased { .. }))
        .unwrap();
    let pieces = sealed(&history);
    let freed = decode(&pieces).unwrap().orphaned(Version::new(99));
    let encoded = freed.encode();
    assert!(encoded.fresh.is_empty());
    let found = decode(&(encoded.head, pieces.1)).unwrap().opened(&KEY, Some(&Masked)).unwrap();
    assert_eq!((found.hold(), found.version()), (&Hold::Released, Version::new(99)));
    assert_eq!(found.fingerprint(), history.last().unwrap().fingerprint());
}

/// Its head was written by a process that does not encrypt.
#[test]
fn a_record_may_be_sealed_in_part() {
    for (name, history) in states() {
        let (head, mut parts) = pieces(&history);
        parts.extend(sealed(&history).1);
        let stored = decode(&(head, parts)).unwrap();
        let clear = decode(&pieces(&history)).unwrap();
        let rewritten = Record::decode(TIMES, &stored.encode().head, |_| None);
        assert!(rewritten.is_ok() || stored.sealed_with().is_some(), "{name}");
        assert_eq!(stored.opened(&KEY, Some(&Masked)).unwrap(), clear, "{name}");
    }
}
