//! A store that fails in every way a store can.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::gate::Gate;
use super::harness::Damage;
use crate::core::{Key, Record, Version};
use crate::store::{Durability, Filter, Loaded, Page, Query, Store, StoreError, StoreErrorKind, Swap};
use crate::util::signal::lock;

/// What can go wrong with one call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// It fails, and was never executed.
    Before,
    /// It is executed, and its reply is lost.
    After,
    /// It is held up at the gate, and then executed.
    Delay(Gate),
    /// It is executed, and its reply is held up at the gate.
    Stall(Gate),
    /// It is never executed, and never returns.
    Hang,
    /// It fails at once, and is executed when the gate opens.
    Late(Gate),
    /// It is delivered twice, and the second reply is the one that arrives.
    Twice,
    /// It is refused with an error of this kind: corrupt, full, newer format.
    Refused(StoreErrorKind),
    /// A load shows what was there at the last [`FaultyStore::freeze`], as a
    /// replica that lags does. Other calls are not affected.
    Stale,
}

/// The operations of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "the store contract has these")]
pub enum Op {
    /// [`Store::load`].
    Load,
    /// [`Store::swap`].
    Swap,
    /// [`Store::remove`].
    Remove,
    /// [`Store::scan`].
    Scan,
}

/// Sets the faults of a [`FaultyStore`], and counts its calls. Clones are the
/// same handle.
///
/// Of several rules for one operation the oldest that applies is the one.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    calls: BTreeMap<Op, usize>,
}

#[derive(Debug)]
struct Rule {
    op: Op,
    when: When,
    fault: Fault,
}

#[derive(Debug)]
enum When {
    /// After so many calls, for so many.
    Calls {
        skip: usize,
        take: usize,
    },
    Sometimes {
        probability: f64,
        rng: fastrand::Rng,
    },
}

impl Faults {
    /// The next `calls` calls of `op` have this fault.
    pub fn next(&self, op: Op, calls: usize, fault: Fault) {
        self.add(op, When::Calls { skip: 0, take: calls }, fault);
    }

    /// The `call`-th call of `op` from now on has this fault; 1 is the next.
    pub fn nth(&self, op: Op, call: usize, fault: Fault) {
        self.add(op, When::Calls { skip: call.saturating_sub(1), take: 1 }, fault);
    }

    /// Every call of `op` has this fault, until the faults are cleared.
    pub fn always(&self, op: Op, fault: Fault) {
        self.next(op, usize::MAX, fault);
    }

    /// Calls of `op` have this fault with this probability, by this seed.
    pub fn sometimes(&self, op: Op, probability: f64, seed: u64, fault: Fault) {
        self.add(op, When::Sometimes { probability, rng: fastrand::Rng::with_seed(seed) }, fault);
    }

    /// Every acknowledgement of a write is lost: each is executed, and none
    /// says so.
    pub fn lose_every_acknowledgement(&self) {
        self.always(Op::Swap, Fault::After);
        self.always(Op::Remove, Fault::After);
    }

    /// No more faults.
    pub fn clear(&self) {
        lock(&self.0).rules.clear();
    }

    /// How many calls of `op` there were.
    pub fn calls(&self, op: Op) -> usize {
        lock(&self.0).calls.get(&op).copied().unwrap_or_default()
    }

    /// How many calls there were: round trips.
    pub fn round_trips(&self) -> usize {
        lock(&self.0).calls.values().sum()
    }

    /// Starts counting anew.
    pub fn reset_counts(&self) {
        lock(&self.0).calls.clear();
    }

    fn add(&self, op: Op, when: When, fault: Fault) {
        lock(&self.0).rules.push(Rule { op, when, fault });
    }

    /// Counts a call, and draws its fault.
    fn draw(&self, op: Op) -> Option<Fault> {
        let mut script = lock(&self.0);
        *script.calls.entry(op).or_default() += 1;
        let mut drawn = None;
        // Every rule counts every call, also one that another rule handles.
        for rule in script.rules.iter_mut().filter(|rule| rule.op == op) {
            if rule.when.applies() && drawn.is_none() {
                drawn = Some(rule.fault.clone());
            }
        }
        drawn
    }
}

impl When {
    fn applies(&mut self) -> bool {
        match self {
            Self::Calls { skip: skip @ 1.., .. } => {
                *skip -= 1;
                false
            }
            Self::Calls { take: take @ 1.., .. } => {
                *take -= 1;
                true
            }
            Self::Calls { .. } => false,
            Self::Sometimes { probability, rng } => rng.f64() < *probability,
        }
    }
}

/// A store around another one, which fails as its [`Faults`] say.
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: Arc<S>,
    faults: Faults,
    seen: Mutex<BTreeSet<Key>>,
    frozen: Mutex<BTreeMap<Key, Loaded>>,
    /// And whether a scan sees that.
    damaged: Mutex<BTreeMap<Key, (Damage, bool)>>,
}

type StoreFuture<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;
/// Makes the call; as often as it is called.
type Call<T> = Box<dyn Fn() -> StoreFuture<T> + Send + Sync>;

