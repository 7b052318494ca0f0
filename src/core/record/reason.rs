//! Why an attempt ended without a response, in one line.

use crate::core::line::push_line;

/// How many bytes of it are kept.
const MOST: usize = 200;
const CUT: &str = "…";

/// `text` as a history keeps it: one line of at most 200 bytes. What is no character of a line
/// becomes a space, and the end of a text that is longer is cut off.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    if !push_line(&mut line, text.trim().chars(), MOST) {
        let end = (0..=MOST - CUT.len()).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or(0));
        line.push_str(CUT);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_at_most_200_bytes_whatever_it_is_made_of() {
        for (text, line) in [
            ("status 503", "status 503".to_owned()),
            (" padded\n", "padded".to_owned()),
            ("first\nsecond\r\u{1b}[31m\u{85}\u{2028}third", "first second  [31m  third".to_owned()),
            ("bidi\u{202e}lru\u{200b}z\u{2066}\u{feff}", "bidi lru z  ".to_owned()),
            (&"x".repeat(200), "x".repeat(200)),
            (&"x".repeat(201), format!("{}…", "x".repeat(197))),
            (&"é".repeat(101), format!("{}…", "é".repeat(98))),
            (&"💶".repeat(9000), format!("{}…", "💶".repeat(49))),
        ] {
            let got = one_line(text);
            assert_eq!(got, line, "{text}");
            assert!(got.len() <= 200, "{}", got.len());
        }
    }
}
