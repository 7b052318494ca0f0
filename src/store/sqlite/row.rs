//! A record as a row, and back.

use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Row, Statement};
use xxhash_rust::xxh3::xxh3_64;

use super::error::Fault;
use super::schema::Sql;
use crate::core::{DecodeError, Hold, Key, Label, PartId, Record, Status, Times, Timestamp, Version};
use crate::store::contract::{Found, StoreError, status_code, status_of};

/// The format of rows that is written, and the newest that is read.
const FORMAT: i64 = 1;
/// The longest lease or retention, in milliseconds: adding it to any time of
/// the next millennia does not overflow.
const LONGEST: u64 = 1 << 61;
/// What fits into a sum of hashes that must not overflow.
pub(super) const MASK: i64 = 0x3fff_ffff_ffff_ffff;

/// Where a row has the time at which a record falls due, its checksum, and its own
/// key; and a scan the one by which it was found.
pub(super) const DUE: usize = 5;
pub(super) const HASH: usize = 11;
const BUCKET: usize = 14;
const KEY_HASH: usize = 15;
const OWN_KEY: usize = 16;
pub(super) const KEY: usize = 17;

const MISMATCH: DecodeError = DecodeError::Corrupt("its checksum does not match");
const STRANGE: DecodeError = DecodeError::Corrupt("a column is not as it is written");
const DIFFERS: DecodeError = DecodeError::Corrupt("its columns and its head differ");

/// A row, whichever driver read it.
pub(super) trait Cells {
    fn cell(&self, column: usize) -> Option<ValueRef<'_>>;
}

impl Cells for Row<'_> {
    fn cell(&self, column: usize) -> Option<ValueRef<'_>> {
        self.get_ref(column).ok()
    }
}

impl Cells for Vec<Value> {
    fn cell(&self, column: usize) -> Option<ValueRef<'_>> {
        self.get(column).map(ValueRef::from)
    }
}

/// What is bound to a statement.
pub(super) type Cell<'c> = ToSqlOutput<'c>;

pub(super) const fn number_cell(number: i64) -> Cell<'static> {
    ToSqlOutput::Owned(Value::Integer(number))
}

pub(super) const fn bytes_cell(bytes: &[u8]) -> Cell<'_> {
    ToSqlOutput::Borrowed(ValueRef::Blob(bytes))
}

/// What a store knows of a record without decoding it. All but the format and the
/// hash, in the order of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) version: Version,
    pub(super) status: Status,
    pub(super) created: i64,
    pub(super) written: i64,
    pub(super) due: i64,
    pub(super) attempts: i64,
    /// The store that holds it; 0 if none does.
    pub(super) holder: i64,
    /// How many steps it has in `parts`.
    pub(super) steps: i64,
    /// Whether its request is in `parts`.
    pub(super) request: bool,
    pub(super) response_hash: i64,
}

impl Columns {
    /// The checksum of a row.
    fn hash(&self, key: &[u8; 32], head: &[u8]) -> i64 {
        let numbers = [
            FORMAT,
            self.version.get().cast_signed(),
            status_code(self.status),
            self.created,
            self.written,
            self.due,
            self.attempts,
            self.holder,
            self.steps,
            i64::from(self.request),
            self.response_hash,
            xxh3_64(head).cast_signed(),
        ];
        let mut bytes = [0; 32 + 12 * 8];
        bytes[..32].copy_from_slice(key);
        for (slot, number) in bytes[32..].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        masked(xxh3_64(&bytes))
    }

    pub(super) const fn is_unfinished(&self) -> bool {
        !matches!(self.status, Status::Complete)
    }

    pub(super) const fn has_parts(&self) -> bool {
        self.steps > 0 || self.request
    }

    /// What a scan says of it.
    pub(super) fn found(&self, key: Key) -> Found {
        let (created, due) = (time(self.created), time(self.due));
        Found { key, version: self.version, status: self.status, created, due }
    }
}

/// A row whose checksum matches, without what is in `parts`.
pub(super) struct Stored {
    pub(super) columns: Columns,
    pub(super) hash: i64,
    head: Vec<u8>,
    response: Option<Bytes>,
    parts: Vec<(PartId, Bytes)>,
}

