//! One event for each field that is taken for a credential, and so not kept.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use http::HeaderName;

use crate::engine::Engine;
use crate::telemetry::event::EventKind;
use crate::util::signal::lock;

/// Clients choose names, so there is an end to how many are remembered.
const MOST: usize = 100;

/// The names of the fields that were not kept and that an observer knows of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dropped(Arc<Mutex<HashSet<HeaderName>>>);

impl Dropped {
    pub(crate) fn report(&self, engine: &Engine, name: &HeaderName) {
        let is_new = {
            let mut told = lock(&self.0);
            told.len() < MOST && !told.contains(name) && told.insert(name.clone())
        };
        if is_new {
            engine.emit_unkeyed(|| EventKind::CredentialDropped { name: name.to_string() });
        }
    }
}
