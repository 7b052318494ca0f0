//! Connections over TLS: whose certificates are trusted, and our own.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls_improved::MakeRustlsConnect;

use super::tls::{Mode, Tls, Trusted};

/// The name that Postgres has for itself where one port has several protocols.
const PROTOCOL: &[u8] = b"postgresql";

/// What makes connections of this kind. Reads the files that are named.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect, String> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let verifier = verifier(tls, &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("the process's choice of cryptography has no TLS: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates("sslcert", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("sslkey", key, &error))?;
            config.with_client_auth_cert(chain, key).map_err(|error| format!("sslcert and sslkey: {error}"))?
        }
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let roots = match &tls.trusted {
        Trusted::Unchecked => None,
        Trusted::System => Some(roots(rustls_native_certs::load_native_certs().certs)),
        Trusted::File(path) => Some(roots(certificates("sslrootcert", path)?)),
    };
    match roots {
        Some(roots) if roots.is_empty() => Err("the system trusts no CA: name the server's in sslrootcert=PATH".into()),
        Some(roots) if tls.mode == Mode::VerifyFull => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            Ok(verifier.map_err(|error| format!("sslrootcert: {error}"))?)
        }
        roots => Ok(Arc::new(AnyName { roots, provider: Arc::clone(provider) })),
    }
}

/// What is no certificate of a CA in the system's own list is passed over.
fn roots(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    roots
}

fn certificates(parameter: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(format!("{parameter}: {path:?} has no certificate in PEM")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(parameter, path, &error)),
    }
}

fn unreadable(parameter: &str, path: &str, error: &dyn std::fmt::Display) -> String {
    format!("{parameter}: {path:?} can't be read: {error}")
}

/// Takes a certificate for any name; with roots, if they vouch for it.
#[derive(Debug)]
struct AnyName {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl AnyName {
    /// Without roots, a certificate may be too old for rustls to read its key: then there is
    /// nothing to compare the signature with.
    fn lenient(&self, verified: Result<HandshakeSignatureValid, Error>) -> Result<HandshakeSignatureValid, Error> {
        match verified {
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.roots.is_none() => {
                Ok(HandshakeSignatureValid::assertion())
            }
            verified => verified,
        }
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.lenient(verify_tls12_signature(message, certificate, signature, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.lenient(verify_tls13_signature(message, certificate, signature, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What to do about a handshake that failed.
pub(super) fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let error = error.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<Error>()?;
    let Error::InvalidCertificate(invalid) = error else { return None };
    Some(match invalid {
        CertificateError::UnknownIssuer => "name the CA that signed the server's certificate in sslrootcert=PATH",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the URL must name the host as the server's certificate does (subjectAltName); sslmode=verify-ca takes any name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "give the server a new certificate",
        CertificateError::Other(_) => {
            "give the server a certificate of X.509 version 3, signed by a CA in sslrootcert and not itself one"
        }
        _ => return None,
    })
}
