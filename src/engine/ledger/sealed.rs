//! Records on their way to a store and back, where they are encrypted.

use super::Ledger;
use crate::core::{Key, Record, SealError};
use crate::store::{Loaded, StoreError, StoreErrorKind};

impl Ledger {
    #[cfg(feature = "encryption")]
    pub(crate) fn set_cipher(&mut self, cipher: impl crate::core::Cipher + 'static) {
        self.cipher = Some(std::sync::Arc::new(cipher));
    }

    /// What the store is to get in the place of `next`, if that is encrypted.
    pub(super) fn sealed(&self, key: &Key, next: &Record, whole: bool) -> Result<Option<Box<Record>>, StoreError> {
        let Some(cipher) = self.cipher.as_ref().filter(|cipher| cipher.seals()) else { return Ok(None) };
        Ok(Some(Box::new(next.sealed_by(key, &**cipher, whole).map_err(not_sealed)?)))
    }

    /// What the store has, in clear.
    pub(super) fn opened(&self, key: &Key, mut loaded: Loaded) -> Result<Loaded, StoreError> {
        if loaded.record.as_ref().is_some_and(|record| record.sealed_with().is_some()) {
            let opened = loaded.record.map(|record| record.opened(key, self.cipher.as_deref()));
            loaded.record = opened.transpose().map_err(not_sealed)?;
        }
        Ok(loaded)
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
