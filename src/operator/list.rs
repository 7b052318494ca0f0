//! One page of operations: a bounded walk along the store's index.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Operator;
use super::listing::{ListPosition, ListState, Listed, Listing, Part};
use super::shown::Shown;
use crate::core::{Key, Status, Timestamp};
use crate::operator::error::OperatorError;
use crate::store::{Cursor, Filter, Found, Page, Query, StoreError};
use crate::workers::watcher::classify::{FAR, Thresholds};

/// What one page costs at most: in how many scans it comes across how many records, and how
/// many of them it loads. What comes after that is on the next page.
const SCANS: usize = 20;
const LOOKS: usize = 1000;
const LOADS: usize = 300;
/// How many records are loaded at a time.
const AT_ONCE: usize = 16;

impl Operator {
    /// One page of operations. Each is shown as the store has it now, and not as the index
    /// had it, but [without the bodies](Shown::is_without_bodies) of its request and its response: the memory
    /// that a page takes does not grow with them. [`show`](Self::show) has them.
    ///
    /// A page looks at 1,000 records at most, and loads 300 of them, so it takes about as long
    /// in a store of a million records as in a small one. If few of those that it looked at
    /// belong to the list, it shows few, or none, and has a [next](Listed::next) one. Where the
    /// store indexes labels, a page of one label looks at operations with that label alone.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    ///
    /// [`OperatorError::NotIndexed`] if the store does not index that;
    /// [`OperatorError::Store`] if the store can't be asked.
    pub async fn list(&self, listing: &Listing) -> Result<Listed, OperatorError> {
        let now = self.now().await?;
        let mut walk = Walk::new(listing, now);
        walk.listed.by_label_index = listing.label.is_some() && listing.label_index && self.engine.indexes_labels();
        while let Some(query) = walk.query() {
            let page = self.engine.scan(&query).await?;
            let loaded = self.load(walk.candidates(&page)).await?;
            walk.take(page, loaded);
        }
        Ok(walk.finish())
    }

    /// The operations under these keys, in their order, as far as there are any.
    async fn load(&self, keys: Vec<Key>) -> Result<Vec<Loaded>, OperatorError> {
        let (mut running, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
        for (at, key) in keys.into_iter().enumerate() {
            let (operator, places) = (self.clone(), Arc::clone(&places));
            running.spawn(async move {
                let _place = places.acquire().await;
                (at, operator.look(key).await)
            });
        }
        let mut loaded = running.join_all().await;
        loaded.sort_by_key(|(at, _)| *at);
        Ok(loaded.into_iter().map(|(_, loaded)| loaded).collect::<Result<_, StoreError>>()?)
    }

    async fn look(&self, key: Key) -> Result<Loaded, StoreError> {
        match self.show(&key).await {
            Ok(shown) => Ok(Loaded::Shown(Box::new(shown.without_bodies()))),
            Err(OperatorError::Store(error)) if error.is_unreadable() => Ok(Loaded::Unreadable(key)),
            Err(OperatorError::Store(error)) => Err(error),
            Err(_) => Ok(Loaded::Gone),
        }
    }
}

/// What there is of an operation that the index knew.
enum Loaded {
    Shown(Box<Shown>),
    Unreadable(Key),
    Gone,
}

/// How far a page has come.
struct Walk<'l> {
    listing: &'l Listing,
    now: Timestamp,
    listed: Listed,
    scans: usize,
    loads: usize,
}

impl<'l> Walk<'l> {
    fn new(listing: &'l Listing, now: Timestamp) -> Self {
        let start = match listing.state {
            ListState::NeedsAttention => ListPosition { part: Part::Far, cursor: Some(start_of_far(now)) },
            ListState::Unfinished | ListState::Due | ListState::Complete => NEAR,
        };
        let next = Some(listing.after.unwrap_or(start));
        Self { listing, now, listed: Listed { next, ..Listed::default() }, scans: 0, loads: 0 }
    }

