//! Many callers at a time, and callers that give up.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::basics::minute;
use super::linear::{Call, Event, Returned, is_linearizable};
use super::sample::{bare_claim, claim, complete, key, save};
use super::{Harness, Holder, assert_same};
use crate::core::{Change, Claim, Command, Fenced, Hold, Key, Next, Record, Stamp, Timestamp, Version};
use crate::store::{Store, Swap};

const RACERS: usize = 32;
const ROUNDS: u32 = 20;

fn first(claim: &Claim, nonce: u64, store_now: Timestamp) -> Record {
    match claim.apply(None, Stamp::new(store_now, Version::new(nonce))).next {
        Next::Put(next) => next,
        other => panic!("a first claim decided {other:?}"),
    }
}

/// Lets all of `racers` go at the same moment, and collects what they bring.
async fn race<T, F>(racers: impl IntoIterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let racers: Vec<_> = racers.into_iter().collect();
    let barrier = Arc::new(Barrier::new(racers.len()));
    let mut running = JoinSet::new();
    for racer in racers {
        let barrier = Arc::clone(&barrier);
        running.spawn(async move {
            barrier.wait().await;
            racer.await
        });
    }
    running.join_all().await
}

/// Asserts that one of many swaps took, and that every other one was handed
/// what that one wrote.
fn assert_one_winner(results: Vec<(Record, Swap)>, store_has: Option<&Record>) {
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, swap)| matches!(swap, Swap::Stored));
    assert_eq!(won.len(), 1, "{} winners", won.len());
    assert_same(store_has, Some(&won[0].0));
    for (_, swap) in lost {
        let Swap::Conflict(found) = swap else { unreachable!() };
        assert_same(found.record.as_ref(), Some(&won[0].0));
    }
}

/// Of 32 that create one record one does, and the others are handed it.
pub async fn one_of_many_creates(harness: &dyn Harness) {
    let store = harness.store();
    let now = store.load(&key(0)).await.expect("load").now;
    for n in 0..ROUNDS {
        let racers = (1..=RACERS as u64).map(|nonce| {
            let (store, next) = (Arc::clone(&store), first(&claim(minute(harness)), nonce, now));
            async move {
                let swap = store.swap(&key(n), None, &next).await.expect("swap");
                (next, swap)
            }
        });
        let results = race(racers).await;
        assert_one_winner(results, store.load(&key(n)).await.expect("load").record.as_ref());
    }
}

/// Of 32 that take over one record one does, and the others are handed what it
/// wrote.
pub async fn one_of_many_takes_over(harness: &dyn Harness) {
    for n in 0..ROUNDS {
        let mut holder = Holder::new(harness.store(), key(n));
        holder.claim(claim(minute(harness))).await;
        holder.change([save("a", b"1"), Change::Release]).await;
        let (expected, mut nexts) = (holder.version(), Vec::new());
        for _ in 0..RACERS {
            nexts.push(holder.decide(claim(minute(harness))).await);
        }
        let racers = nexts.into_iter().map(|next| {
            let store = harness.store();
            async move {
                let swap = store.swap(&key(n), Some(expected), &next).await.expect("swap");
                (next, swap)
            }
        });
        let results = race(racers).await;
        assert_one_winner(results, holder.load().await.record.as_ref());
    }
}

/// Of 32 that remove one record one does.
pub async fn one_of_many_removes(harness: &dyn Harness) {
    for n in 0..ROUNDS {
        let mut holder = Holder::new(harness.store(), key(n));
        holder.claim(bare_claim(minute(harness))).await;
        let version = holder.version();
        let racers = (0..RACERS).map(|_| {
            let store = harness.store();
            async move { store.remove(&key(n), version).await.expect("remove") }
        });
        let removed = race(racers).await.into_iter().filter(|&removed| removed).count();
        assert_eq!(removed, 1, "{removed} removed it");
        assert!(holder.load().await.record.is_none());
    }
}

/// Of a removal and a swap that expect one version one takes.
pub async fn removal_and_swap_exclude_each_other(harness: &dyn Harness) {
    for n in 0..ROUNDS {
        let mut holder = Holder::new(harness.store(), key(n));
        holder.claim(bare_claim(minute(harness))).await;
        let (expected, next) = (holder.version(), holder.record().clone().orphaned(Version::new(99)));
        let (swapping, removing) = (harness.store(), harness.store());
        let swap = tokio::spawn(async move {
            matches!(swapping.swap(&key(n), Some(expected), &next).await.expect("swap"), Swap::Stored)
        });
        let remove = tokio::spawn(async move { removing.remove(&key(n), expected).await.expect("remove") });
        let (swapped, removed) = (swap.await.expect("swap"), remove.await.expect("remove"));
        assert!(swapped != removed, "swapped: {swapped}, removed: {removed}");
        assert_eq!(holder.load().await.record.is_some(), swapped);
    }
}

