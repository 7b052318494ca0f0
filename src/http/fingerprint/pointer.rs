//! Members of JSON by their names.

use std::fmt;

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

    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
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
    use super::{InvalidPointer, Pointer};

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
