//! Which operations are listed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::shown::Shown;
use crate::core::{Key, Label, Timestamp};
use crate::store::{Cursor, Unreadable};
use crate::telemetry::finding::FindingKind;

/// The most operations on one page.
const MOST: usize = 200;

/// Which operations [`Operator::list`](crate::Operator::list) shows.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{ListState, Listing, Operator, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let operator = Operator::new(MemoryStore::new());
/// let mut listing = Listing::new(ListState::Unfinished).older_than(Duration::from_secs(3600)).limit(20);
/// loop {
///     let listed = operator.list(&listing).await?;
///     listed.operations.iter().for_each(|shown| println!("{} {:?}", shown.reference(), shown.age()));
///     // A page may show nothing and still have a next one: it looks at so many at most.
///     let Some(next) = listed.next else { break };
///     listing = listing.after(next);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use]
pub struct Listing {
    /// Which ones.
    pub state: ListState,
    /// Only those that were first stored so long ago.
    pub older_than: Option<Duration>,
    /// Only those with this label.
    pub label: Option<Label>,
    /// Whether the store's index of labels is used, where it has one.
    pub label_index: bool,
    /// Only those with this finding.
    pub finding: Option<FindingKind>,
    /// How many are shown on a page, at most.
    pub limit: usize,
    /// Where the last page ended.
    pub after: Option<ListPosition>,
}

/// What a list shows, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListState {
    /// Those that an operator should look at: see
    /// [`Shown::needs_attention`](crate::Shown::needs_attention). Parked ones first, those
    /// that have been so for longest before others; then those without a holder, earliest due
    /// first; then those that have taken too long.
    NeedsAttention,
    /// All that are not complete, and those whose callback is pending: earliest due first.
    Unfinished,
    /// Those of them that are due: no attempt holds them, and their back-off is over.
    Due,
    /// Those that are complete, and have no pending callback: the last that was completed
    /// first, where all are kept for as long. In Redis with
    /// `RedisStoreOptions::index_complete` alone.
    Complete,
}

impl Listing {
    /// The first 50 of these.
    pub const fn new(state: ListState) -> Self {
        Self { state, older_than: None, label: None, label_index: true, finding: None, limit: 50, after: None }
    }

    /// The first 50 that an operator should look at.
    pub const fn needs_attention() -> Self {
        Self::new(ListState::NeedsAttention)
    }

    /// At most so many on a page: 50 by default, at least 1 and at most 200.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.clamp(1, MOST);
        self
    }

    /// Only those that were first stored at least so long ago, by the store's clock.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Only those with this [label](crate::Label): `Label::new("order", 17)`.
    ///
    /// From the store's [index of labels](Self::label_index), if it has one. Otherwise the page loads
    /// what it looks at, so in a large store it takes many pages to find a few.
    pub fn label(mut self, label: Label) -> Self {
        self.label = Some(label);
        self
    }

    /// Whether the store's index of labels is used: yes by default, where it
    /// [has one](crate::store::Store::indexes_labels) and no [encryption](crate::Engine) hides the
    /// labels from it.
    ///
    /// ```
    /// use tower_idempotency::{Label, ListState, Listing};
    ///
    /// // Also what was written before the index was on: page by page through all that is complete.
    /// let listing = Listing::new(ListState::Complete).label(Label::new("order", 17)).label_index(false);
    /// # assert!(!listing.label_index);
    /// ```
    ///
    /// # Caveats
    ///
    /// The index lacks what was last written before it was on, by a process without it, or by an
    /// earlier release. [`Listed::by_label_index`] says whether it was used.
    pub fn label_index(mut self, used: bool) -> Self {
        self.label_index = used;
        self
    }

    /// Only those with this [finding](crate::Shown::finding).
    pub fn finding(mut self, kind: FindingKind) -> Self {
        self.finding = Some(kind);
        self
    }

    /// The page after the one that ended there.
    pub fn after(mut self, position: ListPosition) -> Self {
        self.after = Some(position);
        self
    }

    /// Whether it belongs to what is listed, but for its state.
    pub(super) fn fits(&self, shown: &Shown) -> bool {
        let kind = || shown.finding().map(|finding| finding.kind);
        let has_label = |label: &Label| shown.labels().has(label);
        self.older_than.is_none_or(|age| shown.age() >= age)
            && self.label.as_ref().is_none_or(has_label)
            && self.finding.is_none_or(|wanted| kind() == Some(wanted))
    }
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Listed {
    /// The operations.
    pub operations: Vec<Shown>,
    /// What the page came across and could not read.
    pub unreadable: Unreadable,
    /// Where the next page starts; `None` if this was the last.
    pub next: Option<ListPosition>,
    /// How many records the page came across, shown or not.
    pub looked_at: usize,
    /// Whether it was the store's index of labels that the page walked along, and not all of the
    /// state: see [`Listing::label_index`].
    pub by_label_index: bool,
}

/// Where a page of a list ended, as a text without spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPosition {
    pub(super) part: Part,
    /// `None` before all there is.
    pub(super) cursor: Option<Cursor>,
}

/// Which part of a list a page is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What no completer ever takes lies at the far end of the index.
    Far,
    /// Everything before that, or all there is.
    Near,
}

impl fmt::Display for ListPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.part == Part::Far { 'f' } else { 'n' };
        match self.cursor {
            Some(cursor) => write!(f, "{part}.{}.{}", cursor.due.as_millis(), cursor.key),
            None => write!(f, "{part}"),
        }
    }
}

impl FromStr for ListPosition {
    type Err = InvalidListPosition;

    fn from_str(text: &str) -> Result<Self, InvalidListPosition> {
        let (part, place) = text.split_once('.').map_or((text, None), |(part, place)| (part, Some(place)));
        let part = match part {
            "f" => Part::Far,
            "n" => Part::Near,
            _ => return Err(InvalidListPosition),
        };
        let cursor = place.map(|place| cursor(place).ok_or(InvalidListPosition)).transpose()?;
        Ok(Self { part, cursor })
    }
}

fn cursor(text: &str) -> Option<Cursor> {
    let (due, key) = text.split_once('.')?;
    Some(Cursor { due: Timestamp::from_millis(due.parse().ok()?), key: Key::from_hex(key)? })
}

/// A text that is not a [`ListPosition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to say of it")]
pub struct InvalidListPosition;

impl fmt::Display for InvalidListPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not a position in a list; take the one that came with a page, or start from the beginning")
    }
}

impl std::error::Error for InvalidListPosition {}
