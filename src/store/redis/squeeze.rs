//! The text of a piece, in half the memory: Redis holds all of it.
//!
//! Phrases that every record has become one byte, and hexadecimal digits the
//! bytes they stand for. It loses nothing, whatever the text is; the checksum
//! inside a piece covers what it was before.

use bytes::Bytes;

/// What one byte stands for, from 0x80 on: **only ever add at the end**, and
/// longer ones before what they start with.
const PHRASES: [&[u8]; 19] = [
    b"{\"version\":",
    b",\"mode\":\"at_most_once\",\"fingerprint\":\"",
    b",\"mode\":\"resumable\",\"fingerprint\":\"",
    b"\",\"hold\":\"free\",\"progress\":",
    b"\",\"hold\":\"cleared\",\"progress\":",
    b"\",\"hold\":{\"leased\":{\"fence\":",
    b"\",\"hold\":{\"parked\":{\"why\":\"",
    b",\"lease_ms\":",
    b"}},\"progress\":\"pending\",\"attempts\":1,\"request\":",
    b"{\"complete\":{\"retention_ms\":",
    b"}},\"attempts\":1,\"request\":",
    b"\"pending\",\"attempts\":",
    b"\"paid\",\"attempts\":",
    b",\"request\":",
    b"false,\"steps\":",
    b"true,\"steps\":",
    b"{\"status\":",
    b",\"headers\":[[\"content-type\",\"application/json\"]],\"retained\":true}\n",
    b",\"headers\":[[\"",
];
const FIRST: u8 = 0x80;
/// The first line's checksum follows, as eight bytes.
const SEALED: u8 = 0xfd;
/// Sixty-four hexadecimal digits follow, as thirty-two bytes.
const DIGEST: u8 = 0xfe;
/// The next byte stands for itself.
const ITSELF: u8 = 0xff;
const SEAL: &[u8] = b"tower-idempotency/1 ";

/// Squeezes the text of a piece, its first two lines; what follows stays.
pub(super) fn squeeze(piece: &[u8], squeezed: &mut Vec<u8>) {
    let mut lines = piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let (mut text, raw) = piece.split_at(lines.nth(1).unwrap_or(piece.len()));
    while let [byte, rest @ ..] = text {
        // Most bytes begin nothing.
        let found = match byte {
            b't' => squeeze_seal(text, squeezed).or_else(|| squeeze_phrase(text, squeezed)),
            b'{' | b'}' | b',' | b'"' => squeeze_phrase(text, squeezed),
            b'f' => squeeze_digest(text, squeezed).or_else(|| squeeze_phrase(text, squeezed)),
            b'0'..=b'9' | b'a'..=b'e' => squeeze_digest(text, squeezed),
            _ => None,
        };
        text = found.unwrap_or_else(|| {
            squeezed.extend((*byte >= FIRST).then_some(ITSELF));
            squeezed.push(*byte);
            rest
        });
    }
    squeezed.extend_from_slice(raw);
}

fn squeeze_seal<'a>(text: &'a [u8], squeezed: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (sum, rest) = text.strip_prefix(SEAL)?.split_first_chunk::<17>()?;
    let (_, sum) = sum.split_last().filter(|(end, _)| **end == b'\n')?;
    push_digits(SEALED, sum, squeezed).then_some(rest)
}

fn squeeze_digest<'a>(text: &'a [u8], squeezed: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (digits, rest) = text.split_first_chunk::<64>()?;
    push_digits(DIGEST, digits, squeezed).then_some(rest)
}

fn squeeze_phrase<'a>(text: &'a [u8], squeezed: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (code, rest) = (FIRST..).zip(PHRASES).find_map(|(code, phrase)| Some((code, text.strip_prefix(phrase)?)))?;
    squeezed.push(code);
    Some(rest)
}

/// Lower-case digits only: others could not be told apart afterwards.
fn push_digits(code: u8, digits: &[u8], squeezed: &mut Vec<u8>) -> bool {
    if !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return false;
    }
    let value = |digit: u8| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
    squeezed.push(code);
    squeezed.extend(digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])));
    true
}

/// The piece as it was. What was not squeezed by this becomes something that
/// does not decode.
pub(super) fn unsqueeze(mut squeezed: &[u8]) -> Bytes {
    let mut piece = Vec::with_capacity(2 * squeezed.len() + 128);
    let mut lines = 0;
    while lines < 2 {
        let [code, rest @ ..] = squeezed else { break };
        let start = piece.len();
        squeezed = match *code {
            SEALED => {
                piece.extend_from_slice(SEAL);
                let rest = take_digits(rest, 8, &mut piece);
                piece.push(b'\n');
                rest
            }
            DIGEST => take_digits(rest, 32, &mut piece),
            ITSELF => rest.split_first().map_or(rest, |(byte, rest)| {
                piece.push(*byte);
                rest
            }),
            code => {
                let phrase = code.checked_sub(FIRST).and_then(|at| PHRASES.get(usize::from(at)));
                piece.extend_from_slice(phrase.unwrap_or(&&[code][..]));
                rest
            }
        };
        lines += piece[start..].iter().filter(|byte| **byte == b'\n').count();
    }
    piece.extend_from_slice(squeezed);
    piece.into()
}

fn take_digits<'a>(bytes: &'a [u8], count: usize, piece: &mut Vec<u8>) -> &'a [u8] {
    let (bytes, rest) = bytes.split_at(count.min(bytes.len()));
    push_hex(bytes, piece);
    rest
}

pub(super) fn push_hex(bytes: &[u8], digits: &mut Vec<u8>) {
    for byte in bytes {
        digits.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
}

pub(super) fn hex(bytes: &[u8]) -> Vec<u8> {
    let mut digits = Vec::with_capacity(2 * bytes.len());
    push_hex(bytes, &mut digits);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squeezed(piece: &[u8]) -> Vec<u8> {
        let mut squeezed = Vec::new();
        squeeze(piece, &mut squeezed);
        squeezed
    }

    /// Else some phrase would never be looked for.
    #[test]
    fn every_phrase_becomes_one_byte() {
        for (code, phrase) in (FIRST..).zip(PHRASES) {
            assert_eq!(squeezed(phrase), [code], "{}", phrase.escape_ascii());
        }
    }

    #[test]
    fn every_text_comes_back() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut words: Vec<Vec<u8>> = PHRASES.iter().map(|phrase| phrase.to_vec()).collect();
        words.extend([SEAL.to_vec(), b"0123456789abcdef".repeat(4), b"0123456789abcdef\n".to_vec(), b"\n".to_vec()]);
        words.extend((0..=255_u8).map(|byte| vec![byte]));
        words.push(b"0123456789ABCDEF".repeat(4));
        for _ in 0..20_000 {
            let piece: Vec<u8> = (0..rng.usize(..12)).flat_map(|_| words[rng.usize(..words.len())].clone()).collect();
            let squeezed = squeezed(&piece);
            assert_eq!(unsqueeze(&squeezed), piece, "by way of {squeezed:?}");
        }
    }

    #[test]
    fn damage_is_no_panic() {
        let mut rng = fastrand::Rng::with_seed(8);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(0x60..)).collect();
            unsqueeze(&bytes);
        }
    }

    #[test]
    fn a_complete_head_is_a_third_of_its_size() {
        let head = include_bytes!("../../../tests/golden/v1/complete.head.txt");
        let squeezed = squeezed(head);
        assert!(squeezed.len() * 3 < head.len(), "{} of {} bytes", squeezed.len(), head.len());
    }
}
