//! Whose request it is. The service behind authenticates its clients, and a replay does not get
//! there: so what is in front of the store must know the client by itself.

mod ask;
pub(crate) mod certificate;
mod token;

use std::fmt;

use http::StatusCode;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::request::Parts;
use toml::Spanned;

use self::ask::Authenticator;
use self::certificate::CertificateName;
use self::token::Tokens;
use super::arguments::Proxy;
use super::arrival::Arrival;
use super::config::{File, Scope, Source};
use super::forward::{self, only_line};
use crate::failure::Failure;

const NONE: &str = "whose request it is, is not said, and then one client could get the response to a request of another; \
    set in [scope] one of: header (which a trusted peer sets), jwt, client_certificate, auth_request, or \
    one_tenant = true (all clients may see all responses); or give --scope-header and --trusted-peer, or --one-tenant";

/// How the client of a request is known.
#[derive(Debug)]
pub(crate) enum ScopeRule {
    /// A trusted peer says it in this header.
    Header(HeaderName),
    Token(Tokens),
    Certificate(CertificateName),
    Ask(Authenticator),
    /// All clients are one.
    OneTenant,
}

/// The client of a request, as the scope of its keys.
#[derive(Clone, Debug)]
pub(crate) struct Caller(String);

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the client is not known. A request that needs no client is served all the same.
#[derive(Debug)]
pub(crate) enum Denied {
    /// There is no token that is valid.
    NoToken,
    /// The service that was asked says so, and how to do better.
    Rejected(StatusCode, Vec<HeaderValue>),
    /// The service that was asked says nothing.
    NoAnswer,
    /// Who sent it did not say whose it is, or may not.
    Unknown,
}

impl ScopeRule {
    /// What was chosen.
    ///
    /// # Errors
    ///
    /// [`Failure`] if nothing was, or what keeps clients apart in appearance only.
    pub(crate) fn of(typed: &Proxy, file: &File, source: &Source) -> Result<Self, Failure> {
        if typed.one_tenant {
            return Ok(Self::OneTenant);
        }
        if let Some(name) = &typed.scope_header {
            return checked(name.0.clone()).map(Self::Header).map_err(Failure::usage);
        }
        let table = file.scope.as_ref().ok_or_else(|| Failure::usage(NONE))?;
        let has_trusted_peers = !typed.trusted_peer.is_empty() || !file.trusted_peers.is_empty();
        let has_client_ca = file.tls.as_ref().is_some_and(|tls| tls.as_ref().client_ca.is_some());
        chosen(table, has_trusted_peers, has_client_ca).map_err(|why| source.wrong(&table.span(), &why))
    }

    /// The header that says it, and that no client may set.
    pub(crate) const fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) => Some(name),
            _ => None,
        }
    }

    /// The client of this request.
    ///
    /// # Errors
    ///
    /// [`Denied`] if it is not known. Where all clients are one, there is none to know.
    pub(crate) async fn caller(&self, parts: &Parts, arrival: &Arrival) -> Result<Caller, Denied> {
        let client = match self {
            Self::Header(name) if arrival.is_trusted => only_line(&parts.headers, name).map(str::to_owned),
            Self::Token(tokens) => return tokens.client(&parts.headers).map(Caller).ok_or(Denied::NoToken),
            Self::Certificate(kind) => arrival.peer.names.as_ref().and_then(|names| names.only(*kind)),
            Self::Ask(service) if !parts.method.is_safe() => service.client(parts, arrival).await?,
            Self::Header(_) | Self::Ask(_) | Self::OneTenant => None,
        };
        client.map(Caller).ok_or(Denied::Unknown)
    }
}

fn chosen(table: &Spanned<Scope>, has_trusted_peers: bool, has_client_ca: bool) -> Result<ScopeRule, String> {
    let Scope { header, jwt, client_certificate, auth_request, one_tenant } = table.as_ref();
    let one_tenant = one_tenant.filter(|one_tenant| *one_tenant);
    let count = [header.is_some(), jwt.is_some(), client_certificate.is_some(), auth_request.is_some()];
    if count.into_iter().chain([one_tenant.is_some()]).filter(|is_set| *is_set).count() > 1 {
        return Err("[scope] has several answers to whose request it is; keep one".to_owned());
    }
    if let Some(name) = header {
        if !has_trusted_peers {
            return Err(format!(
                "any client can send {}; name the peers that set it, as trusted_peers = [\"10.0.0.7\"], above the first \
                 table",
                name.0
            ));
        }
        return checked(name.0.clone()).map(ScopeRule::Header);
    }
    if let Some(jwt) = jwt {
        return Tokens::new(jwt).map(ScopeRule::Token);
    }
    if let Some(name) = client_certificate {
        if !has_client_ca {
            return Err(
                "clients show a certificate only if [tls] has client_ca, whose certificates are believed; set it"
                    .to_owned(),
            );
        }
        return Ok(ScopeRule::Certificate(*name));
    }
    if let Some(settings) = auth_request {
        return Ok(ScopeRule::Ask(Authenticator::new(settings)));
    }
    one_tenant.map(|_| ScopeRule::OneTenant).ok_or_else(|| NONE.to_owned())
}

/// A credential is not an identity, and neither is what says how a request came.
fn checked(name: HeaderName) -> Result<HeaderName, String> {
    if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) {
        return Err(format!(
            "{name} is a credential, and says nothing that was verified: one that was revoked would still get responses, \
             and with a new one a retry would run again. Name a header with the client's id, which a trusted peer \
             sets once it has verified the credential, or let [scope] verify it: jwt, or auth_request"
        ));
    }
    if forward::is_own(&name) || name.as_str() == "idempotency-key" {
        return Err(format!("{name} says nothing of the client; name a header with its id, as x-user"));
    }
    Ok(name)
}
