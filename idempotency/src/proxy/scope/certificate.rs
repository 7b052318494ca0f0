//! The client as its certificate has it, which the handshake has verified.

use clap::ValueEnum;
use serde::Deserialize;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::DirectoryString;
use x509_cert::ext::pkix::name::GeneralName;

/// Of a subject: RFC 5280, section 4.1.2.4.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Which name of a certificate is the client. Not its fingerprint: a renewed certificate has
/// another one, and a retry would run again.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CertificateName {
    Uri,
    Dns,
    Email,
    CommonName,
}

/// The names in a certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    uris: Vec<String>,
    dns: Vec<String>,
    emails: Vec<String>,
    common: Vec<String>,
}

impl Names {
    /// Of a certificate that was verified.
    pub(crate) fn read(der: &[u8]) -> Self {
        let Ok(certificate) = Certificate::from_der(der) else { return Self::default() };
        let certificate = certificate.tbs_certificate();
        let subject = certificate.subject().iter().filter(|name| name.oid == COMMON_NAME);
        let common = subject.filter_map(|name| DirectoryString::try_from(&name.value).ok().map(String::from)).collect();
        let mut names = Self { common, ..Self::default() };
        if let Ok(Some((_, SubjectAltName(others)))) = certificate.get_extension::<SubjectAltName>() {
            for other in others {
                match other {
                    GeneralName::UniformResourceIdentifier(uri) => names.uris.push(uri.to_string()),
                    GeneralName::DnsName(name) => names.dns.push(name.to_string()),
                    GeneralName::Rfc822Name(name) => names.emails.push(name.to_string()),
                    _ => {}
                }
            }
        }
        names
    }

    /// The one name of this kind. Of several, none is the client.
    pub(crate) fn only(&self, kind: CertificateName) -> Option<String> {
        let names = match kind {
            CertificateName::Uri => &self.uris,
            CertificateName::Dns => &self.dns,
            CertificateName::Email => &self.emails,
            CertificateName::CommonName => &self.common,
        };
        match &names[..] {
            [name] => Some(name.clone()),
            _ => None,
        }
    }
}
