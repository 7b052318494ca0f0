//! Reads the WAL before the library does, which forgets whatever is behind the
//! first frame that does not check.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::connection::beside;

pub(super) fn wal(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// Where the library locks bytes. The page there is never written.
const LOCKS: u64 = 1 << 30;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit says in which order of bytes the checksums are made.
const MAGIC: u32 = 0x377f_0682;

/// What a WAL holds, as the library will see it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wal {
    /// How many transactions end in it.
    pub(super) commits: u64,
    /// How many pages the database has with it; 0 if it holds no transaction.
    pub(super) pages: u64,
    /// Whether the page that was asked about is in it.
    pub(super) has_page: bool,
    /// Those of its pages that lie behind the end of the database file.
    beyond: BTreeSet<u64>,
    /// Whether transactions follow that the library won't see.
    pub(super) is_damaged: bool,
}

impl Wal {
    /// Whether it makes up for what the database file, of so many pages, is short
    /// of.
    pub(super) fn covers(&self, in_file: u64, page_size: u64) -> bool {
        let locks = LOCKS / page_size.max(512) + 1;
        (in_file + 1..=self.pages).all(|page| page == locks || self.beyond.contains(&page))
    }

    /// Reads the WAL at `path`, if there is one, beside a database file of so many
    /// pages. In linear time, whatever it holds.
    pub(super) fn walk(path: &Path, page: u64, in_file: u64) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut header = [0; HEADER];
        if !fill(&mut file, &mut header)? {
            return Ok(Some(Self::default()));
        }
        let Some(walker) = Walker::new(&header) else { return Ok(Some(Self::default())) };
        walker.walk(&mut file, page, in_file).map(Some)
    }
}

/// Whether there were enough bytes.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Two sums over pairs of words, as the library makes them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sums(u32, u32);

impl Sums {
    fn over(self, bytes: &[u8], big_endian: bool) -> Self {
        let word = |bytes: [u8; 4]| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        let pairs = bytes.chunks_exact(8);
        pairs.fold(self, |Self(first, second), pair| {
            let first = first.wrapping_add(word([pair[0], pair[1], pair[2], pair[3]])).wrapping_add(second);
            let second = second.wrapping_add(word([pair[4], pair[5], pair[6], pair[7]])).wrapping_add(first);
            Self(first, second)
        })
    }

    fn at(bytes: &[u8], at: usize) -> Self {
        Self(number(bytes, at), number(bytes, at + 4))
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

struct Walker {
    big_endian: bool,
    page_size: usize,
    salts: (u32, u32),
    /// Stored with the frame before.
    sums: Sums,
    /// Whether all frames so far check: the library reads no further.
    sound: bool,
    /// Frames that claim to end a transaction, from the first bad one on.
    ends: u64,
    found: Wal,
    /// Pages of the transaction that has not ended yet.
    open: BTreeSet<u64>,
    open_has_page: bool,
}

impl Walker {
    /// `None` if the library takes this for no WAL.
    fn new(header: &[u8; HEADER]) -> Option<Self> {
        let magic = number(header, 0);
        let big_endian = magic & 1 == 1;
        let page_size = match number(header, 8) {
            1 => 65536,
            size => usize::try_from(size).ok()?,
        };
        let sums = Sums::at(header, 24);
        let known = magic & !1 == MAGIC && page_size.is_power_of_two() && (512..=65536).contains(&page_size);
        (known && Sums(0, 0).over(&header[..24], big_endian) == sums).then(|| Self {
            big_endian,
            page_size,
            salts: (number(header, 16), number(header, 20)),
            sums,
            sound: true,
            ends: 0,
            found: Wal::default(),
            open: BTreeSet::new(),
            open_has_page: false,
        })
    }

    fn walk(mut self, file: &mut impl Read, page: u64, in_file: u64) -> io::Result<Wal> {
        let mut frame = vec![0; FRAME_HEADER + self.page_size];
        while fill(file, &mut frame)? {
            self.frame(&frame, page, in_file);
        }
        Ok(self.found)
    }

    fn frame(&mut self, frame: &[u8], page: u64, in_file: u64) {
        let (number_of_page, size) = (u64::from(number(frame, 0)), u64::from(number(frame, 4)));
        let stored = Sums::at(frame, 16);
        // Left from before the WAL last began anew, unless the salts are these.
        let current = (number(frame, 8), number(frame, 12)) == self.salts;
        // Each frame is checked against what is stored with the one before, so
        // that those behind a bad one can be judged, too.
        let expected = self.sums.over(&frame[..8], self.big_endian).over(&frame[FRAME_HEADER..], self.big_endian);
        let checks = current && number_of_page != 0 && expected == stored;
        self.sums = stored;
        self.sound &= checks;
        if self.sound {
            if number_of_page > in_file {
                self.open.insert(number_of_page);
            }
            self.open_has_page |= number_of_page == page;
            if size != 0 {
                self.end(size);
            }
            return;
        }
        self.ends += u64::from(current && size != 0);
        // A power cut may leave the last transaction's end without its middle: that
        // one was not acknowledged. One that ends here with others behind it was.
        self.found.is_damaged |= checks && size != 0 && self.ends > 1;
    }

    /// A transaction ends, which leaves so many pages.
    fn end(&mut self, size: u64) {
        self.found.commits += 1;
        self.found.pages = size;
        self.found.has_page |= self.open_has_page;
        self.found.beyond.append(&mut self.open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At its first gigabyte a database has a page that is never written: locks lie there.
    #[test]
    fn the_page_of_the_locks_is_in_no_wal() {
        let locks = (1 << 30) / 4096 + 1;
        let beyond = (locks - 2..=locks + 2).filter(|page| *page != locks).collect();
        let wal = Wal { pages: locks + 2, beyond, ..Wal::default() };
        assert!(wal.covers(locks - 3, 4096));
        assert!(!wal.covers(locks - 4, 4096));
    }
}
