//! Scans find everything that matches, in order, a page at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::basics::minute;
use super::sample::{bare_claim, begin, claim, complete, key, save};
use super::{Cannot, Harness, Holder};
use crate::core::{CallbackAt, CallbackStep, Change, Claim, Key, Labels, OUTGOING, Record, Resume, Status, Submit};
use crate::store::{Cursor, Filter, Found, Query, Store, StoreErrorKind};

/// Everything that `filter` finds, `limit` at a time.
pub(super) async fn scan_all(store: &dyn Store, filter: Filter, limit: usize) -> Vec<Found> {
    let (mut found, mut query) = (Vec::new(), Query::new(filter, limit));
    loop {
        let page = store.scan(&query).await.expect("scan");
        assert!(page.found.len() <= limit, "a page of {} where {limit} were asked for", page.found.len());
        assert!(page.next.is_none() || !page.found.is_empty(), "an empty page that goes on, and nothing is damaged");
        found.extend(page.found);
        let Some(next) = page.next else { return found };
        query = query.after(next);
    }
}

fn keys(found: &[Found]) -> BTreeSet<Key> {
    found.iter().map(|found| found.key).collect()
}

async fn found_keys(harness: &dyn Harness, filter: Filter) -> BTreeSet<Key> {
    keys(&scan_all(&*harness.store(), filter, 3).await)
}

fn some_keys(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<Key> {
    numbers.into_iter().map(key).collect()
}

async fn held(harness: &dyn Harness, n: u32) -> Holder {
    let mut holder = Holder::new(harness.store(), key(n));
    holder.claim(claim(minute(harness))).await;
    holder
}

/// Nothing is found where nothing is.
pub async fn scans_of_nothing_are_empty(harness: &dyn Harness) {
    for filter in [Filter::Unfinished, Filter::Lapsed, Filter::Expired] {
        let page = harness.store().scan(&Query::new(filter, 10)).await.expect("scan");
        assert!(page.found.is_empty() && page.next.is_none());
    }
}

/// "Unfinished" finds what is held, free, parked or paid, and nothing complete.
pub async fn unfinished_are_found(harness: &dyn Harness) {
    let mut holders = Vec::new();
    for n in 0..5 {
        holders.push(held(harness, n).await);
    }
    holders[1].change([Change::Release]).await;
    holders[2].change([begin("a"), Change::Park { why: "unknown".into() }]).await;
    holders[3].change([begin("a"), save("a", b"1")]).await;
    holders[4].change([complete(b"", minute(harness))]).await;
    assert_eq!(found_keys(harness, Filter::Unfinished).await, some_keys(0..4));
}

/// "Lapsed" finds what is due: free at once, held when the lease is over, and
/// nothing that an operator has to decide about.
pub async fn lapsed_are_found(harness: &dyn Harness) {
    let mut holders = Vec::new();
    for n in 0..4 {
        holders.push(held(harness, n).await);
    }
    holders[1].change([Change::Release]).await;
    holders[2].change([Change::Park { why: "unknown".into() }]).await;
    holders[3].change([complete(b"", harness.tick())]).await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([1]));
    harness.advance(minute(harness)).await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([0, 1]));
}

/// What is accepted for later has no holder: it is found as "lapsed" until it
/// is claimed, and neither its request nor its time of creation is lost then.
pub async fn accepted_are_found_at_once(harness: &dyn Harness) {
    let Claim { fingerprint, mode, request, .. } = claim(minute(harness));
    let request = request.expect("a request");
    let mut holder = Holder::new(harness.store(), key(1));
    holder
        .write(Submit { fingerprint, mode, request, labels: Labels::new(), room: true, lease: None, outgoing: false })
        .await;
    holder.check().await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([1]));
    holder.refresh().await;
    let created = holder.record().created_at();
    harness.advance(harness.tick() * 5).await;
    holder.claim(claim(minute(harness))).await;
    holder.check().await;
    assert_eq!(
        holder.load().await.record.expect("a record").created_at(),
        created,
        "it was created when it was accepted"
    );
    assert!(found_keys(harness, Filter::Lapsed).await.is_empty(), "it is held");
    holder.change([begin("step"), Change::Release]).await;
    holder.check().await;
}

