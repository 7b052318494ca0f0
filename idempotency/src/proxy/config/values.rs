//! Values of settings. What makes no sense is refused where it is read, so that the message
//! names the line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::header::HeaderName;
use http::uri::{Authority, Uri};
use http::{Method, StatusCode};
use ipnet::IpNet;
use jiff::SignedDuration;
use serde::Deserialize;

/// A value that is written as text: from a flag and from the file alike.
macro_rules! text_value {
    ($name:ident, $inner:ty) => {
        #[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
        #[serde(try_from = "String")]
        pub(crate) struct $name(pub(crate) $inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    };
}

text_value!(Address, SocketAddr);
text_value!(Length, Duration);
text_value!(Name, HeaderName);
text_value!(Network, IpNet);
text_value!(StoreUrl, String);
text_value!(Url, Uri);
text_value!(Verb, Method);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            format!(
                "{text:?} is no address to listen on; write an IP address and a port, as 127.0.0.1:8080 or [::]:8080"
            )
        })
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = text.parse::<SignedDuration>().ok().and_then(|length| Duration::try_from(length).ok());
        length
            .filter(|length| !length.is_zero())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no length of time; write one as 90s, 10m, 2h or 1h30m"))
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("{text:?} is no name of a header; write one as x-user"))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| one()).map(Self).map_err(|_| {
            format!("{text:?} is no network; write addresses as 10.0.0.0/8 or 127.0.0.1: names are not looked up")
        })
    }
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
        let is_known = ["memory", "sqlite", "file", "postgres", "postgresql"].contains(&scheme);
        if is_known || scheme.starts_with("redis") {
            return Ok(Self(text.to_owned()));
        }
        // It may have a password, and is not repeated.
        Err("this is no store; write memory:, sqlite:PATH, redis://HOST or postgres://HOST/DATABASE".to_owned())
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = text.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
        uri.map(Self)
            .ok_or_else(|| format!("{text:?} is no URL that can be asked; write one as http://127.0.0.1:4000/verify"))
    }
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let method = Method::from_bytes(text.as_bytes()).ok().filter(|method| method.as_str() == text.to_uppercase());
        method.filter(|method| !method.is_safe()).map(Self).ok_or_else(|| {
            format!("{text:?} is no method to guard; write methods that change something, in capitals, as POST")
        })
    }
}

/// Something that is done, or not.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged, expecting = "this is no switch; write true or false, without quotes")]
pub(crate) enum Switch {
    Is(bool),
}

impl Switch {
    pub(crate) const fn is_on(self) -> bool {
        let Self::Is(on) = self;
        on
    }
}

/// A status of a response that failed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "u16")]
pub(crate) struct Failed(pub(crate) StatusCode);

impl TryFrom<u16> for Failed {
    type Error = String;

    fn try_from(number: u16) -> Result<Self, String> {
        let status = StatusCode::from_u16(number).ok();
        let status = status.filter(|status| status.is_client_error() || status.is_server_error());
        status.map(Self).ok_or_else(|| {
            format!(
                "{number} is not the status of a failure; only a failure can mean that nothing happened: 400 to 599"
            )
        })
    }
}

/// Where a service is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(crate) enum Upstream {
    Http(Authority),
    /// HTTP/2 without TLS, by prior knowledge.
    H2c(Authority),
    Unix(PathBuf),
}

impl TryFrom<String> for Upstream {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        let wrong = |why: &str| {
            format!(
                "{text:?} is no upstream: {why}; write http://HOST:PORT, h2c://HOST:PORT, or unix:/PATH of a socket"
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong("it is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?.clone();
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(wrong("paths are passed on as they come, so it can have none"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("the proxy sends no user and no password; take them out"));
        }
        match uri.scheme_str() {
            Some("http") => Ok(Self::Http(authority)),
            Some("h2c") => Ok(Self::H2c(authority)),
            Some("https") => {
                Err(wrong("TLS to the upstream is not spoken here; put it on the same machine or network"))
            }
            _ => Err(wrong("its scheme is not known")),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) => write!(f, "http://{authority}"),
            Self::H2c(authority) => write!(f, "h2c://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
