//! That this process has not abandoned an operation, though its lease may be over.

use super::Attempt;
use crate::util::signal::lock;

impl Attempt {
    /// From here on this process does not take it for abandoned.
    pub(super) fn hold_on(&self) {
        lock(&self.in_hand).get_or_insert_with(|| self.ledger.in_hand().take(self.key));
    }

    /// The same, unless the work is over: then it is for its end to say.
    pub(super) fn hold_on_while_it_runs(&self) {
        let mut in_hand = lock(&self.in_hand);
        if !self.has_ended() {
            in_hand.get_or_insert_with(|| self.ledger.in_hand().take(self.key));
        }
    }

    /// Others may go on.
    pub(super) fn let_go(&self) {
        lock(&self.in_hand).take();
    }
}
