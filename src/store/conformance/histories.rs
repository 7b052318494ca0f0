//! Random histories, in lock-step on the store under test and on the
//! [`Reference`].
//!
//! `CONFORMANCE_SEED` sets the first seed, `CONFORMANCE_RUNS` how many there
//! are; a failure prints the seed that it needs again.
//!
//! On a store whose clock runs by itself the two are asked one after the other,
//! and whatever falls due in between is judged differently, rightly. So nothing
//! is asked shortly before something falls due, and a history that was
//! overtaken by the clock all the same begins again, with a longer tick.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::sample::{begin, complete, key, request, response, save};
use super::scans::scan_all;
use super::{Harness, Reference, assert_same};
use crate::core::{
    Ask, Change, Claim, Claimed, Command, Done, Exchange, Fence, Fenced, Fingerprint, Key, Labels, Lost, Mode,
    NotResolved, Record, Reply, Resolution, Resolve, Timestamp, Version,
};
use crate::store::{Filter, Found, Loaded, Store, Swap};
use crate::util::clock::ManualClock;

const COMMANDS: usize = 120;
const KEYS: u32 = 3;
/// How often a history may begin again. Each time the tick is twice as long.
const TRIES: u32 = 6;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// Any history of commands has the outcome on the store that it has on the
/// [`Reference`], command by command.
pub async fn random_histories_agree_with_the_reference(harness: &dyn Harness) {
    // Where time has to be waited for, fewer.
    let usual = if harness.tick() < Duration::from_secs(1) { 3 } else { 10 };
    let (first, runs) = (setting("CONFORMANCE_SEED", 1), setting("CONFORMANCE_RUNS", usual));
    let mut tries = 0..;
    for seed in first..first.saturating_add(runs) {
        let said = Said(seed);
        let mut tick = harness.tick();
        while History::new(harness, seed, tries.next().unwrap_or_default(), tick).run().await.is_err() {
            tick *= 2;
            assert!(tick < harness.tick() * (1 << TRIES), "calls take longer than {tick:?}: nothing can be compared");
        }
        std::mem::forget(said);
    }
}

/// Something fell due while the two stores were asked.
struct Overtaken;

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
    tick: Duration,
    /// Keys of this run, apart from those of the others.
    keys: Vec<Key>,
    /// Every fence that was ever granted, with its key and its holder's copy.
    fences: Vec<(Key, Fence, Option<Record>)>,
}

impl<'h> History<'h> {
    fn new(harness: &'h dyn Harness, seed: u64, run: u32, tick: Duration) -> Self {
        let clock = ManualClock::new();
        let keys = (0..KEYS).map(|n| key(1000 + run * KEYS + n)).collect();
        let (rng, store) = (fastrand::Rng::with_seed(seed), harness.store());
        let reference = Reference::new(clock.clone());
        Self { harness, rng, store, reference, clock, tick, keys, fences: Vec::new() }
    }

    async fn run(mut self) -> Result<(), Overtaken> {
        for step in 0..COMMANDS {
            let now = self.store.load(&self.keys[0]).await.expect("load").now;
            self.clock.set(now);
            match self.rng.u8(..10) {
                0 => self.harness.advance(self.tick * self.rng.u32(1..5)).await,
                1..=3 => self.claim(step).await?,
                4..=7 if !self.fences.is_empty() => self.change(step).await?,
                8 => self.resolve(step).await?,
                _ => self.compare().await?,
            }
        }
        self.compare().await
    }

    async fn claim(&mut self, step: usize) -> Result<(), Overtaken> {
        let key = self.any_key();
        let claim = Claim {
            fingerprint: Fingerprint::of([[self.rng.u8(..8).min(1)].as_slice()]),
            mode: if self.rng.u8(..4) == 0 { Mode::AtMostOnce } else { Mode::Resumable },
            lease: self.tick * self.rng.u32(1..4),
            request: self.rng.bool().then(|| request(&[self.rng.u8(..)])),
            labels: Labels::new(),
        };
        let done = self.both(step, &key, None, claim).await?;
        if let Claimed::Granted(fence) = done.output {
            self.fences.push((key, fence, done.record));
        }
        Ok(())
    }

    async fn change(&mut self, step: usize) -> Result<(), Overtaken> {
        let holder = self.rng.usize(..self.fences.len());
        let (key, fence, copy) = self.fences[holder].clone();
        let changes = (0..self.rng.usize(1..4)).map(|_| self.any_change()).collect();
        let guess = copy.filter(|_| self.rng.u8(..5) > 0);
        let done = self.both(step, &key, guess, Fenced { fence, changes }).await?;
        if done.output.is_ok() && done.record.is_some() {
            self.fences[holder].2 = done.record;
        }
        Ok(())
    }

