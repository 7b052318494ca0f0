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

/// That the body was retained, where there could be why not.
const RETAINED: u32 = u32::MAX;

/// The bit of a value's length that marks it as sensitive.
const SENSITIVE: u32 = 1 << 31;

/// How many bytes are in front of the lines.
const HEAD: usize = 128;

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
        let mut head = [0; HEAD];
        let mut to = head.as_mut_slice();
        to.put_u64_ne(record.version.get());
        to.put_u8(flags);
        to.put_u64_ne(record.created_over(created, at).as_millis());
        to.put_u64_ne(at.as_millis());
        put_duration(&mut to, *retention);
        to.put_slice(record.fingerprint.as_bytes());
        to.put_u32_ne(number(authority));
        to.put_u32_ne(number(content));
        to.put_u8(hold);
        to.put_u64_ne(fence.get());
        put_duration(&mut to, lease);
        to.put_u32_ne(record.attempts);
        to.put_u32_ne(record.attempts_before_reset);
        to.put_u64_ne(record.retry_in_ms);
        to.put_u16_ne(response.status().as_u16());
        to.put_u32_ne(response.not_retained().map_or(RETAINED, NotRetained::number));
        to.put_u32_ne(u32::try_from(response.headers().len()).ok()?);
        to.put_u32_ne(u32::try_from(response.trailers().len()).ok()?);
        // In one go: what grows asks for room each time.
        let mut all = Vec::with_capacity(HEAD + behind);
        all.put_slice(&head);
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
        let [authority, content] = [from.get_u32_ne(), from.get_u32_ne()].map(NonZeroU32::new);
        let fingerprint = Fingerprint::read(digest, scheme, authority, content, None);
        let (hold, fence, lease) = (from.get_u8(), from.get_u64_ne(), duration(&mut from));
        let hold = match hold {
            LEASED => Hold::Leased { fence: Fence(Version::new(fence)), lease },
            RELEASED => Hold::Released,
            _ => Hold::Runnable,
        };
        let (attempts, attempts_before_reset, retry_in_ms) = (from.get_u32_ne(), from.get_u32_ne(), from.get_u64_ne());
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
        self.times().0.version
    }

    /// When it was first kept, without the rest.
    pub(crate) fn created_at(&self) -> Timestamp {
        self.times().0.created_at
    }

    /// When its retention ends, without the rest.
    pub(crate) fn due(&self) -> Timestamp {
        let times = self.times().0;
        times.written_at.after(times.retention)
    }

    /// Whether it is kept for good, without the rest.
    pub(crate) fn is_kept_for_good(&self) -> bool {
        self.times().0.retention == NEVER
    }

    /// What is in front, and what is behind it.
    fn times(&self) -> (Times, &[u8]) {
        let mut from = &*self.0;
        let (version, flags) = (Version::new(from.get_u64_ne()), from.get_u8());
        let [created_at, written_at] = [from.get_u64_ne(), from.get_u64_ne()].map(Timestamp::from_millis);
        let retention = duration(&mut from);
        (Times { version, flags, created_at, written_at, retention }, from)
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn size(&self) -> usize {
        piece(self.0.len())
    }
}

fn number(number: Option<NonZeroU32>) -> u32 {
    number.map_or(0, NonZeroU32::get)
}

fn put_duration(to: &mut impl BufMut, duration: Duration) {
    to.put_u64_ne(duration.as_secs());
    to.put_u32_ne(duration.subsec_nanos());
}

fn duration(from: &mut &[u8]) -> Duration {
    let seconds = from.get_u64_ne();
    Duration::new(seconds, from.get_u32_ne())
}

/// How many bytes the lines and the body take.
fn length(response: &StoredResponse) -> usize {
    let lines = response.headers().iter().chain(response.trailers());
    let lines: usize = lines.map(|(name, value)| 2 + 4 + name.as_str().len() + value.len()).sum();
    lines + response.body().map_or(0, Bytes::len)
}

/// `None` if a part is longer than can be said, or is none.
fn put_lines(to: &mut Vec<u8>, response: &StoredResponse) -> Option<()> {
    for (name, value) in response.headers().iter().chain(response.trailers()) {
        let length = u32::try_from(value.len()).ok().filter(|length| length & SENSITIVE == 0)?;
        // One that was made unchecked may be none, and could not be made again.
        if !value.as_bytes().iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t') {
            return None;
        }
        to.put_u16_ne(u16::try_from(name.as_str().len()).ok()?);
        to.put_u32_ne(length | if value.is_sensitive() { SENSITIVE } else { 0 });
        to.put_slice(name.as_str().as_bytes());
        to.put_slice(value.as_bytes());
    }
    Some(())
}

fn response(mut from: &[u8]) -> StoredResponse {
    let status = StatusCode::from_u16(from.get_u16_ne()).unwrap_or_default();
    let not_retained = Some(from.get_u32_ne()).filter(|number| *number != RETAINED).map(NotRetained::numbered);
    let [headers, trailers] = [from.get_u32_ne(), from.get_u32_ne()];
    let mut rest = Bytes::copy_from_slice(from);
    let [headers, trailers] = [headers, trailers].map(|count| lines(&mut rest, count));
    StoredResponse::from_parts(status, headers, not_retained.map_or(Ok(rest), Err), trailers)
}

fn lines(from: &mut Bytes, count: u32) -> Lines {
    let mut lines = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    lines.extend((0..count).filter_map(|_| line(from)));
    lines
}

/// Of what was a line, it is one again.
fn line(from: &mut Bytes) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = (from.get_u16_ne(), from.get_u32_ne());
    let (name, is_sensitive) = (from.split_to(name.into()), value & SENSITIVE != 0);
    let copy = from.split_to(usize::try_from(value & !SENSITIVE).unwrap_or_default());
    let mut copy = HeaderValue::from_maybe_shared(copy).ok()?;
    copy.set_sensitive(is_sensitive);
    Some((name_of(&name)?, copy))
}
