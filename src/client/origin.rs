//! Servers that honour idempotency keys, and where a `Location` leads.

use std::error::Error;
use std::fmt;

use http::header::HeaderValue;
use http::{Uri, uri};

/// A server of which you declare that it honours idempotency keys: of two requests with one
/// key it runs one. Only towards such servers a [`RetryLayer`](super::RetryLayer) sends a POST
/// or PATCH again.
///
/// ```
/// use tower_idempotency::client::Server;
///
/// let payments = Server::honours_keys("https://api.example.com")?;
/// // A path would say nothing: keys go to all that this server has.
/// assert!(Server::honours_keys("https://api.example.com/v1").is_err());
/// assert!(Server::honours_keys("api.example.com").is_err());
/// # Ok::<_, tower_idempotency::client::InvalidServer>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server(Origin);

/// RFC 6454: what credentials and keys must not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Box<str>,
    host: Box<str>,
    port: Option<u16>,
}

impl Server {
    /// The server at this origin: scheme, host, and a port if it is not the scheme's own.
    ///
    /// # Errors
    ///
    /// [`InvalidServer`] if the text is not an origin.
    pub fn honours_keys(origin: &str) -> Result<Self, InvalidServer> {
        let uri: Uri = origin.parse().map_err(|_| InvalidServer)?;
        let is_bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/") && !origin.contains(['@', '#']);
        if uri.scheme().is_none() || !is_bare {
            return Err(InvalidServer);
        }
        Ok(Self(Origin::of(&uri)))
    }

    /// A service in this process, or at the other end of one connection: its requests have no
    /// origin in their URI, just a path.
    pub fn in_process_honours_keys() -> Self {
        Self(Origin::of(&Uri::default()))
    }

    pub(super) fn serves(&self, uri: &Uri) -> bool {
        self.0.is_of(uri)
    }
}

impl Origin {
    pub(super) fn of(uri: &Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase().into();
        let host = uri.host().unwrap_or_default().to_ascii_lowercase().into();
        Self { scheme, host, port: port_of(uri) }
    }

    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        let is_same = |own: &str, other: Option<&str>| own.eq_ignore_ascii_case(other.unwrap_or_default());
        is_same(&self.scheme, uri.scheme_str()) && is_same(&self.host, uri.host()) && self.port == port_of(uri)
    }
}

fn port_of(uri: &Uri) -> Option<u16> {
    let default = match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    };
    uri.port_u16().or(default)
}

/// Where a `Location` leads that is absolute or an absolute path (RFC 9110 §10.2.2), seen from
/// `base`. Servers send no other forms for what is theirs.
pub(super) fn resolve(base: &Uri, location: &HeaderValue) -> Option<Uri> {
    let found: Uri = location.to_str().ok()?.parse().ok()?;
    if found.scheme().is_some() {
        return Some(found);
    }
    let is_path = found.authority().is_none() && found.path().starts_with('/') && !found.path().starts_with("//");
    let mut parts = uri::Parts::default();
    parts.scheme = base.scheme().cloned();
    parts.authority = base.authority().cloned();
    parts.path_and_query = found.into_parts().path_and_query.filter(|_| is_path);
    parts.path_and_query.is_some().then(|| Uri::from_parts(parts).ok()).flatten()
}

/// The text is not the origin of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidServer;

impl fmt::Display for InvalidServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not the origin of a server; name its scheme and host, such as https://api.example.com, and neither a path nor a user")
    }
}

impl Error for InvalidServer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let server = Server::honours_keys("https://Api.example.com").unwrap();
        for same in ["https://api.example.com/v1/pay?x=1", "https://API.EXAMPLE.COM:443/", "https://api.example.com"] {
            assert!(server.serves(&same.parse().unwrap()), "{same}");
        }
        for other in [
            "http://api.example.com/",
            "https://api.example.com:8443/",
            "https://api.example.com.evil.org/",
            "https://example.com/",
            "/v1/pay",
        ] {
            assert!(!server.serves(&other.parse().unwrap()), "{other}");
        }
        assert!(Server::in_process_honours_keys().serves(&"/v1/pay".parse().unwrap()));
        assert!(!Server::in_process_honours_keys().serves(&"http://a/v1/pay".parse().unwrap()));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for other in ["", "/", "a b", "https://a/b", "https://user@a", "https://a/?x", "//a", "a:80", "https://a/#x"] {
            assert_eq!(Server::honours_keys(other), Err(InvalidServer), "{other}");
        }
        for origin in ["http://a", "http://a/", "http://a:80", "http://[::1]:8080"] {
            assert!(Server::honours_keys(origin).is_ok(), "{origin}");
        }
    }

    #[test]
    fn a_location_is_resolved_against_the_request() {
        let base: Uri = "https://a:8443/x/y?z".parse().unwrap();
        let to = |location: &str| Some(resolve(&base, &location.parse().unwrap())?.to_string());
        assert_eq!(to("/operations/17?route=a").as_deref(), Some("https://a:8443/operations/17?route=a"));
        assert_eq!(to("https://b/operations").as_deref(), Some("https://b/operations"));
        assert_eq!(to("//b/operations"), None);
        assert_eq!(to("operations"), None);
        assert_eq!(to(""), None);
        let base: Uri = "/x".parse().unwrap();
        assert_eq!(resolve(&base, &"/y".parse().unwrap()).unwrap(), "/y");
    }
}
