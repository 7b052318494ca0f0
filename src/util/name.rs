//! Names that users give to what works in rounds: schedules, outboxes.

/// The longest.
pub(crate) const LONGEST: usize = 64;

/// Whether it is 1 to 64 visible characters of ASCII.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