/// What an outbox is to send is not found as "lapsed", but behind all of that, in the order in
/// which it falls due, and back among the others once it is parked or complete.
pub async fn outgoing_are_found_apart(harness: &dyn Harness) {
    let mut calls = Vec::new();
    for n in 0..4 {
        let Claim { fingerprint, mode, request, .. } = claim(minute(harness));
        let (request, labels) = (request.expect("a request"), Labels::new());
        let mut call = Holder::new(harness.store(), key(n));
        call.write(Submit { fingerprint, mode, request, labels, room: true, lease: None, outgoing: true }).await;
        call.check().await;
        calls.push(call);
    }
    for call in &mut calls[1..] {
        call.refresh().await;
        call.write(Resume { lease: minute(harness), max_tries: 9, max_age: Duration::MAX, outgoing: true }).await;
        call.check().await;
    }
    calls[2].change([Change::Park { why: "unknown".into() }]).await;
    calls[3].change([complete(b"", minute(harness))]).await;
    let _other = held(harness, 4).await;
    harness.advance(minute(harness) * 2).await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([4]), "no completer finds them");
    let now = harness.store().load(&key(9)).await.expect("load").now;
    let start = Cursor { due: now.after(OUTGOING / 2), key: key(0) };
    let page = harness.store().scan(&Query::new(Filter::Unfinished, 9).after(start)).await.expect("scan");
    let order: Vec<_> = page.found.iter().map(|found| found.key).collect();
    assert_eq!(order, [key(0), key(1), key(2)], "what waits, what was held, what is parked");
    let is_due = |found: &Found| found.due <= now.after(OUTGOING);
    assert_eq!(page.found.iter().map(is_due).collect::<Vec<_>>(), [true, true, false]);
}

/// What is put off is not found as "lapsed" before its time.
pub async fn postponed_are_found_when_they_are_due(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    holder.change([Change::Postpone { retry_in: minute(harness) }, Change::Release]).await;
    holder.check().await;
    assert!(found_keys(harness, Filter::Lapsed).await.is_empty(), "before its time");
    assert_eq!(found_keys(harness, Filter::Unfinished).await, some_keys([1]));
    harness.advance(minute(harness)).await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([1]));
    holder.claim(claim(minute(harness))).await;
    holder.change([Change::Release]).await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([1]), "the next attempt starts anew");
}

/// A renewed lease has not lapsed.
pub async fn renewed_are_not_lapsed(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    harness.advance(minute(harness) / 2).await;
    holder.change([Change::Renew]).await;
    harness.advance(minute(harness) * 2 / 3).await;
    assert!(found_keys(harness, Filter::Lapsed).await.is_empty());
    harness.advance(minute(harness) / 2).await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([1]));
}

/// "Expired" finds nothing but complete records whose retention is over. (The
/// store may have forgotten them by itself.)
pub async fn only_expired_are_found_as_expired(harness: &dyn Harness) {
    let mut holders = Vec::new();
    for n in 0..4 {
        holders.push(held(harness, n).await);
    }
    holders[1].change([complete(b"", minute(harness) / 2)]).await;
    holders[2].change([complete(b"", minute(harness) * 10)]).await;
    holders[3].change([Change::Release]).await;
    assert!(found_keys(harness, Filter::Expired).await.is_empty());
    harness.advance(minute(harness)).await;
    let found = found_keys(harness, Filter::Expired).await;
    let forgotten = holders[1].load().await.record.is_none();
    assert!(found == some_keys([1]) || (forgotten && found.is_empty()), "found {found:?}");
}

/// What ended and owes a callback is found as soon as that is due, and kept,
/// complete or not; once it is delivered, it is as any other.
pub async fn what_owes_a_callback_is_found_until_it_is_told(harness: &dyn Harness) {
    let (lease, retention) = (minute(harness), harness.tick() * 2);
    let at = |record: &Record, step| CallbackAt::new(record.pending_callback().expect("it owes one"), step);
    let mut holders = Vec::new();
    for n in 0..2 {
        let mut holder = Holder::new(harness.store(), key(n)).calling_back();
        holder.claim(claim(minute(harness))).await;
        holders.push(holder);
    }
    assert!(found_keys(harness, Filter::Lapsed).await.is_empty(), "they are held");
    holders[0].change([begin("a"), save("a", b"1"), complete(b"told", retention)]).await;
    holders[1].change([begin("a"), Change::Park { why: "unknown".into() }]).await;
    for holder in &holders {
        holder.check().await;
    }
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([0, 1]));
    assert_eq!(found_keys(harness, Filter::Unfinished).await, some_keys([0, 1]));
    for holder in &mut holders {
        holder.write(at(holder.record(), CallbackStep::Begin { lease })).await;
        holder.check().await;
    }
    assert!(found_keys(harness, Filter::Lapsed).await.is_empty(), "their callbacks are being made");
    harness.advance(lease).await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([0, 1]), "its holder did not write again");
    assert!(found_keys(harness, Filter::Expired).await.is_empty());
    holders[0].check().await;
    for holder in &mut holders {
        holder.write(at(holder.record(), CallbackStep::Delivered)).await;
        holder.check().await;
    }
    assert!(found_keys(harness, Filter::Lapsed).await.is_empty(), "their callbacks are delivered");
    assert_eq!(found_keys(harness, Filter::Unfinished).await, some_keys([1]));
    harness.advance(retention).await;
    let found = found_keys(harness, Filter::Expired).await;
    let forgotten = holders[0].load().await.record.is_none();
    assert!(found == some_keys([0]) || (forgotten && found.is_empty()), "found {found:?}");
}

