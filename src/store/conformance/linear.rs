//! Whether a history of concurrent calls is one that a single record, behind
//! a single lock, could have produced.
//!
//! The search of Wing and Gong with the memory of Lowe: take, in every order
//! that real time allows, one call after the other, and never look twice at
//! the same calls with the same state.

use std::collections::HashSet;

/// What one call asked of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the calls of a store that concern one key")]
pub enum Call {
    /// Load.
    Load,
    /// Swap from the version that must be there to another.
    Swap {
        /// The version that must be there; `None` for nothing.
        expected: Option<u64>,
        /// The version to put there.
        next: u64,
    },
    /// Remove.
    Remove {
        /// The version that must be there.
        expected: u64,
    },
}

/// What the store said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "what a store returns for one key")]
pub enum Returned {
    /// To a load, or to a swap that conflicted: this is there.
    Found(Option<u64>),
    /// To a swap: it took.
    Stored,
    /// To a remove: whether it took.
    Removed(bool),
}

/// One call, and when it was made and returned, on a common count of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record of what happened")]
pub struct Event {
    /// What was asked.
    pub call: Call,
    /// When it was asked.
    pub asked: u64,
    /// When it returned, and what. `None` if that is not known: the call may
    /// have taken at any time since it was asked, or never.
    pub answered: Option<(u64, Returned)>,
}

impl Event {
    /// What the record is after this call, if its result is one that the call
    /// would have got from `state`.
    fn step(&self, state: Option<u64>) -> Option<Option<u64>> {
        let (answer, after) = match self.call {
            Call::Load => (Returned::Found(state), state),
            Call::Swap { expected, next } if expected == state => (Returned::Stored, Some(next)),
            Call::Swap { .. } => (Returned::Found(state), state),
            Call::Remove { expected } if state == Some(expected) => (Returned::Removed(true), None),
            Call::Remove { .. } => (Returned::Removed(false), state),
        };
        self.answered.is_none_or(|(_, given)| given == answer).then_some(after)
    }
}

/// Whether some order of these calls explains every result, starting from no
/// record, with every call between the moments it was made and returned.
pub fn is_linearizable(history: &[Event]) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![(Taken::none(history.len()), None)];
    while let Some((taken, state)) = open.pop() {
        let rest = || history.iter().enumerate().filter(|(index, _)| !taken.has(*index));
        // Whatever comes next was asked before any other call returned.
        let Some(first_answer) = rest().filter_map(|(_, event)| event.answered.map(|(at, _)| at)).min() else {
            return true;
        };
        for (index, event) in rest().filter(|(_, event)| event.asked < first_answer) {
            let Some(after) = event.step(state) else { continue };
            let next = (taken.with(index), after);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    false
}

/// Which calls have been taken, one bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Taken(Box<[u64]>);

impl Taken {
    fn none(calls: usize) -> Self {
        Self(vec![0; calls.div_ceil(64)].into())
    }

    fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn with(&self, index: usize) -> Self {
        let mut with = self.clone();
        with.0[index / 64] |= 1 << (index % 64);
        with
    }
}

#[cfg(test)]
mod tests {
    use super::Returned::{Found, Removed, Stored};
    use super::*;

    fn load(asked: u64, answered: u64, found: Option<u64>) -> Event {
        Event { call: Call::Load, asked, answered: Some((answered, Found(found))) }
    }

    fn swap(asked: u64, answered: u64, expected: Option<u64>, next: u64, answer: Returned) -> Event {
        Event { call: Call::Swap { expected, next }, asked, answered: Some((answered, answer)) }
    }

    fn lost(asked: u64, expected: Option<u64>, next: u64) -> Event {
        Event { call: Call::Swap { expected, next }, asked, answered: None }
    }

    fn remove(asked: u64, answered: u64, expected: u64, took: bool) -> Event {
        Event { call: Call::Remove { expected }, asked, answered: Some((answered, Removed(took))) }
    }

    #[test]
    fn accepts_what_can_be_explained() {
        for history in [
            vec![],
            vec![load(0, 1, None), swap(2, 3, None, 7, Stored), load(4, 5, Some(7))],
            // Overlapping calls may take in either order.
            vec![swap(0, 9, None, 7, Stored), load(1, 2, None), load(3, 4, Some(7))],
            vec![swap(0, 9, None, 7, Found(Some(8))), swap(1, 8, None, 8, Stored)],
            vec![swap(0, 1, None, 7, Stored), remove(2, 3, 7, true), swap(4, 5, None, 9, Stored)],
            // A lost swap took late, or never.
            vec![lost(0, None, 7), load(1, 2, None), load(3, 4, Some(7))],
            vec![lost(0, None, 7), load(1, 2, None), swap(3, 4, None, 8, Stored), load(5, 6, Some(8))],
        ] {
            assert!(is_linearizable(&history), "{history:?}");
        }
    }

    #[test]
    fn rejects_two_winners() {
        assert!(!is_linearizable(&[swap(0, 9, None, 7, Stored), swap(1, 8, None, 8, Stored)]));
        let second = swap(3, 6, Some(7), 9, Stored);
        assert!(!is_linearizable(&[swap(0, 1, None, 7, Stored), swap(2, 5, Some(7), 8, Stored), second]));
    }

    #[test]
    fn rejects_a_stale_read() {
        assert!(!is_linearizable(&[swap(0, 1, None, 7, Stored), load(2, 3, None)]));
        let seen = [swap(0, 9, None, 7, Stored), load(1, 2, Some(7)), load(3, 4, None)];
        assert!(!is_linearizable(&seen), "a read went back in time");
    }

    #[test]
    fn rejects_a_read_of_what_was_never_written() {
        assert!(!is_linearizable(&[swap(0, 1, None, 7, Stored), load(2, 3, Some(8))]));
        assert!(!is_linearizable(&[load(0, 1, Some(7)), swap(2, 3, None, 7, Stored)]));
    }

    #[test]
    fn rejects_a_lost_update() {
        let history = [swap(0, 1, None, 7, Stored), swap(2, 3, Some(7), 8, Stored), load(4, 5, Some(7))];
        assert!(!is_linearizable(&history));
    }

    #[test]
    fn rejects_a_removal_that_two_callers_made() {
        assert!(!is_linearizable(&[swap(0, 1, None, 7, Stored), remove(2, 9, 7, true), remove(3, 8, 7, true)]));
    }

    #[test]
    fn rejects_a_conflict_without_cause() {
        assert!(!is_linearizable(&[swap(0, 1, None, 7, Found(None))]));
        assert!(!is_linearizable(&[swap(0, 1, None, 7, Stored), remove(2, 3, 7, false)]));
    }

    #[test]
    fn rejects_a_lost_swap_that_comes_and_goes() {
        let history = [lost(0, None, 7), load(1, 2, Some(7)), load(3, 4, None)];
        assert!(!is_linearizable(&history));
    }
}
