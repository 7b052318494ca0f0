//! Why a command did not do what was asked, and the exit code for it.

use std::fmt;
use std::io;
use std::process::ExitCode;

use tower_idempotency::OperatorError;
use tower_idempotency::store::{ConnectError, StoreError, StoreErrorKind};

use crate::text::plain;

/// Exit codes, as the help and README list them.
pub(crate) const DONE: u8 = 0;
pub(crate) const REFUSED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const NOT_FOUND: u8 = 3;
pub(crate) const AWAY: u8 = 4;
pub(crate) const FOUND_SOMETHING: u8 = 5;
/// What a shell shows of a program that a closed pipe ends, such as grep and git: 128 and the
/// number of SIGPIPE. Not done: who reads may have missed something.
pub(crate) const PIPE_CLOSED: u8 = 141;

/// Why nothing, or not all, was done. Its text says what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::new(REFUSED, text)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(USAGE, text)
    }

    /// Tells the operator, on standard error.
    pub(crate) fn report(self) -> ExitCode {
        if !self.text.is_empty() {
            anstream::eprintln!("error: {}", plain(&self.text));
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = if error.kind() == StoreErrorKind::Unavailable { AWAY } else { REFUSED };
        Self::new(code, format!("the store failed: {error}"))
    }
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        let code = match &error {
            OperatorError::Absent | OperatorError::NoSuchWindow | OperatorError::NoSuchSchedule => NOT_FOUND,
            OperatorError::InvalidKey(_) | OperatorError::InvalidHash | OperatorError::InvalidReference => USAGE,
            OperatorError::Store(error) if error.kind() == StoreErrorKind::Unavailable => AWAY,
            _ => REFUSED,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(AWAY, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Who reads has seen enough, as `head` has.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(PIPE_CLOSED, "");
        }
        Self::refused(format!("can't write: {error}"))
    }
}
