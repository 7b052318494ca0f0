//! What all pieces have in common, and why one can't be read.

use std::fmt;

/// The format that is written, and the only one that is read.
pub const WIRE_FORMAT: u32 = 2;

/// Names one part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "a store must keep all of them")]
pub enum PartId {
    /// The stored request.
    Request,
    /// The stored response.
    Response,
    /// The n-th step; behind the last one, the plan of what is undone, if there is
    /// one.
    Step(u32),
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are damaged, cut short, or something else.
    Corrupt(&'static str),
    /// They were written by a newer release, in this format.
    Newer(u32),
    /// They were written in this format by a build from before the first release.
    /// No release reads it.
    Unreleased(u32),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(what) => write!(f, "the stored record is damaged: {what}"),
            Self::Newer(format) => {
                write!(
                    f,
                    "the stored record has format {format}, and this release reads up to format {WIRE_FORMAT}; use a newer release"
                )
            }
            Self::Unreleased(format) => write!(
                f,
                "the stored record has format {format}, which only builds from before the first release wrote; this \
                 release reads format {WIRE_FORMAT}: start with an empty store"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}

pub(in crate::core) const CORRUPT_HEAD: DecodeError = DecodeError::Corrupt("its head does not parse");
pub(in crate::core) const CORRUPT_PART: DecodeError = DecodeError::Corrupt("one of its parts does not parse");
pub(in crate::core) const MISSING_PART: DecodeError = DecodeError::Corrupt("one of its parts is missing");

/// What most pieces do without is not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
