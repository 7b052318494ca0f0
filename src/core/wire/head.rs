//! The head: see the table of its fields in [`super`].

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};

use super::format::{PartId, is_default, number};
use crate::core::fingerprint::Fingerprint;
use crate::core::message::StoredResponse;
use crate::core::record::Record;
use crate::core::record::callback::{Callback, PendingCallback};
use crate::core::record::entry::{Entries, History, HistoryEntry, HistoryEvent};
use crate::core::record::hold::{Fence, Hold, Mode, Progress};
use crate::core::record::label::Label;
use crate::core::record::time::{Timestamp, Version, millis};

#[derive(Encode, Decode)]
#[cbor(map)]
pub(in crate::core) struct WireHead<'a> {
    #[n(0)]
    version: u64,
    #[cbor(n(1), skip_if = "is_default")]
    mode: WireMode,
    #[cbor(n(2), with = "minicbor::bytes")]
    digest: [u8; 32],
    #[cbor(b(3), skip_if = "is_default")]
    hold: WireHold<'a>,
    #[cbor(n(4), skip_if = "is_default")]
    progress: WireProgress,
    /// Left out of the bytes where it is one.
    #[n(5)]
    attempts: Option<u32>,
    #[cbor(n(6), skip_if = "is_default")]
    attempts_before_reset: u32,
    #[cbor(n(7), skip_if = "is_default")]
    retry_in_ms: u64,
    #[cbor(n(8), skip_if = "is_default")]
    request: bool,
    #[cbor(n(9), skip_if = "is_default")]
    steps: u32,
    #[b(10)]
    by: Option<&'a str>,
    #[cbor(b(11), skip_if = "Vec::is_empty")]
    history: Vec<WireEntry<'a>>,
    #[cbor(n(12), skip_if = "is_default")]
    dropped: u32,
    #[cbor(n(13), skip_if = "is_default")]
    dropped_done: u32,
    #[cbor(n(14), skip_if = "is_default")]
    accepted: bool,
    #[cbor(n(15), skip_if = "is_default")]
    callback: WireCallback,
    /// Left out of the bytes where it is one.
    #[n(16)]
    scheme: Option<u32>,
    #[n(17)]
    authority: Option<NonZeroU32>,
    #[n(18)]
    content: Option<NonZeroU32>,
    #[n(19)]
    trailers: Option<NonZeroU32>,
    #[cbor(b(21), skip_if = "Vec::is_empty")]
    labels: Vec<&'a str>,
    #[b(22)]
    reason: Option<&'a str>,
    // 23 is reserved.
    #[cbor(n(24), skip_if = "is_default")]
    undoing: bool,
    #[b(25)]
    sealed: Option<&'a ByteSlice>,
    #[cbor(n(26), with = "minicbor::bytes")]
    by_rules: Option<[u8; 32]>,
    #[n(27)]
    rules: Option<NonZeroU32>,
    #[cbor(n(28), skip_if = "is_default")]
    outgoing: bool,
}

/// None of these is optional in the head: a kind that is not known would be read
/// as none.
#[derive(Default, PartialEq, Encode, Decode)]
#[cbor(index_only)]
enum WireMode {
    #[default]
    #[n(0)]
    AtMostOnce,
    #[n(1)]
    Resumable,
}

/// In braces, even where there is nothing in them: of these, what a newer release adds is
/// skipped.
#[derive(PartialEq, Encode, Decode)]
#[cbor(flat)]
enum WireHold<'a> {
    #[n(0)]
    Released {},
    #[n(1)]
    Leased {
        #[n(0)]
        fence: u64,
        #[n(1)]
        lease_ms: u64,
    },
    #[n(2)]
    Parked {
        #[b(0)]
        why: &'a str,
    },
    #[n(3)]
    Runnable {},
}

#[derive(PartialEq, Encode, Decode)]
#[cbor(flat)]
enum WireProgress {
    #[n(0)]
    Pending {},
    #[n(1)]
    Paid {},
    #[n(2)]
    Complete {
        #[n(0)]
        retention_ms: u64,
    },
}

#[derive(PartialEq, Encode, Decode)]
#[cbor(flat)]
enum WireCallback {
    #[n(0)]
    None {},
    #[n(1)]
    Wanted {},
    #[n(2)]
    Pending {
        #[n(0)]
        id: u64,
        #[n(1)]
        tries: u32,
        #[n(2)]
        rest_ms: u64,
    },
    #[n(3)]
    Delivered {
        #[n(0)]
        id: u64,
    },
    #[n(4)]
    GivenUp {
        #[n(0)]
        id: u64,
    },
}

