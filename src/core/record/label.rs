//! Short texts by which an operator finds an operation.

use std::fmt;
use std::sync::Arc;

#[cfg(any(feature = "redis", feature = "postgres", feature = "sqlite"))]
use crate::core::hash::digest;
use crate::core::line::push_line;
use crate::core::message::{arc, piece};

/// A short text by which an operator finds an operation: a name and a value, `order=17`.
///
/// ```
/// use tower_idempotency::Label;
///
/// let label = Label::new("order", 17);
/// assert_eq!((label.name(), label.value()), ("order", "17"));
/// assert_eq!(label.to_string(), "order=17");
/// ```
///
/// `Debug` shows its name, and not its value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Label(Arc<str>);

impl Label {
    /// A label is at most so many bytes long, with its name, its value and the `=`.
    pub const MAX_BYTES: usize = 100;

    /// A label of this name and value.
    ///
    /// In the name, what is not a letter, a digit, `-`, `_` or `.` of ASCII becomes `_`; in the
    /// value, control characters become spaces. What is longer than
    /// [`MAX_BYTES`](Self::MAX_BYTES) is cut, at a character. A search for a label of the same
    /// name and value finds it all the same.
    pub fn new(name: &str, value: impl fmt::Display) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
        let mut text: String = name.chars().map(plain).collect();
        text.truncate(Self::MAX_BYTES - 1);
        text.push('=');
        push_line(&mut text, value.to_string().chars(), Self::MAX_BYTES);
        Self(text.into())
    }

    /// As it is stored.
    pub(in crate::core) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    fn split(&self) -> (&str, &str) {
        self.0.split_once('=').unwrap_or((&self.0, ""))
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.split().0
    }

    /// The value.
    pub fn value(&self) -> &str {
        self.split().1
    }

    /// As it is stored and shown: `name=value`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands for it in the index of a store: short, and of one length.
    #[cfg(any(feature = "redis", feature = "postgres", feature = "sqlite"))]
    pub(crate) fn tag(&self) -> i64 {
        let hash = digest(b"label", [self.0.as_bytes()]);
        i64::from_be_bytes(*hash.first_chunk().unwrap_or(&[0; 8]))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({}, {} bytes)", self.name(), self.0.len())
    }
}

/// The [labels](Label) of one operation: at most [`MAX`](Self::MAX), each of another name.
///
/// ```
/// use tower_idempotency::Labels;
///
/// let labels = Labels::new().with("route", "/payments").with("order", 17);
/// assert_eq!(labels.get("order"), Some("17"));
/// assert_eq!(labels.iter().count(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Vec<Label>);

impl Labels {
    /// So many labels at most: what comes later under another name is left out.
    pub const MAX: usize = 8;

    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The same with this label, in the place of one of its name: see [`Label::new`].
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.set(Label::new(name, value));
        self
    }

    /// The value of the label of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|label| label.name() == name).map(Label::value)
    }

    /// The labels, in the order in which they were first set.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter()
    }

    /// Whether this label is one of them.
    pub fn has(&self, label: &Label) -> bool {
        self.0.contains(label)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn set(&mut self, label: Label) {
        match self.0.iter().position(|earlier| earlier.name() == label.name()) {
            Some(at) => self.0[at] = label,
            None if self.0.len() < Self::MAX => self.0.push(label),
            None => {}
        }
    }

    /// About how many bytes of memory it takes.
    pub(super) fn size(&self) -> usize {
        let texts: usize = self.iter().map(|label| arc(label.0.len())).sum();
        piece(self.0.capacity() * size_of::<Label>()) + texts
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let mut all = Self::new();
        labels.into_iter().for_each(|label| all.set(label));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_short_line() {
        for (name, value, expected) in [
            ("order", "17", "order=17"),
            ("a=b", "c=d", "a_b=c=d"),
            ("", "", "="),
            ("caf\u{e9} 1", "line\r\n\u{9b}2", "caf__1=line   2"),
        ] {
            assert_eq!(Label::new(name, value).as_str(), expected);
        }
        let long = Label::new(&"n".repeat(300), "x");
        assert_eq!((long.as_str().len(), long.value()), (Label::MAX_BYTES, ""));
        // Cut at a character, and found by what it was made of.
        let cut = Label::new("nam", "\u{20ac}".repeat(99));
        assert_eq!((cut.as_str().len(), cut == Label::new("nam", "\u{20ac}".repeat(50))), (100, true));
        assert_eq!(Label::new("name", "\u{20ac}".repeat(99)).as_str().len(), 98);
    }

    #[test]
    fn the_latest_of_a_name_and_the_first_eight_names_count() {
        let mut labels: Labels = (0..9).map(|n| Label::new(&n.to_string(), n)).collect();
        labels.set(Label::new("0", "again"));
        let texts: Vec<_> = labels.iter().map(Label::as_str).collect();
        assert_eq!(texts, ["0=again", "1=1", "2=2", "3=3", "4=4", "5=5", "6=6", "7=7"]);
        assert!(!format!("{labels:?}").contains("again"));
    }
}
