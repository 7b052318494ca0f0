//! How a claim goes from the layer to a completer of its process, and how a
//! completer's claim gets through the service to the layer.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, SetOnce};

use crate::core::{Fence, Fingerprint, Key, Record};
use crate::engine::Engine;
use crate::engine::attempt::Attempt;
use crate::engine::content::Content;
use crate::engine::shares::{ScopeTag, Share};
use crate::util::signal::lock;

/// A completer that runs: it takes what is accepted, while it has room.
pub(crate) trait Driver: fmt::Debug + Send + Sync {
    /// Room for one operation more of this scope, if there is some.
    fn room(&self, scope: Option<ScopeTag>) -> Option<Room>;
    /// How long the claim is to hold; the driver renews it.
    fn lease(&self) -> Duration;
    /// Runs what was claimed, in a task of the completer's. One that has stopped
    /// meanwhile withdraws the claim.
    fn drive(&self, key: Key, fence: Fence, record: Record, room: Room);
}

/// What an operation holds while it runs.
#[derive(Debug)]
pub(crate) struct Room {
    _share: Option<Share>,
    _slot: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) const fn new(slot: OwnedSemaphorePermit, share: Option<Share>) -> Self {
        Self { _share: share, _slot: slot }
    }
}

/// Where a completer registers while it runs, and what is accepted finds it. Shared
/// by all clones of a layer.
#[derive(Debug, Default)]
pub(crate) struct Handoff(Mutex<Option<Arc<dyn Driver>>>);

/// Room for one operation.
#[derive(Debug)]
pub(crate) struct WorkerSlot {
    driver: Arc<dyn Driver>,
    room: Room,
}

impl Handoff {
    /// Room for one operation of this scope, if a completer has it.
    pub(crate) fn slot(&self, scope: Option<ScopeTag>) -> Option<WorkerSlot> {
        let driver = lock(&self.0).clone()?;
        let room = driver.room(scope)?;
        Some(WorkerSlot { driver, room })
    }

    /// From now on `driver` is handed what is accepted.
    pub(crate) fn register(&self, driver: Arc<dyn Driver>) {
        *lock(&self.0) = Some(driver);
    }

    /// From now on `driver` is handed nothing. One that registered after it stays.
    pub(crate) fn unregister(&self, driver: &Arc<dyn Driver>) {
        let mut registered = lock(&self.0);
        if registered.as_ref().is_some_and(|registered| Arc::ptr_eq(registered, driver)) {
            *registered = None;
        }
    }
}

impl WorkerSlot {
    pub(crate) fn lease(&self) -> Duration {
        self.driver.lease()
    }

    pub(crate) fn drive(self, key: Key, fence: Fence, record: Record) {
        self.driver.drive(key, fence, record, self.room);
    }
}

/// What a completer hands to its layer. In a request's extensions, which no client
/// can write to.
#[derive(Clone)]
pub(crate) struct ClaimHandoff(Arc<Handed>);

enum Handed {
    /// A claim that was granted, to be run.
    Claim(Mutex<Option<GrantedClaim>>),
    /// A question: is this a layer of that engine?
    Probe(Engine, Arc<SetOnce<()>>),
}

/// What the layer needs to run it.
pub(crate) struct GrantedClaim {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) body: Content,
}

impl ClaimHandoff {
    pub(crate) fn new(granted: GrantedClaim) -> Self {
        Self(Arc::new(Handed::Claim(Mutex::new(Some(granted)))))
    }

    /// A question, and what is set once a layer of `engine` is met.
    pub(crate) fn probe(engine: &Engine) -> (Self, Arc<SetOnce<()>>) {
        let met = Arc::new(SetOnce::new());
        (Self(Arc::new(Handed::Probe(engine.clone(), Arc::clone(&met)))), met)
    }

    /// A layer of `engine` is met. Returns what that layer is to run, the first time: a
    /// service that repeats its requests must not run an operation twice.
    pub(crate) fn meet(&self, engine: &Engine) -> Option<GrantedClaim> {
        match &*self.0 {
            Handed::Claim(granted) => lock(granted).take(),
            Handed::Probe(wanted, met) => {
                if wanted.is_kin(engine) {
                    let _ = met.set(());
                }
                None
            }
        }
    }

    /// Whether no layer was met. From here on no layer may run it any more.
    pub(crate) fn take_back(&self) -> bool {
        match &*self.0 {
            Handed::Claim(granted) => lock(granted).take().is_some(),
            Handed::Probe(..) => false,
        }
    }
}
