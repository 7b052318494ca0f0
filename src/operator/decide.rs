//! What an operator decides about one operation.

use super::Operator;
use crate::core::{EndCallback, Key, NotEnded, NotResolved, Resolution, Resolve, Status};
use crate::operator::error::OperatorError;
use crate::operator::shown::Shown;
use crate::telemetry::event::EventKind;

impl Operator {
    /// Decides about an unfinished operation that no attempt holds.
    ///
    /// # Errors
    ///
    /// [`OperatorError`] if nothing was decided. After [`OperatorError::Store`] the
    /// decision may have been stored: show the operation again.
    pub async fn resolve(&self, shown: &Shown, resolution: Resolution) -> Result<(), OperatorError> {
        if self.engine.in_hand().has(&shown.key) {
            return Err(OperatorError::InHand);
        }
        let (what, is_to_run) = (resolution.name(), matches!(resolution, Resolution::RunAgain));
        let command = Resolve { resolution, seen: Some(shown.record.version()), why: self.why.clone() };
        let done = self.engine.apply(&shown.key, None, command).await?;
        done.output.map_err(|refused| match refused {
            NotResolved::Absent => OperatorError::Absent,
            NotResolved::Busy(left) => OperatorError::Busy(left),
            NotResolved::Complete => OperatorError::Complete,
            NotResolved::NotInDoubt => OperatorError::NotInDoubt,
            NotResolved::Overtaken => OperatorError::Overtaken,
        })?;
        if is_to_run && shown.record.request().is_some() {
            // A completer of this process need not wait until it looks.
            self.engine.accepted().put(shown.key);
        }
        self.decided(&shown.key, what);
        Ok(())
    }

    /// Lets an unfinished operation run again now, in any [`Mode`](crate::Mode): at its
    /// client's next retry, or by a completer, which does not wait for the back-off: one of
    /// this process at once, others when they look next. Its
    /// steps stay as they are, and its tries are counted anew. The same as
    /// [`resolve`](Self::resolve) with [`Resolution::RunAgain`].
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub async fn retry(&self, shown: &Shown) -> Result<(), OperatorError> {
        self.resolve(shown, Resolution::RunAgain).await
    }

    /// Removes a complete operation before its retention is over. A retry after that
    /// runs anew. An unfinished operation is never removed. Its history is removed with it:
    /// the event [`Decided`](crate::EventKind::Decided) is what remains.
    ///
    /// # Errors
    ///
    /// [`OperatorError`] if it was not removed. After [`OperatorError::Store`] it may
    /// have been.
    pub async fn forget(&self, shown: &Shown) -> Result<(), OperatorError> {
        if shown.record.status() != Status::Complete {
            return Err(OperatorError::Unfinished);
        }
        if shown.record.pending_callback().is_some() {
            return Err(OperatorError::CallbackPending);
        }
        if !self.engine.forget(&shown.key, shown.record.version()).await? {
            return Err(OperatorError::Overtaken);
        }
        self.decided(&shown.key, "forget");
        Ok(())
    }

    /// Gives the pending [callback](crate::Callback) of an operation up: no completer makes
    /// it any more. A call that is under way goes on, and the receiver may get it.
    ///
    /// # Errors
    ///
    /// [`OperatorError::NoCallback`] if none is pending; else as [`resolve`](Self::resolve).
    pub async fn end_callback(&self, shown: &Shown) -> Result<(), OperatorError> {
        let command = EndCallback { seen: shown.record.version(), why: self.why.clone() };
        let done = self.engine.apply(&shown.key, None, command).await?;
        done.output.map_err(|refused| match refused {
            NotEnded::Absent => OperatorError::Absent,
            NotEnded::Overtaken => OperatorError::Overtaken,
            NotEnded::NotPending => OperatorError::NoCallback,
        })?;
        self.decided(&shown.key, EndCallback::NAME);
        Ok(())
    }

    pub(super) fn decided(&self, key: &Key, what: &'static str) {
        let text = |text: &std::sync::Arc<str>| text.to_string();
        let who = || self.engine.name().filter(|who| !who.is_empty()).map(text);
        self.engine.emit(key, || EventKind::Decided { what, who: who(), why: self.why.as_ref().map(text) });
    }
}
