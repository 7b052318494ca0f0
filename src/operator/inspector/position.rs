//! Where a list goes on, for those who see some operations alone.
//!
//! The place has the key hash and the due time of the operation that was looked at last, which
//! may be one that they may not see. So they get it encrypted, under a secret of this process.

use std::sync::LazyLock;

use crate::operator::inspector::forgery::{Secret, hex, parse_bytes};
use crate::operator::listing::ListPosition;

/// So many bytes tell one text from another, and a true one from a made-up one.
const TAG: usize = 16;

static SECRET: LazyLock<Option<Secret>> = LazyLock::new(Secret::new);

/// The position as this person may have it; `None` if the system has no random numbers.
pub(super) fn seal(who: &str, position: &ListPosition) -> Option<String> {
    let text = position.to_string().into_bytes();
    let tag = tag(who, &text)?;
    Some(hex(&[&tag[..], &masked(&tag, &text)?].concat()))
}

/// The position that this person got.
pub(super) fn open(who: &str, text: &str) -> Option<ListPosition> {
    let bytes = parse_bytes(text)?;
    let (given, rest) = bytes.split_at_checked(TAG)?;
    let text = masked(given, rest)?;
    // How long a guess takes to be refused says nothing: its tag is the key of its text.
    if tag(who, &text)? != given {
        return None;
    }
    String::from_utf8(text).ok()?.parse().ok()
}

/// What only this process can make of this text.
fn tag(who: &str, text: &[u8]) -> Option<Vec<u8>> {
    let length = (who.len() as u64).to_be_bytes();
    let tag = SECRET.as_ref()?.digest(&[b"tag", &length, who.as_bytes(), text]);
    Some(tag[..TAG].to_vec())
}

/// The text under a mask that no other tag has: hides it, and brings it back.
fn masked(tag: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let secret = SECRET.as_ref()?;
    let block = |number: usize| secret.digest(&[b"mask", &number.to_be_bytes(), tag]);
    let mask = (0..text.len().div_ceil(32)).flat_map(block);
    Some(text.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_for_one_person_and_tells_nothing() {
        let position: ListPosition = format!("n.1796162400000.{}", "ab".repeat(32)).parse().unwrap();
        let sealed = seal("tim", &position).unwrap();
        assert_eq!(open("tim", &sealed), Some(position));
        assert_eq!(open("tom", &sealed), None);
        assert!(!sealed.contains(&hex(b"abab")) && !sealed.contains("1796162400000"));
        for at in 0..sealed.len() {
            let mut other = sealed.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(open("tim", &String::from_utf8(other).unwrap()), None, "{at}");
        }
        for text in ["", "00", &position.to_string(), &"0".repeat(1001)] {
            assert_eq!(open("tim", text), None, "{text}");
        }
    }
}
