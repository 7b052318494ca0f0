//! TLS towards clients.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::config::Tls;
use super::scope::certificate::Names;

/// What connections are encrypted with.
///
/// # Errors
///
/// What is wrong with a file, and what it has to be.
pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, String> {
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| format!("{} has no private key as PEM: {error}", tls.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match &tls.client_ca {
        None => config.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", path.display()))?)
        }
    };
    let mut config = config
        .with_single_cert(certificates(&tls.certificate)?, key)
        .map_err(|error| format!("the certificate and the key don't fit together: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = read.map_err(|error| format!("{} has no certificates as PEM: {error}", path.display()))?;
    if all.is_empty() {
        return Err(format!("{} has no certificates as PEM", path.display()));
    }
    Ok(all)
}

/// The handshake, and what the client's certificate says, if it showed one.
pub(crate) async fn accept(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> io::Result<(TlsStream<TcpStream>, Option<Arc<Names>>)> {
    let stream = acceptor.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let names = shown.map(|certificate| Arc::new(Names::read(certificate)));
    Ok((stream, names))
}
