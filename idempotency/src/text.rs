//! Texts for a terminal: what a client chose must not steer it.

use std::fmt::Write as _;
use std::time::Duration;

use tower_idempotency::core::{Record, Timestamp};

/// Whether a character does something to a terminal, or to the order of what is read,
/// rather than being read.
const fn steers(character: char) -> bool {
    character.is_ascii_control()
        || matches!(
            character,
            '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with each such character written out: names of steps, labels and reasons come
/// from clients and handlers, and may have escape sequences in them.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => plain.push_str("\\n"),
            '\t' => plain.push_str("\\t"),
            _ if steers(character) => plain.extend(character.escape_unicode()),
            _ => plain.push(character),
        }
    }
    plain
}

/// The same for JSON, which has such characters in strings only.
pub(crate) fn plain_json(json: &str) -> String {
    // Most has none.
    if json.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return json.to_owned();
    }
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || !steers(character) {
            plain.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(plain, "\\u{unit:04x}");
        }
    }
    plain
}

/// A word for a shell, whatever it has in it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A length of time in one unit: what an operator compares at a glance.
pub(crate) fn age(length: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "min"), (1, "s")];
    let seconds = length.as_secs();
    // Two hours are better told as minutes than as "1 h".
    let fitting = UNITS.iter().find(|(unit, _)| seconds >= 2 * unit);
    let (unit, name) = fitting.copied().unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}

/// A time of the store as RFC 3339, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "never".to_owned(), |time| format!("{time:.0}"))
}

/// The version, as `--seen` takes it.
pub(crate) fn version(record: &Record) -> String {
    format!("{:016x}", record.version().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        assert_eq!(plain("a\u{1b}[2Jb\u{9b}1mc\r\u{202e}d"), r"a\u{1b}[2Jb\u{9b}1mc\u{d}\u{202e}d");
        assert_eq!(plain("Grüße, 東京"), "Grüße, 東京");
        let json = serde_json::json!({ "name": "\u{9b}2J\u{1b}\u{e0041}" }).to_string();
        let escaped = plain_json(&json);
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(escaped.parse::<serde_json::Value>().ok(), json.parse().ok());
    }

    #[test]
    fn a_shell_takes_a_quoted_word_as_it_is() {
        assert_eq!(quoted("charge"), "charge");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
    }
}
