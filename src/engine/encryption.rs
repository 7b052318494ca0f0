//! Keys, and what is encrypted with them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};

use crate::core::{Cipher, Envelope, NONCE, SealError};

/// The longest name of a key, in bytes.
const LONGEST_NAME: usize = 64;
const TAG: usize = 16;

/// A secret of 256 bits for records, and its name.
///
/// The name is stored in clear beside each ciphertext, so that a process finds the key again
/// after a rotation. The secret is wiped from memory when the last
/// [`Keyring`] with it is dropped, and no `Debug` shows it.
///
/// ```
/// use tower_idempotency::encryption::{EncryptionKey, KeyError};
///
/// # fn from_your_secret_manager() -> [u8; 32] { std::array::from_fn(|n| n as u8) }
/// let key = EncryptionKey::new("2026-11", &from_your_secret_manager())?;
/// assert_eq!(EncryptionKey::new("2026-11", &[0; 32]).unwrap_err(), KeyError::Weak);
/// # Ok::<_, KeyError>(())
/// ```
///
/// # Caveats
///
/// The 32 bytes are the key itself: take them from a random number generator or a key
/// management service, never from a password. Wipe your own array.
#[derive(Clone)]
#[must_use]
pub struct EncryptionKey(Arc<Secret>);

struct Secret {
    name: Box<str>,
    /// Wipes itself.
    cipher: XChaCha20Poly1305,
}

/// Why an [`EncryptionKey`] or a [`Keyring`] can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The name is empty, longer than 64 bytes, or not all visible ASCII.
    Name,
    /// All bytes of the secret are the same.
    Weak,
    /// Two keys of the ring have one name.
    Twice,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the name of a key has 1 to 64 visible ASCII characters; take the date of its making, say",
            Self::Weak => "all bytes of the secret are the same; take 32 bytes from a random number generator",
            Self::Twice => {
                "two keys of the ring have the same name; give each key another name, and never reuse a name"
            }
        })
    }
}

impl std::error::Error for KeyError {}

impl EncryptionKey {
    /// A key of this name, with this secret.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] if the name does not have 1 to 64 visible ASCII characters;
    /// [`KeyError::Weak`] if all bytes of the secret are the same.
    pub fn new(name: &str, secret: &[u8; 32]) -> Result<Self, KeyError> {
        if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::Name);
        }
        if secret.iter().all(|byte| *byte == secret[0]) {
            return Err(KeyError::Weak);
        }
        Ok(Self(Arc::new(Secret { name: name.into(), cipher: XChaCha20Poly1305::new(secret.into()) })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// The keys of encrypted records: one to write with, and older ones to read with. For
/// [`Engine::encryption`](crate::Engine::encryption).
///
/// ```
/// use tower_idempotency::encryption::{EncryptionKey, Keyring};
///
/// # let [old, new] = [1, 2].map(|first| { let mut key = [7; 32]; key[0] = first; key });
/// // The engine writes with the new key, and reads with either.
/// let ring = Keyring::new(EncryptionKey::new("2026-11", &new)?).with_older(EncryptionKey::new("2025-11", &old)?)?;
/// # Ok::<_, tower_idempotency::encryption::KeyError>(())
/// ```
///
/// # Rotation
///
/// Readers first: a process refuses a record whose key it does not have.
///
/// 1. Give the new key to all processes, with [`with_older`](Self::with_older).
/// 2. When all of them have it, pass it to [`new`](Self::new), and pass the previous key to
///    `with_older`.
/// 3. Remove the older key when no record needs it any more: once the longest
///    [retention](crate::Engine::retention) is over, and every operation that was unfinished
///    at the switch is complete. The engine never rewrites a part that it has written.
#[derive(Clone)]
#[must_use]
pub struct Keyring {
    /// The first one is the active one.
    keys: Vec<EncryptionKey>,
    seals: bool,
}

impl Keyring {
    /// A ring that writes with this key.
    pub fn new(active: EncryptionKey) -> Self {
        Self { keys: vec![active], seals: true }
    }

    /// The same with another key, to read only.
    ///
    /// # Errors
    ///
    /// [`KeyError::Twice`] if the ring has a key of that name.
    pub fn with_older(mut self, key: EncryptionKey) -> Result<Self, KeyError> {
        if self.key(key.name()).is_some() {
            return Err(KeyError::Twice);
        }
        self.keys.push(key);
        Ok(self)
    }

    /// The same for a process that reads encrypted records, and writes in clear: the first
    /// step to introduce encryption, and the way back.
    ///
    /// ```
    /// use tower_idempotency::encryption::{EncryptionKey, Keyring};
    ///
    /// # let mut secret = [7; 32]; secret[0] = 1;
    /// let ring = Keyring::new(EncryptionKey::new("2026-11", &secret)?).read_only();
    /// # Ok::<_, tower_idempotency::encryption::KeyError>(())
    /// ```
    pub fn read_only(mut self) -> Self {
        self.seals = false;
        self
    }

    fn key(&self, name: &str) -> Option<&Secret> {
        self.keys.iter().map(|key| &*key.0).find(|key| *key.name == *name)
    }
}

/// The names, and no secret.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.keys).field("seals", &self.seals).finish()
    }
}

impl Cipher for Keyring {
    fn seals(&self) -> bool {
        self.seals
    }

    fn seal(&self, about: &[u8], plain: &[u8]) -> Result<Bytes, SealError> {
        let Some(EncryptionKey(active)) = self.keys.first() else { return Err(SealError::NoKey(String::new())) };
        // 192 random bits: no two are the same, without any of the processes counting.
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoNonce)?;
        let mut piece = Envelope::begun(&active.name, &nonce, plain.len() + TAG);
        let start = piece.len();
        piece.extend_from_slice(plain);
        let text = InOutBuf::from(&mut piece[start..]);
        let tag = active.cipher.encrypt_inout_detached(&XNonce::from(nonce), about, text);
        let tag = tag.map_err(|_| SealError::Refused(active.name.to_string()))?;
        piece.extend_from_slice(&tag);
        Ok(piece.into())
    }

    fn open(&self, about: &[u8], sealed: Envelope<'_>) -> Result<Bytes, SealError> {
        let key = self.key(sealed.key).ok_or_else(|| SealError::NoKey(sealed.key.to_owned()))?;
        let refused = || SealError::Refused(sealed.key.to_owned());
        let (text, tag) = sealed.ciphertext.split_last_chunk::<TAG>().ok_or_else(refused)?;
        let mut plain = text.to_vec();
        let (nonce, tag) = (XNonce::from(*sealed.nonce), Tag::from(*tag));
        let opened = key.cipher.decrypt_inout_detached(&nonce, about, InOutBuf::from(&mut plain[..]), &tag);
        opened.map_err(|_| refused())?;
        Ok(plain.into())
    }
}
