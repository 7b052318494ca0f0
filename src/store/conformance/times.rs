//! The store's clock, and what it may and may not forget.

use std::time::Duration;

use super::basics::{conflict, minute};
use super::sample::{begin, claim, complete, key, save};
use super::{Harness, Holder};
use crate::core::{Change, Fenced, Hold, Record, Resolution, Timestamp};

const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

async fn held(harness: &dyn Harness, n: u32) -> Holder {
    let mut holder = Holder::new(harness.store(), key(n));
    holder.claim(claim(minute(harness))).await;
    holder
}

/// When the record was created and last written, by the store.
async fn times(holder: &Holder) -> (Timestamp, Timestamp) {
    let found = holder.load().await.record.expect("a record");
    (found.created_at().expect("a time of creation"), found.written_at())
}

/// Moves the clock: far, where that costs nothing, and a minute where it does.
async fn far(harness: &dyn Harness) {
    let real = harness.tick() < Duration::from_secs(1);
    harness.advance(if real { minute(harness) } else { YEARS }).await;
}

/// Every reply that shows a record shows the time, and the time moves on.
pub async fn replies_show_the_time(harness: &dyn Harness) {
    let holder = held(harness, 1).await;
    let store = harness.store();
    let before = holder.load().await.now;
    harness.advance(harness.tick() * 3).await;
    let absent = store.load(&key(9)).await.expect("load").now;
    let present = holder.load().await.now;
    let found = conflict(&*store, &holder.key(), None, holder.record()).await.now;
    for now in [absent, present, found] {
        assert!(now.since(before) >= harness.tick() * 3, "a reply shows an old time");
    }
}

/// What is stored is stamped with the time of the store at that moment.
pub async fn writes_are_stamped(harness: &dyn Harness) {
    let before = harness.store().load(&key(1)).await.expect("load").now;
    let mut holder = held(harness, 1).await;
    let after = holder.load().await.now;
    let (created, written) = times(&holder).await;
    assert_eq!(created, written);
    assert!(before <= written && written <= after, "not stamped with the store's time");
    harness.advance(harness.tick() * 5).await;
    holder.change([Change::Renew]).await;
    let (_, rewritten) = times(&holder).await;
    assert!(rewritten.since(written) >= harness.tick() * 5, "a later write was not stamped");
}

/// The time that a caller's copy carries is not believed.
pub async fn the_callers_time_is_ignored(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    let (created, _) = times(&holder).await;
    let next = holder.decide_renewal().await.stamped(Timestamp::from_millis(7));
    holder.put(next).await;
    let (still, written) = times(&holder).await;
    assert_eq!(still, created, "the caller's time of creation was believed");
    assert!(written >= created, "the caller's time was believed");
}

impl Holder {
    async fn decide_renewal(&mut self) -> Record {
        let Hold::Leased { fence, .. } = *self.record().hold() else { panic!("not held") };
        self.decide(Fenced { fence, changes: vec![Change::Renew] }).await
    }
}

/// The time of creation stays over every later write, also from a copy that
/// does not know it.
pub async fn creation_is_kept(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    let (created, _) = times(&holder).await;
    for change in [save("a", b"1"), Change::Renew, Change::Release] {
        harness.advance(harness.tick()).await;
        holder.change([change]).await;
        assert_eq!(times(&holder).await.0, created, "the time of creation moved");
    }
    harness.advance(harness.tick()).await;
    holder.claim(claim(minute(harness))).await;
    holder.change([complete(b"", minute(harness))]).await;
    assert_eq!(times(&holder).await.0, created, "the time of creation moved");
}

/// Another operation under an expired key has its own time of creation.
pub async fn a_new_operation_is_created_anew(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    let (created, _) = times(&holder).await;
    holder.change([complete(b"", harness.tick())]).await;
    harness.advance(harness.tick() * 2).await;
    holder.refresh().await;
    holder.claim(claim(minute(harness))).await;
    assert!(times(&holder).await.0.since(created) >= harness.tick() * 2, "the old time of creation was kept");
}

/// An expired response makes room for a new operation, whether or not the store
/// has forgotten it by itself.
pub async fn an_expired_response_can_be_replaced(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    holder.change([complete(b"old", harness.tick())]).await;
    harness.advance(harness.tick() * 2).await;
    let found = holder.load().await;
    assert!(found.record.as_ref().is_none_or(|record| record.is_expired(found.now)));
    holder.refresh().await;
    holder.claim(claim(minute(harness))).await;
    holder.check().await;
}

/// A response is kept until its retention is over, whatever else is written. That begins
/// with the response, and not with its claim (peer bug 59).
pub async fn a_response_is_kept_until_it_expires(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    harness.advance(minute(harness)).await;
    holder.change([complete(b"answer", minute(harness))]).await;
    for n in 2..20 {
        harness.advance(harness.tick()).await;
        let mut other = held(harness, n).await;
        other.change([complete(b"short", harness.tick())]).await;
    }
    holder.check().await;
    let found = holder.load().await;
    assert!(found.record.is_some_and(|record| !record.is_expired(found.now)), "it counts as expired");
}

/// An expired response can be removed at its version.
pub async fn an_expired_response_can_be_removed(harness: &dyn Harness) {
    let mut holder = held(harness, 1).await;
    holder.change([complete(b"answer", harness.tick())]).await;
    harness.advance(harness.tick() * 2).await;
    let store = harness.store();
    // It may have vanished by itself.
    let _ = store.remove(&holder.key(), holder.version()).await.expect("remove");
    assert!(holder.load().await.record.is_none(), "it is still there");
}

/// No unfinished record is ever dropped, however far the clock goes: held,
/// free, parked, cleared, or paid.
pub async fn unfinished_records_are_never_dropped(harness: &dyn Harness) {
    let mut holders = Vec::new();
    for n in 1..=5 {
        holders.push(held(harness, n).await);
    }
    holders[1].change([save("a", b"1"), Change::Release]).await;
    holders[2].change([begin("a"), Change::Park { why: "unknown".into() }]).await;
    holders[3].change([Change::Release]).await;
    holders[3].resolve(Resolution::RunAgain).await;
    holders[4].change([begin("a"), save("a", b"1")]).await;
    far(harness).await;
    for n in 100..200 {
        let mut other = held(harness, n).await;
        other.change([complete(b"", Duration::ZERO)]).await;
    }
    far(harness).await;
    for holder in &holders {
        holder.check().await;
    }
}
