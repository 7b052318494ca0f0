//! A record as a row, and back.

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::call::Parameter;
use super::error::not_ours;
use crate::core::{DecodeError, Key, PartId, Record, Status, Times, Timestamp, Version};
use crate::store::{Found, Loaded, StoreError};

/// The longest lease or retention, in milliseconds: adding it to any time of
/// the next millennia does not overflow.
const LONGEST: u64 = 1 << 61;

/// What is written for one record: the parameters of a swap, in their order.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) key: Vec<u8>,
    pub(super) version: i64,
    pub(super) status: i16,
    pub(super) span: i64,
    pub(super) head: Vec<u8>,
    pub(super) request: Option<Vec<u8>>,
    pub(super) response: Option<Vec<u8>>,
    /// The steps that are new in this version.
    pub(super) numbers: Vec<i32>,
    pub(super) values: Vec<Vec<u8>>,
    /// What it is to replace.
    pub(super) expected: Option<i64>,
    /// Whether another operation starts with it.
    pub(super) is_first: bool,
    pub(super) keeps_request: bool,
    /// How many steps it has; what the row has beyond them goes.
    pub(super) steps: i32,
}

impl Put {
    pub(super) fn new(key: &Key, expected: Option<Version>, next: &Record) -> Self {
        let encoded = next.encode();
        // From time zero, when something falls due is how long it takes.
        let span = next.clone().stamped(Timestamp::default()).due().as_millis();
        let mut put = Self {
            key: key.as_bytes().to_vec(),
            version: signed(next.version()),
            status: status_code(next.status()),
            span: span.min(LONGEST).cast_signed(),
            head: encoded.head.into(),
            request: None,
            response: None,
            numbers: Vec::new(),
            values: Vec::new(),
            expected: expected.map(signed),
            is_first: next.is_first(),
            keeps_request: false,
            steps: i32::try_from(next.steps().len()).unwrap_or(i32::MAX),
        };
        for (part, bytes) in encoded.fresh {
            match part {
                PartId::Request => put.request = Some(bytes.into()),
                PartId::Response => put.response = Some(bytes.into()),
                PartId::Step(number) => {
                    put.numbers.push(i32::try_from(number).unwrap_or(i32::MAX));
                    put.values.push(bytes.into());
                }
            }
        }
        put.keeps_request = next.request().is_some() && put.request.is_none();
        put
    }

    /// How many of the parameters a new record needs; the others say what it
    /// is to replace, and how.
    pub(super) const CREATES: usize = 9;

    pub(super) fn parameters(&self) -> [Parameter<'_>; 13] {
        [
            (&self.key, Type::BYTEA),
            (&self.version, Type::INT8),
            (&self.status, Type::INT2),
            (&self.span, Type::INT8),
            (&self.head, Type::BYTEA),
            (&self.request, Type::BYTEA),
            (&self.response, Type::BYTEA),
            (&self.numbers, Type::INT4_ARRAY),
            (&self.values, Type::BYTEA_ARRAY),
            (&self.expected, Type::INT8),
            (&self.is_first, Type::BOOL),
            (&self.keeps_request, Type::BOOL),
            (&self.steps, Type::INT4),
        ]
    }
}

/// What a statement found.
pub(super) struct Answer {
    /// The first column: whether the write took.
    pub(super) took: bool,
    pub(super) found: Loaded,
}

impl Answer {
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let took = required(row, 0)?;
        let now = time(required(row, 1)?)?;
        let key: Option<&[u8]> = optional(row, 2)?;
        let record = match key {
            None => None,
            Some(_) => Some(record(row)?),
        };
        Ok(Self { took, found: Loaded { record, now } })
    }
}

fn record(row: &Row) -> Result<Record, StoreError> {
    let version = unsigned(required(row, 3)?);
    let times = Times { created: time(required(row, 4)?)?, written: time(required(row, 5)?)? };
    let head: &[u8] = required(row, 6)?;
    let numbers: Vec<i32> = required(row, 9)?;
    let mut steps: Vec<&[u8]> = required(row, 10)?;
    let part = |part| match part {
        PartId::Request => optional(row, 7).ok().flatten().map(Bytes::copy_from_slice),
        PartId::Response => optional(row, 8).ok().flatten().map(Bytes::copy_from_slice),
        PartId::Step(number) => {
            let at = numbers.binary_search(&i32::try_from(number).ok()?).ok()?;
            steps.get_mut(at).map(|step| Bytes::copy_from_slice(std::mem::take(step)))
        }
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
pub(super) fn required<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, StoreError> {
    optional(row, column)?.ok_or_else(|| not_ours("a column is empty that never is"))
}

fn optional<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<Option<T>, StoreError> {
    row.try_get(column).map_err(|error| not_ours("a column has another type").caused_by(error))
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

const fn status_code(status: Status) -> i16 {
    match status {
        Status::Pending => 0,
        Status::Paid => 1,
        Status::Complete => 2,
    }
}

const fn status_of(code: i16) -> Option<Status> {
    match code {
        0 => Some(Status::Pending),
        1 => Some(Status::Paid),
        2 => Some(Status::Complete),
        _ => None,
    }
}
