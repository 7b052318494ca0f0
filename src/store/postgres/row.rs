//! A record as a row, and back.

use bytes::Bytes;
use tokio_postgres::types::{ToSql, Type};

use super::columns::{Row, Value};
use super::driver::Parameter;
use super::error::not_ours;
use super::sql::{Keyed, Labelled, Replace};
use crate::core::{DecodeError, Key, Label, PartId, Record, Times, Timestamp, Version};
use crate::store::contract::{Found, Loaded, StoreError, status_code, status_of};

/// The longest lease or retention, in milliseconds: adding it to any time of
/// the next millennia does not overflow.
const LONGEST: u64 = 1 << 61;

/// What is written for one record.
#[derive(Clone, Debug)]
pub(super) struct RowWrite {
    pub(super) expected: Option<Version>,
    /// Whether it has steps, or may have had some.
    pub(super) has_steps: bool,
    is_first: bool,
    keeps_request: bool,
    has_labels: bool,
    parameters: [Parameter; 13],
}

impl RowWrite {
    pub(super) fn new(key: &Key, expected: Option<Version>, next: &Record, sql: &Keyed) -> Self {
        let encoded = next.encode();
        let (mut request, mut response, mut numbers, mut values) = (None, None, Vec::new(), Vec::new());
        for (part, bytes) in encoded.fresh {
            match part {
                PartId::Request => request = Some(bytes.into()),
                PartId::Response => response = Some(bytes.into()),
                PartId::Step(number) => {
                    numbers.push(i32::try_from(number).unwrap_or(i32::MAX));
                    values.push(bytes.into());
                }
            }
        }
        let span = Timestamp::default().after(next.due_in()).as_millis().min(LONGEST);
        let keeps_request = next.request().is_some() && request.is_none();
        let steps = i64::try_from(next.numbered_parts()).unwrap_or(i64::MAX);
        let tags = sql.labelled.as_ref().map_or_else(Vec::new, |_| tags_of(next));
        let has_labels = !tags.is_empty();
        let parameters = [
            Parameter::key(key),
            Parameter::Integer(signed(next.version())),
            Parameter::Integer(status_code(next.index_class())),
            Parameter::Integer(span.cast_signed()),
            Parameter::Bytes(Some(encoded.head.into())),
            Parameter::Bytes(request),
            Parameter::Bytes(response),
            Parameter::Integer(next.attempts().into()),
            Parameter::Integer(expected.map_or(0, signed)),
            Parameter::Integer(steps),
            Parameter::Integers(numbers),
            Parameter::Pieces(values),
            Parameter::Pieces(tags),
        ];
        let has_steps = steps > 0 || next.had_steps();
        Self { expected, has_steps, has_labels, is_first: next.is_first(), keeps_request, parameters }
    }

    /// Which of the three it takes.
    pub(super) fn pick<'a>(&self, replace: &'a Replace) -> &'a str {
        match (self.is_first, self.keeps_request) {
            (true, _) => &replace.anew,
            (false, true) => &replace.keeping,
            (false, false) => &replace.rest,
        }
    }

    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters[..12]
    }

    /// With its labels: what finds them, if they are indexed and it has some.
    pub(super) fn labelled<'s>(&self, sql: &'s Keyed) -> Option<(&'s Labelled, &[Parameter])> {
        sql.labelled.as_ref().filter(|_| self.has_labels).map(|labelled| (labelled, &self.parameters[..]))
    }

    /// Those that a record without steps needs.
    pub(super) fn without_steps(&self) -> &[Parameter] {
        let count = if self.expected.is_some() { 9 } else { 8 };
        &self.parameters[..count]
    }
}

/// Each once: one statement may not write a row twice.
fn tags_of(record: &Record) -> Vec<Vec<u8>> {
    let mut tags: Vec<_> = record.labels().iter().map(|label| label.tag().to_be_bytes().to_vec()).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

impl Parameter {
    pub(super) fn label(label: &Label) -> Self {
        Self::Bytes(Some(label.tag().to_be_bytes().to_vec()))
    }

    pub(super) fn key(key: &Key) -> Self {
        Self::Bytes(Some(key.as_bytes().to_vec()))
    }

    fn borrowed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Integer(number) => (number, Type::INT8),
            Self::Bytes(bytes) => (bytes, Type::BYTEA),
            Self::Integers(numbers) => (numbers, Type::INT4_ARRAY),
            Self::Pieces(pieces) => (pieces, Type::BYTEA_ARRAY),
        }
    }
}

/// The parameters, as tokio-postgres takes them.
pub(super) fn borrowed(parameters: &[Parameter]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    parameters.iter().map(Parameter::borrowed).collect()
}

/// What a row of a load holds.
pub(super) fn loaded(row: &Row) -> Result<Loaded, StoreError> {
    let now = time(required(row, 0)?)?;
    let version: Option<i64> = optional(row, 1)?;
    let record = version.map(|version| record(row, unsigned(version))).transpose()?;
    Ok(Loaded { record, now })
}

fn record(row: &Row, version: Version) -> Result<Record, StoreError> {
    let times = Times { created: time(required(row, 2)?)?, written: time(required(row, 3)?)? };
    let head: &[u8] = required(row, 4)?;
    // In their order. Where one is missing, there are too few.
    let steps: Vec<Bytes> = optional(row, 7)?.unwrap_or_default();
    let part = |part| match part {
        PartId::Request => optional(row, 5).ok().flatten().map(Bytes::copy_from_slice),
        PartId::Response => optional(row, 6).ok().flatten().map(Bytes::copy_from_slice),
        PartId::Step(number) => steps.get(usize::try_from(number).ok()?).cloned(),
    };
    let record = Record::decode(times, head, part)?;
    if record.version() != version {
        return Err(DecodeError::Corrupt("its columns and its head differ").into());
    }
    Ok(record)
}

/// One line of a scan.
pub(super) fn found(row: &Row) -> Result<Found, StoreError> {
    let key: &[u8] = required(row, 0)?;
    Ok(Found {
        key: Key::from_bytes(key.try_into().map_err(|_| not_ours("its key has another length"))?),
        version: unsigned(required(row, 1)?),
        status: status_of(required(row, 2)?).ok_or_else(|| not_ours("its status is none"))?,
        created: time(required(row, 3)?)?,
        due: time(required(row, 4)?)?,
    })
}

/// A column that a row of ours has.
pub(super) fn required<'r, T: Value<'r>>(row: &'r Row, column: usize) -> Result<T, StoreError> {
    optional(row, column)?.ok_or_else(|| not_ours("a column is empty that never is"))
}

pub(super) fn optional<'r, T: Value<'r>>(row: &'r Row, column: usize) -> Result<Option<T>, StoreError> {
    T::of(row.as_ref(), column)
}

fn time(millis: i64) -> Result<Timestamp, StoreError> {
    let millis = u64::try_from(millis).map_err(|_| not_ours("a time is before 1970"))?;
    Ok(Timestamp::from_millis(millis))
}

/// Postgres has no unsigned numbers; these are compared, never counted with.
pub(super) const fn signed(version: Version) -> i64 {
    version.get().cast_signed()
}

const fn unsigned(version: i64) -> Version {
    Version::new(version.cast_unsigned())
}
