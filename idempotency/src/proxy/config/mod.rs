//! The file of settings: what may stand in it. What its values mean is in [`values`]; what is
//! made of it, in [`settings`](super::settings).

pub(crate) mod values;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use toml::Spanned;

use self::values::{Address, Failed, Length, Name, Network, StoreUrl, Switch, Upstream, Url, Verb};
use super::scope::certificate::CertificateName;
use crate::failure::Failure;

/// All that the file may have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) listen: Option<Address>,
    pub(crate) admin: Option<Address>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) store: Option<StoreUrl>,
    pub(crate) trusted_peers: Vec<Network>,
    /// How long what runs may take to end when the proxy stops.
    pub(crate) drain: Option<Length>,
    /// How long a request of a proxy that died is held.
    pub(crate) lease: Option<Spanned<Length>>,
    /// Whether each request has a line in the log.
    pub(crate) access_log: Option<Switch>,
    pub(crate) scope: Option<Spanned<Scope>>,
    pub(crate) tls: Option<Spanned<Tls>>,
    /// For all routes.
    pub(crate) guard: Option<Spanned<Rules>>,
    pub(crate) route: Vec<Spanned<Rules>>,
}

/// Whose request it is: one of these.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scope {
    /// A trusted peer says it in this header.
    pub(crate) header: Option<Name>,
    /// A claim of a token says it.
    pub(crate) jwt: Option<Jwt>,
    /// This name of the client's certificate says it.
    pub(crate) client_certificate: Option<CertificateName>,
    /// A service that is asked says it.
    pub(crate) auth_request: Option<AuthRequest>,
    /// There is one client.
    pub(crate) one_tenant: Option<bool>,
}

/// How tokens are verified.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    /// A public key as PEM, or the secret of HS256 and the like.
    pub(crate) key_file: PathBuf,
    pub(crate) algorithm: Algorithm,
    pub(crate) claim: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
}

/// Which service is asked, and what it answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthRequest {
    pub(crate) url: Url,
    /// The header of its response that has the client.
    pub(crate) header: Name,
}

/// Files, as PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Clients have to show a certificate that one of these has signed.
    pub(crate) client_ca: Option<PathBuf>,
}

/// How requests are guarded: all of them, as `[guard]`, or those to one path, as `[[route]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rules {
    /// Of a route: what is at this path, and below it.
    pub(crate) path: Option<Spanned<String>>,
    /// Requests pass, guarded by nothing.
    pub(crate) pass: Option<bool>,
    pub(crate) preset: Option<Preset>,
    pub(crate) methods: Option<Spanned<Vec<Verb>>>,
    /// Whether a request needs a key.
    pub(crate) required: Option<bool>,
    pub(crate) retention: Option<Length>,
    pub(crate) request_limit: Option<usize>,
    pub(crate) response_limit: Option<usize>,
    pub(crate) stream_after: Option<Length>,
    /// How long the upstream may take to begin its response.
    pub(crate) timeout: Option<Length>,
    /// Whether the upstream gets the client's key.
    pub(crate) forward_key: Option<bool>,
    /// These responses of the upstream mean that nothing happened.
    pub(crate) nothing_happened: Option<Vec<Failed>>,
    /// A retry is sent again: the upstream does it once for each value of `step_key_header`.
    pub(crate) resumable: Option<Spanned<bool>>,
    pub(crate) step_key_header: Option<Spanned<Name>>,
}

/// An API that is known.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Preset {
    Ietf,
    StripeV1,
    StripeV2,
    Adyen,
    Paypal,
    Oasis,
}

impl Rules {
    /// These, and where they say nothing, the others.
    pub(crate) fn or(self, others: &Self) -> Self {
        let others = others.clone();
        Self {
            path: self.path.or(others.path),
            pass: self.pass.or(others.pass),
            preset: self.preset.or(others.preset),
            methods: self.methods.or(others.methods),
            required: self.required.or(others.required),
            retention: self.retention.or(others.retention),
            request_limit: self.request_limit.or(others.request_limit),
            response_limit: self.response_limit.or(others.response_limit),
            stream_after: self.stream_after.or(others.stream_after),
            timeout: self.timeout.or(others.timeout),
            forward_key: self.forward_key.or(others.forward_key),
            nothing_happened: self.nothing_happened.or(others.nothing_happened),
            resumable: self.resumable.or(others.resumable),
            step_key_header: self.step_key_header.or(others.step_key_header),
        }
    }
}

/// The text of a file, for messages that name its lines.
#[derive(Debug, Default)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// A failure about what stands there.
    pub(crate) fn wrong(&self, at: &Range<usize>, why: &str) -> Failure {
        let line = self.text.get(..at.start).map_or(1, |before| before.matches('\n').count() + 1);
        Failure::usage(format!("{}, line {line}: {why}", self.path.display()))
    }
}

/// Reads the file.
///
/// # Errors
///
/// [`Failure`] with the line that is wrong, and what may stand there.
pub(crate) fn read(path: &Path) -> Result<(File, Source), Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("can't read the settings in {}: {error}", path.display())))?;
    let source = Source { path: path.to_owned(), text };
    let file = toml::from_str(&source.text)
        .map_err(|error| source.wrong(&error.span().unwrap_or_default(), error.message()))?;
    Ok((file, source))
}
