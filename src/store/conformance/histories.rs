//! Random histories, in lock-step on the store under test and on the
//! [`Reference`].
//!
//! `CONFORMANCE_SEED` sets the first seed, `CONFORMANCE_RUNS` how many there
//! are; a failure prints the seed that it needs again. A store whose clock runs
//! by itself may differ where a call takes longer than a tick.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::sample::{begin, complete, key, request, response, save};
use super::scans::scan_all;
use super::{Harness, Reference, assert_same};
use crate::clock::{Clock, ManualClock};
use crate::core::{
    Ask, Change, Claim, Claimed, Command, Done, Exchange, Fence, Fenced, Fingerprint, Key, Lost, Mode, NotResolved,
    Record, Reply, Resolution, Resolve, Version,
};
use crate::store::{Filter, Found, Loaded, Store, Swap};

const COMMANDS: usize = 120;
const KEYS: u32 = 3;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// Any history of commands has the outcome on the store that it has on the
/// [`Reference`], command by command.
pub async fn random_histories_agree_with_the_reference(harness: &dyn Harness) {
    // Where time has to be waited for, fewer.
    let usual = if harness.tick() < Duration::from_secs(1) { 3 } else { 30 };
    let (first, runs) = (setting("CONFORMANCE_SEED", 1), setting("CONFORMANCE_RUNS", usual));
    for (run, seed) in (0..).zip(first..first.saturating_add(runs)) {
        let said = Said(seed);
        History::new(harness, seed, run).await.run().await;
        std::mem::forget(said);
    }
}

/// Says which seed it was, should the run panic.
struct Said(u64);

impl Drop for Said {
    fn drop(&mut self) {
        let Self(seed) = self;
        eprintln!("this history again: CONFORMANCE_SEED={seed} CONFORMANCE_RUNS=1");
    }
}

struct History<'h> {
    harness: &'h dyn Harness,
    rng: fastrand::Rng,
    store: Arc<dyn Store>,
    reference: Reference,
    clock: ManualClock,
    /// Keys of this run, apart from those of the others.
    keys: Vec<Key>,
    /// Every fence that was ever granted, with its key and its holder's copy.
    fences: Vec<(Key, Fence, Option<Record>)>,
}

impl<'h> History<'h> {
    async fn new(harness: &'h dyn Harness, seed: u64, run: u32) -> Self {
        let clock = ManualClock::new();
        let keys = (0..KEYS).map(|n| key(1000 + run * KEYS + n)).collect();
        let (rng, store) = (fastrand::Rng::with_seed(seed), harness.store());
        Self { harness, rng, store, reference: Reference::new(clock.clone()), clock, keys, fences: Vec::new() }
    }

    async fn run(mut self) {
        for step in 0..COMMANDS {
            let now = self.store.load(&self.keys[0]).await.expect("load").now;
            self.clock.set(now);
            match self.rng.u8(..10) {
                0 => self.harness.advance(self.harness.tick() * self.rng.u32(1..5)).await,
                1..=3 => self.claim(step).await,
                4..=7 if !self.fences.is_empty() => self.change(step).await,
                8 => self.resolve(step).await,
                _ => self.compare().await,
            }
        }
        self.compare().await;
    }

    async fn claim(&mut self, step: usize) {
        let key = self.any_key();
        let claim = Claim {
            fingerprint: Fingerprint::of([[self.rng.u8(..8).min(1)].as_slice()]),
            mode: if self.rng.u8(..4) == 0 { Mode::AtMostOnce } else { Mode::Resumable },
            lease: self.harness.tick() * self.rng.u32(1..4),
            request: self.rng.bool().then(|| request(&[self.rng.u8(..)])),
        };
        let done = self.both(step, &key, None, claim).await;
        if let Claimed::Granted(fence) = done.output {
            self.fences.push((key, fence, done.record));
        }
    }

    async fn change(&mut self, step: usize) {
        let holder = self.rng.usize(..self.fences.len());
        let (key, fence, copy) = self.fences[holder].clone();
        let changes = (0..self.rng.usize(1..4)).map(|_| self.any_change()).collect();
        let guess = copy.filter(|_| self.rng.u8(..5) > 0);
        let done = self.both(step, &key, guess, Fenced { fence, changes }).await;
        if done.output.is_ok() && done.record.is_some() {
            self.fences[holder].2 = done.record;
        }
    }

    async fn resolve(&mut self, step: usize) {
        let (key, tick) = (self.any_key(), self.harness.tick());
        let resolution = match self.rng.u8(..6) {
            0 => Resolution::Answer { response: response(200, Some(b"by hand")), retention: tick * 3 },
            1 => Resolution::StepDone { step: self.any_step().into(), value: Bytes::from_static(b"by hand") },
            2 => Resolution::DidNotHappen { step: self.any_step().into() },
            3 => Resolution::Park { why: "by hand".into() },
            _ => Resolution::RunAgain,
        };
        self.both(step, &key, None, Resolve { resolution }).await;
    }

    fn any_key(&mut self) -> Key {
        self.keys[self.rng.usize(..self.keys.len())]
    }

    fn any_step(&mut self) -> String {
        self.rng.u8(..6).to_string()
    }

