//! Looks at the engine's journals before the engine does.
//!
//! Left alone, the engine cuts a journal off at the first thing that it can't
//! parse, even if a hundred acknowledged writes follow; and it refuses to open
//! if the last write reached the disk with a hole in it, which is what a power
//! cut leaves. Only one batch is ever on its way to the disk. So whatever does
//! not check out and is the last thing in the journal is that one, never
//! acknowledged, and is cut off. If anything whole follows it, it is damage.
//!
//! A journal is a row of batches, then zeros. Numbers are little-endian:
//!
//! ```text
//! batch = 1 u8, items u32, sequence u64, item*, 3 u8, xxh3 of the items u64, "FJL\x03"
//! item  = 2 u8, type u8, compression u8, keyspace u64, key length u16, value length u32, stored length u32, key, value
//!       | 4 u8, keyspace u64
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8] = b"FJL\x03";

/// What is at the end of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    Clean,
    /// A batch that did not make it, from here on.
    Torn(usize),
    /// Something broken that whole batches follow.
    Damaged,
}

/// Cuts off what a crash left of the last batch. `false` if there is damage
/// that can't come from a crash; nothing is changed then.
pub(super) fn mend(engine: &Path) -> io::Result<bool> {
    let journals = journals(engine)?;
    for (at, journal) in journals.iter().enumerate() {
        let is_active = at + 1 == journals.len();
        match tail(&fs::read(journal)?) {
            Tail::Clean => {}
            Tail::Torn(length) if is_active => cut(journal, length)?,
            // Sealed journals were synced as a whole.
            Tail::Torn(_) | Tail::Damaged => return Ok(false),
        }
    }
    Ok(!journals.is_empty())
}

fn cut(journal: &Path, length: usize) -> io::Result<()> {
    let file = File::options().write(true).open(journal)?;
    file.set_len(u64::try_from(length).unwrap_or(u64::MAX))?;
    file.sync_all()
}

/// Oldest first.
fn journals(engine: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(engine)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|extension| extension == "jnl")) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn tail(journal: &[u8]) -> Tail {
    let mut rest = journal;
    let mut last = None;
    while let Some((sequence, after)) = batch(rest) {
        (rest, last) = (after, Some(sequence));
    }
    if rest.iter().all(|&byte| byte == 0) {
        return Tail::Clean;
    }
    let follows = |at: usize| {
        let found = batch(&rest[at..]);
        found.is_some_and(|(sequence, _)| last.is_none_or(|last| sequence > last))
    };
    match (1..rest.len()).filter(|&at| rest[at] == START).any(follows) {
        true => Tail::Damaged,
        false => Tail::Torn(journal.len() - rest.len()),
    }
}

/// The sequence number of the batch at the start of `bytes`, and what follows
/// it.
fn batch(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (items, rest) = rest.split_first_chunk()?;
    let (sequence, start) = rest.split_first_chunk()?;
    if tag != START {
        return None;
    }
    let mut rest = start;
    for _ in 0..u32::from_le_bytes(*items) {
        rest = item(rest)?;
    }
    let items = &start[..start.len() - rest.len()];
    let (&tag, rest) = rest.split_first()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let rest = rest.strip_prefix(MAGIC)?;
    let whole = tag == END && u64::from_le_bytes(*sum) == xxh3_64(items);
    whole.then_some((u64::from_le_bytes(*sequence), rest))
}

/// What follows the item at the start of `bytes`.
fn item(bytes: &[u8]) -> Option<&[u8]> {
    match *bytes.first()? {
        ITEM => {
            let (&lengths, rest) = bytes.get(11..)?.split_first_chunk::<10>()?;
            let key = u16::from_le_bytes([lengths[0], lengths[1]]);
            let value = u32::from_le_bytes([lengths[6], lengths[7], lengths[8], lengths[9]]);
            rest.get(usize::from(key) + usize::try_from(value).ok()?..)
        }
        CLEAR => bytes.get(9..),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch_of(sequence: u64, value: &[u8]) -> Vec<u8> {
        let mut item = vec![ITEM, 0, 0];
        item.extend(1_u64.to_le_bytes());
        item.extend(3_u16.to_le_bytes());
        let length = u32::try_from(value.len()).unwrap_or(0).to_le_bytes();
        item.extend(length);
        item.extend(length);
        item.extend(b"key");
        item.extend(value);
        let mut batch = vec![START, 1, 0, 0, 0];
        batch.extend(sequence.to_le_bytes());
        batch.extend(&item);
        batch.push(END);
        batch.extend(xxh3_64(&item).to_le_bytes());
        batch.extend(MAGIC);
        batch
    }

    #[test]
    fn every_tear_of_the_last_batch_is_told_from_damage_before_it() {
        let (first, second) = (batch_of(1, &[7; 50]), batch_of(2, &[9; 50]));
        let whole = [&first[..], &second, &[0; 100]].concat();
        assert_eq!(tail(&whole), Tail::Clean);
        assert_eq!(tail(&[]), Tail::Clean);
        for cut in first.len() + 1..first.len() + second.len() {
            assert_eq!(tail(&whole[..cut]), Tail::Torn(first.len()), "cut at {cut}");
        }
        for flip in 0..first.len() + second.len() {
            let mut broken = whole.clone();
            broken[flip] ^= 0x40;
            let in_first = flip < first.len();
            // The sequence number is not under the checksum.
            let unseen = (5..13).contains(&flip) || (5..13).contains(&flip.wrapping_sub(first.len()));
            match tail(&broken) {
                Tail::Damaged => assert!(in_first, "flipped {flip}"),
                Tail::Torn(at) => assert!(!in_first && at == first.len(), "flipped {flip}"),
                Tail::Clean => assert!(unseen, "flipped {flip}"),
            }
        }
    }
}
