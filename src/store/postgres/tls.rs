//! What a URL says of TLS, in the words of libpq.

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, SslNegotiation};

/// `sslmode`, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn of(name: &str) -> Result<Self, &'static str> {
        Ok(match name {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err("sslmode is disable, allow, prefer, require, verify-ca or verify-full"),
        })
    }

    /// What the driver has to know of it.
    pub(super) const fn of_driver(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Allow | Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// The parameters of a URL that say whether, and with whom, to talk in TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsParameters {
    mode: Option<Mode>,
    roots: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl TlsParameters {
    /// Whether it is one of them, which this takes.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, &'static str> {
        let place = match name {
            "sslmode" => {
                self.mode = Some(Mode::of(value)?);
                return Ok(true);
            }
            "sslrootcert" => &mut self.roots,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ => return Ok(false),
        };
        let path = percent_decode_str(value).decode_utf8().map_err(|_| "the path of a certificate is not UTF-8")?;
        // libpq takes an empty one for one that is not there.
        *place = (!path.is_empty()).then(|| path.into_owned());
        Ok(true)
    }

    /// What they come to, together with what the driver has read.
    pub(super) fn resolve(self, config: &Config) -> Result<Tls, &'static str> {
        let mode = self.mode.or_else(|| match config.get_ssl_mode() {
            SslMode::Disable => Some(Mode::Disable),
            SslMode::Require => Some(Mode::Require),
            _ => None,
        });
        if mode == Some(Mode::Disable) {
            return Ok(Tls { mode: Mode::Disable, trusted: Trusted::Unchecked, identity: None });
        }
        let (mode, trusted) = trusted(mode, self.roots)?;
        if config.get_ssl_negotiation() == SslNegotiation::Direct && mode < Mode::Require {
            return Err("sslnegotiation=direct needs sslmode=require or more: without TLS it can't connect");
        }
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("sslcert and sslkey go together: the client's certificate, and its private key"),
        };
        let tls = Tls { mode, trusted, identity };
        if cfg!(not(feature = "postgres-tls")) && (mode >= Mode::Require || tls.identity.is_some()) {
            return Err(NEEDS_FEATURE);
        }
        Ok(tls)
    }
}

const NEEDS_FEATURE: &str = "it asks for TLS (sslmode, sslrootcert, sslcert): enable the feature `postgres-tls` of \
    tower-idempotency, or make a deadpool_postgres::Pool with a TLS connector and pass it to PostgresStore::with_pool";

/// The mode that this root makes of this one, and whom it trusts.
fn trusted(mode: Option<Mode>, roots: Option<String>) -> Result<(Mode, Trusted), &'static str> {
    Ok(match (mode, roots) {
        (Some(Mode::VerifyFull), None) => (Mode::VerifyFull, Trusted::System),
        (None | Some(Mode::VerifyFull), Some(system)) if system == "system" => (Mode::VerifyFull, Trusted::System),
        (_, Some(system)) if system == "system" => {
            return Err("sslrootcert=system needs sslmode=verify-full: a public CA certifies every owner of a name");
        }
        (Some(Mode::VerifyCa), None) => {
            return Err("sslmode=verify-ca needs sslrootcert=PATH, the CA of the server: a public CA certifies \
                every owner of a name; or set sslmode=verify-full");
        }
        (None | Some(Mode::Allow | Mode::Prefer), Some(_)) => {
            return Err("sslrootcert protects nothing where plain text may be used: set sslmode=verify-full as well");
        }
        // As libpq has it, where there is a root.
        (Some(Mode::Require), Some(path)) => (Mode::VerifyCa, Trusted::File(path)),
        (Some(mode), Some(path)) => (mode, Trusted::File(path)),
        (mode, None) => (mode.unwrap_or(Mode::Prefer), Trusted::Unchecked),
    })
}

/// Whether a connection is encrypted, and who is at its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) mode: Mode,
    pub(super) trusted: Trusted,
    /// The files of the client's certificate, and of its key.
    pub(super) identity: Option<(String, String)>,
}

/// Whose word is enough that the server is the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trusted {
    /// Any certificate will do.
    Unchecked,
    /// Those that the system trusts.
    System,
    /// Those in this file.
    File(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mode and whom it trusts, or why not.
    fn resolved(parameters: &str) -> Result<(Mode, Trusted), &'static str> {
        let (mut ours, mut theirs) = (TlsParameters::default(), String::from("postgres://h/d?"));
        for (name, value) in parameters.split('&').filter_map(|parameter| parameter.split_once('=')) {
            if !ours.take(name, value)? {
                theirs = format!("{theirs}{name}={value}&");
            }
        }
        ours.resolve(&theirs.parse().unwrap()).map(|tls| (tls.mode, tls.trusted))
    }

    #[test]
    fn plain_text_needs_no_feature() {
        for (parameters, mode) in [
            ("", Mode::Prefer),
            ("sslmode=prefer", Mode::Prefer),
            ("sslmode=allow", Mode::Allow),
            ("sslmode=disable", Mode::Disable),
        ] {
            assert_eq!(resolved(parameters), Ok((mode, Trusted::Unchecked)), "{parameters}");
        }
        // As libpq does, `disable` lets all the rest be.
        let rest = "sslmode=disable&sslrootcert=/ca&sslcert=/c&sslkey=/k";
        assert_eq!(resolved(rest), Ok((Mode::Disable, Trusted::Unchecked)));
    }

    #[test]
    fn what_asks_for_tls_has_it_or_hears_of_the_feature() {
        let file = || Trusted::File("/c a".into());
        for (parameters, mode, trusted) in [
            ("sslmode=require", Mode::Require, Trusted::Unchecked),
            ("sslmode=require&sslrootcert=", Mode::Require, Trusted::Unchecked),
            ("sslmode=require&sslrootcert=%2Fc%20a", Mode::VerifyCa, file()),
            ("sslmode=verify-ca&sslrootcert=/c a", Mode::VerifyCa, file()),
            ("sslmode=verify-full&sslrootcert=/c a", Mode::VerifyFull, file()),
            ("sslmode=verify-full", Mode::VerifyFull, Trusted::System),
            ("sslrootcert=system", Mode::VerifyFull, Trusted::System),
            ("sslmode=verify-full&sslrootcert=system", Mode::VerifyFull, Trusted::System),
            ("sslmode=require&sslnegotiation=direct", Mode::Require, Trusted::Unchecked),
        ] {
            let expected = if cfg!(feature = "postgres-tls") { Ok((mode, trusted)) } else { Err(NEEDS_FEATURE) };
            assert_eq!(resolved(parameters), expected, "{parameters}");
        }
    }

    #[test]
    fn what_would_protect_less_than_it_seems_is_refused() {
        for (parameters, says) in [
            ("sslmode=verify-ca", "needs sslrootcert=PATH"),
            ("sslmode=verify-ca&sslrootcert=system", "needs sslmode=verify-full"),
            ("sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
            ("sslmode=prefer&sslrootcert=system", "needs sslmode=verify-full"),
            ("sslrootcert=/ca", "set sslmode=verify-full"),
            ("sslmode=allow&sslrootcert=/ca", "set sslmode=verify-full"),
            ("sslnegotiation=direct", "needs sslmode=require"),
            ("sslmode=require&sslcert=/c", "go together"),
            ("sslmode=require&sslkey=/k", "go together"),
            ("sslmode=VERIFY-FULL", "sslmode is disable, allow"),
            ("sslrootcert=%ff", "not UTF-8"),
        ] {
            let refused = resolved(parameters).unwrap_err();
            assert!(refused.contains(says), "{parameters}: {refused}");
        }
    }
}