/// What is found is described as it is.
pub async fn found_records_are_described(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    harness.advance(harness.tick()).await;
    holder.change([begin("a"), save("a", b"1")]).await;
    let record = holder.load().await.record.expect("a record");
    let found = scan_all(&*harness.store(), Filter::Unfinished, 10).await;
    let expected = Found {
        key: holder.key(),
        version: holder.version(),
        status: Status::Paid,
        created: record.created_at().expect("a time of creation"),
        due: record.due(),
    };
    assert_eq!(found, [expected]);
}

/// Pages come earliest due first, and go on where the last one ended, also
/// among many that fall due at the same moment.
pub async fn pages_are_in_order_and_miss_nothing(harness: &dyn Harness) {
    for n in 0..60_u32 {
        let mut holder = Holder::new(harness.store(), key(n));
        holder.claim(bare_claim(harness.tick() * (100 - n * 37 % 7))).await;
    }
    for limit in [1, 2, 7, 59, 60, 61, 1000] {
        let found = scan_all(&*harness.store(), Filter::Unfinished, limit).await;
        assert_eq!((found.len(), keys(&found)), (60, some_keys(0..60)), "in pages of {limit}");
        let order = found.iter().map(|found| (found.due, found.key));
        assert!(order.is_sorted(), "pages of {limit} are out of order");
    }
}

/// The first page holds what falls due first.
pub async fn a_limit_cuts_off_the_latest(harness: &dyn Harness) {
    for n in 0..10 {
        let mut holder = Holder::new(harness.store(), key(n));
        // Further apart than ten claims take, however slow they are.
        holder.claim(bare_claim(minute(harness) * (100 - n))).await;
    }
    let page = harness.store().scan(&Query::new(Filter::Unfinished, 3)).await.expect("scan");
    let found: Vec<_> = page.found.iter().map(|found| found.key).collect();
    assert_eq!(found, [key(9), key(8), key(7)]);
    assert!(page.next.is_some(), "there is more");
}

/// Records that moved on are found where they are now, and nowhere else.
pub async fn moved_records_leave_the_lists(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    let mut gone = held(harness, 2).await;
    holder.change([Change::Release]).await;
    assert_eq!(found_keys(harness, Filter::Lapsed).await, some_keys([1]));
    holder.claim(bare_claim(minute(harness))).await;
    assert!(found_keys(harness, Filter::Lapsed).await.is_empty(), "a record that is held again");
    gone.remove().await;
    assert_eq!(found_keys(harness, Filter::Unfinished).await, some_keys([1]));
    holder.change([complete(b"", harness.tick())]).await;
    assert!(found_keys(harness, Filter::Unfinished).await.is_empty(), "a complete record");
    harness.advance(minute(harness)).await;
    holder.refresh().await;
    holder.claim(bare_claim(minute(harness))).await;
    assert!(found_keys(harness, Filter::Expired).await.is_empty(), "a record that was replaced");
    assert_eq!(scan_all(&*harness.store(), Filter::Unfinished, 1).await.len(), 1);
}

/// Whether the store indexes complete records.
async fn indexes_complete(harness: &dyn Harness) -> bool {
    match harness.store().scan(&Query::new(Filter::Complete, 1)).await {
        Ok(_) => true,
        Err(error) if error.kind() == StoreErrorKind::NotIndexed => {
            let counted = harness.store().count(Filter::Complete, 1).await;
            assert!(counted.is_err_and(|error| error.kind() == StoreErrorKind::NotIndexed), "it counts them");
            false
        }
        Err(error) => panic!("scan: {error}"),
    }
}

/// Why a case tests nothing of them then.
const NOT_INDEXED: Cannot = Cannot::because("it does not index complete records, by its settings");

