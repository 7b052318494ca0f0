//! How many operations there are, and for how long.

use std::time::Duration;

use super::Operator;
use super::listing::Listing;
use super::shown::Shown;
use crate::core::Timestamp;
use crate::operator::error::OperatorError;
use crate::store::{Filter, Query};

/// How many of each are looked at.
const FIRST: usize = 8;
/// How many are counted of each.
const MOST: usize = 10_000;

/// How many operations there are in each [list](crate::ListState), as far as it is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Of [`ListState::NeedsAttention`](crate::ListState::NeedsAttention), up to one page of 200.
    pub needs_attention: Count,
    /// Of [`ListState::Unfinished`](crate::ListState::Unfinished).
    pub unfinished: Count,
    /// Of [`ListState::Due`](crate::ListState::Due).
    pub due: Count,
    /// Of [`ListState::Complete`](crate::ListState::Complete); `None` if the store does not index them.
    pub complete: Option<Count>,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// How many, as far as they were counted.
    pub count: usize,
    /// There may be more.
    pub capped: bool,
    /// For how long the first of the list has been there, by the store's clock: the oldest that
    /// needs attention, since it was first stored; the unfinished one that was due first, since
    /// then, if it is due. Of complete ones it is not known.
    pub oldest: Option<Duration>,
}

impl Operator {
    /// How many operations there are in each list. It counts up to 10,000 of each, so it
    /// takes about as long in a store of a million records as in one of ten thousand.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Store`] if the store can't be asked.
    pub async fn counts(&self) -> Result<Counts, OperatorError> {
        let now = self.now().await?;
        let needs_attention = self.count_attention().await?;
        let unfinished = self.count(Filter::Unfinished, now).await?;
        let due = self.count(Filter::Lapsed, now).await?;
        let complete = match self.count(Filter::Complete, now).await {
            Err(OperatorError::NotIndexed(_)) => None,
            counted => Some(Count { oldest: None, ..counted? }),
        };
        Ok(Counts { needs_attention, unfinished, due, complete })
    }

    async fn count_attention(&self) -> Result<Count, OperatorError> {
        let listed = self.list(&Listing::needs_attention().limit(200)).await?;
        Ok(Count {
            count: listed.operations.len() + listed.unreadable.count,
            capped: listed.next.is_some(),
            oldest: listed.operations.iter().map(Shown::age).max(),
        })
    }

    async fn count(&self, filter: Filter, now: Timestamp) -> Result<Count, OperatorError> {
        // Those that are no operations are kept for longest: here they are the first.
        let found = self.engine.scan(&Query::new(filter, FIRST)).await?.found;
        let others = found.iter().filter(|found| found.key.is_control()).count();
        // One more, to see whether that is all.
        let count = self.engine.count(filter, MOST + 1 + others).await?.saturating_sub(others);
        let first = found.first().map(|found| found.due);
        let oldest = first.filter(|due| *due <= now).map(|due| now.since(due));
        Ok(Count { count: count.min(MOST), capped: count > MOST, oldest })
    }
}
