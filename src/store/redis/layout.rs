//! How a record lies in Redis.
//!
//! | key | type | what |
//! |---|---|---|
//! | `{PREFIX:NN}:KEY` | string | a record: its columns and head (and response, once complete) |
//! | | or hash | the same where it has a request or steps: `h` as the string, `q` its request, `0`… its steps |
//! | `{PREFIX:NN}:due` | sorted set | the unfinished records of the partition by when they fall due |
//! | `{PREFIX:NN}:complete` | sorted set | the complete ones by when they expire, if the option says so |
//! | `{PREFIX:NN}:due:TAG`, `{PREFIX:NN}:complete:TAG` | sorted set | the same of one label, if the option says so; `TAG` is a hash of it |
//! | `{PREFIX:NN}:labels` | hash | of each unfinished record with labels, under its `KEY`, their tags |
//! | `{PREFIX:NN}:epoch` | hash | which data this is |
//! | `{PREFIX:NN}:partitions` | string | how many partitions there are |
//!
//! Most records are strings: a hash takes 120 bytes more, and longer.
//!
//! `NN` is the partition, 00 to 15 by default, and fixed by the key: in a cluster, a record
//! lies in the slot of its index. How many there are is fixed with the first write: see `partitions.rs`. `KEY` is base64 of the key's bytes, in an alphabet
//! that keeps their order: `./0-9A-Za-z`.
//!
//! The columns are a line for people and scripts, and eight bytes:
//!
//! ```text
//! 2 C 1764000000000 17 0 1 72
//! ```
//!
//! The layout; `P`ending, `N`o return (paid) or `C`omplete; when it was created, in
//! milliseconds since 1970, and how long after that it was written; how many steps
//! there are, with a `q` behind if there is a request; attempts; length of the head.
//! The bytes are the version. When it is due is in the index, and of a complete
//! record its `PEXPIRETIME`.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::CRYPT;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;
use bytes::Bytes;
use redis::Value;

use super::error::{corrupt, unavailable};
use super::script::{Call, LOAD, PUT, PUT_INDEXING_LABELS, REMOVE, REMOVE_INDEXING_LABELS, Script};
use crate::core::{DecodeError, Encoded, Key, Label, Labels, PartId, Record, Status, Times, Timestamp, Version};
use crate::store::contract::{Loaded, StoreError};

const FORMAT: &str = "2";
/// A record's version, behind the line of its columns.
const VERSION: usize = 8;
const NAME: GeneralPurpose = GeneralPurpose::new(&CRYPT, NO_PAD);
const CORRUPT: DecodeError = DecodeError::Corrupt("its columns do not parse");

/// The names under which everything lies.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    /// What the names of each partition start with: what is in a partition is
    /// in the same slot of a cluster.
    stems: Vec<String>,
    pub(super) indexes: Indexes,
}

/// Which indexes there are beside that of unfinished records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Indexes {
    pub(super) complete: bool,
    pub(super) labels: bool,
}

impl Names {
    pub(super) fn new(prefix: &str, partitions: u16, indexes: Indexes) -> Self {
        let stems = (0..partitions).map(|partition| stem_of(prefix, partition)).collect();
        Self { prefix: prefix.to_owned(), stems, indexes }
    }

    /// How many partitions there are.
    pub(super) fn partitions(&self) -> u16 {
        u16::try_from(self.stems.len()).unwrap_or(u16::MAX)
    }

    /// What is in this partition, which may be one that another number would have.
    pub(super) fn of(&self, partition: u16, name: &str) -> String {
        [&*stem_of(&self.prefix, partition), name].concat()
    }

    /// What the names of this key's partition start with.
    fn stem(&self, key: &Key) -> &str {
        let [.., high, low] = key.as_bytes();
        let partition = u16::from_be_bytes([*high, *low]) % self.partitions();
        self.stems.get(usize::from(partition)).map_or("", String::as_str)
    }

    fn record(&self, key: &Key) -> String {
        let mut name = String::with_capacity(96);
        name.push_str(self.stem(key));
        NAME.encode_string(key.as_bytes(), &mut name);
        name
    }

    fn record_and_index(&self, script: &'static Script, key: &Key, size: usize) -> Call {
        let index = [self.stem(key), "due"].concat();
        Call::new(script, size + 256).keys([self.record(key).as_bytes(), index.as_bytes()])
    }

    /// For what changes it.
    fn record_and_indexes(&self, script: &'static Script, key: &Key, size: usize) -> Call {
        if !self.indexes.complete {
            return self.record_and_index(script, key, size);
        }
        let (due, complete) = ([self.stem(key), "due"].concat(), [self.stem(key), "complete"].concat());
        Call::new(script, size + 320).keys([self.record(key).as_bytes(), due.as_bytes(), complete.as_bytes()])
    }

