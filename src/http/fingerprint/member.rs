//! Members of JSON in its canonical spelling.

use std::ops::Range;

use super::pointer::Pointer;
use crate::core::write_string;

/// Stands where an item of a list was left out: JSON has no such value.
const LEFT_OUT: u8 = b'_';

/// The value that a pointer leads to.
pub(super) fn find<'a>(json: &'a [u8], pointer: &Pointer) -> Option<&'a [u8]> {
    place(json, pointer).map(|place| &json[place.value])
}

/// Takes a member away; an item of a list leaves its place behind.
pub(super) fn leave_out(json: &mut Vec<u8>, pointer: &Pointer) {
    let Some(Place { begin, value }) = place(json, pointer) else { return };
    let Some(begin) = begin else {
        json.splice(value, [LEFT_OUT]);
        return;
    };
    // One comma goes with it: that behind it, or else the one before.
    match (json[begin - 1], json[value.end]) {
        (_, b',') => json.drain(begin..=value.end),
        (b',', _) => json.drain(begin - 1..value.end),
        _ => json.drain(begin..value.end),
    };
}

struct Place {
    /// Of its name; `None` in a list.
    begin: Option<usize>,
    value: Range<usize>,
}

fn place(json: &[u8], pointer: &Pointer) -> Option<Place> {
    let mut found = Place { begin: None, value: 0..json.len() };
    for token in pointer.tokens() {
        let at = found.value.start;
        found = match json[at] {
            b'{' => member(json, at, token)?,
            b'[' => item(json, at, index(token)?)?,
            _ => return None,
        };
    }
    Some(found)
}

/// Of the object that begins here.
fn member(json: &[u8], object: usize, name: &str) -> Option<Place> {
    let mut wanted = Vec::with_capacity(name.len() + 2);
    write_string(name, &mut wanted);
    let mut begin = object + 1;
    while json[begin] == b'"' {
        let name = begin..value_end(json, begin);
        let value = name.end + 1..value_end(json, name.end + 1);
        if json[name] == wanted[..] {
            return Some(Place { begin: Some(begin), value });
        }
        begin = value.end + 1;
        if json[value.end] == b'}' {
            break;
        }
    }
    None
}

/// Of the list that begins here.
fn item(json: &[u8], list: usize, index: usize) -> Option<Place> {
    let mut begin = list + 1;
    if json[begin] == b']' {
        return None;
    }
    for _ in 0..index {
        let end = value_end(json, begin);
        if json[end] == b']' {
            return None;
        }
        begin = end + 1;
    }
    Some(Place { begin: None, value: begin..value_end(json, begin) })
}

/// A place in a list, as RFC 6901 §4 has it: no leading zero.
fn index(token: &str) -> Option<usize> {
    let is_index = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    token.parse().ok().filter(|_| is_index)
}

/// Where the name or the value that begins here is over.
fn value_end(json: &[u8], begin: usize) -> usize {
    let (mut at, mut depth) = (begin, 0_usize);
    while let Some(byte) = json.get(at) {
        match byte {
            b',' | b':' | b']' | b'}' if depth == 0 => break,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b'"' => at += quoted(&json[at + 1..]),
            _ => {}
        }
        at += 1;
    }
    at
}

/// How much there is up to the quote that closes it, and with it.
fn quoted(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let close = text.iter().position(|byte| {
        let is_close = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_close
    });
    close.map_or(text.len(), |close| close + 1)
}

#[cfg(test)]
mod tests {
    use super::{Pointer, find, leave_out};
    use crate::core::spelled;

    /// The examples of RFC 6901 §5 that are no whole document, and more.
    #[test]
    fn pointers_find_what_the_rfc_says() {
        let json = br#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, expected) in [
            ("/foo", Some(r#"["bar","baz"]"#)),
            ("/foo/0", Some("\"bar\"")),
            ("/foo/1", Some("\"baz\"")),
            ("/", Some("0")),
            ("/a~1b", Some("1")),
            ("/c%d", Some("2")),
            ("/e^f", Some("3")),
            ("/g|h", Some("4")),
            ("/i\\j", Some("5")),
            ("/k\"l", Some("6")),
            ("/ ", Some("7")),
            ("/m~0n", Some("8")),
            ("/foo/2", None),
            ("/foo/-", None),
            ("/foo/00", None),
            ("/foo/+1", None),
            ("/foo/", None),
            ("/foo/18446744073709551616", None),
            ("/foo/0/x", None),
            ("/m~01n", None),
            ("/bar", None),
        ] {
            let json = spelled(json).unwrap();
            let found = find(&json, &Pointer::parse(pointer).unwrap());
            assert_eq!(found, expected.map(str::as_bytes), "{pointer}");
        }
    }

    #[track_caller]
    fn without(json: &str, pointers: &[&str], expected: &str) {
        let mut left = spelled(json.as_bytes()).unwrap();
        pointers.iter().for_each(|pointer| leave_out(&mut left, &Pointer::parse(pointer).unwrap()));
        assert_eq!(String::from_utf8_lossy(&left), expected, "{json} without {pointers:?}");
    }

    #[test]
    fn what_is_left_out_takes_its_comma_along_and_leaves_its_place_in_a_list() {
        without(r#"{"a":1,"b":2,"c":3}"#, &["/a"], r#"{"b":2,"c":3}"#);
        without(r#"{"a":1,"b":2,"c":3}"#, &["/b"], r#"{"a":1,"c":3}"#);
        without(r#"{"a":1,"b":2,"c":3}"#, &["/c"], r#"{"a":1,"b":2}"#);
        without(r#"{"a":1,"b":2,"c":3}"#, &["/a", "/b", "/c"], "{}");
        without(r#"{"a":{"b":[{}]}}"#, &["/a/b/0", "/a/b/0/x"], r#"{"a":{"b":[_]}}"#);
        without(r#"{"a":{"b":[{}]}}"#, &["/a", "/a/b"], "{}");
        without(r#"[1,[2],"]\"\\"]"#, &["/1", "/2"], "[1,_,_]");
        without(r#"[{"a":"}"},{"a":1}]"#, &["/0/a", "/2", "/x"], r#"[{},{"a":1}]"#);
        without("17", &["/0"], "17");
        without("[]", &["/0"], "[]");
        without("{}", &["/0"], "{}");
    }
}
