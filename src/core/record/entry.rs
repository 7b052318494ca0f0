//! What happened to an operation, entry by entry.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::label::{Label, Labels};
use super::sealed::Sealed;
use super::time::Timestamp;
use crate::core::message::{arc, piece};

/// How many entries a record keeps besides those of its steps, and how many of
/// the first ones stay when there are more.
const MOST: usize = 32;
const FIRST: usize = 8;

/// Something that happened to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// In which attempt; the first is 1.
    pub attempt: u32,
    /// What happened.
    pub event: HistoryEvent,
    /// Which step it was, why the attempt ended without a response, why it was parked, or what
    /// was decided.
    pub text: Option<Arc<str>>,
    /// The instance that did it, if it has a name.
    pub by: Option<Arc<str>>,
    /// When. By the store's clock; what happened to a step is that of its
    /// attempt's claim, and the time since by the clock of its holder.
    pub at: Timestamp,
}

impl HistoryEntry {
    /// Whether a step was done then.
    pub(super) fn is_step_done(&self) -> bool {
        self.event == HistoryEvent::StepSaved
    }
}

/// What happened at a [`HistoryEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryEvent {
    /// It was accepted, for the completer that comes first.
    Accepted,
    /// The first attempt began.
    Claimed,
    /// A later attempt began.
    Resumed,
    /// A step was about to act on the outside world.
    StepBegun,
    /// A step was done.
    StepSaved,
    /// A step failed for good.
    StepFailed,
    /// The attempt's lease ran out.
    Lapsed,
    /// The attempt ended without a response.
    Released,
    /// It was parked until an operator decides.
    Parked,
    /// An operator or a reconciler decided.
    Decided,
    /// The response was stored.
    Completed,
    /// A callback was about to be made, or it failed.
    CallbackTried,
    /// The callback was delivered.
    CallbackDelivered,
    /// It failed for good: from then on it was undone.
    Undoing,
}

impl HistoryEvent {
    /// With its name. A record has its place in here: **only ever add at the end**.
    const ALL: [(Self, &'static str); 14] = [
        (Self::Accepted, "accepted"),
        (Self::Claimed, "claimed"),
        (Self::Resumed, "resumed"),
        (Self::StepBegun, "step-begun"),
        (Self::StepSaved, "step-saved"),
        (Self::StepFailed, "step-failed"),
        (Self::Lapsed, "lapsed"),
        (Self::Released, "released"),
        (Self::Parked, "parked"),
        (Self::Decided, "decided"),
        (Self::Completed, "completed"),
        (Self::CallbackTried, "callback-tried"),
        (Self::CallbackDelivered, "callback-delivered"),
        (Self::Undoing, "undoing"),
    ];

    /// Its name, in one word.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(event, _)| *event == self).map_or("", |(_, name)| name)
    }

    pub(in crate::core) fn number(self) -> u32 {
        (0..).zip(Self::ALL).find(|(_, (event, _))| *event == self).map_or(u32::MAX, |(number, _)| number)
    }

    pub(in crate::core) fn numbered(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).map(|(event, _)| *event)
    }

    /// Whether its time is counted from a claim.
    pub(super) const fn is_of_step(self) -> bool {
        matches!(self, Self::StepBegun | Self::StepSaved | Self::StepFailed | Self::Undoing)
    }

    /// Within an attempt: its begin, its steps, how it ended and what followed.
    pub(super) const fn rank(self) -> u8 {
        match self {
            Self::Accepted | Self::Claimed | Self::Resumed => 0,
            _ if self.is_of_step() => 1,
            _ => 2,
        }
    }
}

/// What a record remembers beyond what it is.
///
/// The time of a step is counted from its attempt's claim: a holder does not
/// know the store's time.
///
/// Shared, and absent where there is nothing to say: records are copied often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::core) struct History(Option<Arc<Entries>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::core) struct Entries {
    /// Who holds it, or held it last, or decided about it since.
    pub(in crate::core) by: Option<Arc<str>>,
    pub(in crate::core) entries: Vec<HistoryEntry>,
    /// Why the last attempt ended without a response.
    pub(in crate::core) reason: Option<Arc<str>>,
    /// How many were dropped from the middle.
    pub(in crate::core) dropped: u32,
    /// How many of them were steps that were done.
    pub(in crate::core) dropped_done: u32,
    /// Here, since most records have none.
    pub(in crate::core) labels: Labels,
    /// Of a record as a store has it, if it is encrypted. Here, since most are not, and
    /// records are copied often.
    pub(in crate::core) sealed: Option<Box<Sealed>>,
    /// Hardly any record has some.
    pub(in crate::core) newer: Option<Box<Newer>>,
}

