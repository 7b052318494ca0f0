//! The endpoint to which a key belongs, where it belongs to one.

use http::Method;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::core::{IdempotencyKey, Key};
use crate::engine::operation::Operation;
use crate::http::extract::{is_rest_of, matched_path, original_uri};

/// What needs no escape in a path (RFC 3986 §2.3).
pub(crate) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Method and route of a request. In the extensions of what the layer guards: a layer
/// further in may see another path, or a route that an outer one did not know yet.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    method: Method,
    route: Box<str>,
    /// As it was at the outermost layer.
    path: Box<str>,
}

impl Route {
    pub(crate) fn of(parts: &Parts) -> Self {
        let path = original_uri(parts).path();
        // What a handler sends on carries what was known of the request that it got.
        let is_sent_on = parts.extensions.get::<Operation>().is_some();
        let known = parts.extensions.get::<Self>().filter(|_| is_sent_on);
        if let Some(known) = known.filter(|known| known.method == parts.method && is_rest_of(&known.path, path)) {
            return known.clone();
        }
        let route = matched_path(parts).filter(|_| !is_sent_on).unwrap_or(path);
        Self { method: parts.method.clone(), route: route.into(), path: path.into() }
    }

    pub(crate) fn key(&self, scope: &str, key: &IdempotencyKey) -> Key {
        Key::of_route(&self.method, &self.route, scope, key)
    }

    /// As the query of a status resource.
    pub(crate) fn query(&self) -> String {
        let escaped = |text| utf8_percent_encode(text, ESCAPED);
        format!("method={}&route={}", escaped(self.method.as_str()), escaped(&self.route))
    }

    /// What [`query`](Self::query) says, among whatever else is there.
    pub(crate) fn in_query(query: Option<&str>) -> Option<Self> {
        let of = |name| {
            let value = query?.split('&').filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == name)?.1;
            percent_decode_str(value).decode_utf8().ok()
        };
        let (method, route): (_, Box<str>) = (of("method")?, of("route")?.into());
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        Some(Self { method, path: route.clone(), route })
    }
}
