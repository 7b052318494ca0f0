//! Whose request it is. The service behind authenticates its clients, and a replay does not get
//! there: so what is in front of the store must know the client by itself.

use std::fmt;

use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::request::Parts;
use toml::Spanned;

use super::arguments::Proxy;
use super::arrival::Arrival;
use super::config::{Scope, Source};
use crate::failure::Failure;

const NONE: &str = "whose request it is, is not said, and then one client could get the response to a request of \
    another: set one of [scope] header (which a trusted peer sets) or one_tenant = true (all clients may see \
    all responses); or give --scope-header and --trusted-peer, or --one-tenant";

/// How the client of a request is known.
#[derive(Debug)]
pub(crate) enum ScopeRule {
    /// A trusted peer says it in this header.
    Header(HeaderName),
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

impl ScopeRule {
    /// What was chosen.
    ///
    /// # Errors
    ///
    /// [`Failure`] if nothing was, or what keeps clients apart in appearance only.
    pub(crate) fn of(
        typed: &Proxy,
        table: Option<&Spanned<Scope>>,
        source: &Source,
        has_trusted_peers: bool,
    ) -> Result<Self, Failure> {
        if typed.one_tenant {
            return Ok(Self::OneTenant);
        }
        if let Some(name) = &typed.scope_header {
            return checked(name.0.clone()).map(Self::Header).map_err(Failure::usage);
        }
        let table = table.ok_or_else(|| Failure::usage(NONE))?;
        let (scope, at) = (table.as_ref(), table.span());
        match (&scope.header, scope.one_tenant) {
            (Some(_), Some(true)) => {
                Err(source.wrong(&at, "[scope] has several answers to whose request it is; keep one"))
            }
            (Some(name), _) if !has_trusted_peers => Err(source.wrong(
                &at,
                &format!(
                    "any client can send {}; name the peers that set it, as trusted_peers = [\"10.0.0.7\"], above the \
                     first table",
                    name.0
                ),
            )),
            (Some(name), _) => checked(name.0.clone()).map(Self::Header).map_err(|why| source.wrong(&at, &why)),
            (None, Some(true)) => Ok(Self::OneTenant),
            (None, _) => Err(source.wrong(&at, NONE)),
        }
    }

    /// The header that says it, and that no client may set.
    pub(crate) const fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) => Some(name),
            Self::OneTenant => None,
        }
    }

    /// The client of this request, if it is known.
    pub(crate) fn caller(&self, parts: &Parts, arrival: &Arrival) -> Option<Caller> {
        match self {
            Self::Header(name) if arrival.is_trusted => {
                let mut lines = parts.headers.get_all(name).iter();
                let line = lines.next()?.to_str().ok()?;
                lines.next().is_none().then(|| Caller(line.to_owned()))
            }
            Self::Header(_) | Self::OneTenant => None,
        }
    }
}

/// A credential is not an identity.
fn checked(name: HeaderName) -> Result<HeaderName, String> {
    if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) {
        return Err(format!(
            "{name} is a credential, and says nothing that was verified: one that was revoked would still get responses, \
             and with a new one a retry would run again. Name a header with the client's id, which a trusted peer \
             sets once it has verified the credential"
        ));
    }
    Ok(name)
}
