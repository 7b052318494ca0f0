//! Texts that a person gave.

use std::sync::Arc;

use crate::core::push_line;

/// The longest that the history keeps of one, in bytes.
const MOST: usize = 200;

/// As one line, cut at a character; `None` if nothing is left.
pub(super) fn one_line(text: &str) -> Option<Arc<str>> {
    let mut line = String::new();
    push_line(&mut line, text.trim().chars(), MOST);
    Some(line.trim_end().into()).filter(|line: &Arc<str>| !line.is_empty())
}
