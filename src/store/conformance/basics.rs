//! Compare and put, one caller at a time.

use std::time::Duration;

use super::sample::{bare_claim, claim, complete, key, save};
use super::{Harness, Holder, assert_same};
use crate::core::{Change, Command, Fenced, Hold, Key, Next, Record, Stamp, Version};
use crate::store::{Loaded, Store, Swap};

/// A minute of the harness's time.
pub(super) fn minute(harness: &dyn Harness) -> Duration {
    harness.tick() * 60
}

/// What a swap that has to conflict hands back.
pub(super) async fn conflict(store: &dyn Store, key: &Key, expected: Option<Version>, next: &Record) -> Loaded {
    match store.swap(key, expected, next).await.expect("swap") {
        Swap::Conflict(found) => found,
        Swap::Stored => panic!("a swap that expected {expected:?} took"),
    }
}

/// A holder that holds `key(n)`, and a record that another one would put there.
async fn held_and_rival(harness: &dyn Harness, n: u32) -> (Holder, Record) {
    let mut holder = Holder::new(harness.store(), key(n));
    holder.claim(claim(minute(harness))).await;
    let mut rival = Holder::new(harness.store(), key(n + 1));
    (holder, rival.decide(bare_claim(minute(harness))).await)
}

/// Nothing is there before something is put there.
pub async fn absent_loads_as_absent(harness: &dyn Harness) {
    assert!(harness.store().load(&key(1)).await.expect("load").record.is_none());
}

/// A record that was put where none was is there.
pub async fn created_record_is_there(harness: &dyn Harness) {
    let mut holder = Holder::new(harness.store(), key(1));
    holder.claim(claim(minute(harness))).await;
    holder.check().await;
}

/// The second of two creations conflicts, and is handed the first one's record.
pub async fn created_once(harness: &dyn Harness) {
    let (holder, rival) = held_and_rival(harness, 1).await;
    let found = conflict(&*harness.store(), &holder.key(), None, &rival).await;
    assert_same(found.record.as_ref(), Some(holder.record()));
    holder.check().await;
}

/// A swap that expects a record conflicts where none is.
pub async fn swap_of_an_absent_record_conflicts(harness: &dyn Harness) {
    let (_, rival) = held_and_rival(harness, 1).await;
    let store = harness.store();
    let found = conflict(&*store, &key(9), Some(rival.version()), &rival).await;
    assert_same(found.record.as_ref(), None);
    assert!(store.load(&key(9)).await.expect("load").record.is_none(), "a conflict wrote");
}

/// A swap that expects what was there before conflicts, with what is there now.
pub async fn swap_at_an_old_version_conflicts(harness: &dyn Harness) {
    let (mut holder, rival) = held_and_rival(harness, 1).await;
    let old = holder.version();
    holder.change([save("order", b"17")]).await;
    let found = conflict(&*harness.store(), &holder.key(), Some(old), &rival).await;
    assert_same(found.record.as_ref(), Some(holder.record()));
    holder.check().await;
}

/// A swap that expects what was removed conflicts, with nothing.
pub async fn swap_at_a_removed_version_conflicts(harness: &dyn Harness) {
    let (mut holder, rival) = held_and_rival(harness, 1).await;
    let old = holder.version();
    holder.remove().await;
    let found = conflict(&*harness.store(), &holder.key(), Some(old), &rival).await;
    assert_same(found.record.as_ref(), None);
    holder.check().await;
}

/// Versions are compared in all their 64 bits, not as floats, not as signed.
pub async fn versions_are_compared_exactly(harness: &dyn Harness) {
    let (holder, rival) = held_and_rival(harness, 1).await;
    let store = harness.store();
    for bit in 0..64 {
        let near = Version::new(holder.version().get() ^ 1 << bit);
        conflict(&*store, &holder.key(), Some(near), &rival).await;
        assert!(!store.remove(&holder.key(), near).await.expect("remove"), "removed at another version");
    }
    holder.check().await;
}

