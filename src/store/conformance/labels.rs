//! What is found by its label, where a store [indexes](Store::indexes_labels) labels.

use std::collections::BTreeSet;

use super::basics::minute;
use super::sample::{begin, claim, complete, key, save};
use super::{Cannot, Harness, Holder};
use crate::core::{CallbackAt, CallbackStep, Change, Claim, Key, Label, Labels};
use crate::store::{Filter, Query, Store};

/// Why a case tests nothing of a store that has no index of labels.
const NOT_INDEXED: Cannot = Cannot::because("it does not index labels, by its settings");

fn order(n: u32) -> Label {
    Label::new("order", n)
}

/// A claim of an operation with its route and its order.
async fn held(harness: &dyn Harness, n: u32, of_order: u32) -> Holder {
    let labels = Labels::new().with("route", "/payments").with("order", of_order);
    let mut holder = Holder::new(harness.store(), key(n));
    holder.claim(Claim { labels, ..claim(minute(harness)) }).await;
    holder
}

/// The numbers of those that are found and still have the label, two on a page; in the order of the
/// filter.
async fn found(harness: &dyn Harness, filter: Filter, label: &Label) -> BTreeSet<Key> {
    let (store, mut query) = (harness.store(), Query::new(filter, 2).label(label.clone()));
    let (mut found, mut places) = (BTreeSet::new(), Vec::new());
    loop {
        let page = store.scan(&query).await.expect("scan");
        for one in page.found {
            places.push((one.due, one.key));
            let record = store.load(&one.key).await.expect("load").record;
            if record.is_some_and(|record| record.labels().has(label)) {
                assert!(found.insert(one.key), "found twice");
            }
        }
        let Some(next) = page.next else { break };
        query = query.after(next);
    }
    if filter == Filter::Complete {
        places.reverse();
    }
    assert!(places.is_sorted(), "pages are out of order");
    found
}

async fn assert_found(harness: &dyn Harness, filter: Filter, label: &Label, numbers: &[u32]) {
    let expected: BTreeSet<_> = numbers.iter().copied().map(key).collect();
    assert_eq!(found(harness, filter, label).await, expected, "{filter:?} of {}", label.as_str());
}

/// Of each filter, those with the label are found, and no others.
pub async fn labelled_are_found(harness: &dyn Harness) {
    if !harness.store().indexes_labels() {
        return NOT_INDEXED.tell();
    }
    for n in 0..12 {
        let mut holder = held(harness, n, n % 2).await;
        match n {
            0..4 => holder.change([complete(b"", minute(harness) * 10)]).await,
            4..8 => holder.change([Change::Release]).await,
            8 => holder.change([Change::Park { why: "unknown".into() }]).await,
            _ => holder.change([begin("a"), save("a", b"1")]).await,
        }
        Holder::new(harness.store(), key(100 + n)).claim(claim(minute(harness))).await;
    }
    for (filter, even, odd) in [
        (Filter::Complete, &[0, 2][..], &[1, 3][..]),
        (Filter::Unfinished, &[4, 6, 8, 10], &[5, 7, 9, 11]),
        (Filter::Lapsed, &[4, 6], &[5, 7]),
    ] {
        assert_found(harness, filter, &order(0), even).await;
        assert_found(harness, filter, &order(1), odd).await;
        assert_found(harness, filter, &order(2), &[]).await;
        assert_found(harness, filter, &Label::new("route", "/payments"), &[even, odd].concat()).await;
    }
}

/// A label that the handler sets is found from the write on that carries it, and the one in whose
/// place it came no more.
pub async fn labels_set_later_are_found(harness: &dyn Harness) {
    if !harness.store().indexes_labels() {
        return NOT_INDEXED.tell();
    }
    let mut bare = Holder::new(harness.store(), key(1));
    bare.claim(claim(minute(harness))).await;
    bare.change([Change::Label { label: order(1) }, begin("a")]).await;
    let mut other = held(harness, 2, 1).await;
    assert_found(harness, Filter::Unfinished, &order(1), &[1, 2]).await;
    other.change([Change::Label { label: order(2) }, begin("a")]).await;
    assert_found(harness, Filter::Unfinished, &order(1), &[1]).await;
    assert_found(harness, Filter::Unfinished, &order(2), &[2]).await;
    bare.change([save("a", b"1"), Change::Label { label: Label::new("late", 1) }, complete(b"", minute(harness))])
        .await;
    for label in [order(1), Label::new("late", 1)] {
        assert_found(harness, Filter::Complete, &label, &[1]).await;
        assert_found(harness, Filter::Unfinished, &label, &[]).await;
    }
}

/// A labelled record is found where it is now, and nowhere once it is gone.
pub async fn labels_follow_their_records(harness: &dyn Harness) {
    if !harness.store().indexes_labels() {
        return NOT_INDEXED.tell();
    }
    let mut holder = held(harness, 1, 1).await;
    holder.change([Change::Postpone { retry_in: minute(harness) }, Change::Release]).await;
    assert_found(harness, Filter::Lapsed, &order(1), &[]).await;
    harness.advance(minute(harness)).await;
    assert_found(harness, Filter::Lapsed, &order(1), &[1]).await;
    holder.claim(Claim { request: None, ..claim(minute(harness)) }).await;
    assert_found(harness, Filter::Lapsed, &order(1), &[]).await;
    assert_found(harness, Filter::Unfinished, &order(1), &[1]).await;
    holder.change([complete(b"", harness.tick())]).await;
    assert_found(harness, Filter::Unfinished, &order(1), &[]).await;
    // Another operation under the same key.
    harness.advance(minute(harness)).await;
    holder.refresh().await;
    let labels = Labels::new().with("order", 2);
    holder.claim(Claim { labels, request: None, ..claim(minute(harness)) }).await;
    assert_found(harness, Filter::Complete, &order(1), &[]).await;
    assert_found(harness, Filter::Unfinished, &order(1), &[]).await;
    assert_found(harness, Filter::Unfinished, &order(2), &[1]).await;
    holder.remove().await;
    assert_found(harness, Filter::Unfinished, &order(2), &[]).await;
}

/// What is complete and owes a callback is found as unfinished, and only then.
pub async fn labelled_callbacks_are_found(harness: &dyn Harness) {
    if !harness.store().indexes_labels() {
        return NOT_INDEXED.tell();
    }
    let mut owes = Holder::new(harness.store(), key(1)).calling_back();
    owes.claim(Claim { labels: Labels::new().with("order", 1), ..claim(minute(harness)) }).await;
    owes.change([complete(b"", minute(harness) * 10)]).await;
    assert_found(harness, Filter::Lapsed, &order(1), &[1]).await;
    assert_found(harness, Filter::Complete, &order(1), &[]).await;
    let told = CallbackAt::new(owes.record().pending_callback().expect("it owes one"), CallbackStep::Delivered);
    owes.write(told).await;
    assert_found(harness, Filter::Unfinished, &order(1), &[]).await;
    assert_found(harness, Filter::Complete, &order(1), &[1]).await;
}
