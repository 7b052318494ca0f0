//! What a store does that has no more room. A harness [makes one](Harness::bounded), or says
//! why it can't.

use std::sync::Arc;

use super::basics::{conflict, minute};
use super::sample::{bare_claim, begin, claim, complete, key, save};
use super::{Cannot, Harness, Holder, assert_same};
use crate::core::{Change, Record};
use crate::store::{Store, StoreErrorKind};

const ROOM: u32 = 8;

fn full_at(harness: &dyn Harness) -> Option<Arc<dyn Store>> {
    harness.bounded(ROOM as usize).map_err(Cannot::tell).ok()
}

async fn held(store: &Arc<dyn Store>, harness: &dyn Harness, n: u32) -> Holder {
    let mut holder = Holder::new(Arc::clone(store), key(n));
    holder.claim(claim(minute(harness))).await;
    holder
}

/// A first record for `key(n)`, unwritten.
async fn newcomer(store: &Arc<dyn Store>, harness: &dyn Harness, n: u32) -> Record {
    Holder::new(Arc::clone(store), key(n)).decide(bare_claim(minute(harness))).await
}

/// A retry at a full store is handed the record that is there, and does not
/// push it out by asking for it.
pub async fn a_full_store_hands_out_what_it_has(harness: &dyn Harness) {
    let Some(store) = full_at(harness) else { return };
    let mut holders = Vec::new();
    for n in 0..ROOM {
        let mut holder = held(&store, harness, n).await;
        if n % 2 == 0 {
            holder.change([complete(b"answer", minute(harness))]).await;
        }
        holders.push(holder);
    }
    for _ in 0..3 {
        for (n, holder) in (0..).zip(&holders) {
            let retry = newcomer(&store, harness, n).await;
            let found = conflict(&*store, &holder.key(), None, &retry).await;
            assert_same(found.record.as_ref(), Some(holder.record()));
            holder.check().await;
        }
    }
}

/// Whatever comes to a store that is full of unfinished records is refused,
/// and they stay.
pub async fn a_full_store_drops_no_unfinished_record(harness: &dyn Harness) {
    let Some(store) = full_at(harness) else { return };
    let mut holders = Vec::new();
    for n in 0..ROOM {
        holders.push(held(&store, harness, n).await);
    }
    holders[1].change([save("a", b"1"), Change::Release]).await;
    holders[2].change([begin("a"), Change::Park { why: "unknown".into() }]).await;
    holders[3].change([begin("a"), save("a", b"1")]).await;
    for n in 100..120 {
        let refused = store.swap(&key(n), None, &newcomer(&store, harness, n).await).await;
        assert_eq!(refused.map_err(|error| error.kind()).err(), Some(StoreErrorKind::Full));
        harness.advance(minute(harness)).await;
    }
    for holder in &holders {
        holder.check().await;
    }
}

/// What was admitted may go on and end, and then there is room again.
pub async fn a_full_store_lets_work_go_on(harness: &dyn Harness) {
    let Some(store) = full_at(harness) else { return };
    let mut holders = Vec::new();
    for n in 0..ROOM {
        holders.push(held(&store, harness, n).await);
    }
    for holder in &mut holders {
        holder.change([save("a", b"1")]).await;
        holder.check().await;
    }
    holders[0].change([complete(b"answer", minute(harness) / 2)]).await;
    holders[0].check().await;
    harness.advance(minute(harness)).await;
    held(&store, harness, 100).await.check().await;
    for holder in &holders[1..] {
        holder.check().await;
    }
}
