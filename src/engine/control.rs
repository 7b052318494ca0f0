//! Control records: what all processes over one store read, as JSON.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Engine;
use crate::core::{Key, SetControl, StoredResponse, Version};
use crate::store::StoreError;

/// What a control record says, as it is kept.
pub(crate) fn content_of(said: &Value) -> Arc<StoredResponse> {
    Arc::new(StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some(Bytes::from(said.to_string()))))
}

/// What it says, if that is of this kind.
pub(crate) fn said_in<T: DeserializeOwned>(content: &StoredResponse) -> Option<T> {
    serde_json::from_slice(content.body()?).ok()
}

impl Engine {
    /// Writes a control record in the place of what was seen; whether it did: not if another
    /// process changed it since.
    pub(crate) async fn set_control(
        &self,
        key: &Key,
        seen: Option<Version>,
        content: Arc<StoredResponse>,
    ) -> Result<bool, StoreError> {
        Ok(self.apply(key, None, SetControl { seen, content }).await?.output.is_ok())
    }
}
