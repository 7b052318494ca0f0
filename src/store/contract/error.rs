//! Why a store can't be opened, or a call to it failed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::core::DecodeError;

/// Why a call to a store failed.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    slow: bool,
}

/// What kind of [`StoreError`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It can't be reached or did not reply. A write may have taken effect.
    Unavailable,
    /// There is no room, and no record that may be dropped. Nothing was written.
    Full,
    /// The record at this key is damaged or not ours. Nothing was written.
    Corrupt,
    /// A newer release wrote the record at this key. Nothing was written.
    NewerFormat,
    /// The record at this key is encrypted, and this process does not have the encryption key.
    /// Nothing was written.
    Undecryptable,
    /// A scan asked for what the store does not index. The message names the option that
    /// makes it do so.
    NotIndexed,
}

impl StoreErrorKind {
    /// Its name, in a word or two.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::NewerFormat => "newer-format",
            Self::Undecryptable => "undecryptable",
            Self::NotIndexed => "not-indexed",
        }
    }
}

impl StoreError {
    /// An error of this kind, with one line on what happened.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, slow: false }
    }

    /// The same, with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of error it is.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether it is about the store, and not about what it has or was asked for.
    pub(crate) const fn is_outage(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Full)
    }

    /// Whether it is about what the store has at one key.
    pub(crate) const fn is_unreadable(&self) -> bool {
        self.is_locked() || matches!(self.kind, StoreErrorKind::Corrupt | StoreErrorKind::NewerFormat)
    }

    /// Whether a key is missing to read what the store has.
    pub(crate) const fn is_locked(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Undecryptable)
    }

    pub(crate) fn timed_out() -> Self {
        Self::new(StoreErrorKind::Unavailable, "the store did not reply in time").slow()
    }

    pub(crate) const fn slow(mut self) -> Self {
        self.slow = true;
        self
    }

    /// Whether asking again would take as long again.
    pub(crate) const fn was_slow(&self) -> bool {
        self.slow
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<DecodeError> for StoreError {
    fn from(error: DecodeError) -> Self {
        let kind = match error {
            DecodeError::Newer(_) => StoreErrorKind::NewerFormat,
            DecodeError::Corrupt(_) | DecodeError::Unreleased(_) => StoreErrorKind::Corrupt,
        };
        Self::new(kind, error.to_string()).caused_by(error)
    }
}

/// Why [`connect`](crate::store::connect()) returned no store.
#[derive(Debug)]
pub struct ConnectError {
    /// Only the scheme, because the rest may have a password.
    scheme: String,
    message: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectError {
    pub(in crate::store) fn new(url: &str, message: impl Into<Cow<'static, str>>) -> Self {
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        Self { scheme: scheme.to_owned(), message: message.into(), source: None }
    }

    #[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
    pub(in crate::store) fn caused_by(url: &str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(source)), ..Self::new(url, "") }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "can't open the {:?} store: {source}", self.scheme),
            None => write!(f, "can't open the {:?} store: {}", self.scheme, self.message),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}