/// "Complete" finds complete records alone, the one that falls due latest first, and goes on
/// where the last page ended, also among many that fall due at the same moment.
pub async fn complete_are_found_latest_first(harness: &dyn Harness) {
    if !indexes_complete(harness).await {
        return NOT_INDEXED.tell();
    }
    for n in 0..40_u32 {
        let mut holder = held(harness, n).await;
        holder.change([complete(b"", minute(harness) * (10 + n * 37 % 7))]).await;
    }
    held(harness, 100).await;
    held(harness, 101).await.change([Change::Release]).await;
    for limit in [1, 2, 7, 39, 40, 41, 1000] {
        let found = scan_all(&*harness.store(), Filter::Complete, limit).await;
        assert_eq!((found.len(), keys(&found)), (40, some_keys(0..40)), "in pages of {limit}");
        assert!(found.iter().all(|found| found.status == Status::Complete), "what is found is described");
        let order = found.iter().map(|found| (found.due, found.key)).rev();
        assert!(order.is_sorted(), "pages of {limit} are out of order");
    }
}

/// "Complete" finds what was completed until it is removed, replaced, or forgotten by itself,
/// and not what still owes a callback.
pub async fn what_is_complete_is_found_while_it_is(harness: &dyn Harness) {
    if !indexes_complete(harness).await {
        return NOT_INDEXED.tell();
    }
    let mut removed = held(harness, 1).await;
    removed.change([complete(b"", minute(harness) * 10)]).await;
    let mut replaced = held(harness, 2).await;
    replaced.change([begin("a"), save("a", b"1"), complete(b"", harness.tick())]).await;
    let mut owes = Holder::new(harness.store(), key(3)).calling_back();
    owes.claim(claim(minute(harness))).await;
    owes.change([complete(b"", minute(harness) * 10)]).await;
    let found = found_keys(harness, Filter::Complete).await;
    assert!(found == some_keys([1, 2]) || found == some_keys([1]), "found {found:?}");
    let told = CallbackAt::new(owes.record().pending_callback().expect("it owes one"), CallbackStep::Delivered);
    owes.write(told).await;
    removed.remove().await;
    harness.advance(minute(harness)).await;
    replaced.refresh().await;
    replaced.claim(bare_claim(minute(harness))).await;
    assert_eq!(found_keys(harness, Filter::Complete).await, some_keys([3]));
    replaced.change([complete(b"again", minute(harness) * 10)]).await;
    assert_eq!(found_keys(harness, Filter::Complete).await, some_keys([2, 3]));
}

/// What a scan finds is counted, up to so many.
pub async fn what_is_found_is_counted(harness: &dyn Harness) {
    for n in 0..9 {
        let mut holder = held(harness, n).await;
        match n {
            0..2 => holder.change([Change::Release]).await,
            2 => holder.change([Change::Park { why: "unknown".into() }]).await,
            3..6 => holder.change([complete(b"", minute(harness) * 10)]).await,
            _ => {}
        }
    }
    let store = harness.store();
    let mut expected = vec![(Filter::Unfinished, 6), (Filter::Lapsed, 2), (Filter::Expired, 0)];
    if indexes_complete(harness).await {
        expected.push((Filter::Complete, 3));
    }
    for (filter, count) in expected {
        for most in [0, 1, 2, 5, 6, 7, 100] {
            assert_eq!(store.count(filter, most).await.expect("count"), count.min(most), "{filter:?} up to {most}");
        }
    }
}

/// What matches from the first page to the last is found, whatever else moves.
pub async fn a_scan_under_way_misses_nothing(harness: &dyn Harness) {
    let mut holders = Vec::new();
    for n in 0..30 {
        holders.push(held(harness, n).await);
    }
    let store = harness.store();
    let (mut found, mut query) = (BTreeSet::new(), Query::new(Filter::Unfinished, 4));
    for moved in (0..30).step_by(3) {
        let page = store.scan(&query).await.expect("scan");
        found.extend(keys(&page.found));
        let Some(next) = page.next else { break };
        query = query.after(next);
        holders[moved].change([complete(b"", minute(harness))]).await;
        held(harness, 100 + u32::try_from(moved).expect("small")).await;
    }
    let rest = store.scan(&Query { limit: 1000, ..query }).await.expect("scan");
    found.extend(keys(&rest.found));
    let stayed = some_keys((0..30).filter(|n| n % 3 != 0));
    assert!(found.is_superset(&stayed), "missed {:?}", stayed.difference(&found));
}
