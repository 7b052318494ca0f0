//! How a request came: from whom, and by which protocol.

use std::net::IpAddr;
use std::sync::Arc;

use http::Version;

use super::scope::certificate::Names;

/// Of a request that came over a connection.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) peer: IpAddr,
    /// Whether what the peer says of clients is true.
    pub(crate) is_trusted: bool,
    pub(crate) is_tls: bool,
    /// What the certificate says that the peer showed.
    pub(crate) names: Option<Arc<Names>>,
    pub(crate) version: Version,
}

impl Arrival {
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}
