//! What axum knows of a request, and gives to a handler.

use http::Uri;
use http::request::Parts;

/// The request's target as the client sent it, before nesting took a prefix
/// off: two routes that differ by it only must not share responses.
///
/// What a handler sends on to another target still carries the one of the request
/// that it got, and that is not what it asks for.
#[cfg(feature = "axum")]
pub(crate) fn original_uri(parts: &Parts) -> &Uri {
    let is_sent_on = parts.extensions.get::<crate::engine::operation::Operation>().is_some();
    let original = parts.extensions.get::<axum::extract::OriginalUri>().filter(|_| !is_sent_on);
    original.map(|original| &original.0).filter(|original| is_nested(original, &parts.uri)).unwrap_or(&parts.uri)
}

/// Whether `uri` may be what nesting left of `original`.
#[cfg(feature = "axum")]
fn is_nested(original: &Uri, uri: &Uri) -> bool {
    is_rest_of(original.path(), uri.path()) && original.query() == uri.query()
}

#[cfg(not(feature = "axum"))]
pub(crate) const fn original_uri(parts: &Parts) -> &Uri {
    &parts.uri
}

/// Whether `path` may be what nesting left of `original`.
pub(crate) fn is_rest_of(original: &str, path: &str) -> bool {
    path == "/" || original.ends_with(path)
}

/// The route that a router found, as it was written there.
#[cfg(feature = "axum")]
pub(crate) fn matched_path(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
pub(crate) const fn matched_path(_: &Parts) -> Option<&str> {
    None
}

#[cfg(feature = "axum")]
mod operation {
    use axum::extract::{FromRequestParts, OptionalFromRequestParts};
    use axum::response::{IntoResponse, Response};
    use http::StatusCode;
    use http::request::Parts;

    use crate::engine::operation::Operation;

    /// The request has no [`Operation`]: it came without an `Idempotency-Key`
    /// to a route that does not require one, or not through the layer. A handler that
    /// takes `Option<Operation>` serves it all the same.
    #[derive(Clone, Copy, Debug)]
    #[non_exhaustive]
    pub struct MissingOperation;

    impl std::fmt::Display for MissingOperation {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the handler takes an Operation and the request has none: require a key on this route, or take Option<Operation>")
        }
    }

    impl std::error::Error for MissingOperation {}

    impl IntoResponse for MissingOperation {
        fn into_response(self) -> Response {
            (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
        }
    }

    impl<S: Sync> FromRequestParts<S> for Operation {
        type Rejection = MissingOperation;

        async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, MissingOperation> {
            parts.extensions.get::<Self>().cloned().ok_or(MissingOperation)
        }
    }

    impl<S: Sync> OptionalFromRequestParts<S> for Operation {
        type Rejection = std::convert::Infallible;

        async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Self::Rejection> {
            Ok(parts.extensions.get::<Self>().cloned())
        }
    }
}

#[cfg(feature = "axum")]
pub use self::operation::MissingOperation;
