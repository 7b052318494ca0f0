//! What makes two requests the same request.

use std::fmt;

use sha2::{Digest, Sha256};

use super::key::Hex;

/// A digest of everything that makes two requests the same request.
///
/// SHA-256 over length-prefixed components, so that no two different lists of
/// components share one. Comparing takes the same time whatever the bytes.
#[derive(Clone, Copy, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a list of components, in their order.
    pub fn of<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        update_framed(&mut hash, b"F");
        for component in components {
            update_framed(&mut hash, component);
        }
        Self(hash.finalize().into())
    }

    /// A fingerprint from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        // No early exit: how far two digests agree must not show in the time.
        self.0.iter().zip(&other.0).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl std::hash::Hash for Fingerprint {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.0[..6]))
    }
}

/// Adds `part` behind its length, so that `("a", "bc")` and `("ab", "c")`
/// differ. The first part of every hash says what it is a hash of. Short on
/// purpose: a key takes one block of SHA-256 rather than two.
pub(super) fn update_framed(hash: &mut Sha256, part: &[u8]) {
    // A length of 255 is followed by all of it.
    match u8::try_from(part.len()) {
        Ok(short) if short < u8::MAX => hash.update([short]),
        _ => {
            hash.update([u8::MAX]);
            hash.update((part.len() as u64).to_le_bytes());
        }
    }
    hash.update(part);
}
