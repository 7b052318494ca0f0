//! How a record lies in the engine: which key, which bytes.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `open` | record | columns, head of an unfinished record; of one that owes a callback, the response too |
//! | `parts` | record, part | request or step of an unfinished record |
//! | `done` | record | columns, head and response: a replay is one look-up |
//! | `expiry` | due, record | version and creation of a complete record |

use bytes::Bytes;

use crate::core::{DecodeError, Encoded, Key, PartId, Record, Status, Times, Timestamp, Version};

const FORMAT: u8 = 1;
/// Format, status, four numbers, and the length of the head.
pub(super) const COLUMNS: usize = 2 + 4 * 8 + 4;

const CORRUPT: DecodeError = DecodeError::Corrupt("its columns do not parse");

/// What the store itself must know about a record without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) status: Status,
    pub(super) version: Version,
    pub(super) created: Timestamp,
    pub(super) written: Timestamp,
    pub(super) due: Timestamp,
}

impl Columns {
    /// Fills the room that was left for the columns at the start of a value.
    pub(super) fn fill(&self, value: &mut [u8]) {
        let numbers = [self.version.get(), self.created.as_millis(), self.written.as_millis(), self.due.as_millis()];
        value[0] = FORMAT;
        value[1] = status_code(self.status);
        for (slot, number) in value[2..34].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// A stored value, taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) columns: Columns,
    pub(super) head: &'a [u8],
    /// The response of a record that has one.
    pub(super) answer: &'a [u8],
}

impl<'a> Value<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Result<Self, DecodeError> {
        let (&[format, status, ..], Some(numbers)) = (value, value.get(2..COLUMNS)) else {
            return Err(CORRUPT);
        };
        if format > FORMAT {
            return Err(DecodeError::Newer(format.into()));
        }
        let status = status_of(status).filter(|_| format == FORMAT).ok_or(CORRUPT)?;
        let number = |at: usize| numbers[at * 8..(at + 1) * 8].iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
        let time = |at| Timestamp::from_millis(number(at));
        let columns =
            Columns { status, version: Version::new(number(0)), created: time(1), written: time(2), due: time(3) };
        let length = numbers[32..].iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        let (head, answer) = value[COLUMNS..].split_at_checked(length).ok_or(CORRUPT)?;
        Ok(Self { columns, head, answer })
    }

    /// The record, with what else it needs from `part`.
    pub(super) fn record(&self, part: impl FnMut(PartId) -> Option<Bytes>) -> Result<Record, DecodeError> {
        let times = Times { created: self.columns.created, written: self.columns.written };
        let record = Record::decode(times, self.head, part)?;
        if record.version() != self.columns.version || record.filed_under() != self.columns.status {
            return Err(DecodeError::Corrupt("its columns and its head differ"));
        }
        Ok(record)
    }

    /// The record, if everything it needs lies in this value.
    pub(super) fn complete(&self) -> Result<Record, DecodeError> {
        self.record(|id| (id == PartId::Response).then(|| Bytes::copy_from_slice(self.answer)))
    }
}

/// A value without its columns, which are [filled](Columns::fill) in when it
/// is written.
pub(super) fn value(encoded: &Encoded) -> Vec<u8> {
    let head = &encoded.head;
    let answer = encoded.fresh.iter().find(|(id, _)| *id == PartId::Response);
    let answer: &[u8] = answer.map_or(&[], |(_, bytes)| bytes);
    let mut value = Vec::with_capacity(COLUMNS + head.len() + answer.len());
    value.resize(COLUMNS - 4, 0);
    value.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    value.extend_from_slice(head);
    value.extend_from_slice(answer);
    value
}

/// Big-endian, so that the engine keeps them in the order in which they fall
/// due.
pub(super) fn expiry_key(due: Timestamp, key: &Key) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&due.as_millis().to_be_bytes());
    bytes[8..].copy_from_slice(key.as_bytes());
    bytes
}

pub(super) fn parse_expiry_key(bytes: &[u8]) -> Option<(Timestamp, Key)> {
    let (due, key) = bytes.split_first_chunk()?;
    Some((Timestamp::from_millis(u64::from_be_bytes(*due)), Key::from_bytes(key.try_into().ok()?)))
}

pub(super) fn expiry_value(columns: &Columns) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&columns.version.get().to_be_bytes());
    bytes[8..].copy_from_slice(&columns.created.as_millis().to_be_bytes());
    bytes
}

pub(super) fn parse_expiry_value(bytes: &[u8]) -> Option<(Version, Timestamp)> {
    let (version, created) = bytes.split_first_chunk()?;
    let created = u64::from_be_bytes(created.try_into().ok()?);
    Some((Version::new(u64::from_be_bytes(*version)), Timestamp::from_millis(created)))
}

pub(super) fn part_key(key: &Key, part: PartId) -> [u8; 37] {
    let (kind, number) = match part {
        PartId::Request => (0, 0),
        PartId::Response => (1, 0),
        PartId::Step(number) => (2, number),
    };
    let mut bytes = [0; 37];
    bytes[..32].copy_from_slice(key.as_bytes());
    bytes[32] = kind;
    bytes[33..].copy_from_slice(&number.to_be_bytes());
    bytes
}

const fn status_code(status: Status) -> u8 {
    match status {
        Status::Pending => 0,
        Status::Paid => 1,
        Status::Complete => 2,
    }
}

const fn status_of(code: u8) -> Option<Status> {
    match code {
        0 => Some(Status::Pending),
        1 => Some(Status::Paid),
        2 => Some(Status::Complete),
        _ => None,
    }
}