    pub(super) fn load(&self, key: &Key) -> Call {
        self.record_and_index(&LOAD, key, 0)
    }

    pub(super) fn remove(&self, key: &Key, expected: Version) -> Call {
        let script = if self.indexes.labels { &REMOVE_INDEXING_LABELS } else { &REMOVE };
        let call = self.record_and_indexes(script, key, 0).arg(&version_bytes(expected));
        self.with_tags(call, key, &Labels::new())
    }

    /// What the scripts need that index labels: it comes last.
    fn with_tags(&self, call: Call, key: &Key, labels: &Labels) -> Call {
        if !self.indexes.labels {
            return call;
        }
        let tags: String = labels.iter().flat_map(|label| [tag(label), ",".to_owned()]).collect();
        call.arg(self.stem(key)).arg(tags)
    }

    pub(super) fn put(&self, key: &Key, expected: Option<Version>, next: &Record) -> Call {
        let Encoded { head, fresh } = next.encode();
        // Behind the head, for a replay reads one field. The others have their own.
        let response = fresh.iter().find(|(id, _)| *id == PartId::Response).map_or(&[][..], |(_, response)| response);
        let size = head.len() + fresh.iter().map(|(_, part)| part.len() + 16).sum::<usize>();
        let script = if self.indexes.labels { &PUT_INDEXING_LABELS } else { &PUT };
        let call = self
            .record_and_indexes(script, key, size)
            .arg(expected.map(version_bytes).as_ref().map_or(&[][..], |version| version))
            // When it is due, counted from its write.
            .arg(Timestamp::default().after(next.due_in()).as_millis())
            .arg(status_letter(next.index_class()))
            .joined([columns_of(next, head.len()).as_bytes(), &version_bytes(next.version()), &head, response]);
        let parts = fresh.iter().filter_map(|(id, part)| Some((field(*id)?, part)));
        let call = parts.fold(call, |call, (field, part)| call.arg(&*field).arg(&**part));
        let call = match created(expected, next) {
            Some(created) => call.arg(created),
            None => call,
        };
        self.with_tags(call, key, next.labels())
    }
}

/// The columns behind those that only the server knows.
fn columns_of(next: &Record, head: usize) -> String {
    let request = if next.request().is_some() { "q" } else { "" };
    format!("{}{request} {} {head}\n", next.numbered_parts(), next.attempts())
}

/// When it was created, where the server would not say so by itself: that is when the record that
/// it replaces was, or now.
fn created(expected: Option<Version>, next: &Record) -> Option<String> {
    match expected {
        // Over one that has expired.
        Some(_) => next.is_first().then(|| "now".to_owned()),
        None if next.is_first() => None,
        None => next.created_at().map(|at| at.as_millis().to_string()),
    }
}

fn stem_of(prefix: &str, partition: u16) -> String {
    format!("{{{prefix}:{partition:02}}}:")
}

fn version_bytes(version: Version) -> [u8; VERSION] {
    version.get().to_be_bytes()
}

/// A label in the name of its index: 11 characters.
pub(super) fn tag(label: &Label) -> String {
    NAME.encode(label.tag().to_be_bytes())
}

/// A key in the names of records, and in the index. 43 characters; two bits of the
/// last one stay zero, as `scan.lua` knows.
pub(super) fn name(key: &Key) -> String {
    NAME.encode(key.as_bytes())
}

pub(super) fn parse_name(name: &[u8]) -> Option<Key> {
    NAME.decode(name).ok()?.try_into().ok().map(Key::from_bytes)
}

/// The field of a part; `None` for the response, which follows the head.
fn field(id: PartId) -> Option<Cow<'static, str>> {
    match id {
        PartId::Request => Some("q".into()),
        PartId::Response => None,
        PartId::Step(number) => Some(number.to_string().into()),
    }
}

/// What a store must know about a record without decoding it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) status: Status,
    pub(super) version: Version,
    pub(super) times: Times,
    head: usize,
}

