//! What hooks are shown of a request.

use http::{HeaderMap, Method, Uri};

use crate::core::IdempotencyKey;

/// Of a request that was given away.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) key: Option<IdempotencyKey>,
}