impl<S: Store> FaultyStore<S> {
    /// A store that has no faults yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner: Arc::new(inner),
            faults: Faults::default(),
            seen: Mutex::default(),
            frozen: Mutex::default(),
            damaged: Mutex::default(),
        }
    }

    /// The handle that sets its faults.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// The store inside, which does not fail and does not count.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Damages what is at `key`: from now on it can't be read, replaced or
    /// removed, and a scan goes past it.
    pub fn damage(&self, key: Key, how: Damage) {
        lock(&self.damaged).insert(key, (how, true));
    }

    /// The same for a store whose scans don't look at all of a record: it is found
    /// as before.
    pub fn damage_unseen(&self, key: Key, how: Damage) {
        lock(&self.damaged).insert(key, (how, false));
    }

    /// What a call for this key returns if that was damaged.
    fn whole(&self, key: &Key) -> Result<(), StoreError> {
        match lock(&self.damaged).get(key) {
            Some((how, _)) => Err(StoreError::new(how.kind(), "damaged, as the test asked for")),
            None => Ok(()),
        }
    }

    /// The page, as a store gives it that can't read what was damaged.
    fn past_damage(&self, page: Page) -> Page {
        let damaged = lock(&self.damaged);
        let (mut unreadable, mut found) = (page.unreadable, page.found);
        found.retain(|found| {
            let is_damaged = damaged.get(&found.key).is_some_and(|(_, is_seen)| *is_seen);
            if is_damaged {
                unreadable.add(found.key);
            }
            !is_damaged
        });
        Page { found, unreadable, next: page.next }
    }

    /// Keeps what there is, for [`Fault::Stale`] loads from now on.
    ///
    /// # Errors
    ///
    /// Those of the store inside.
    pub async fn freeze(&self) -> Result<(), StoreError> {
        for key in self.keys() {
            let loaded = self.inner.load(&key).await?;
            lock(&self.frozen).insert(key, loaded);
        }
        Ok(())
    }

    /// Removes every record that was ever written through this store, as a
    /// flushed server does.
    ///
    /// # Errors
    ///
    /// Those of the store inside.
    pub async fn wipe(&self) -> Result<(), StoreError> {
        for key in self.keys() {
            while let Some(record) = self.inner.load(&key).await?.record {
                self.inner.remove(&key, record.version()).await?;
            }
        }
        Ok(())
    }

    fn keys(&self) -> Vec<Key> {
        lock(&self.seen).iter().copied().collect()
    }

    /// A load by a replica that saw nothing since the last freeze, except the
    /// time.
    async fn stale(&self, key: &Key) -> Result<Loaded, StoreError> {
        let now = self.inner.load(key).await?.now;
        let record = lock(&self.frozen).get(key).and_then(|loaded| loaded.record.clone());
        Ok(Loaded { record, now })
    }
}

async fn suffer<T: Send + 'static>(fault: Option<Fault>, call: Call<T>) -> Result<T, StoreError> {
    match fault {
        None | Some(Fault::Stale) => call().await,
        Some(Fault::Before) => Err(unavailable("the call never arrived")),
        Some(Fault::After) => {
            call().await?;
            Err(unavailable("the reply was lost"))
        }
        Some(Fault::Delay(gate)) => {
            gate.wait().await;
            let reply = call().await;
            gate.pass();
            reply
        }
        Some(Fault::Stall(gate)) => {
            let reply = call().await;
            gate.wait().await;
            gate.pass();
            reply
        }
        Some(Fault::Hang) => pending().await,
        Some(Fault::Late(gate)) => {
            tokio::spawn(async move {
                gate.wait().await;
                let _ = call().await;
                gate.pass();
            });
            Err(unavailable("the call is on its way"))
        }
        Some(Fault::Twice) => {
            call().await?;
            call().await
        }
        Some(Fault::Refused(kind)) => Err(StoreError::new(kind, "refused, as the test asked for")),
    }
}

fn unavailable(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, what)
}

#[async_trait]
impl<S: Store> Store for FaultyStore<S> {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        if key.is_control() {
            // A process looks at control records beside its work, now and then: that is no
            // call of the work, whose calls are counted and fail.
            return self.inner.load(key).await;
        }
        let fault = self.faults.draw(Op::Load);
        self.whole(key)?;
        if matches!(fault, Some(Fault::Stale)) {
            return self.stale(key).await;
        }
        let (inner, key) = (Arc::clone(&self.inner), *key);
        let call: Call<Loaded> = Box::new(move || {
            let inner = Arc::clone(&inner);
            Box::pin(async move { inner.load(&key).await })
        });
        suffer(fault, call).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        lock(&self.seen).insert(*key);
        self.whole(key)?;
        let (inner, key, next) = (Arc::clone(&self.inner), *key, next.clone());
        let call: Call<Swap> = Box::new(move || {
            let (inner, next) = (Arc::clone(&inner), next.clone());
            Box::pin(async move { inner.swap(&key, expected, &next).await })
        });
        suffer(self.faults.draw(Op::Swap), call).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.whole(key)?;
        let (inner, key) = (Arc::clone(&self.inner), *key);
        let call: Call<bool> = Box::new(move || {
            let inner = Arc::clone(&inner);
            Box::pin(async move { inner.remove(&key, expected).await })
        });
        suffer(self.faults.draw(Op::Remove), call).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        let (inner, query) = (Arc::clone(&self.inner), query.clone());
        let call: Call<Page> = Box::new(move || {
            let (inner, query) = (Arc::clone(&inner), query.clone());
            Box::pin(async move { inner.scan(&query).await })
        });
        suffer(self.faults.draw(Op::Scan), call).await.map(|page| self.past_damage(page))
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        let inner = Arc::clone(&self.inner);
        let call: Call<usize> = Box::new(move || {
            let inner = Arc::clone(&inner);
            Box::pin(async move { inner.count(filter, most).await })
        });
        suffer(self.faults.draw(Op::Scan), call).await
    }

    /// Of the store inside, without faults.
    async fn durability(&self) -> Result<Durability, StoreError> {
        self.inner.durability().await
    }

    /// Of the store inside, without faults.
    async fn inspect(&self) -> Result<Durability, StoreError> {
        self.inner.inspect().await
    }

    fn patience(&self) -> Duration {
        self.inner.patience()
    }

    fn keeps_parts(&self) -> bool {
        self.inner.keeps_parts()
    }

    fn indexes_labels(&self) -> bool {
        self.inner.indexes_labels()
    }
}
