//! The encryption keys of a store, from a file.

use std::fs;
use std::path::Path;

use tower_idempotency::encryption::{EncryptionKey, Keyring};

use crate::failure::Failure;

/// The keys of this file: a line each, `NAME HEX`, the one to write with first.
///
/// # Errors
///
/// [`Failure`] with the number of the line that is wrong, and nothing of what it has.
pub(crate) fn read(path: &Path) -> Result<Keyring, Failure> {
    let name = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("can't read the encryption keys in {name}: {error}")))?;
    let mut ring: Option<Keyring> = None;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !is_comment(line)) {
        let wrong = |why: &str| Failure::usage(format!("line {number} of {name} is no encryption key: {why}"));
        let key = key(line).map_err(|why| wrong(&why))?;
        ring = Some(match ring {
            None => Keyring::new(key),
            Some(ring) => ring.with_older(key).map_err(|error| wrong(&error.to_string()))?,
        });
    }
    ring.ok_or_else(|| {
        Failure::usage(format!(
            "{name} has no encryption key; write a line for each, as NAME and 64 hexadecimal digits"
        ))
    })
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn key(line: &str) -> Result<EncryptionKey, String> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(secret), None) = (words.next(), words.next(), words.next()) else {
        return Err("write NAME and 64 hexadecimal digits, with a space between".to_owned());
    };
    let secret = secret_of(secret).ok_or("its secret must have 64 hexadecimal digits")?;
    EncryptionKey::new(name, &secret).map_err(|error| error.to_string())
}

fn secret_of(digits: &str) -> Option<[u8; 32]> {
    let mut secret = [0; 32];
    if digits.len() != 2 * secret.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in secret.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(secret)
}
