//! A page out of all shards: their orders, merged, a few places of each at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Mutex;

use super::order::{Class, Span};
use super::shard::Shard;
use crate::core::{Label, Timestamp};
use crate::store::contract::{Cursor, Entry, Filter, Found, Page, Query};
use crate::util::signal::lock;

/// Where a filter looks, and for what falls due by when.
pub(super) const fn places(filter: Filter, now: Timestamp) -> (&'static [Class], Option<Timestamp>) {
    match filter {
        Filter::Unfinished => (&[Class::Unfinished], None),
        Filter::Lapsed => (&[Class::Unfinished], Some(now)),
        Filter::Expired => (&[Class::Droppable, Class::Permanent], Some(now)),
        Filter::Complete => (&[Class::Droppable, Class::Permanent], None),
    }
}

/// What the query finds. It holds one lock at a time, and looks at a few records more than the
/// page has; with a label, at as many as it takes to find enough that have it.
pub(super) fn page(shards: &[Mutex<Shard>], query: &Query, now: Timestamp) -> Page {
    let (classes, until) = places(query.filter, now);
    let latest_first = query.filter.is_latest_first();
    let batch = if query.label.is_some() { 64 } else { 4 + query.limit / shards.len() };
    let span = Span { until, after: query.after, latest_first };
    let lane = |shard, class| Lane { shard, class, span, batch, ready: VecDeque::new(), spent: false };
    let mut lanes: Vec<_> =
        shards.iter().flat_map(|shard| classes.iter().map(move |class| lane(shard, *class))).collect();
    let label = query.label.as_ref();
    let first = lanes.iter_mut().enumerate();
    let mut turns: BinaryHeap<_> =
        first.filter_map(|(at, lane)| Some((Turn::of(lane.peek(label)?, latest_first), at))).collect();
    let mut entries = Vec::new();
    // One more, which says that there is a next page.
    while entries.len() <= query.limit
        && let Some((_, at)) = turns.pop()
    {
        entries.extend(lanes[at].ready.pop_front().map(Entry::Found));
        turns.extend(lanes[at].peek(label).map(|next| (Turn::of(next, latest_first), at)));
    }
    Page::of(entries, query.limit)
}

/// Whose turn it is: the greatest comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Earliest(Reverse<Cursor>),
    Latest(Cursor),
}

impl Turn {
    const fn of(place: Cursor, latest_first: bool) -> Self {
        if latest_first { Self::Latest(place) } else { Self::Earliest(Reverse(place)) }
    }
}

/// One class of one shard.
struct Lane<'a> {
    shard: &'a Mutex<Shard>,
    class: Class,
    /// What was not looked at yet.
    span: Span,
    /// How many places it looks at under one lock.
    batch: usize,
    ready: VecDeque<Found>,
    spent: bool,
}

