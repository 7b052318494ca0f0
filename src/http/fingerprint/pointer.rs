//! Members of JSON by their names.

use std::fmt;

use crate::core::Json;

/// A JSON pointer (RFC 6901).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

/// Why a text is not a JSON pointer to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPointer {
    /// It is empty, and means the whole body.
    Whole,
    /// It does not begin with a slash.
    Relative(String),
    /// It has a `~` that is not followed by `0` or `1`.
    Tilde(String),
}

impl Pointer {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidPointer> {
        Ok(Self { text: text.to_owned(), tokens: tokens(text)? })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn find<'a, 'b>(&self, value: &'b Json<'a>) -> Option<&'b Json<'a>> {
        self.tokens.iter().try_fold(value, |value, token| value.child(token))
    }

    pub(crate) fn leave_out(&self, value: &mut Json<'_>) {
        if let Some(found) = self.tokens.iter().try_fold(value, |value, token| value.child_mut(token)) {
            *found = Json::Absent;
        }
    }
}

/// The names on the way that a pointer says.
pub(crate) fn tokens(text: &str) -> Result<Vec<String>, InvalidPointer> {
    if text.is_empty() {
        return Err(InvalidPointer::Whole);
    }
    let rest = text.strip_prefix('/').ok_or_else(|| InvalidPointer::Relative(text.to_owned()))?;
    if text.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(InvalidPointer::Tilde(text.to_owned()));
    }
    // In this order: `~01` is `~1`.
    Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

impl fmt::Display for InvalidPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("an empty JSON pointer is the whole body: leave that out with `ignore_body`"),
            Self::Relative(text) => write!(f, "a JSON pointer begins with a slash: write `/{text}`"),
            Self::Tilde(text) => {
                write!(f, "in the JSON pointer `{text}`, write `~0` for a tilde, and `~1` for a slash in a name")
            }
        }
    }
}

impl std::error::Error for InvalidPointer {}

#[cfg(test)]
mod tests {
    use super::{InvalidPointer, Json, Pointer};

    /// The examples of RFC 6901 §5 that are no whole document.
    #[test]
    fn pointers_find_what_the_rfc_says() {
        let json = br#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, expected) in [
            ("/foo", Some(r#"["bar","baz"]"#)),
            ("/foo/0", Some("\"bar\"")),
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
            ("/foo/0/x", None),
            ("/m~01n", None),
        ] {
            let value = Json::read(json).unwrap();
            let found = Pointer::parse(pointer).unwrap().find(&value).map(|found| {
                let mut written = Vec::new();
                found.write(&mut written);
                String::from_utf8(written).unwrap()
            });
            assert_eq!(found.as_deref(), expected, "{pointer}");
        }
    }

    #[test]
    fn what_is_no_pointer_says_how_to_write_it() {
        let fails = |text: &str| Pointer::parse(text).err().unwrap();
        assert_eq!(fails(""), InvalidPointer::Whole);
        assert_eq!(fails("a/b").to_string(), "a JSON pointer begins with a slash: write `/a/b`");
        for text in ["/~", "/a~2", "/~0~"] {
            assert_eq!(fails(text), InvalidPointer::Tilde(text.to_owned()));
        }
    }
}
