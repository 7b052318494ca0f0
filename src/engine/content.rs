//! A body that is all there.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// All of a body.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) trailers: Option<Box<HeaderMap>>,
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, trailers: None }
    }
}

impl Content {
    /// From stored header lines.
    pub(crate) fn of(bytes: Bytes, trailers: &[(HeaderName, HeaderValue)]) -> Self {
        if trailers.is_empty() {
            return bytes.into();
        }
        let mut map = Box::new(HeaderMap::with_capacity(trailers.len()));
        for (name, value) in trailers {
            map.append(name.clone(), value.clone());
        }
        Self { bytes, trailers: Some(map) }
    }
}
