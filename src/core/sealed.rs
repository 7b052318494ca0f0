//! Records whose content is encrypted: how they are sealed for a store, and opened.
//!
//! A sealed record is a record. It has its version, mode, hold, progress, counts and
//! times; what was said in it is ciphertext, part by part, and a placeholder stands where
//! each of them would be. A store keeps it like any other.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::key::Key;
use super::record::Record;
use super::record::hollow::hollow_response;
use super::record::sealed::Sealed;
use super::wire::envelope::{Envelope, SEALED_FORMAT};
use super::wire::format::{CORRUPT_HEAD, CORRUPT_PART, DecodeError, PartId};
use super::wire::newer::WholeHead;
use super::wire::parts::{decode_request, decode_response, decode_step, decode_undoing};
use super::wire::seal::open;

/// Encrypts and decrypts pieces of records. Handed in: the core knows no keys, and no
/// random numbers.
pub(crate) trait Cipher: fmt::Debug + Send + Sync {
    /// Whether what is written is to be encrypted.
    fn seals(&self) -> bool;

    /// `plain`, encrypted, under a nonce that was never used. `about` is authenticated along.
    fn seal(&self, about: &[u8], plain: &[u8]) -> Result<Bytes, SealError>;

    /// What was encrypted.
    fn open(&self, about: &[u8], sealed: Envelope<'_>) -> Result<Bytes, SealError>;
}

/// Why a piece was not encrypted, or not decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SealError {
    /// There are no random numbers to be had.
    #[cfg_attr(not(feature = "encryption"), allow(dead_code, reason = "told by the keyring alone"))]
    NoNonce,
    /// There is no key of this name.
    NoKey(String),
    /// The key of this name does not open it: it is another key, or the piece was changed.
    #[cfg_attr(not(feature = "encryption"), allow(dead_code, reason = "told by the keyring alone"))]
    Refused(String),
    /// It is no ciphertext of ours, or what is in it is no piece of a record.
    Decode(DecodeError),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNonce => f.write_str("the operating system gave no random numbers to encrypt with"),
            Self::NoKey(id) => write!(
                f,
                "the stored record is encrypted with the key {id:?}, which this process does not have; add it to the \
                 keyring of its engine"
            ),
            Self::Refused(id) => write!(
                f,
                "the stored record does not open with the key {id:?}: this process has another key of that name, or the \
                 record was changed; compare the keyrings"
            ),
            Self::Decode(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SealError {}

impl Record {
    /// The name of the key that it is encrypted with, if this is a record as it is stored
    /// and it is encrypted. Then its fingerprint, request, response and steps, and the words
    /// of its history, are not shown: placeholders stand there.
    pub fn sealed_with(&self) -> Option<&str> {
        let piece = self.history.sealed()?.pieces().next()?;
        Some(Envelope::of(piece).map_or("", |envelope| envelope.key))
    }

    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.history.sealed().is_some()
    }

    /// The record as a store gets it. Of parts that the store has kept before it needs no
    /// ciphertext, unless it keeps each record `whole`.
    pub(crate) fn sealed_by(&self, key: &Key, cipher: &dyn Cipher, whole: bool) -> Result<Self, SealError> {
        let seal = |(id, plain): (PartId, Bytes)| Ok((id, cipher.seal(&about(key, Some(id)), &plain)?));
        let parts = self.pieces(whole).into_iter().map(seal).collect::<Result<_, _>>()?;
        let head = Some(cipher.seal(&about(key, None), &self.head())?);
        let mut sealed = self.hollow();
        sealed.history.set_sealed(Sealed { head, parts });
        Ok(sealed)
    }

    /// The record that a store has, in clear. One that is in clear stays as it is.
    pub(crate) fn opened(mut self, key: &Key, cipher: Option<&dyn Cipher>) -> Result<Self, SealError> {
        let Some(sealed) = self.history.take_sealed() else { return Ok(self) };
        let open = |id: Option<PartId>, piece: &Bytes| match (cipher, Envelope::of(piece)) {
            (_, None) => Err(SealError::Decode(CORRUPT_PART)),
            (None, Some(envelope)) => Err(SealError::NoKey(envelope.key.to_owned())),
            (Some(cipher), Some(envelope)) => cipher.open(&about(key, id), envelope),
        };
        if let Some(head) = &sealed.head {
            self.read_head(&open(None, head)?).map_err(SealError::Decode)?;
        }
        for (id, piece) in &sealed.parts {
            self.read_part(*id, &open(Some(*id), piece)?).map_err(SealError::Decode)?;
        }
        Ok(self)
    }

    fn read_head(&mut self, plain: &[u8]) -> Result<(), DecodeError> {
        let head = open::<WholeHead<'_>>(plain, &CORRUPT_HEAD)?;
        self.fill_head(head.record(Some(hollow_response())).ok_or(CORRUPT_HEAD)?);
        Ok(())
    }

    fn read_part(&mut self, id: PartId, plain: &Bytes) -> Result<(), DecodeError> {
        match id {
            PartId::Request => self.request = Some(Arc::new(decode_request(plain)?)),
            PartId::Response => self.set_response(Arc::new(decode_response(plain)?)),
            PartId::Step(number) => match self.steps.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) {
                Some(step) => *step = Arc::new(decode_step(plain)?),
                None => self.undoing = Some(Arc::new(decode_undoing(plain)?)),
            },
        }
        Ok(())
    }
}

/// What is authenticated with a piece: whose it is, and which. So none can stand in the
/// place of another.
fn about(key: &Key, part: Option<PartId>) -> Vec<u8> {
    let (kind, number) = match part {
        None => (0, 0),
        Some(PartId::Request) => (1, 0),
        Some(PartId::Response) => (2, 0),
        Some(PartId::Step(number)) => (3, number),
    };
    [b"tower-idempotency", &[SEALED_FORMAT][..], key.as_bytes(), &[kind], &number.to_be_bytes()].concat()
}
