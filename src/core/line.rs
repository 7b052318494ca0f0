//! Texts of clients, handlers and operators, as one line that is kept.

/// Whether a character does something to what shows a line, or to the order of what is read
/// there, rather than being read.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Appends as much of `text` as leaves `line` at most `most` bytes long, and returns whether
/// that is all of it. Characters that are not read, but steer what shows them, become spaces.
pub(crate) fn push_line(line: &mut String, text: impl Iterator<Item = char>, most: usize) -> bool {
    for c in text.map(|c| if steers(c) { ' ' } else { c }) {
        if line.len() + c.len_utf8() > most {
            return false;
        }
        line.push(c);
    }
    true
}