impl Default for WireHold<'_> {
    fn default() -> Self {
        Self::Released {}
    }
}

impl Default for WireProgress {
    fn default() -> Self {
        Self::Pending {}
    }
}

impl Default for WireCallback {
    fn default() -> Self {
        Self::None {}
    }
}

#[derive(Encode, Decode)]
struct WireEntry<'a> {
    #[n(0)]
    attempt: u32,
    #[n(1)]
    event: u32,
    #[n(2)]
    at_ms: u64,
    #[b(3)]
    text: Option<&'a str>,
    #[b(4)]
    by: Option<&'a str>,
}

impl<'a> WireHead<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        let (authority, content, trailers) = record.fingerprint.added();
        let (rules, by_rules) = record.fingerprint.by_rules();
        Self {
            version: record.version.get(),
            mode: match record.mode {
                Mode::AtMostOnce => WireMode::AtMostOnce,
                Mode::Resumable => WireMode::Resumable,
            },
            digest: *record.fingerprint.as_bytes(),
            hold: WireHold::of(&record.hold),
            progress: match &record.progress {
                Progress::Pending => WireProgress::Pending {},
                Progress::Paid => WireProgress::Paid {},
                Progress::Complete { retention, .. } => WireProgress::Complete { retention_ms: millis(*retention) },
            },
            attempts: Some(record.attempts).filter(|attempts| *attempts != 1),
            attempts_before_reset: record.attempts_before_reset,
            retry_in_ms: record.retry_in_ms,
            request: record.request.is_some(),
            steps: number(record.steps.len()),
            by: record.by(),
            history: record.history.entries().iter().map(WireEntry::of).collect(),
            dropped: record.history.dropped(),
            dropped_done: record.history.dropped_done(),
            accepted: record.accepted,
            callback: record.callback.as_deref().map_or(WireCallback::None {}, WireCallback::of),
            scheme: Some(record.fingerprint.scheme()).filter(|scheme| *scheme != 1),
            authority,
            content,
            trailers,
            labels: record.labels().iter().map(Label::as_str).collect(),
            reason: record.history.reason().map(AsRef::as_ref),
            undoing: record.undoing.is_some(),
            sealed: record.history.sealed().and_then(|sealed| sealed.head.as_ref()).map(|head| head.as_ref().into()),
            by_rules,
            rules,
            outgoing: record.outgoing,
        }
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = PartId> + use<> {
        let request = self.request.then_some(PartId::Request);
        let response = matches!(self.progress, WireProgress::Complete { .. }).then_some(PartId::Response);
        request.into_iter().chain(response).chain((0..self.numbered()).map(PartId::Step))
    }

    /// How many fields of it are not left out.
    pub(in crate::core) fn fields(&self) -> u64 {
        let always = 2;
        let said = [
            !is_default(&self.mode),
            !is_default(&self.hold),
            !is_default(&self.progress),
            self.attempts.is_some(),
            self.attempts_before_reset != 0,
            self.retry_in_ms != 0,
            self.request,
            self.steps != 0,
            self.by.is_some(),
            !self.history.is_empty(),
            self.dropped != 0,
            self.dropped_done != 0,
            self.accepted,
            !is_default(&self.callback),
            self.scheme.is_some(),
            self.authority.is_some(),
            self.content.is_some(),
            self.trailers.is_some(),
            !self.labels.is_empty(),
            self.reason.is_some(),
            self.undoing,
            self.sealed.is_some(),
            self.by_rules.is_some(),
            self.rules.is_some(),
            self.outgoing,
        ];
        said.into_iter().fold(always, |count, is_said| count + u64::from(is_said))
    }

    const fn numbered(&self) -> u32 {
        self.steps.saturating_add(self.undoing as u32)
    }

    pub(super) const fn is_encrypted(&self) -> bool {
        self.sealed.is_some()
    }

    /// What of it is encrypted.
    pub(super) fn sealed(&self) -> Option<Bytes> {
        self.sealed.map(|sealed| Bytes::copy_from_slice(sealed))
    }

    /// Whether this is the part of its plan of what is undone, behind all steps.
    pub(super) const fn is_plan(&self, number: u32) -> bool {
        self.undoing && number == self.steps
    }

    /// Without its request, its steps, its plan and its times. Nothing if it is complete and
    /// there is no `response`.
    pub(in crate::core) fn record(self, response: Option<Arc<StoredResponse>>) -> Option<Record> {
        let history = self.history();
        let scheme = self.scheme.unwrap_or(1);
        Some(Record {
            version: Version::new(self.version),
            mode: match self.mode {
                WireMode::AtMostOnce => Mode::AtMostOnce,
                WireMode::Resumable => Mode::Resumable,
            },
            fingerprint: Fingerprint::read(self.digest, scheme, self.authority, self.content, self.trailers)
                .read_rules(self.rules, self.by_rules),
            hold: self.hold.into(),
            progress: match self.progress {
                WireProgress::Pending {} => Progress::Pending,
                WireProgress::Paid {} => Progress::Paid,
                WireProgress::Complete { retention_ms } => {
                    Progress::Complete { response: response?, retention: Duration::from_millis(retention_ms) }
                }
            },
            attempts: self.attempts.unwrap_or(1),
            attempts_before_reset: self.attempts_before_reset,
            retry_in_ms: self.retry_in_ms,
            history,
            accepted: self.accepted,
            outgoing: self.outgoing,
            callback: self.callback.read().map(Box::new),
            request: None,
            steps: Vec::new(),
            undoing: None,
            created_at: None,
            written_at: Timestamp::default(),
        })
    }

    /// A entry of a kind that this release does not know counts as dropped.
    fn history(&self) -> History {
        let entries: Vec<_> = self.history.iter().filter_map(WireEntry::read).collect();
        let unknown = u32::try_from(self.history.len() - entries.len()).unwrap_or(u32::MAX);
        History::new(Entries {
            by: self.by.map(Arc::from),
            reason: self.reason.map(Arc::from),
            entries,
            dropped: self.dropped.saturating_add(unknown),
            dropped_done: self.dropped_done,
            labels: self.labels.iter().copied().map(Label::stored).collect(),
            ..Entries::default()
        })
    }
}