    /// What to ask for next; `None` if the page is full, or has cost enough, or there is no
    /// more.
    ///
    /// Never more than there is room for: a page of the store that is taken in part would have
    /// its unreadable records counted twice.
    fn query(&self) -> Option<Query> {
        let room = self.listing.limit.saturating_sub(self.listed.operations.len());
        let spent = self.scans == SCANS || self.listed.looked_at >= LOOKS || self.loads >= LOADS;
        let position = self.listed.next.filter(|_| room > 0 && !spent)?;
        let filter = match self.listing.state {
            ListState::NeedsAttention | ListState::Unfinished => Filter::Unfinished,
            ListState::Due => Filter::Lapsed,
            ListState::Complete => Filter::Complete,
        };
        let label = self.listing.label.clone().filter(|_| self.listed.by_label_index);
        Some(Query { after: position.cursor, label, ..Query::new(filter, room) })
    }

    /// Those of a page of the index that have to be loaded.
    fn candidates(&self, page: &Page) -> Vec<Key> {
        let candidates = page.found.iter().filter(|found| self.may_fit(found));
        candidates.map(|found| found.key).collect()
    }

    fn may_fit(&self, found: &Found) -> bool {
        let is_old = self.listing.older_than.is_none_or(|age| self.now.since(found.created) >= age);
        let thresholds = Thresholds::default().impatient();
        is_old && (self.listing.state != ListState::NeedsAttention || thresholds.suspects(found, self.now))
    }

    fn take(&mut self, page: Page, loaded: Vec<Loaded>) {
        self.scans += 1;
        self.loads += loaded.len();
        self.listed.looked_at += page.found.len() + page.unreadable.count;
        self.listed.unreadable.count += page.unreadable.count;
        self.listed.unreadable.keys.extend(page.unreadable.keys);
        for loaded in loaded {
            match loaded {
                Loaded::Shown(shown) if self.fits(&shown) => self.listed.operations.push(*shown),
                Loaded::Unreadable(key) => self.listed.unreadable.add(key),
                Loaded::Shown(_) | Loaded::Gone => {}
            }
        }
        self.listed.next = self.after(page.next);
    }

    /// Where it goes on behind a page of the index.
    fn after(&self, next: Option<Cursor>) -> Option<ListPosition> {
        let (part, is_in_parts) = (self.listed.next?.part, self.listing.state == ListState::NeedsAttention);
        let is_over = |next: &Cursor| is_in_parts && part == Part::Near && next.due > self.now.after(FAR);
        let next = next.filter(|next| !is_over(next)).map(|next| ListPosition { part, cursor: Some(next) });
        next.or_else(|| (part == Part::Far).then_some(NEAR))
    }

    /// Whether it belongs to the list as it is now. It may have changed since the index was
    /// asked.
    fn fits(&self, shown: &Shown) -> bool {
        let is_unfinished = shown.record.index_class() != Status::Complete;
        let is_listed = match self.listing.state {
            ListState::NeedsAttention => shown.needs_attention() && self.is_of_part(shown),
            ListState::Unfinished => is_unfinished,
            ListState::Due => is_unfinished && shown.record.due() <= shown.now,
            ListState::Complete => !is_unfinished,
        };
        is_listed && self.listing.fits(shown)
    }

    /// Whether it is not to be shown in the other part of the list.
    fn is_of_part(&self, shown: &Shown) -> bool {
        let is_far = shown.record.due() > self.now.after(FAR);
        self.listed.next.is_none_or(|position| (position.part == Part::Far) == is_far)
    }

    fn finish(self) -> Listed {
        self.listed
    }
}

/// Before all there is.
const NEAR: ListPosition = ListPosition { part: Part::Near, cursor: None };

/// Where those begin that no completer ever takes.
fn start_of_far(now: Timestamp) -> Cursor {
    Cursor { due: now.after(FAR), key: Key::from_bytes([u8::MAX; 32]) }
}