/// The outermost versions are versions.
pub async fn every_version_is_kept(harness: &dyn Harness) {
    let store = harness.store();
    let nonces = [1, i64::MAX as u64, 1 << 63, (1 << 53) + 1, u64::MAX - 1, u64::MAX];
    for (n, nonce) in (1..).zip(nonces) {
        let next = first_at(harness, Version::new(nonce)).await;
        assert!(matches!(store.swap(&key(n), None, &next).await.expect("swap"), Swap::Stored));
        assert_same(store.load(&key(n)).await.expect("load").record.as_ref(), Some(&next));
        assert!(store.remove(&key(n), Version::new(nonce)).await.expect("remove"));
    }
}

async fn first_at(harness: &dyn Harness, nonce: Version) -> Record {
    let now = harness.store().load(&key(1)).await.expect("load").now;
    match bare_claim(minute(harness)).apply(None, Stamp::new(now, nonce)).next {
        Next::Put(next) => next,
        other => panic!("a first claim decided {other:?}"),
    }
}

/// A conflict leaves the record, its steps and its request as they were.
pub async fn a_conflict_changes_nothing(harness: &dyn Harness) {
    let (mut holder, _) = held_and_rival(harness, 1).await;
    holder.change([save("a", b"1")]).await;
    let stale = holder.clone();
    holder.change([save("b", b"2")]).await;
    let mut late = stale.clone();
    let Hold::Leased { fence, .. } = *late.record().hold() else { panic!("not held") };
    let changes = vec![save("b", b"other"), save("c", b"3"), complete(b"late", minute(harness))];
    let next = late.decide(Fenced { fence, changes }).await;
    conflict(&*harness.store(), &holder.key(), Some(stale.version()), &next).await;
    holder.check().await;
    holder.change([save("d", b"4")]).await;
    holder.check().await;
}

/// Remove takes at the version that is there, and at no other.
pub async fn removed_only_at_its_version(harness: &dyn Harness) {
    let (mut holder, rival) = held_and_rival(harness, 1).await;
    let store = harness.store();
    let old = holder.version();
    holder.change([save("a", b"1")]).await;
    for wrong in [old, rival.version()] {
        assert!(!store.remove(&holder.key(), wrong).await.expect("remove"), "removed at another version");
        holder.check().await;
    }
    holder.remove().await;
    holder.check().await;
}

/// Removing what is not there says so.
pub async fn remove_of_nothing_is_false(harness: &dyn Harness) {
    let (mut holder, _) = held_and_rival(harness, 1).await;
    let (store, version) = (harness.store(), holder.version());
    holder.remove().await;
    assert!(!store.remove(&holder.key(), version).await.expect("remove"), "removed twice");
    assert!(!store.remove(&key(9), version).await.expect("remove"), "removed what never was");
}

/// Keys that differ in one bit have nothing to do with one another.
pub async fn keys_one_bit_apart_are_independent(harness: &dyn Harness) {
    let mut holders = Vec::new();
    for bit in 0..=256_usize {
        let mut bytes = *key(0).as_bytes();
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        let mut holder = Holder::new(harness.store(), Key::from_bytes(bytes));
        holder.claim(bare_claim(minute(harness))).await;
        holder.change([save("bit", &bit.to_le_bytes())]).await;
        holders.push(holder);
    }
    holders[7].remove().await;
    for holder in &holders {
        holder.check().await;
    }
}

/// All handles show one state.
pub async fn handles_share_one_state(harness: &dyn Harness) {
    let mut holder = Holder::new(harness.store(), key(1));
    holder.claim(claim(minute(harness))).await;
    let other = harness.store().load(&key(1)).await.expect("load");
    assert_same(other.record.as_ref(), Some(holder.record()));
}

/// What was stored is there after the store was closed and opened again. (A
/// lease may have ended with its holder's process.)
pub async fn stored_survives_reopening(harness: &dyn Harness) {
    let mut holder = Holder::new(harness.store(), key(1));
    holder.claim(claim(minute(harness))).await;
    holder.change([save("a", b"1"), Change::Release]).await;
    let mut done = Holder::new(harness.store(), key(2));
    done.claim(claim(minute(harness))).await;
    done.change([complete(b"answer", minute(harness))]).await;
    let expected = [holder.record().clone(), done.record().clone()];
    drop((holder, done));
    if let Err(why) = harness.reopen().await {
        return why.tell();
    }
    for (n, expected) in (1..).zip(&expected) {
        let found = harness.store().load(&key(n)).await.expect("load");
        assert_same(found.record.as_ref(), Some(expected));
    }
}