    async fn resolve(&mut self, step: usize) -> Result<(), Overtaken> {
        let (key, tick) = (self.any_key(), self.tick);
        let resolution = match self.rng.u8(..7) {
            0 => Resolution::Respond { response: response(200, Some(b"by hand")), retention: tick * 3 },
            1 => Resolution::StepDone { step: self.any_step().into(), value: Bytes::from_static(b"by hand") },
            2 => Resolution::DidNotHappen { step: self.any_step().into() },
            3 => Resolution::Park { why: "by hand".into() },
            4 => Resolution::Undone { step: self.any_step().into() },
            _ => Resolution::RunAgain,
        };
        self.both(step, &key, None, Resolve { resolution, seen: None, why: None }).await.map(drop)
    }

    fn any_key(&mut self) -> Key {
        self.keys[self.rng.usize(..self.keys.len())]
    }

    fn any_step(&mut self) -> String {
        self.rng.u8(..6).to_string()
    }

    fn any_change(&mut self) -> Change {
        let (step, byte) = (self.any_step(), self.rng.u8(..));
        match self.rng.u8(..28) {
            0..=6 => begin(&step),
            7..=14 => save(&step, &[byte]),
            15 => Change::Fail { step: step.into(), error: Bytes::copy_from_slice(&[byte]) },
            16..=17 => Change::Clear { step: step.into() },
            18 => Change::Renew,
            19..=20 => Change::Release,
            21 => Change::Withdraw,
            22 => Change::Park { why: step.into() },
            24 => Change::Undo {
                steps: [self.any_step().into(), step.into()].into(),
                response: response(409, Some(&[byte])),
            },
            25..=26 => Change::Undone { step: step.into() },
            23 => Change::Postpone { retry_in: self.tick * u32::from(byte % 6) },
            _ => complete(&[byte], self.tick * u32::from(byte % 6)),
        }
    }

    /// Gives both stores the same command, and compares what they make of it.
    async fn both<C>(
        &mut self,
        step: usize,
        key: &Key,
        guess: Option<Record>,
        command: C,
    ) -> Result<Done<C::Output>, Overtaken>
    where
        C: Command<Output: Plain + Clone + PartialEq + Debug> + Clone + Debug,
    {
        let next_due = self.settle(key).await;
        // Only one of them may have forgotten what expired, and a claim that
        // meets it takes one look more: let both forget it.
        forget_expired(&self.reference, key).await;
        forget_expired(&*self.store, key).await;
        let nonce = Version::new(self.rng.u64(1..));
        let described = format!("command {step}: {command:?}");
        let guess = guess.map(Arc::new);
        let expected = drive(&self.reference, key, Exchange::guessing(command.clone(), nonce, guess.clone())).await;
        let done = drive(&*self.store, key, Exchange::guessing(command, nonce, guess)).await;
        self.check_clock(next_due).await?;
        assert_eq!(done.output.clone().plain(), expected.output.plain(), "{described}");
        assert_same(done.record.as_ref(), expected.record.as_ref());
        Ok(done)
    }

    /// Waits until this key's record is due on both stores or on neither, and
    /// nothing falls due within a tick; when the next does.
    async fn settle(&self, key: &Key) -> Option<Timestamp> {
        loop {
            let expected = self.reference.load(key).await.expect("load").record;
            let Loaded { record, now } = self.store.load(key).await.expect("load");
            self.clock.set(now);
            let dues: Vec<_> = [expected, record].into_iter().flatten().map(|record| record.due()).collect();
            let ahead = |due: &&Timestamp| **due > now;
            let (earliest, latest) = (dues.iter().filter(ahead).min()?, dues.iter().filter(ahead).max()?);
            let apart = dues.iter().any(|due| *due <= now);
            // Longer than any lease, they differ for another reason.
            let worth_it = latest.since(now) < self.tick * 100;
            if !self.runs_by_itself() || !worth_it || !apart && earliest.since(now) > self.tick {
                return Some(*earliest);
            }
            self.harness.advance(if apart { latest } else { earliest }.since(now)).await;
        }
    }

    fn runs_by_itself(&self) -> bool {
        self.harness.tick() < Duration::from_secs(1)
    }

    /// Whether what was due next is still to come.
    async fn check_clock(&self, next_due: Option<Timestamp>) -> Result<(), Overtaken> {
        let (true, Some(next_due)) = (self.runs_by_itself(), next_due) else { return Ok(()) };
        let now = self.store.load(&self.keys[0]).await.expect("load").now;
        if now < next_due { Ok(()) } else { Err(Overtaken) }
    }

    /// Compares all that the two stores have. Only one of them may have
    /// forgotten what expired.
    async fn compare(&self) -> Result<(), Overtaken> {
        for key in &self.keys {
            let next_due = self.settle(key).await;
            let expected = self.reference.load(key).await.expect("load");
            let found = self.store.load(key).await.expect("load");
            self.check_clock(next_due).await?;
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
        Ok(())
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
            Self::Replay(response, _) => Self::Replay(response, None),
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
