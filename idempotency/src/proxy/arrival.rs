//! How a request came: from whom, and by which protocol.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Version};

use super::scope::certificate::Names;

/// Of a request that came over a connection.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) peer: Arc<Peer>,
    /// Whether what the peer says of clients is true.
    pub(crate) is_trusted: bool,
    pub(crate) version: Version,
}

/// Who is at the other end of a connection. What headers say of it is made once, and not for each
/// request.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) is_tls: bool,
    /// What the certificate says that the peer showed.
    pub(crate) names: Option<Arc<Names>>,
    /// As `X-Forwarded-For` has it.
    pub(crate) item: HeaderValue,
    /// As `Forwarded` has it.
    pub(crate) forwarded: String,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, is_tls: bool, names: Option<Arc<Names>>) -> Self {
        let text = address.to_string();
        let forwarded = if address.is_ipv6() { format!("for=\"[{text}]\"") } else { format!("for={text}") };
        // An address is always one: this is what RFC 7239 has for others.
        let item = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"));
        Self { address, is_tls, names, item, forwarded }
    }

    pub(crate) const fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}
