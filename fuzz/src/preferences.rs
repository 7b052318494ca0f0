//! What a client prefers.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tower_idempotency::spi::{prefers_async, prefers_to_wait};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// These lines in a head, as far as they can be in one.
fn head<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> HeaderMap {
    lines.into_iter().filter_map(|line| Some((PREFER, HeaderValue::from_bytes(line).ok()?))).collect()
}

/// What holds of any lines.
pub fn check(data: &[u8]) {
    let lines = || data.split(|byte| *byte == b'\n');
    let preferred = head(lines());
    let text = String::from_utf8_lossy(data).to_ascii_lowercase();
    assert!(text.contains("respond-async") || !prefers_async(&preferred));
    assert!(text.contains("wait") || prefers_to_wait(&preferred).is_none());
    // A line says nothing of the next one, and of two the first counts.
    assert!(prefers_async(&head(lines().chain([&b"respond-async"[..]]))));
    assert_eq!(prefers_to_wait(&head([&b"WAIT=7"[..]].into_iter().chain(lines()))), Some(Duration::from_secs(7)));
    let last = prefers_to_wait(&head(lines().chain([&b"wait=7"[..]])));
    assert!(last == Some(Duration::from_secs(7)) || text.contains("wait"));
    // In quotes it is a value.
    for line in lines() {
        let mut quoted = b"x=\"".to_vec();
        for byte in line {
            if matches!(byte, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(*byte);
        }
        quoted.push(b'"');
        let quoted = head([&quoted[..]]);
        assert!(!prefers_async(&quoted), "{quoted:?}");
        assert_eq!(prefers_to_wait(&quoted), None, "{quoted:?}");
    }
}
