//! Texts that a person gave.

use std::sync::Arc;

/// The longest that the history keeps of one, in bytes.
const MOST: usize = 200;

/// As one line, cut at a character; `None` if nothing is left.
pub(super) fn one_line(text: &str) -> Option<Arc<str>> {
    let mut line = String::new();
    for c in text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > MOST {
            break;
        }
        line.push(c);
    }
    Some(line.trim_end().into()).filter(|line: &Arc<str>| !line.is_empty())
}