impl Stored {
    /// Reads a row without its response.
    pub(super) fn read(row: &impl Cells, key: &[u8; 32]) -> Result<Self, Fault> {
        let format = integer(row, 0)?;
        if format > FORMAT {
            return Err(DecodeError::Newer(u32::try_from(format).unwrap_or(u32::MAX)).into());
        }
        let columns = Columns {
            version: Version::new(integer(row, 1)?.cast_unsigned()),
            status: status_of(integer(row, 2)?).ok_or(STRANGE)?,
            created: integer(row, 3)?,
            written: integer(row, 4)?,
            due: integer(row, 5)?,
            attempts: integer(row, 6)?,
            holder: integer(row, 7)?,
            steps: integer(row, 8)?,
            request: integer(row, 9)? != 0,
            response_hash: integer(row, 10)?,
        };
        let hash = integer(row, 11)?;
        let head = blob(row, 12)?.ok_or(STRANGE)?.to_vec();
        let places = (integer(row, BUCKET)?, integer(row, KEY_HASH)?);
        let is_at_its_place = blob(row, OWN_KEY)? == Some(key) && places == (bucket(key), key_hash(key));
        if format != FORMAT || !is_at_its_place || columns.hash(key, &head) != hash {
            return Err(MISMATCH.into());
        }
        Ok(Self { columns, hash, head, response: None, parts: Vec::new() })
    }

    /// The same with its response.
    pub(super) fn read_whole(row: &impl Cells, key: &[u8; 32]) -> Result<Self, Fault> {
        let mut stored = Self::read(row, key)?;
        if let Some(response) = blob(row, 13)? {
            if response_hash(response) != stored.columns.response_hash {
                return Err(MISMATCH.into());
            }
            stored.response = Some(Bytes::copy_from_slice(response));
        }
        Ok(stored)
    }

    /// Reads what else it has.
    pub(super) fn read_parts(&mut self, parts: &mut Statement<'_>, key: &[u8; 32]) -> Result<(), Fault> {
        if !self.columns.has_parts() {
            return Ok(());
        }
        let mut rows = parts.query([key.as_slice()])?;
        while let Some(row) = rows.next()? {
            self.read_part(row, key)?;
        }
        Ok(())
    }

    /// Reads one of its parts.
    pub(super) fn read_part(&mut self, row: &impl Cells, key: &[u8; 32]) -> Result<(), Fault> {
        let n = integer(row, 0)?;
        let value = blob(row, 1)?.ok_or(STRANGE)?;
        if integer(row, 2)? != part_hash(key, n, value) {
            return Err(MISMATCH.into());
        }
        self.parts.push((part_id(n).ok_or(STRANGE)?, Bytes::copy_from_slice(value)));
        Ok(())
    }

    /// The record, if this is all that it has.
    pub(super) fn record(&self) -> Result<Record, StoreError> {
        let times = Times { created: time(self.columns.created), written: time(self.columns.written) };
        let record = Record::decode(times, &self.head, |id| match id {
            PartId::Response => self.response.clone(),
            other => self.parts.iter().find(|(id, _)| *id == other).map(|(_, value)| value.clone()),
        })?;
        if record.version() != self.columns.version || record.index_class() != self.columns.status {
            return Err(DIFFERS.into());
        }
        Ok(record)
    }
}

/// A record as it is written, encoded by the caller: the writer has no time for
/// that.
pub(super) struct RowWrite {
    is_first: bool,
    version: Version,
    status: Status,
    /// From being written to falling due, in milliseconds.
    span: u64,
    attempts: u32,
    is_held: bool,
    steps: i64,
    request: bool,
    head: Bytes,
    response: Option<Bytes>,
    response_hash: i64,
    /// What goes to `parts`, with its number and checksum.
    fresh: Vec<(i64, Bytes, i64)>,
    /// Of its labels, if they are indexed.
    tags: Option<Vec<i64>>,
}

impl RowWrite {
    pub(super) fn new(key: &Key, record: &Record) -> Self {
        let encoded = record.encode();
        let (mut response, mut fresh) = (None, Vec::new());
        for (id, value) in encoded.fresh {
            let n = match id {
                PartId::Request => 0,
                PartId::Step(number) => i64::from(number) + 1,
                PartId::Response => {
                    response = Some(value);
                    continue;
                }
            };
            let hash = part_hash(key.as_bytes(), n, &value);
            fresh.push((n, value, hash));
        }
        Self {
            is_first: record.is_first(),
            version: record.version(),
            status: record.index_class(),
            span: Timestamp::default().after(record.due_in()).as_millis().min(LONGEST),
            attempts: record.attempts(),
            is_held: matches!(record.hold(), Hold::Leased { .. }) && record.response().is_none(),
            steps: i64::try_from(record.numbered_parts()).unwrap_or(i64::MAX),
            request: record.request().is_some(),
            head: encoded.head,
            response_hash: response.as_deref().map_or(0, response_hash),
            response,
            fresh,
            tags: None,
        }
    }

