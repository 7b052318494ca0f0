//! Texts of clients, handlers and operators, as one line that is kept.

/// Appends as much of `text` as leaves `line` at most `most` bytes long, and returns whether
/// that is all of it. Control characters become spaces.
pub(crate) fn push_line(line: &mut String, text: impl Iterator<Item = char>, most: usize) -> bool {
    for c in text.map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > most {
            return false;
        }
        line.push(c);
    }
    true
}
