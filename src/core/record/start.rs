//! Whether something may start: the one place that says so.
//!
//! Steps, transactions and the undoing ask it of their attempt; a record asks it of a
//! write that may have been on its way while the operation failed for good.

/// What is about to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The handler comes to a step. Its result may be on record.
    Reach,
    /// What had begun goes on: a doubt is looked into, or a step is written.
    GoOn,
    /// Something new is done, or the operation gets its response.
    Act,
    /// A step is undone.
    Undo,
}

/// What is known of the attempt that would start it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing<'a> {
    /// Its work is over, and nothing is stored of it any more.
    pub(crate) has_ended: bool,
    /// The operation failed for good, and only undoing is done.
    pub(crate) is_undoing: bool,
    /// The step that an operator has to decide about first.
    pub(crate) in_doubt: Option<&'a str>,
}

/// Why it may not start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotStarted {
    /// The attempt's work is over.
    Ended,
    /// The operation failed for good.
    Undoing,
    /// An operator has to decide about this step first.
    InDoubt(Box<str>),
}

impl Start {
    /// Whether it may. A plan of what is undone tells more than a doubt: it stands.
    pub(crate) fn check(self, standing: Standing<'_>) -> Result<(), NotStarted> {
        let stopped_by_plan = matches!(self, Self::GoOn | Self::Act);
        let stopped_by_doubt = matches!(self, Self::Act | Self::Undo);
        match standing {
            Standing { has_ended: true, .. } => Err(NotStarted::Ended),
            Standing { is_undoing: true, .. } if stopped_by_plan => Err(NotStarted::Undoing),
            Standing { in_doubt: Some(step), .. } if stopped_by_doubt => Err(NotStarted::InDoubt(step.into())),
            _ => Ok(()),
        }
    }
}
