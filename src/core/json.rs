//! JSON as a tree that borrows from its text, read in one pass.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::value::RawValue;

/// Deeper than serde_json reads values: such a text has no tree.
const DEEPEST: usize = 128;

/// A value, whose numbers and strings are as they are to be written.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    /// Left out: nothing is written for it.
    Absent,
    Scalar(Cow<'a, str>),
    List(Vec<Self>),
    /// In the order of RFC 8785 §3.2.3, and no two of one name.
    Object(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Json<'a> {
    /// `None` if the text is not JSON, is too deep, has two members of one name, or a
    /// string that is no text.
    pub(crate) fn read(json: &'a [u8]) -> Option<Self> {
        // The grammar is serde_json's: the reader only walks what it has accepted.
        let text = serde_json::from_slice::<&RawValue>(json).ok()?.get();
        Reader { text, at: 0 }.value(0)
    }

    pub(crate) fn write(&self, written: &mut Vec<u8>) {
        match self {
            Self::Absent => {}
            Self::Scalar(text) => written.extend_from_slice(text.as_bytes()),
            Self::List(values) => write_list(written, *b"[]", values, Self::write),
            Self::Object(members) => {
                let there = members.iter().filter(|(_, value)| !matches!(value, Self::Absent));
                write_list(written, *b"{}", there, |(name, value), written| {
                    write_string(name, written);
                    written.push(b':');
                    value.write(written);
                });
            }
        }
    }

    /// The value of this name, or at this place, that is directly in this one.
    pub(crate) fn child(&self, token: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(name, _)| name == token).map(|(_, value)| value),
            Self::List(values) => values.get(place(token)?),
            Self::Absent | Self::Scalar(_) => None,
        }
    }

    pub(crate) fn child_mut(&mut self, token: &str) -> Option<&mut Self> {
        match self {
            Self::Object(members) => members.iter_mut().find(|(name, _)| name == token).map(|(_, value)| value),
            Self::List(values) => values.get_mut(place(token)?),
            Self::Absent | Self::Scalar(_) => None,
        }
    }
}

/// A place in a list, as RFC 6901 §4 has it: no leading zero.
fn place(token: &str) -> Option<usize> {
    let is_place = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    token.parse().ok().filter(|_| is_place)
}

fn write_list<T>(
    written: &mut Vec<u8>,
    [open, close]: [u8; 2],
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut Vec<u8>),
) {
    written.push(open);
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            written.push(b',');
        }
        write(item, written);
    }
    written.push(close);
}

/// The order of UTF-16, which is that of the bytes up to where surrogates come before
/// what UTF-8 has behind.
fn by_code_units(one: &str, other: &str) -> Ordering {
    if one.bytes().chain(other.bytes()).all(|byte| byte < 0xee) {
        return one.cmp(other);
    }
    one.encode_utf16().cmp(other.encode_utf16())
}

/// With the escapes of RFC 8785 §3.2.2.2.
fn write_string(text: &str, written: &mut Vec<u8>) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        written.push(b'"');
        written.extend_from_slice(text.as_bytes());
        written.push(b'"');
        return;
    }
    // Writing text to memory does not fail.
    let _ = serde_json::to_writer(written, text);
}

/// Walks a text that is known to be JSON.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        if depth > DEEPEST {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth + 1),
            b'[' => self.list(depth + 1),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => number(self.token()).map(Json::Scalar),
            // true, false, null
            _ => Some(Json::Scalar(self.token().into())),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut values = Vec::new();
        self.at += 1;
        while self.has_item(b']')? {
            values.push(self.value(depth)?);
        }
        Some(Json::List(values))
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut members = Vec::new();
        self.at += 1;
        while self.has_item(b'}')? {
            let name = self.name()?;
            // The colon.
            self.peek()?;
            self.at += 1;
            members.push((name, self.value(depth)?));
        }
        members.sort_unstable_by(|(one, _), (other, _)| by_code_units(one, other));
        let is_twice = members.windows(2).any(|pair| pair[0].0 == pair[1].0);
        (!is_twice).then_some(Json::Object(members))
    }

    /// Whether there is another item before the closing bracket, which is passed over,
    /// and so is a comma.
    fn has_item(&mut self, close: u8) -> Option<bool> {
        let next = self.peek()?;
        if next == close || next == b',' {
            self.at += 1;
        }
        Some(next != close)
    }

    fn string(&mut self) -> Option<Json<'a>> {
        let (text, is_escaped) = self.quoted()?;
        if !is_escaped {
            // What may stand there without an escape is written without one.
            return Some(Json::Scalar(text.into()));
        }
        let mut written = Vec::with_capacity(text.len());
        write_string(&serde_json::from_str::<String>(text).ok()?, &mut written);
        String::from_utf8(written).ok().map(|written| Json::Scalar(written.into()))
    }

    fn name(&mut self) -> Option<Cow<'a, str>> {
        self.peek()?;
        let (text, is_escaped) = self.quoted()?;
        if is_escaped {
            return serde_json::from_str::<String>(text).ok().map(Cow::Owned);
        }
        Some(text[1..text.len() - 1].into())
    }

    /// A string with its quotes, and whether there are escapes in it.
    fn quoted(&mut self) -> Option<(&'a str, bool)> {
        let (begin, mut is_escaped) = (self.at, false);
        self.at += 1;
        loop {
            match self.text.as_bytes().get(self.at)? {
                b'"' => break,
                b'\\' => {
                    is_escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some((self.text.get(begin..self.at)?, is_escaped))
    }

    /// A number or a word, up to what ends it.
    fn token(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'));
        let token = &rest[..end.unwrap_or(rest.len())];
        self.at += token.len();
        token
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }
}

/// Its exact value: significant digits, and the power of ten behind them.
fn number(text: &str) -> Option<Cow<'_, str>> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Most are: no fraction, no exponent, no zero at their end.
    if sign.len() + whole.len() == text.len() && !whole.ends_with('0') {
        return Some(text.into());
    }
    let all = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        // There is one zero: RFC 8785 has no negative one either.
        return Some("0".into());
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let exponent = exponent.parse::<i64>().ok()?.checked_add(zeros)?;
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let power = if exponent == 0 { String::new() } else { format!("e{exponent}") };
    Some([sign, significant, &power].concat().into())
}
