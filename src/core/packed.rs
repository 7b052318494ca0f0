//! A complete record in one piece of memory.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderName, HeaderValue, StatusCode};

use super::fingerprint::Fingerprint;
use super::message::{COPIED, Lines, NotRetained, StoredResponse, name_of, piece};
use super::record::entry::History;
use super::record::hold::{Fence, Hold, Mode, Progress};
use super::record::time::{Timestamp, Version};
use super::record::{NEVER, Record};
use super::wire::known;

/// A complete record, for a store that keeps many in its memory and reads few of them again: one
/// allocation, in place of one for each of its parts. What is forgotten in its time is then not
/// read once more, part by part, to be freed.
///
/// It never leaves the process, so no other release has to read it.
pub(crate) struct Packed(Box<[u8]>);

/// What is asked of many records of which no more is wanted.
struct Times {
    version: Version,
    flags: u8,
    created_at: Timestamp,
    written_at: Timestamp,
    retention: Duration,
}

/// How large it is: what is in it may not be for logs.
impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

/// The bits of the byte in front of what is not always there.
const RESUMABLE: u8 = 1;
const ACCEPTED: u8 = 1 << 1;
const OUTGOING: u8 = 1 << 2;
const SCHEME_2: u8 = 1 << 3;

/// What a hold is, in a byte.
const LEASED: u8 = 0;
const RELEASED: u8 = 1;
const RUNNABLE: u8 = 2;

/// The bits of a value's length: of one that is sensitive, and of a number in place of it.
const SENSITIVE: u32 = 1 << 31;
const KNOWN_VALUE: u32 = 1 << 30;

/// The bit of a name's length, of a number in place of it.
const KNOWN_NAME: u16 = 1 << 15;

/// How many bytes are in front of the lines, at most.
const HEAD: usize = 160;

/// What is in front of the lines.
struct Head {
    bytes: [u8; HEAD],
    len: usize,
}

impl Head {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(&bytes);
        self.len += N;
    }

    /// A number that most often is small: how many bytes it has, and these.
    fn put_small(&mut self, number: u64) {
        let zeros = number.leading_zeros() / 8;
        self.put([(u64::BITS / 8 - zeros) as u8]);
        // All eight, which is one store; the next one is put over those that are zero.
        self.put(number.to_le_bytes());
        self.len -= zeros as usize;
    }

    fn put_duration(&mut self, duration: Duration) {
        self.put_small(duration.as_secs());
        self.put_small(duration.subsec_nanos().into());
    }
}

impl Packed {
    /// The same record, as the store keeps it that writes it at `at` over one that was first kept at
    /// `created`; `None` of one that is not complete, or has more than most have.
    pub(crate) fn of(record: &Record, created: Option<Timestamp>, at: Timestamp) -> Option<Self> {
        let Progress::Complete { response, retention } = &record.progress else { return None };
        let behind = length(response);
        let has_more = record.callback.is_some()
            || record.request.is_some()
            || !record.steps.is_empty()
            || record.undoing.is_some()
            || record.history != History::default()
            || behind > COPIED;
        if has_more {
            return None;
        }
        let (hold, fence, lease) = match &record.hold {
            Hold::Leased { fence, lease } => (LEASED, fence.version(), *lease),
            Hold::Released => (RELEASED, Version::new(0), Duration::ZERO),
            Hold::Runnable => (RUNNABLE, Version::new(0), Duration::ZERO),
            Hold::Parked { .. } => return None,
        };
        let (authority, content) = record.fingerprint.plain()?;
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let flags = bit(record.mode == Mode::Resumable, RESUMABLE)
            | bit(record.accepted, ACCEPTED)
            | bit(record.outgoing, OUTGOING)
            | bit(record.fingerprint.scheme() == 2, SCHEME_2);
        let created = record.created_over(created, at).as_millis();
        let mut head = Head { bytes: [0; HEAD], len: 0 };
        head.put(record.version.get().to_ne_bytes());
        head.put([flags]);
        head.put(created.to_ne_bytes());
        head.put_small(at.as_millis().wrapping_sub(created));
        head.put_duration(*retention);
        head.put(*record.fingerprint.as_bytes());
        head.put_small(number(authority));
        head.put_small(number(content));
        head.put([hold]);
        head.put_small(fence.get());
        head.put_duration(lease);
        head.put_small(record.attempts.into());
        head.put_small(record.attempts_before_reset.into());
        head.put_small(record.retry_in_ms);
        head.put(response.status().as_u16().to_ne_bytes());
        // Zero, if the body was retained.
        head.put_small(response.not_retained().map_or(0, |why| u64::from(why.number()) + 1));
        head.put_small(response.headers().len() as u64);
        head.put_small(response.trailers().len() as u64);
        // In one go: what grows asks for room each time.
        let mut all = Vec::with_capacity(head.len + behind);
        all.put_slice(&head.bytes[..head.len]);
        put_lines(&mut all, response)?;
        all.put_slice(response.body().map_or(&[], |body| body));
        Some(Self(all.into()))
    }

