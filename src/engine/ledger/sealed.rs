//! Records on their way to a store and back, where they are encrypted.

use super::Ledger;
use crate::core::{Key, Record, SealError};
use crate::store::{StoreError, StoreErrorKind};

impl Ledger {
    #[cfg(feature = "encryption")]
    pub(crate) fn set_cipher(&mut self, cipher: impl crate::core::Cipher + 'static) {
        self.cipher = Some(std::sync::Arc::new(cipher));
    }

    /// What the store is to get in the place of `next`, if that is encrypted.
    #[inline]
    pub(super) fn sealed(&self, key: &Key, next: &Record, whole: bool) -> Result<Option<Box<Record>>, StoreError> {
        let Some(cipher) = self.cipher.as_ref().filter(|cipher| cipher.seals()) else { return Ok(None) };
        Ok(Some(Box::new(next.sealed_by(key, &**cipher, whole).map_err(not_sealed)?)))
    }

    /// Makes of what the store has the record in clear. In its place: a record is large, and
    /// few are encrypted.
    #[inline]
    pub(super) fn open(&self, key: &Key, found: &mut Option<Record>) -> Result<(), StoreError> {
        let Some(sealed) = found.take_if(|record| record.sealed_with().is_some()) else { return Ok(()) };
        *found = Some(sealed.opened(key, self.cipher.as_deref()).map_err(not_sealed)?);
        Ok(())
    }
}

fn not_sealed(error: SealError) -> StoreError {
    let kind = match error {
        SealError::Decode(error) => return error.into(),
        SealError::NoNonce => StoreErrorKind::Unavailable,
        SealError::NoKey(_) | SealError::Refused(_) => StoreErrorKind::Undecryptable,
    };
    StoreError::new(kind, error.to_string())
}