impl Columns {
    /// The columns, and what is behind them.
    pub(super) fn parse(value: &[u8]) -> Result<(Self, usize), DecodeError> {
        let end = value.iter().position(|&byte| byte == b'\n').ok_or(CORRUPT)?;
        let line = str::from_utf8(&value[..end]).map_err(|_| CORRUPT)?;
        let mut columns = line.split(' ');
        let mut next = || columns.next().ok_or(CORRUPT);
        let format = next()?;
        if format != FORMAT {
            return Err(match format.parse() {
                Ok(1) => DecodeError::Unreleased(1),
                Ok(newer) if newer > 1 => DecodeError::Newer(newer),
                _ => CORRUPT,
            });
        }
        let status = status_of(next()?).ok_or(CORRUPT)?;
        let created: u64 = next()?.parse().map_err(|_| CORRUPT)?;
        let later: i64 = next()?.parse().map_err(|_| CORRUPT)?;
        // Steps and request are for the scripts, attempts for people.
        let head = columns.nth(2).and_then(|head| head.parse().ok()).ok_or(CORRUPT)?;
        let version = value[end + 1..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).ok_or(CORRUPT)?;
        let written = Timestamp::from_millis(created.saturating_add_signed(later));
        let times = Times { created: Timestamp::from_millis(created), written };
        Ok((Self { status, version: Version::new(version), times, head }, end + 1 + VERSION))
    }
}

/// What a script that compares, or loads, replied.
pub(super) enum ScriptReply {
    /// It was done.
    Done,
    /// This is there (instead).
    Found(Loaded),
}

pub(super) fn parse_reply(reply: Value) -> Result<ScriptReply, StoreError> {
    let reply = match reply {
        Value::Int(_) => return Ok(ScriptReply::Done),
        Value::Array(reply) => <[Value; 2]>::try_from(reply),
        _ => return Err(no_reply_of_ours()),
    };
    let Ok([Value::Int(now), fields]) = reply else { return Err(no_reply_of_ours()) };
    let now = Timestamp::from_millis(now.unsigned_abs());
    Ok(ScriptReply::Found(Loaded { record: record(fields)?, now }))
}

pub(super) fn no_reply_of_ours() -> StoreError {
    unavailable("redis returned something else than the script returns; is there a proxy?")
}

fn record(fields: Value) -> Result<Option<Record>, StoreError> {
    let fields = pairs(fields).ok_or_else(no_reply_of_ours)?;
    if fields.is_empty() {
        return Ok(None);
    }
    let Some(value) = get(&fields, "h") else {
        return Err(corrupt(
            "redis has a hash at this key that is not ours; look at it, and give this store a prefix or a database \
             of its own",
        ));
    };
    if !value.contains(&b'\n') {
        return Err(corrupt(
            "redis has something else than a record at this key: its columns do not parse; look at it, and give this \
             store a prefix or a database of its own",
        ));
    }
    let (columns, end) = Columns::parse(value)?;
    let rest = value.slice(end..);
    if columns.head > rest.len() {
        return Err(CORRUPT.into());
    }
    let part = |id| match field(id) {
        Some(field) => get(&fields, &field).cloned(),
        None => Some(rest.slice(columns.head..)),
    };
    let record = Record::decode(columns.times, &rest[..columns.head], part)?;
    if record.version() != columns.version || record.index_class() != columns.status {
        return Err(DecodeError::Corrupt("its columns and its head differ").into());
    }
    Ok(Some(record))
}

/// A string, or a hash as the protocol's older and newer version show it; in the
/// order of its fields.
fn pairs(fields: Value) -> Option<Vec<(Bytes, Bytes)>> {
    let bytes = |value| if let Value::BulkString(bytes) = value { Some(Bytes::from(bytes)) } else { None };
    let mut pairs = match fields {
        Value::Nil => Vec::new(),
        Value::BulkString(record) => vec![(Bytes::from_static(b"h"), record.into())],
        Value::Map(pairs) => {
            pairs.into_iter().map(|(name, value)| Some((bytes(name)?, bytes(value)?))).collect::<Option<Vec<_>>>()?
        }
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            let pairs = std::iter::from_fn(|| Some((flat.next()?, flat.next()?)));
            pairs.map(|(name, value)| Some((bytes(name)?, bytes(value)?))).collect::<Option<Vec<_>>>()?
        }
        _ => return None,
    };
    pairs.sort_unstable();
    Some(pairs)
}

fn get<'a>(pairs: &'a [(Bytes, Bytes)], name: &str) -> Option<&'a Bytes> {
    let at = pairs.binary_search_by(|(field, _)| (**field).cmp(name.as_bytes())).ok()?;
    pairs.get(at).map(|(_, value)| value)
}

const fn status_letter(status: Status) -> &'static str {
    match status {
        Status::Pending => "P",
        // The point of no return.
        Status::Paid => "N",
        Status::Complete => "C",
    }
}

fn status_of(letter: &str) -> Option<Status> {
    [Status::Pending, Status::Paid, Status::Complete].into_iter().find(|&status| status_letter(status) == letter)
}
