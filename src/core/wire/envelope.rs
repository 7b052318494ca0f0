//! What is around a ciphertext: which key it is under, and the nonce.

/// The format of what is around it, and of what is authenticated along.
pub(crate) const SEALED_FORMAT: u8 = 1;
/// No text begins with it, and no other piece.
const MAGIC: u8 = 0xf2;
/// How many bytes a nonce has.
pub(crate) const NONCE: usize = 24;

/// A piece of a record, encrypted.
#[cfg_attr(not(any(feature = "encryption", test)), allow(dead_code, reason = "the keyring is for that feature alone"))]
#[derive(Clone, Copy)]
pub(crate) struct Envelope<'a> {
    /// The name of the key.
    pub(crate) key: &'a str,
    pub(crate) nonce: &'a [u8; NONCE],
    pub(crate) ciphertext: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// `None` if these bytes are no such piece, or one of a later format.
    pub(crate) fn of(piece: &'a [u8]) -> Option<Self> {
        let rest = piece.strip_prefix(&[MAGIC, SEALED_FORMAT])?;
        let (length, rest) = rest.split_first()?;
        let (key, rest) = rest.split_at_checked(usize::from(*length))?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        Some(Self { key: str::from_utf8(key).ok()?, nonce, ciphertext })
    }

    /// What stands before a ciphertext that will have so many bytes. A name has no more
    /// than 255 bytes.
    #[cfg_attr(
        not(any(feature = "encryption", test)),
        allow(dead_code, reason = "the keyring is for that feature alone")
    )]
    pub(crate) fn begun(key: &str, nonce: &[u8; NONCE], length: usize) -> Vec<u8> {
        let mut piece = Vec::with_capacity(3 + key.len() + NONCE + length);
        piece.extend([MAGIC, SEALED_FORMAT, u8::try_from(key.len()).unwrap_or(u8::MAX)]);
        piece.extend_from_slice(key.as_bytes());
        piece.extend_from_slice(nonce);
        piece
    }
}

/// Whether it is one, of whatever format.
pub(super) fn is_sealed(piece: &[u8]) -> bool {
    piece.first() == Some(&MAGIC)
}
