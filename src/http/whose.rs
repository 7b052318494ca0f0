//! Whose operation it is, and by which labels an operator finds it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use http::Extensions;
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::{Labels, StoredRequest};
use crate::telemetry::refusal::Refusal;

/// A principal has at most so many bytes, as JSON.
const MOST: usize = 1024;

type LabelHook = dyn Fn(&Parts) -> Labels + Send + Sync;

/// What the layer notes of each operation, where it does.
#[derive(Clone, Default)]
pub(crate) struct Whose {
    pub(crate) principal: Option<Principal>,
    pub(crate) labels: Option<Arc<LabelHook>>,
}

impl Whose {
    #[inline]
    pub(crate) const fn is_noted(&self) -> bool {
        self.principal.is_some() || self.labels.is_some()
    }

    /// The labels of a request. A hook that panics gives none: an operation does not fail for
    /// them.
    pub(crate) fn labels_of(&self, parts: &Parts) -> Labels {
        let hook = self.labels.as_ref();
        hook.and_then(|hook| catch_unwind(AssertUnwindSafe(|| hook(parts))).ok()).unwrap_or_default()
    }

    /// The principal of a request, as it is stored.
    pub(crate) fn principal_of(&self, parts: &Parts) -> Result<Option<Box<[u8]>>, Refusal> {
        let Some(principal) = self.principal else { return Ok(None) };
        let json = catch_unwind(AssertUnwindSafe(|| (principal.write)(&parts.extensions))).unwrap_or(Err(NotStorable));
        let json = json.map_err(|NotStorable| Refusal::PrincipalNotStored)?;
        match json {
            Some(json) if json.len() > MOST => Err(Refusal::PrincipalNotStored),
            json => Ok(json.map(Box::from)),
        }
    }

    /// Gives a request that a completer drives the principal that was stored with it.
    pub(crate) fn restore(&self, stored: &StoredRequest, extensions: &mut Extensions) -> Result<(), String> {
        match (self.principal, stored.principal()) {
            (Some(principal), Some(json)) => (principal.read)(json, extensions),
            _ => Ok(()),
        }
    }
}

/// JSON can't carry it.
#[derive(Clone, Copy)]
pub(crate) struct NotStorable;

/// How a type is taken from the extensions of a request, and put back.
#[derive(Clone, Copy)]
pub(crate) struct Principal {
    write: fn(&Extensions) -> Result<Option<Vec<u8>>, NotStorable>,
    read: fn(&[u8], &mut Extensions) -> Result<(), String>,
}

impl Principal {
    pub(crate) const fn of<T>() -> Self
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    {
        Self { write: write::<T>, read: read::<T> }
    }
}

fn write<T: Serialize + Send + Sync + 'static>(extensions: &Extensions) -> Result<Option<Vec<u8>>, NotStorable> {
    let json = extensions.get::<T>().map(serde_json::to_vec).transpose();
    json.map_err(|_| NotStorable)
}

fn read<T: DeserializeOwned + Clone + Send + Sync + 'static>(
    json: &[u8],
    extensions: &mut Extensions,
) -> Result<(), String> {
    // What the error would quote is not for a history.
    let principal: T = serde_json::from_slice(json).map_err(|_| {
        let name = std::any::type_name::<T>();
        format!("its stored principal does not read as {name}; deploy a release that reads it, then resolve this")
    })?;
    extensions.insert(principal);
    Ok(())
}
