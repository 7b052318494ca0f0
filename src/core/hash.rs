//! Hashes, and bytes as hexadecimal characters.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 of parts, each behind its length, so that `("a", "bc")` and `("ab", "c")`
/// differ. The first part, `of`, says what it is a hash of.
pub(super) fn digest<'a>(of: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    update_framed(&mut hash, of);
    // Cheaper than a loop where the parts are chained.
    parts.into_iter().for_each(|part| update_framed(&mut hash, part));
    hash.finalize().into()
}

/// Short on purpose: a key takes one block of SHA-256 rather than two.
fn update_framed(hash: &mut Sha256, part: &[u8]) {
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

/// Such a hash, cut to 40 hexadecimal characters.
pub(super) fn short<'a>(of: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    Hex(&digest(of, parts)[..20]).to_string()
}

/// Bytes as hexadecimal characters.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Many at once, for a formatter asks much of every call.
        for bytes in self.0.chunks(32) {
            let mut text = [0; 64];
            for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
                pair.copy_from_slice(&[byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
            }
            f.write_str(str::from_utf8(&text[..2 * bytes.len()]).unwrap_or_default())?;
        }
        Ok(())
    }
}