impl Lane<'_> {
    /// Where the next record is, of those with this label.
    fn peek(&mut self, label: Option<&Label>) -> Option<Cursor> {
        while self.ready.is_empty() && !self.spent {
            self.refill(label);
        }
        self.ready.front().map(|found| Cursor { due: found.due, key: found.key })
    }

    fn refill(&mut self, label: Option<&Label>) {
        let shard = lock(self.shard);
        let mut looked = 0;
        for place in shard.order(self.class).span(self.span).take(self.batch) {
            looked += 1;
            self.span.after = Some(*place);
            self.ready.extend(shard.found(place, label));
        }
        self.spent = looked < self.batch;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::core::{
        Change, Claim, Command, Fence, Fenced, Fingerprint, Key, Labels, Mode, Next, Reached, Record, Stamp,
        StoredResponse, Version,
    };
    use crate::store::contract::ImmediateStore;
    use crate::store::{MemoryStore, Store};
    use crate::util::clock::ManualClock;

    const MANY: u32 = 6_000;
    const HOUR: Duration = Duration::from_secs(3600);

    fn put(store: &MemoryStore, key: &Key, on: Option<&Record>, command: &impl Command) -> Record {
        let stamp = Stamp::new(store.clock.now(), Version::new(u64::from(on.is_some()) + 1));
        let Next::Put(next) = command.apply(on, stamp).next else { panic!("it writes") };
        ImmediateStore::swap(store, key, on.map(Record::version), &next).unwrap();
        ImmediateStore::load(store, key).unwrap().record.unwrap()
    }

    /// Half of them unfinished, of which a third is due; and half complete, of which a third has
    /// expired.
    fn store() -> MemoryStore {
        let clock = ManualClock::new();
        let store = MemoryStore::with_clock(clock.clone());
        let response = Arc::new(StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), None));
        for n in 0..MANY {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            let (key, due) = (Key::from_bytes(key), HOUR * (1 + n % 3));
            let (fingerprint, mode, labels) = (Fingerprint::of([]), Mode::Resumable, Labels::new());
            let claim = Claim { fingerprint, mode, lease: due, request: None, labels };
            let claimed = put(&store, &key, None, &claim);
            if n % 2 == 0 {
                let (response, fence) = (Arc::clone(&response), Fence::of(claimed.version()));
                let changes = vec![Change::Complete { response, retention: due, reached: Reached::All }];
                put(&store, &key, Some(&claimed), &Fenced { fence, changes });
            }
        }
        clock.advance(HOUR);
        store
    }

    /// How many places were looked at since it was last asked.
    fn looks(store: &MemoryStore) -> usize {
        let classes = [Class::Unfinished, Class::Droppable, Class::Permanent];
        let of = |shard: &Mutex<Shard>| -> usize {
            let shard = lock(shard);
            classes.iter().map(|class| shard.order(*class).looks.take()).sum()
        };
        store.shards.iter().map(of).sum()
    }

    #[test]
    fn a_page_looks_at_little_more_than_it_has() {
        let (store, sixth) = (store(), MANY as usize / 6);
        let now = store.clock.now();
        looks(&store);
        for (filter, all) in [
            (Filter::Unfinished, sixth * 3),
            (Filter::Lapsed, sixth),
            (Filter::Expired, sixth),
            (Filter::Complete, sixth * 3),
        ] {
            for limit in [1, 20, 100, 400] {
                let (mut query, mut found) = (Query::new(filter, limit), 0);
                for _ in 0..2 {
                    let page = page(&store.shards, &query, now);
                    let looked = looks(&store);
                    assert_eq!(page.found.len(), limit);
                    // A batch or two of each shard.
                    let most = 2 * limit + 2 * 5 * store.shards.len();
                    assert!(looked <= most, "{filter:?}: {looked} looks for a page of {limit}");
                    query = query.after(page.next.unwrap());
                    found += limit;
                }
                assert!(found <= all);
            }
        }
    }

    #[test]
    fn a_poll_that_finds_nothing_looks_at_one_place_a_shard() {
        let store = store();
        let page = page(&store.shards, &Query::new(Filter::Lapsed, 100), Timestamp::default());
        assert!(page.found.is_empty() && page.next.is_none());
        assert!(looks(&store) <= store.shards.len());
    }

    /// More than a batch of each shard.
    #[test]
    fn what_has_a_label_is_found_behind_much_that_has_not() {
        let store = MemoryStore::with_clock(ManualClock::new());
        for n in 0..12_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            let (fingerprint, mode, lease) =
                (Fingerprint::of([]), Mode::Resumable, HOUR + Duration::from_secs(n.into()));
            let labels = if n < 11_990 { Labels::new() } else { Labels::new().with("order", 1) };
            let claim = Claim { fingerprint, mode, lease, request: None, labels };
            put(&store, &Key::from_bytes(key), None, &claim);
        }
        let query = Query { label: Some(Label::new("order", 1)), ..Query::new(Filter::Unfinished, 100) };
        assert_eq!(page(&store.shards, &query, store.clock.now()).found.len(), 10);
    }

    #[tokio::test]
    async fn a_count_looks_at_no_more_than_it_may_count() {
        let store = store();
        for filter in [Filter::Unfinished, Filter::Lapsed, Filter::Expired, Filter::Complete] {
            looks(&store);
            assert_eq!(Store::count(&store, filter, 50).await.unwrap(), 50);
            assert!(looks(&store) <= 50 + 2 * store.shards.len(), "{filter:?}");
        }
    }
}