    /// The same, with its labels in their index if there is one.
    pub(super) fn indexed(mut self, record: &Record, sql: &Sql) -> Self {
        self.tags = sql.index_labels.then(|| record.labels().iter().map(Label::tag).collect());
        self
    }

    pub(super) fn tags(&self) -> Option<&[i64]> {
        self.tags.as_deref()
    }

    /// Whether it starts an operation.
    pub(super) const fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn len(&self) -> usize {
        let parts: usize = self.fresh.iter().map(|(_, value, _)| value.len()).sum();
        self.head.len() + self.response.as_ref().map_or(0, Bytes::len) + parts
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (i64, &[u8], i64)> {
        self.fresh.iter().map(|(n, value, hash)| (*n, &value[..], *hash))
    }

    /// The columns that it gets when it is written at `now` by `holder`, over what
    /// was there.
    pub(super) fn columns(&self, over: Option<&Columns>, now: Timestamp, holder: i64) -> Columns {
        let written = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let before = over.filter(|_| !self.is_first);
        Columns {
            version: self.version,
            status: self.status,
            created: before.map_or(written, |before| before.created),
            written,
            due: written.saturating_add_unsigned(self.span),
            attempts: self.attempts.into(),
            holder: if self.is_held { holder } else { 0 },
            steps: self.steps,
            request: self.request,
            response_hash: self.response_hash,
        }
    }

    /// The row, as the statements that insert or update it take it.
    pub(super) fn cells<'c>(&'c self, key: &'c Key, columns: &Columns) -> [Cell<'c>; 17] {
        let key = key.as_bytes();
        [
            bytes_cell(key),
            number_cell(FORMAT),
            number_cell(columns.version.get().cast_signed()),
            number_cell(status_code(columns.status)),
            number_cell(columns.created),
            number_cell(columns.written),
            number_cell(columns.due),
            number_cell(columns.attempts),
            number_cell(columns.holder),
            number_cell(columns.steps),
            number_cell(columns.request.into()),
            number_cell(columns.response_hash),
            number_cell(columns.hash(key, &self.head)),
            bytes_cell(&self.head),
            self.response.as_deref().map_or(ToSqlOutput::Owned(Value::Null), bytes_cell),
            number_cell(bucket(key)),
            number_cell(key_hash(key)),
        ]
    }
}

/// The key in this column of a scan.
pub(super) fn key(row: &impl Cells, column: usize) -> Result<Key, DecodeError> {
    let bytes = blob(row, column)?.ok_or(STRANGE)?;
    Ok(Key::from_bytes(bytes.try_into().map_err(|_| STRANGE)?))
}

/// An integer of a row, whose checksum may be about to tell that it is none.
pub(super) fn integer(row: &impl Cells, column: usize) -> Result<i64, DecodeError> {
    match row.cell(column) {
        Some(ValueRef::Integer(number)) => Ok(number),
        _ => Err(STRANGE),
    }
}

fn blob(row: &impl Cells, column: usize) -> Result<Option<&[u8]>, DecodeError> {
    match row.cell(column) {
        Some(ValueRef::Blob(bytes)) => Ok(Some(bytes)),
        Some(ValueRef::Null) => Ok(None),
        _ => Err(STRANGE),
    }
}

pub(super) fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis.max(0).unsigned_abs())
}

fn masked(hash: u64) -> i64 {
    hash.cast_signed() & MASK
}

/// Records are counted by the first bits of their keys.
pub(super) fn bucket(key: &[u8; 32]) -> i64 {
    i64::from(key[0] >> 1)
}

/// What a record's key adds to the sum of its bucket's.
pub(super) fn key_hash(key: &[u8; 32]) -> i64 {
    masked(xxh3_64(key))
}

/// Never the checksum of no response.
fn response_hash(response: &[u8]) -> i64 {
    masked(xxh3_64(response)).max(1)
}

/// Over the place of the part, too: it is no other record's.
fn part_hash(key: &[u8; 32], n: i64, value: &[u8]) -> i64 {
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(key);
    bytes[32..40].copy_from_slice(&n.to_be_bytes());
    bytes[40..].copy_from_slice(&xxh3_64(value).to_be_bytes());
    masked(xxh3_64(&bytes))
}

fn part_id(n: i64) -> Option<PartId> {
    match n {
        0 => Some(PartId::Request),
        n => Some(PartId::Step(u32::try_from(n.checked_sub(1)?).ok()?)),
    }
}