    /// The record.
    pub(crate) fn record(&self) -> Record {
        let (Times { version, flags, created_at, written_at, retention }, mut from) = self.times();
        let has = |bit: u8| flags & bit != 0;
        let mut digest = [0; 32];
        from.copy_to_slice(&mut digest);
        let scheme = if has(SCHEME_2) { 2 } else { 1 };
        let [authority, content] = [small(&mut from), small(&mut from)].map(NonZeroU32::new);
        let fingerprint = Fingerprint::read(digest, scheme, authority, content, None);
        let (hold, fence, lease) = (from.get_u8(), small(&mut from), duration(&mut from));
        let hold = match hold {
            LEASED => Hold::Leased { fence: Fence(Version::new(fence)), lease },
            RELEASED => Hold::Released,
            _ => Hold::Runnable,
        };
        let (attempts, attempts_before_reset, retry_in_ms) = (small(&mut from), small(&mut from), small(&mut from));
        let response = Arc::new(response(from));
        Record {
            version,
            mode: if has(RESUMABLE) { Mode::Resumable } else { Mode::AtMostOnce },
            fingerprint,
            hold,
            progress: Progress::Complete { response, retention },
            attempts,
            attempts_before_reset,
            retry_in_ms,
            history: History::default(),
            accepted: has(ACCEPTED),
            outgoing: has(OUTGOING),
            callback: None,
            request: None,
            steps: Vec::new(),
            undoing: None,
            created_at: Some(created_at),
            written_at,
        }
    }

    /// Its version, without the rest.
    pub(crate) fn version(&self) -> Version {
        Version::new((&*self.0).get_u64_ne())
    }

    /// When it was first kept, without the rest.
    pub(crate) fn created_at(&self) -> Timestamp {
        self.times().0.created_at
    }

    /// When its retention ends, and whether it is kept for good, without the rest.
    pub(crate) fn due(&self) -> (Timestamp, bool) {
        let times = self.times().0;
        (times.written_at.after(times.retention), times.retention == NEVER)
    }

