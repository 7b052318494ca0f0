//! How a completer's claim gets through the service to the layer.

use std::sync::{Arc, Mutex};

use crate::attempt::Attempt;
use crate::body::Content;
use crate::core::Fingerprint;
use crate::ledger::Ledger;
use crate::sync::{Signal, lock};

/// What a completer hands to its layer. In a request's extensions, which no client
/// can write to.
#[derive(Clone)]
pub(crate) struct Ticket(Arc<Handed>);

enum Handed {
    /// A claim that was granted, to be run.
    Claim(Mutex<Option<Granted>>),
    /// A question: is this the layer of that ledger?
    Probe(Ledger, Arc<Signal>),
}

/// What the layer needs to run it.
pub(crate) struct Granted {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) body: Content,
}

impl Ticket {
    pub(super) fn new(granted: Granted) -> Self {
        Self(Arc::new(Handed::Claim(Mutex::new(Some(granted)))))
    }

    /// With the signal that is given if the layer of `ledger` is met.
    pub(super) fn probe(ledger: &Ledger) -> (Self, Arc<Signal>) {
        let met = Arc::new(Signal::default());
        (Self(Arc::new(Handed::Probe(ledger.clone(), Arc::clone(&met)))), met)
    }

    /// A layer over `ledger` is met: what it is to run, the first time. A service
    /// that repeats its requests must not run one twice.
    pub(crate) fn meet(&self, ledger: &Ledger) -> Option<Granted> {
        match &*self.0 {
            Handed::Claim(granted) => lock(granted).take(),
            Handed::Probe(wanted, met) => {
                if wanted.is_kin(ledger) {
                    met.give();
                }
                None
            }
        }
    }

    /// Whether no layer was met. From here on no layer may run it any more.
    pub(super) fn take_back(&self) -> bool {
        match &*self.0 {
            Handed::Claim(granted) => lock(granted).take().is_some(),
            Handed::Probe(..) => false,
        }
    }
}
