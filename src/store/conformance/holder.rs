//! A writer who knows what it wrote.

use std::sync::Arc;

use crate::core::{Change, Claim, Command, Fenced, Hold, Key, Next, Record, Resolution, Resolve, Stamp, Version};
use crate::store::{Loaded, Store, Swap};

/// Writes to one key as a holder does: from its own copy of the record, which
/// knows none of the store's times, with a fresh nonce for every write.
#[derive(Clone, Debug)]
pub struct Holder {
    store: Arc<dyn Store>,
    key: Key,
    record: Option<Record>,
    nonce: u64,
    callback: bool,
}

impl Holder {
    /// A writer to `key`, which has no record.
    pub fn new(store: Arc<dyn Store>, key: Key) -> Self {
        Self { store, key, record: None, nonce: 0x5eed_0000_0000_0000, callback: false }
    }

    /// The same; a callback is to be made at the end of what it claims.
    #[must_use]
    pub const fn calling_back(mut self) -> Self {
        self.callback = true;
        self
    }

    /// The key.
    pub const fn key(&self) -> Key {
        self.key
    }

    /// What was written last.
    pub fn record(&self) -> &Record {
        self.record.as_ref().expect("nothing was written yet")
    }

    /// The version that was written last.
    pub fn version(&self) -> Version {
        self.record().version()
    }

    /// What the store has.
    pub async fn load(&self) -> Loaded {
        self.store.load(&self.key).await.expect("load")
    }

    /// What `command` makes of the last record, unwritten.
    pub async fn decide<C: Command>(&mut self, command: C) -> Record {
        let now = self.load().await.now;
        self.nonce += 1;
        let stamp = Stamp { callback: self.callback, ..Stamp::new(now, Version::new(self.nonce)) };
        let current = self.record.as_ref().filter(|record| !record.is_expired(now));
        match command.apply(current, stamp).next {
            Next::Put(next) => next,
            other => panic!("the case meant to write, and the command decided {other:?}"),
        }
    }

    /// Writes what `command` makes of the last record.
    pub async fn write<C: Command>(&mut self, command: C) {
        let next = self.decide(command).await;
        self.put(next).await;
    }

    /// Puts `next` in the place of the last record.
    pub async fn put(&mut self, next: Record) {
        let expected = self.record.as_ref().map(Record::version);
        match self.store.swap(&self.key, expected, &next).await.expect("swap") {
            Swap::Stored => self.record = Some(next),
            Swap::Conflict(found) => panic!("expected {expected:?}, found {:?}", found.record.map(|r| r.version())),
        }
    }

    /// Claims the key.
    pub async fn claim(&mut self, claim: Claim) {
        self.write(claim).await;
    }

    /// Makes these changes under the claim that holds the record.
    pub async fn change(&mut self, changes: impl IntoIterator<Item = Change>) {
        let Hold::Leased { fence, .. } = *self.record().hold() else { panic!("the record is not held") };
        self.write(Fenced { fence, changes: changes.into_iter().collect() }).await;
    }

    /// Makes an operator's decision.
    pub async fn resolve(&mut self, resolution: Resolution) {
        self.write(Resolve { resolution, seen: None, why: None }).await;
    }

    /// Takes the record as the store has it for the last one.
    pub async fn refresh(&mut self) {
        self.record = self.load().await.record;
    }

    /// Removes the last record.
    pub async fn remove(&mut self) {
        let removed = self.store.remove(&self.key, self.version()).await.expect("remove");
        assert!(removed, "the version that was there was not removed");
        self.record = None;
    }

    /// Asserts that the store has what was written last, field by field.
    pub async fn check(&self) {
        assert_same(self.load().await.record.as_ref(), self.record.as_ref());
    }
}

/// Asserts that two records agree in all but the times at which they were
/// stored; says in which field they do not.
pub fn assert_same(found: Option<&Record>, expected: Option<&Record>) {
    let (found, expected) = match (found, expected) {
        (Some(found), Some(expected)) => (found, expected),
        (None, None) => return,
        (found, expected) => {
            let version = |record: Option<&Record>| record.map(Record::version);
            panic!("found {:?}, expected {:?}", version(found), version(expected))
        }
    };
    assert_eq!(found.version(), expected.version(), "version");
    assert_eq!(found.mode(), expected.mode(), "mode");
    assert_eq!(found.is_outgoing(), expected.is_outgoing(), "whether it is outgoing");
    assert_eq!(found.fingerprint(), expected.fingerprint(), "fingerprint");
    assert_eq!(found.hold(), expected.hold(), "hold");
    assert_eq!(found.attempts(), expected.attempts(), "attempts");
    assert_eq!(found.tries(), expected.tries(), "tries");
    assert_eq!(found.by(), expected.by(), "who holds it");
    let told = |record: &Record| -> Vec<_> {
        record.history().into_iter().map(|entry| (entry.attempt, entry.event, entry.text, entry.by)).collect()
    };
    assert_eq!(told(found), told(expected), "history");
    assert_eq!(found.retry_in(), expected.retry_in(), "when to try again");
    assert_eq!(found.status(), expected.status(), "status");
    assert_eq!(found.pending_callback(), expected.pending_callback(), "the callback that it owes");
    let plan = |record: &Record| {
        record.undoing().map(|plan| (plan.steps().to_vec(), Arc::clone(plan.response()), plan.attempt()))
    };
    assert!(plan(found) == plan(expected), "plan of what is undone");
    assert_eq!(found.steps().len(), expected.steps().len(), "number of steps");
    for (found, expected) in found.steps().iter().zip(expected.steps()) {
        assert_eq!(found.name(), expected.name(), "name or order of a step");
        assert!(found.point() == expected.point(), "value of step {:?}", expected.name());
        assert_eq!(found.input(), expected.input(), "input of step {:?}", expected.name());
        assert_eq!(found.is_undone(), expected.is_undone(), "step {:?} is undone", expected.name());
    }
    // Not `assert_eq`: it would print a mebibyte.
    assert!(found.progress() == expected.progress(), "response or retention");
    assert!(found.request() == expected.request(), "request");
}