/// Operations on many keys at once do not disturb one another.
pub async fn many_keys_at_once(harness: &dyn Harness) {
    let minute = minute(harness);
    let workers = (0..RACERS as u32).map(|n| {
        let mut holder = Holder::new(harness.store(), key(n));
        async move {
            holder.claim(claim(minute)).await;
            for step in 0..20_u32 {
                holder.change([save(&format!("{n} {step}"), &step.to_be_bytes())]).await;
            }
            holder.check().await;
            holder.change([complete(&n.to_be_bytes(), minute)]).await;
            holder
        }
    });
    for holder in race(workers).await {
        holder.check().await;
    }
}

/// What many tasks see of a few keys is what one record behind one lock would
/// have shown them, for each key.
pub async fn every_history_is_linearizable(harness: &dyn Harness) {
    for round in 0..5 {
        for (key, history) in contend(harness, round).await {
            assert!(is_linearizable(&history), "seed {round}, {key:?}: {history:#?}");
        }
    }
}

/// Eight tasks, forty calls each, on three keys.
async fn contend(harness: &dyn Harness, seed: u64) -> BTreeMap<Key, Vec<Event>> {
    let (clock, claim) = (Arc::new(AtomicU64::new(0)), bare_claim(minute(harness)));
    let base = u32::try_from(seed).expect("small") * 10;
    let workers = (1..=8_u64).map(|worker| {
        let (store, clock, claim) = (harness.store(), Arc::clone(&clock), claim.clone());
        async move {
            let mut rng = fastrand::Rng::with_seed(seed << 8 | worker);
            let mut events = Vec::new();
            for n in 0..40 {
                let key = key(base + rng.u32(..3));
                let seen = last_seen(&events, &key);
                let call = draw(&mut rng, seen, worker << 32 | (n + 1));
                let asked = clock.fetch_add(1, Ordering::SeqCst);
                let answer = ask(&*store, &key, call, &claim).await;
                let answered = Some((clock.fetch_add(1, Ordering::SeqCst), answer));
                events.push((key, Event { call, asked, answered }));
                if rng.u8(..4) == 0 {
                    tokio::task::yield_now().await;
                }
            }
            events
        }
    });
    let mut histories = BTreeMap::<Key, Vec<Event>>::new();
    for (key, event) in race(workers).await.into_iter().flatten() {
        histories.entry(key).or_default().push(event);
    }
    histories
}

/// The version that this task has last seen at `key`.
fn last_seen(events: &[(Key, Event)], key: &Key) -> Option<u64> {
    let (_, last) = events.iter().rfind(|(at, _)| at == key)?;
    match (last.call, last.answered?.1) {
        (Call::Swap { next, .. }, Returned::Stored) => Some(next),
        (_, Returned::Found(found)) => found,
        _ => None,
    }
}

fn draw(rng: &mut fastrand::Rng, seen: Option<u64>, next: u64) -> Call {
    match (rng.u8(..10), seen) {
        (0..=2, _) => Call::Load,
        (3..=4, Some(expected)) => Call::Remove { expected },
        _ => Call::Swap { expected: seen, next },
    }
}

async fn ask(store: &dyn Store, key: &Key, call: Call, claim: &Claim) -> Returned {
    let version = |record: Option<Record>| record.map(|record| record.version().get());
    match call {
        Call::Load => Returned::Found(version(store.load(key).await.expect("load").record)),
        Call::Swap { expected, next } => {
            let next = first(claim, next, Timestamp::default());
            match store.swap(key, expected.map(Version::new), &next).await.expect("swap") {
                Swap::Stored => Returned::Stored,
                Swap::Conflict(found) => Returned::Found(version(found.record)),
            }
        }
        Call::Remove { expected } => {
            Returned::Removed(store.remove(key, Version::new(expected)).await.expect("remove"))
        }
    }
}

/// A swap whose caller gives up, after any number of polls, leaves the old
/// record or the new one, whole, and a store that works.
pub async fn a_dropped_swap_is_all_or_nothing(harness: &dyn Harness) {
    let store = harness.store();
    for polls in 0..24 {
        let mut holder = Holder::new(harness.store(), key(polls));
        holder.claim(claim(minute(harness))).await;
        holder.change([save("a", b"1"), save("b", b"2")]).await;
        let old = holder.record().clone();
        let next = holder.decide_answer(minute(harness)).await;
        give_up_after(polls, store.swap(&holder.key(), Some(old.version()), &next)).await;
        let mut found = holder.load().await.record.expect("a record");
        if found.version() == old.version() {
            assert_same(Some(&found), Some(&old));
            // The write may be on its way yet: whichever wins, it is whole.
            if let Swap::Conflict(now) = store.swap(&holder.key(), Some(old.version()), &next).await.expect("swap") {
                found = now.record.expect("a record");
                assert_same(Some(&found), Some(&next));
            }
        } else {
            assert_same(Some(&found), Some(&next));
        }
        assert_same(holder.load().await.record.as_ref(), Some(&next));
    }
}

impl Holder {
    async fn decide_answer(&mut self, retention: std::time::Duration) -> Record {
        let Hold::Leased { fence, .. } = *self.record().hold() else { panic!("not held") };
        self.decide(Fenced { fence, changes: vec![complete(b"answer", retention)] }).await
    }
}

/// Polls `future` at most `polls` times, and drops it.
async fn give_up_after<T>(polls: u32, future: impl Future<Output = T>) {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        future.as_mut().poll(context).map(drop)
    })
    .await;
}
