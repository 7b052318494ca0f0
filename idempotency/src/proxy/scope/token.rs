//! The client as a JSON Web Token has it, verified with keys of this machine.

use std::collections::HashSet;
use std::fmt;
use std::fs;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::{hmac, signature as ring_signature};
use serde_json::{Map, Value};
use signature::Verifier;

use crate::proxy::config::Jwt;
use crate::proxy::forward::only_line;

/// How tokens are verified, and which of their claims is the client.
pub(crate) struct Tokens {
    key: DecodingKey,
    validation: Validation,
    claim: String,
}

impl Tokens {
    /// # Errors
    ///
    /// What is wrong with the key, and what to do.
    pub(crate) fn new(jwt: &Jwt) -> Result<Self, String> {
        // That it is there already is no error: there is one for all.
        let _ = RING.install_default();
        let name = jwt.key_file.display();
        let text = fs::read(&jwt.key_file).map_err(|error| format!("can't read the key in {name}: {error}"))?;
        let key = key(jwt.algorithm, &text).map_err(|error| {
            let needed =
                if is_secret(jwt.algorithm) { "a secret of at least 32 bytes" } else { "a public key, as PEM" };
            format!("{name} is no key for {:?}: {error}; it has to be {needed}", jwt.algorithm)
        })?;
        let mut validation = Validation::new(jwt.algorithm);
        validation.validate_nbf = true;
        let mut required = HashSet::from(["exp".to_owned()]);
        if let Some(issuer) = &jwt.issuer {
            validation.set_issuer(&[issuer]);
            required.insert("iss".to_owned());
        }
        match &jwt.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        validation.required_spec_claims = required;
        Ok(Self { key, validation, claim: jwt.claim.clone().unwrap_or_else(|| "sub".to_owned()) })
    }

    /// The client that the token of this request names; `None` if there is no token, or none that
    /// is valid now.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Option<String> {
        let (scheme, token) = only_line(headers, &AUTHORIZATION)?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let token = jsonwebtoken::decode::<Map<String, Value>>(token.trim(), &self.key, &self.validation).ok()?;
        match token.claims.get(&self.claim)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("claim", &self.claim).finish_non_exhaustive()
    }
}

fn key(algorithm: Algorithm, text: &[u8]) -> Result<DecodingKey, Error> {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            let secret = text.trim_ascii();
            // RFC 7518, section 3.2: as long as what it makes; shorter ones can be guessed.
            if secret.len() < 32 {
                return Err(ErrorKind::InvalidKeyFormat.into());
            }
            DecodingKey::from_secret(secret)
        }
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(text),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(text),
        _ => DecodingKey::from_rsa_pem(text),
    }
}

const fn is_secret(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

/// The cryptography of ring, which TLS has anyway.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| {
        let key = key.try_get_as_bytes()?.to_vec();
        Ok(Box::new(Ring { algorithm: *algorithm, key }))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Ring {
    algorithm: Algorithm,
    key: Vec<u8>,
}

impl Ring {
    fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let asymmetric = |verifier: &'static dyn ring_signature::VerificationAlgorithm| {
            ring_signature::UnparsedPublicKey::new(verifier, &self.key).verify(message, signature).is_ok()
        };
        let symmetric = |algorithm| hmac::verify(&hmac::Key::new(algorithm, &self.key), message, signature).is_ok();
        match self.algorithm {
            Algorithm::HS256 => symmetric(hmac::HMAC_SHA256),
            Algorithm::HS384 => symmetric(hmac::HMAC_SHA384),
            Algorithm::HS512 => symmetric(hmac::HMAC_SHA512),
            Algorithm::RS256 => asymmetric(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => asymmetric(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => asymmetric(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => asymmetric(&ring_signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => asymmetric(&ring_signature::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => asymmetric(&ring_signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => asymmetric(&ring_signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => asymmetric(&ring_signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => asymmetric(&ring_signature::ED25519),
            // Another version of the crate may know others.
            _ => false,
        }
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.is_signed(message, signature).then_some(()).ok_or_else(signature::Error::new)
    }
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