/// Fields of a head that only a newer release knows, as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::core) struct Newer {
    head: Box<[u8]>,
    /// Of one that is encrypted: those that are beside it, in clear.
    in_clear: Box<[u8]>,
}

impl Newer {
    fn size(&self) -> usize {
        piece(size_of::<Self>()) + piece(self.head.len()) + piece(self.in_clear.len())
    }
}

/// Nothing that can happen depends on it.
impl Hash for History {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl History {
    pub(in crate::core) fn new(kept: Entries) -> Self {
        Self(Some(kept).filter(|kept| *kept != Entries::default()).map(Arc::new))
    }

    /// Of an operation that this instance begins.
    pub(in crate::core) fn begun_by(by: Option<&str>, labels: Labels) -> Self {
        if by.is_none() && labels.is_empty() {
            return Self(None);
        }
        Self(Some(Arc::new(Entries { by: by.map(Arc::from), labels, ..Entries::default() })))
    }

    pub(in crate::core) fn labels(&self) -> &Labels {
        const NONE: &Labels = &Labels::new();
        self.0.as_ref().map_or(NONE, |kept| &kept.labels)
    }

    pub(in crate::core) fn set_label(&mut self, label: Label) {
        self.change().labels.set(label);
    }

    pub(in crate::core) fn by(&self) -> Option<&Arc<str>> {
        self.0.as_ref()?.by.as_ref()
    }

    pub(in crate::core) fn reason(&self) -> Option<&Arc<str>> {
        self.0.as_ref()?.reason.as_ref()
    }

    pub(in crate::core) fn set_reason(&mut self, reason: Option<Arc<str>>) {
        if self.reason() != reason.as_ref() {
            self.change().reason = reason;
        }
    }

    pub(in crate::core) fn entries(&self) -> &[HistoryEntry] {
        self.0.as_ref().map_or(&[], |kept| &kept.entries)
    }

    pub(in crate::core) fn dropped(&self) -> u32 {
        self.0.as_ref().map_or(0, |kept| kept.dropped)
    }

    pub(in crate::core) fn dropped_done(&self) -> u32 {
        self.0.as_ref().map_or(0, |kept| kept.dropped_done)
    }

    #[inline]
    pub(in crate::core) fn sealed(&self) -> Option<&Sealed> {
        self.0.as_ref()?.sealed.as_deref()
    }

    pub(in crate::core) fn set_sealed(&mut self, sealed: Sealed) {
        self.change().sealed = Some(Box::new(sealed));
    }

    pub(in crate::core) fn take_sealed(&mut self) -> Option<Box<Sealed>> {
        self.sealed()?;
        let mut kept = Arc::unwrap_or_clone(self.0.take()?);
        let sealed = kept.sealed.take();
        *self = Self::new(kept);
        sealed
    }

    pub(in crate::core) fn newer(&self) -> &[u8] {
        self.0.as_ref().and_then(|kept| kept.newer.as_ref()).map_or(&[], |newer| &newer.head)
    }

    pub(in crate::core) fn newer_in_clear(&self) -> &[u8] {
        self.0.as_ref().and_then(|kept| kept.newer.as_ref()).map_or(&[], |newer| &newer.in_clear)
    }

    pub(in crate::core) fn set_newer(&mut self, head: &[u8]) {
        if !head.is_empty() {
            self.change().newer.get_or_insert_default().head = head.into();
        }
    }

    pub(in crate::core) fn set_newer_in_clear(&mut self, in_clear: &[u8]) {
        if !in_clear.is_empty() {
            self.change().newer.get_or_insert_default().in_clear = in_clear.into();
        }
    }

    /// About how many bytes it takes.
    pub(in crate::core) fn size(&self) -> usize {
        let Some(kept) = &self.0 else { return 0 };
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| arc(text.len()));
        let texts: usize = kept.entries.iter().map(|entry| text(&entry.text)).sum();
        let sealed = self.sealed().map_or(0, Sealed::size);
        arc(size_of::<Entries>())
            + piece(kept.entries.capacity() * size_of::<HistoryEntry>())
            + texts
            + text(&kept.by)
            + text(&kept.reason)
            + kept.labels.size()
            + kept.newer.as_ref().map_or(0, |newer| newer.size())
            + sealed
    }

    fn change(&mut self) -> &mut Entries {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    pub(in crate::core) fn set_by(&mut self, by: Option<&str>) {
        self.change().by = by.map(Arc::from);
    }

    pub(super) fn push(&mut self, entry: HistoryEntry) {
        let kept = self.change();
        kept.entries.push(entry);
        if kept.entries.len() > MOST {
            let dropped = kept.entries.remove(FIRST);
            kept.dropped_done = kept.dropped_done.saturating_add(u32::from(dropped.is_step_done()));
            kept.dropped = kept.dropped.saturating_add(1);
        }
    }
}
