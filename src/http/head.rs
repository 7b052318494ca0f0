//! The head of a request, for hooks that are called once the request is given away.

use http::{HeaderMap, Method, Uri};

use crate::core::{IdempotencyKey, Labels, Timestamp};

/// Of a request that was given away.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) key: Option<IdempotencyKey>,
}

impl Head {
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap, key: Option<&IdempotencyKey>) -> Self {
        Self { method: method.clone(), uri: uri.clone(), headers: headers.clone(), key: key.cloned() }
    }
}

/// What a guarded request needs with settings that few layers have. Apart, since contexts
/// are moved often.
pub(crate) struct Seldom {
    /// When the request was first sent, if it has to say so.
    pub(crate) first_sent: Option<Timestamp>,
    /// What the hook for replays sees of the request, if there is one.
    pub(crate) head: Option<Head>,
    /// Whose it is, as JSON, if that is stored.
    pub(crate) principal: Option<Box<[u8]>>,
    pub(crate) labels: Labels,
}
