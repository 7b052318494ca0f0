//! What can't be read hides nothing: records of a newer format, or damaged.

use std::collections::BTreeSet;

use super::basics::minute;
use super::sample::{bare_claim, complete, key};
use super::{Damage, Harness, Holder};
use crate::core::Key;
use crate::store::{Filter, Page, Query, Store};

/// How many lie at the head: more than some pages have.
const DAMAGED: u32 = 130;
const WHOLE: u32 = 5;
const LIMITS: [usize; 4] = [1, 7, 101, 1000];

/// What a pass over all pages came by.
#[derive(Debug, Default)]
struct Pass {
    found: Vec<Key>,
    unreadable: Vec<Key>,
    count: usize,
}

async fn pass(store: &dyn Store, filter: Filter, limit: usize) -> Pass {
    let (mut pass, mut query) = (Pass::default(), Query::new(filter, limit));
    loop {
        let Page { found, unreadable, next } = store.scan(&query).await.expect("a scan goes past what it can't read");
        assert!(found.len() <= limit && unreadable.keys.len() <= limit, "more than {limit}");
        assert!(unreadable.keys.len() <= unreadable.count, "it counts too few: {unreadable:?}");
        pass.count += unreadable.count;
        pass.unreadable.extend(unreadable.keys);
        pass.found.extend(found.into_iter().map(|found| found.key));
        let Some(next) = next else { return pass };
        assert!(query.after.is_none_or(|after| after < next), "it does not get on: {query:?}, {next:?}");
        query = query.after(next);
    }
}

const fn how(n: u32) -> Damage {
    if n.is_multiple_of(2) { Damage::Corrupt } else { Damage::NewerFormat }
}

/// All that lie in one place of a store that keeps records by their last byte.
fn neighbour(n: u32) -> Key {
    key(n << 8 | 0x50)
}

/// Claims that lapse at once, those at the head damaged; the keys of those and
/// of the others. `None` where nothing can be damaged.
async fn lapsed(harness: &dyn Harness, key: fn(u32) -> Key) -> Option<[BTreeSet<Key>; 2]> {
    let mut keys = [BTreeSet::new(), BTreeSet::new()];
    for n in 0..DAMAGED + WHOLE {
        if n == DAMAGED {
            harness.advance(harness.tick()).await;
        }
        let mut holder = Holder::new(harness.store(), key(n));
        holder.claim(bare_claim(harness.tick())).await;
        keys[usize::from(n >= DAMAGED)].insert(holder.key());
    }
    for n in 0..DAMAGED {
        if let Err(why) = harness.damage(&key(n), how(n)).await {
            why.tell();
            return None;
        }
    }
    harness.advance(harness.tick() * 2).await;
    Some(keys)
}

/// Everything is found that can be read, and what can't be is counted once, or
/// proves unreadable when it is loaded.
async fn check(harness: &dyn Harness, filter: Filter, [damaged, whole]: &[BTreeSet<Key>; 2]) {
    for limit in LIMITS {
        let pass = pass(&*harness.store(), filter, limit).await;
        let (unsure, found): (Vec<_>, Vec<_>) = pass.found.iter().partition(|key| damaged.contains(key));
        assert_eq!(found.len(), whole.len(), "{filter:?} in pages of {limit}");
        assert_eq!(&found.into_iter().copied().collect::<BTreeSet<_>>(), whole, "{filter:?} in pages of {limit}");
        assert_eq!(unsure.len() + pass.count, damaged.len(), "{filter:?} in pages of {limit}: {pass:?}");
        assert!(pass.unreadable.iter().all(|key| damaged.contains(key)), "it names others: {pass:?}");
    }
}

/// A load says what is the matter; or the harness did not do what it said.
async fn check_load(harness: &dyn Harness, key: &Key, how: Damage) {
    let error = harness.store().load(key).await.expect_err("it is damaged");
    assert_eq!(error.kind(), how.kind(), "{error}");
}

/// A load says what is the matter, and a scan that others can be read.
pub async fn records_that_can_not_be_read_are_passed_and_counted(harness: &dyn Harness) {
    let Some(keys) = lapsed(harness, key).await else { return };
    for filter in [Filter::Unfinished, Filter::Lapsed] {
        check(harness, filter, &keys).await;
    }
    for n in 0..4 {
        check_load(harness, &key(n), how(n)).await;
    }
}

/// The same where all of them are neighbours.
pub async fn a_partition_that_starts_with_them_is_found_behind_them(harness: &dyn Harness) {
    let Some(keys) = lapsed(harness, neighbour).await else { return };
    for filter in [Filter::Unfinished, Filter::Lapsed] {
        check(harness, filter, &keys).await;
    }
    check_load(harness, &neighbour(0), how(0)).await;
}

/// "Expired" goes past them, too. (The store may have forgotten what it can read
/// by itself.)
pub async fn what_expired_is_found_behind_them(harness: &dyn Harness) {
    for n in 0..DAMAGED + WHOLE {
        let mut holder = Holder::new(harness.store(), key(n));
        holder.claim(bare_claim(minute(harness))).await;
        if n == DAMAGED {
            harness.advance(harness.tick()).await;
        }
        // Nothing is to expire before all are written: stores drop as they write.
        holder.change([complete(b"", harness.tick() * 60)]).await;
    }
    for n in 0..DAMAGED {
        if let Err(why) = harness.damage(&key(n), how(n)).await {
            return why.tell();
        }
    }
    harness.advance(harness.tick() * 62).await;
    for limit in LIMITS {
        let pass = pass(&*harness.store(), Filter::Expired, limit).await;
        let found: BTreeSet<_> = pass.found.iter().copied().collect();
        for n in DAMAGED..DAMAGED + WHOLE {
            let forgotten = || async { harness.store().load(&key(n)).await.expect("it can be read").record.is_none() };
            assert!(found.contains(&key(n)) || forgotten().await, "it is hidden, in pages of {limit}");
        }
    }
}

/// Where there is nothing else, a scan ends.
pub async fn scans_of_nothing_else_end(harness: &dyn Harness) {
    for n in 0..20 {
        let mut holder = Holder::new(harness.store(), neighbour(n));
        holder.claim(bare_claim(harness.tick())).await;
    }
    for n in 0..20 {
        if let Err(why) = harness.damage(&neighbour(n), Damage::NewerFormat).await {
            return why.tell();
        }
    }
    harness.advance(harness.tick() * 2).await;
    let keys = [(0..20).map(neighbour).collect(), BTreeSet::new()];
    for filter in [Filter::Unfinished, Filter::Lapsed] {
        check(harness, filter, &keys).await;
    }
    check_load(harness, &neighbour(0), Damage::NewerFormat).await;
}