    /// What is in front, and what is behind it.
    fn times(&self) -> (Times, &[u8]) {
        let mut from = &*self.0;
        let (version, flags) = (Version::new(from.get_u64_ne()), from.get_u8());
        let created = from.get_u64_ne();
        let [created_at, written_at] = [created, created.wrapping_add(small(&mut from))].map(Timestamp::from_millis);
        let retention = duration(&mut from);
        (Times { version, flags, created_at, written_at, retention }, from)
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn size(&self) -> usize {
        piece(self.0.len())
    }
}

fn number(number: Option<NonZeroU32>) -> u64 {
    number.map_or(0, |number| number.get().into())
}

/// It was one of this type.
fn small<T: TryFrom<u64> + Default>(from: &mut &[u8]) -> T {
    let bytes = usize::from(from.get_u8());
    let number = match from.first_chunk() {
        // All eight, which is one load, without those that are of what is behind it.
        Some(eight) => u64::from_le_bytes(*eight) & u64::MAX.checked_shr(64 - 8 * bytes as u32).unwrap_or(0),
        None => (&from[..bytes]).get_uint_le(bytes),
    };
    from.advance(bytes);
    T::try_from(number).unwrap_or_default()
}

fn duration(from: &mut &[u8]) -> Duration {
    let seconds = small(from);
    Duration::new(seconds, small(from))
}

/// The number of a name, or its bytes.
fn name_part(name: &HeaderName) -> (Option<u8>, &[u8]) {
    known::number_of_name(name).map_or((None, name.as_str().as_bytes()), |number| (Some(number), &[]))
}

/// The number of a value, or its bytes.
fn value_part(value: &HeaderValue) -> (Option<u8>, &[u8]) {
    known::number_of_value(value).map_or((None, value.as_bytes()), |number| (Some(number), &[]))
}

/// How many bytes the lines and the body take.
fn length(response: &StoredResponse) -> usize {
    let lines = response.headers().iter().chain(response.trailers());
    let lines: usize = lines.map(|(name, value)| 2 + 4 + name_part(name).1.len() + value_part(value).1.len()).sum();
    lines + response.body().map_or(0, Bytes::len)
}

/// `None` if a part is longer than can be said, or is none.
fn put_lines(to: &mut Vec<u8>, response: &StoredResponse) -> Option<()> {
    for (name, value) in response.headers().iter().chain(response.trailers()) {
        let ((known_name, name), (known_value, bytes)) = (name_part(name), value_part(value));
        to.put_u16_ne(match known_name {
            Some(number) => KNOWN_NAME | u16::from(number),
            None => u16::try_from(name.len()).ok().filter(|length| length & KNOWN_NAME == 0)?,
        });
        let length = match known_value {
            Some(number) => KNOWN_VALUE | u32::from(number),
            None => u32::try_from(bytes.len()).ok().filter(|length| length & (SENSITIVE | KNOWN_VALUE) == 0)?,
        };
        // One that was made unchecked may be none, and could not be made again.
        if !bytes.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t') {
            return None;
        }
        to.put_u32_ne(length | if value.is_sensitive() { SENSITIVE } else { 0 });
        to.put_slice(name);
        to.put_slice(bytes);
    }
    Some(())
}

fn response(mut from: &[u8]) -> StoredResponse {
    let status = StatusCode::from_u16(from.get_u16_ne()).unwrap_or_default();
    let not_retained = small::<u64>(&mut from).checked_sub(1).map(|why| NotRetained::numbered(why as u32));
    let [headers, trailers] = [small(&mut from), small(&mut from)];
    let mut rest = Bytes::copy_from_slice(from);
    let [headers, trailers] = [headers, trailers].map(|count| lines(&mut rest, count));
    StoredResponse::from_parts(status, headers, not_retained.map_or(Ok(rest), Err), trailers)
}

fn lines(from: &mut Bytes, count: usize) -> Lines {
    let mut lines = Vec::with_capacity(count);
    lines.extend((0..count).filter_map(|_| line(from)));
    lines
}

/// Of what was a line, it is one again.
fn line(from: &mut Bytes) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = (from.get_u16_ne(), from.get_u32_ne());
    let is_sensitive = value & SENSITIVE != 0;
    let name = match name & KNOWN_NAME {
        0 => name_of(&from.split_to(name.into())),
        _ => known::name((name & !KNOWN_NAME) as u8),
    };
    let mut value = match value & KNOWN_VALUE {
        0 => HeaderValue::from_maybe_shared(from.split_to((value & !SENSITIVE) as usize)).ok(),
        _ => known::value((value & !SENSITIVE) as u8),
    }?;
    value.set_sensitive(is_sensitive);
    Some((name?, value))
}
