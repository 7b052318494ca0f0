//! What an operator searches for: an operation, and which attempt of it.

use std::fmt;
use std::str::FromStr;

use super::key::Key;

/// Names one attempt of an operation, in logs and wherever a client quotes it to an operator.
///
/// Its text is the 64 hexadecimal characters that logs and events show of a [`Key`], a hyphen,
/// and the number of the attempt. It is derived from these two, and nothing is stored for it. It
/// reveals neither the scope nor the client's key.
///
/// ```
/// use tower_idempotency::core::{Key, Reference};
///
/// let reference = Reference { key: Key::from_bytes([7; 32]), attempt: 2 };
/// let text = reference.to_string();
/// assert!(text.ends_with("0707-2"));
/// assert_eq!(text.parse(), Ok(reference));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "its text has these two, and no room for more")]
pub struct Reference {
    /// The operation.
    pub key: Key,
    /// Which attempt; the first is 1. 0 of an operation that was accepted and not run yet.
    pub attempt: u32,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.key, self.attempt)
    }
}

/// Reads what [`Display`](fmt::Display) writes, and nothing else, but for the case of the
/// letters and white space around it.
impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (hash, attempt) = text.trim().split_once('-').ok_or(InvalidReference)?;
        let is_number = attempt == "0" || !attempt.starts_with(['0', '+']);
        let attempt = attempt.parse().ok().filter(|_| is_number).ok_or(InvalidReference)?;
        Ok(Self { key: Key::from_hex(hash).ok_or(InvalidReference)?, attempt })
    }
}

/// A text is no [`Reference`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct InvalidReference;

impl fmt::Display for InvalidReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no reference: copy all of it, 64 hexadecimal characters, a hyphen and a number")
    }
}

impl std::error::Error for InvalidReference {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_back_as_it_was_written_and_nothing_else_is_one() {
        let key = Key::from_bytes(std::array::from_fn(|n| n as u8 * 8 + 5));
        for attempt in [0, 1, 10, u32::MAX] {
            let reference = Reference { key, attempt };
            let text = reference.to_string();
            assert_eq!(text, format!("{key}-{attempt}"));
            for text in [text.clone(), text.to_uppercase(), format!(" {text}\n")] {
                assert_eq!(text.parse(), Ok(reference), "{text}");
            }
        }
        let hash = key.to_string();
        let short = &hash[1..];
        for text in [
            String::new(),
            hash.clone(),
            format!("{hash}-"),
            format!("{hash}--1"),
            format!("{hash}-+1"),
            format!("{hash}-01"),
            format!("{hash}-1-1"),
            format!("{hash}-4294967296"),
            format!("{short}-1"),
            format!("{short}é-1"),
            format!("g{short}-1"),
        ] {
            assert_eq!(text.parse::<Reference>(), Err(InvalidReference), "{text}");
        }
    }
}
