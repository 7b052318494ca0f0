//! How much may go wrong.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A client's request.
    Request,
    /// A client with the same key and another body.
    Stranger,
    Crash,
    Tick,
    Purge,
    /// Applied, and the reply lost.
    Lost,
    /// Not applied, and an error.
    Error,
    /// Applied after the error.
    Late,
    /// Applied, and delivered once more later.
    Twice,
    GiveUp,
    Renew,
    /// The handler fails, panics or says that nothing happened.
    Fail,
    /// The handler says that it failed, for good.
    Refuse,
    Resolve,
    /// A completer that found the operation.
    Resume,
    /// A client that wants it done later.
    Submit,
    /// A client that has its answer.
    Acknowledge,
    /// A transaction beside the handler's other steps.
    Aside,
    /// A write of the handler that does as it likes.
    Whim,
    /// A request to a process that drains, or that a maintenance window covers.
    Window,
    /// An operator who gives a callback up.
    EndCallback,
}

const KINDS: usize = Kind::EndCallback as usize + 1;

/// What is left of each kind, and of all faults together.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Budget {
    left: [u8; KINDS],
    faults: u8,
}

impl Kind {
    /// Whether it counts against the total.
    const fn is_fault(self) -> bool {
        use Kind::{Crash, Error, Fail, GiveUp, Late, Lost, Tick, Twice};
        matches!(self, Crash | Tick | Lost | Error | Late | Twice | GiveUp | Fail)
    }
}

impl Budget {
    pub(crate) fn new(faults: u8, left: &[(Kind, u8)]) -> Self {
        let mut budget = Self { left: [0; KINDS], faults };
        for (kind, count) in left {
            budget.left[*kind as usize] = *count;
        }
        budget
    }

    /// At least this many requests: without, further workers would idle.
    pub(crate) fn for_workers(mut self, workers: usize) -> Self {
        let requests = &mut self.left[Kind::Request as usize];
        if workers > 2 {
            *requests = (*requests).max(workers as u8);
        }
        self
    }

    pub(crate) const fn allows(&self, kind: Kind) -> bool {
        self.left[kind as usize] > 0 && (!kind.is_fault() || self.faults > 0)
    }

    pub(crate) const fn spend(&mut self, kind: Kind) {
        self.left[kind as usize] -= 1;
        if kind.is_fault() {
            self.faults -= 1;
        }
    }

    /// No client any more, only completers.
    pub(crate) fn last_completers() -> Self {
        Self::new(1, &[(Kind::Resume, 2), (Kind::Tick, 1)])
    }

    /// One more client, and completers that tell.
    pub(crate) fn last_tellers() -> Self {
        Self::new(1, &[(Kind::Request, 1), (Kind::Resume, 3), (Kind::Tick, 1)])
    }

    /// One more client, one more lapse of time, and nothing else.
    pub(crate) fn last_round() -> Self {
        Self::new(1, &[(Kind::Request, 1), (Kind::Tick, 1)])
    }
}
