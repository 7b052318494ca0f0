//! What can be typed after `idempotency proxy`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::config::Preset;
use super::config::values::{Address, Name, Network, Upstream};

/// What is typed counts more than what the file says.
#[derive(Args, Clone, Debug)]
pub(crate) struct Proxy {
    /// Where to listen, as 0.0.0.0:8080; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<Address>,
    /// The service behind, as http://127.0.0.1:3000, h2c://127.0.0.1:3000 or unix:/run/app.sock
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<Upstream>,
    /// Where to serve /healthz, /readyz and /metrics; nowhere by default
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<Address>,
    /// Behave like this API
    #[arg(long, value_enum)]
    pub(crate) preset: Option<Preset>,
    /// The header in which a trusted peer says whose request it is; needs --trusted-peer
    #[arg(long, value_name = "NAME", requires = "trusted_peer", conflicts_with = "one_tenant")]
    pub(crate) scope_header: Option<Name>,
    /// A peer whose headers are true, as 10.0.0.0/8 or 127.0.0.1; may be given again
    #[arg(long, value_name = "NETWORK")]
    pub(crate) trusted_peer: Vec<Network>,
    /// All clients are one: each may get the response to a request of another
    #[arg(long)]
    pub(crate) one_tenant: bool,
    /// Write no line for each request; what needs attention is still written
    #[arg(long)]
    pub(crate) no_access_log: bool,
    /// Settings, as TOML; SIGHUP reads them again
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Read the settings, say what is wrong with them, and end
    #[arg(long)]
    pub(crate) check: bool,
}
