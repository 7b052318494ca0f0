//! How a completer's claim gets through the service to the layer.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::attempt::Attempt;
use crate::core::Fingerprint;
use crate::sync::lock;

/// A claim that was granted, for the layer to run. In a request's extensions,
/// which nobody outside of the process can write to.
#[derive(Clone)]
pub(crate) struct Ticket(Arc<Mutex<Option<Granted>>>);

/// What the layer needs to run it.
pub(crate) struct Granted {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) body: Bytes,
}

impl Ticket {
    pub(super) fn new(granted: Granted) -> Self {
        Self(Arc::new(Mutex::new(Some(granted))))
    }

    /// What it is for, the first time: a service that repeats its requests
    /// must not run one twice.
    pub(crate) fn take(&self) -> Option<Granted> {
        lock(&self.0).take()
    }
}