impl<'a> WireHold<'a> {
    fn of(hold: &'a Hold) -> Self {
        match hold {
            Hold::Leased { fence, lease } => Self::Leased { fence: fence.version().get(), lease_ms: millis(*lease) },
            Hold::Released => Self::Released {},
            Hold::Parked { why } => Self::Parked { why },
            Hold::Runnable => Self::Runnable {},
        }
    }
}

impl From<WireHold<'_>> for Hold {
    fn from(hold: WireHold<'_>) -> Self {
        match hold {
            WireHold::Leased { fence, lease_ms } => {
                Self::Leased { fence: Fence::of(Version::new(fence)), lease: Duration::from_millis(lease_ms) }
            }
            WireHold::Released {} => Self::Released,
            WireHold::Parked { why } => Self::Parked { why: why.into() },
            WireHold::Runnable {} => Self::Runnable,
        }
    }
}

impl<'a> WireEntry<'a> {
    fn of(entry: &'a HistoryEntry) -> Self {
        let HistoryEntry { attempt, event, at, text, by } = entry;
        let (text, by) = (text.as_deref(), by.as_deref());
        Self { attempt: *attempt, event: event.number(), at_ms: at.as_millis(), text, by }
    }

    fn read(&self) -> Option<HistoryEntry> {
        let (text, by) = (self.text.map(Arc::from), self.by.map(Arc::from));
        let (event, at) = (HistoryEvent::numbered(self.event)?, Timestamp::from_millis(self.at_ms));
        Some(HistoryEntry { attempt: self.attempt, event, text, by, at })
    }
}

impl WireCallback {
    fn of(callback: &Callback) -> Self {
        match callback {
            Callback::Wanted => Self::Wanted {},
            Callback::Pending(PendingCallback { id, tries, rest }) => {
                Self::Pending { id: id.get(), tries: *tries, rest_ms: millis(*rest) }
            }
            Callback::Delivered(id) => Self::Delivered { id: id.get() },
            Callback::GivenUp(id) => Self::GivenUp { id: id.get() },
        }
    }

    fn read(self) -> Option<Callback> {
        Some(match self {
            Self::None {} => return None,
            Self::Wanted {} => Callback::Wanted,
            Self::Pending { id, tries, rest_ms } => {
                Callback::Pending(PendingCallback { id: Version::new(id), tries, rest: Duration::from_millis(rest_ms) })
            }
            Self::Delivered { id } => Callback::Delivered(Version::new(id)),
            Self::GivenUp { id } => Callback::GivenUp(Version::new(id)),
        })
    }
}
