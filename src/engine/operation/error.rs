//! Why a step gave no result.

use std::fmt;

use crate::core::NotStarted;
use crate::engine::attempt::WriteError;
use crate::store::StoreError;

/// Why a step gave no result. `E` is the error of the step's own work.
///
/// For every error but [`Final`](Self::Final), respond with a 503: a resumable layer does
/// not store it, and the client's retry resumes.
#[derive(Debug)]
#[non_exhaustive]
pub enum StepError<E> {
    /// The work failed. The error is not stored; the next attempt runs the work again.
    Retry(E),
    /// The work failed with a final error, now or in an earlier attempt. The error is on
    /// record, and no attempt runs the work again.
    Final(E),
    /// The work took longer than the step's time-out.
    TimedOut {
        /// The step's name.
        step: String,
    },
    /// The step may or may not have happened, and does not run again. When this
    /// attempt ends, whatever its response, the operation is parked until an operator
    /// or a reconciler decides. Steps that already run can still save their results;
    /// steps that start later get this error, too.
    InDoubt {
        /// The name of the step that is in doubt.
        step: String,
    },
    /// Another attempt took over. Stop: it does the rest.
    Lost,
    /// This attempt has already run, or is running, a step of this name.
    Duplicate {
        /// The step's name.
        step: String,
    },
    /// An earlier attempt ran this step with another [input](super::StepFuture::input).
    /// Its result belongs to that input, so this attempt neither uses it nor runs the step again.
    InputChanged {
        /// The step's name.
        step: String,
        /// The hash of the input that is on record.
        stored: u64,
        /// The hash of the input of this call.
        given: u64,
        /// The attempt that stored it; the first is 1.
        attempt: u32,
    },
    /// The operation failed for good, and its steps are being
    /// [undone](super::StepFuture::undo_with): no other step runs. The handler's response does
    /// not count any more.
    Undoing {
        /// The step's name.
        step: String,
    },
    /// The result can't be read back from JSON: the attempt neither uses it nor runs the step
    /// again. Or the [input](super::StepFuture::input) can't be written as JSON: then the step
    /// did not begin, and the error has no other effect.
    ///
    /// The attempt that made the result gets this error, and the step is on record as done.
    /// A later attempt that needs the result gets it, too, and parks the operation, because no
    /// attempt can ever read that result. A result that an earlier attempt stored with another
    /// type parks nothing: the release that can read it may be the next to try.
    Unreadable {
        /// The step's name.
        step: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The transaction of this step was rolled back, or could not begin: none
    /// of its rows are stored. The next attempt runs it again.
    RolledBack(StoreError),
    /// The store failed for longer than the lease. The step's result may or may not be
    /// stored.
    Store(StoreError),
}

impl<E> StepError<E> {
    /// The error of the step's own work, if it is one.
    pub fn into_work(self) -> Option<E> {
        match self {
            Self::Retry(error) | Self::Final(error) => Some(error),
            _ => None,
        }
    }

    /// The step of this name may not start.
    pub(super) fn not_started(why: NotStarted, step: &str) -> Self {
        match why {
            NotStarted::Ended => Self::Lost,
            NotStarted::Undoing => Self::Undoing { step: step.to_owned() },
            NotStarted::InDoubt(step) => Self::InDoubt { step: step.into() },
        }
    }

    /// What is known of it without the words of the work's own error.
    pub(super) fn line(&self) -> String {
        match self {
            Self::TimedOut { .. } => "it took too long".to_owned(),
            // A server's message may have what is in a row.
            Self::RolledBack(error) => format!("its transaction was rolled back ({})", error.kind().name()),
            Self::Store(error) => format!("the store failed ({})", error.kind().name()),
            other => other.name().to_owned(),
        }
    }

    /// Its name, in a word or two.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Retry(_) => "failed",
            Self::Final(_) => "final",
            Self::TimedOut { .. } => "timed-out",
            Self::InDoubt { .. } => "in-doubt",
            Self::Lost => "lost",
            Self::Duplicate { .. } => "duplicate",
            Self::InputChanged { .. } => "input-changed",
            Self::Undoing { .. } => "undoing",
            Self::Unreadable { .. } => "unreadable",
            Self::RolledBack(_) => "rolled-back",
            Self::Store(_) => "store-failed",
        }
    }

    /// Whether it is on record as final.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Final(_))
    }

    /// The same, with the work's error mapped.
    pub fn map<F>(self, map: impl FnOnce(E) -> F) -> StepError<F> {
        match self {
            Self::Retry(error) => StepError::Retry(map(error)),
            Self::Final(error) => StepError::Final(map(error)),
            Self::TimedOut { step } => StepError::TimedOut { step },
            Self::InDoubt { step } => StepError::InDoubt { step },
            Self::Lost => StepError::Lost,
            Self::Duplicate { step } => StepError::Duplicate { step },
            Self::InputChanged { step, stored, given, attempt } => {
                StepError::InputChanged { step, stored, given, attempt }
            }
            Self::Undoing { step } => StepError::Undoing { step },
            Self::Unreadable { step, source } => StepError::Unreadable { step, source },
            Self::RolledBack(error) => StepError::RolledBack(error),
            Self::Store(error) => StepError::Store(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for StepError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(error) | Self::Final(error) => error.fmt(f),
            Self::TimedOut { step } => write!(f, "step {step:?} took too long"),
            Self::InDoubt { step } => write!(
                f,
                "step {step:?} may or may not have happened; the operation is parked until an operator decides"
            ),
            Self::Lost => f.write_str("another attempt took over this operation"),
            Self::Duplicate { step } => write!(f, "step {step:?} was used twice in one attempt"),
            Self::InputChanged { step, stored, given, attempt } => write!(
                f,
                "step {step:?} has another input: attempt {attempt} ran it with {stored:016x}, now it is {given:016x}"
            ),
            Self::Undoing { step } => {
                write!(f, "step {step:?} did not run: the operation failed, and its steps are being undone")
            }
            Self::Unreadable { step, .. } => {
                write!(
                    f,
                    "the input of step {step:?} can't be written as JSON, or its result can't be read back from JSON"
                )
            }
            Self::RolledBack(error) => write!(f, "the transaction was rolled back: {error}"),
            Self::Store(error) => write!(f, "the store failed: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for StepError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Retry(error) | Self::Final(error) => error.source(),
            Self::Unreadable { source, .. } => Some(source),
            Self::RolledBack(error) | Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> From<WriteError> for StepError<E> {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Lost => Self::Lost,
            WriteError::Store(error) => Self::Store(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreErrorKind;

    /// It is stored, and shown to operators.
    #[test]
    fn the_line_of_a_store_s_error_has_no_word_of_a_server() {
        let said =
            || StoreError::new(StoreErrorKind::Unavailable, "invalid input syntax for type integer: \"4242 4242\"");
        for (error, line) in [
            (StepError::<()>::RolledBack(said()), "its transaction was rolled back (unavailable)"),
            (StepError::Store(said()), "the store failed (unavailable)"),
        ] {
            assert_eq!(error.line(), line);
        }
    }
}
