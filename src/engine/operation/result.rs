//! Results and final errors as bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is stored for a result that no release can read. No JSON is empty.
const UNREADABLE: Bytes = Bytes::new();

/// A result as it is stored, and why it can't be read back, if it can't: a later
/// attempt would find that out when it is too late.
pub(crate) fn to_bytes<T: Serialize + DeserializeOwned>(result: &T) -> (Bytes, Option<serde_json::Error>) {
    let written = serde_json::to_vec(result).and_then(|json| serde_json::from_slice::<T>(&json).map(|_| json));
    match written {
        Ok(json) => (json.into(), None),
        Err(error) => (UNREADABLE, Some(error)),
    }
}

/// Whether this was stored for a result that can't be read.
pub(super) const fn is_unreadable(stored: &[u8]) -> bool {
    stored.is_empty()
}

/// Says something of a step's error.
pub(super) type Judge<'a, E> = Box<dyn Fn(&E) -> bool + Send + 'a>;

/// Which errors are final, and how they are kept.
pub(super) struct Finals<'a, E> {
    pub(super) is_final: Judge<'a, E>,
    pub(super) encode: fn(&E) -> (Bytes, Option<serde_json::Error>),
    pub(super) decode: fn(&[u8]) -> serde_json::Result<E>,
}

impl<'a, E: Serialize + DeserializeOwned> Finals<'a, E> {
    pub(super) fn new(is_final: impl Fn(&E) -> bool + Send + 'a) -> Self {
        Self {
            is_final: Box::new(is_final),
            encode: |error| to_bytes(error),
            decode: |bytes| serde_json::from_slice(bytes),
        }
    }
}