    fn any_change(&mut self) -> Change {
        let (step, byte) = (self.any_step(), self.rng.u8(..));
        match self.rng.u8(..25) {
            0..=6 => begin(&step),
            7..=14 => save(&step, &[byte]),
            15 => Change::Fail { step: step.into(), error: Bytes::copy_from_slice(&[byte]) },
            16..=17 => Change::Clear { step: step.into() },
            18 => Change::Renew,
            19..=20 => Change::Release,
            21 => Change::Withdraw,
            22 => Change::Park { why: step.into() },
            23 => Change::Postpone { retry_in: self.harness.tick() * u32::from(byte % 6) },
            _ => complete(&[byte], self.harness.tick() * u32::from(byte % 6)),
        }
    }

    /// Gives both stores the same command, and compares what they make of it.
    async fn both<C>(&mut self, step: usize, key: &Key, guess: Option<Record>, command: C) -> Done<C::Output>
    where
        C: Command<Output: Plain + Clone + PartialEq + Debug> + Clone + Debug,
    {
        self.settle(key).await;
        // Only one of them may have forgotten what expired, and a claim that
        // meets it takes one look more: let both forget it.
        forget_expired(&self.reference, key).await;
        forget_expired(&*self.store, key).await;
        let nonce = Version::new(self.rng.u64(1..));
        let described = format!("command {step}: {command:?}");
        let expected = drive(&self.reference, key, Exchange::guessing(command.clone(), nonce, guess.clone())).await;
        let done = drive(&*self.store, key, Exchange::guessing(command, nonce, guess)).await;
        assert_eq!(done.output.clone().plain(), expected.output.plain(), "{described}");
        let live = |record: Option<Record>| record.filter(|record| record.is_unexpired_at(&self.clock));
        assert_same(live(done.record.clone()).as_ref(), live(expected.record).as_ref());
        done
    }

    /// A clock that runs by itself moves on between the two looks: sees to it
    /// that nothing falls due meanwhile.
    async fn settle(&self, key: &Key) {
        let tick = self.harness.tick();
        if tick >= Duration::from_secs(1) {
            return;
        }
        loop {
            let expected = self.reference.load(key).await.expect("load").record;
            let Loaded { record, now } = self.store.load(key).await.expect("load");
            self.clock.set(now);
            let left = [expected, record].into_iter().flatten().map(|record| record.due().since(now));
            let Some(left) = left.filter(|left| !left.is_zero() && *left <= tick).max() else { return };
            self.harness.advance(left).await;
        }
    }

    /// Compares all that the two stores have. Only one of them may have
    /// forgotten what expired.
    async fn compare(&self) {
        for key in &self.keys {
            let expected = self.reference.load(key).await.expect("load");
            let found = self.store.load(key).await.expect("load");
            let live = |record: Option<Record>| record.filter(|record| !record.is_expired(found.now));
            assert_same(live(found.record.clone()).as_ref(), live(expected.record).as_ref());
        }
        let ours = |key: &Key| self.keys.contains(key);
        let expected = scan_all(&self.reference, Filter::Unfinished, 100).await;
        let found = scan_all(&*self.store, Filter::Unfinished, 2).await;
        let versions = |found: &[Found]| -> BTreeSet<(Key, Version)> {
            found.iter().filter(|one| ours(&one.key)).map(|one| (one.key, one.version)).collect()
        };
        assert_eq!(versions(&found), versions(&expected), "unfinished");
    }
}

impl Record {
    fn is_unexpired_at(&self, clock: &ManualClock) -> bool {
        // Unwritten copies show no time; they are compared as they are.
        self.created_at().is_none() || !self.is_expired(clock.now())
    }
}

/// The loop of the ledger, on a store that does not fail.
async fn drive<C: Command<Output = T>, T>(store: &dyn Store, key: &Key, mut exchange: Exchange<C, T>) -> Done<T> {
    loop {
        let reply = match exchange.ask() {
            Ask::Finish => break,
            Ask::Load => load(store, key).await,
            Ask::Swap { expected, next } => match store.swap(key, expected, next).await.expect("swap") {
                Swap::Stored => Reply::Written,
                Swap::Conflict(found) => Reply::Found(found.record, found.now),
            },
            Ask::Remove { expected } => match store.remove(key, expected).await.expect("remove") {
                true => Reply::Written,
                false => load(store, key).await,
            },
        };
        if exchange.answer(reply) {
            break;
        }
    }
    exchange.finish().expect("an outcome")
}

async fn load(store: &dyn Store, key: &Key) -> Reply {
    let loaded = store.load(key).await.expect("load");
    Reply::Found(loaded.record, loaded.now)
}

/// An output without durations: those of a clock that runs by itself differ.
trait Plain {
    fn plain(self) -> Self;
}

impl Plain for Claimed {
    fn plain(self) -> Self {
        match self {
            Self::Busy(_) => Self::Busy(Duration::ZERO),
            other => other,
        }
    }
}

impl Plain for Result<(), Lost> {
    fn plain(self) -> Self {
        self
    }
}

impl Plain for Result<(), NotResolved> {
    fn plain(self) -> Self {
        match self {
            Err(NotResolved::Busy(_)) => Err(NotResolved::Busy(Duration::ZERO)),
            other => other,
        }
    }
}

async fn forget_expired(store: &dyn Store, key: &Key) {
    let found = store.load(key).await.expect("load");
    if let Some(expired) = found.record.filter(|record| record.is_expired(found.now)) {
        store.remove(key, expired.version()).await.expect("remove");
    }
}
