//! What a step depends on.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::StepError;
use super::finite::to_json;
use crate::core::canonical;
use crate::engine::attempt::Attempt;

/// A short hash of what a step depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Input {
    /// Of its canonical form; this is stored.
    pub(super) hash: u64,
    /// Of its bytes as they were written, which earlier releases stored.
    as_written: u64,
}

impl Input {
    pub(super) fn of<I: Serialize + ?Sized>(input: &I) -> serde_json::Result<Self> {
        let json = to_json(input)?;
        Ok(Self { hash: short(&canonical(&json)), as_written: short(&json) })
    }

    const fn is(self, stored: u64) -> bool {
        self.hash == stored || self.as_written == stored
    }
}

fn short(json: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(json).into();
    digest.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// Whether an earlier attempt wrote `step` with another input.
pub(super) fn check<E>(attempt: &Attempt, step: &str, given: Option<Input>) -> Result<(), StepError<E>> {
    let stored = attempt.claimed().step(step).and_then(|step| Some((step.input()?, step.attempt())));
    match (stored, given) {
        (Some((stored, attempt)), Some(given)) if !given.is(stored) => {
            Err(StepError::InputChanged { step: step.to_owned(), stored, given: given.hash, attempt })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::Input;

    fn input<I: Serialize>(input: &I) -> Input {
        Input::of(input).unwrap()
    }

    /// A rollout must not turn a retry into another question.
    #[test]
    fn what_an_earlier_release_hashed_is_known_again() {
        #[derive(Serialize)]
        struct Order {
            item: &'static str,
            amount: u32,
        }
        // Of `{"item":"A-17","amount":1999}`, as SHA-256 begins with.
        let former = 0x8163_2427_2319_a711;
        let order = input(&Order { item: "A-17", amount: 1999 });
        assert_ne!(order.hash, former, "its members have another order now");
        assert!(order.is(former) && order.is(order.hash) && !order.is(1));
        assert!(!input(&Order { item: "A-17", amount: 2000 }).is(former));
    }
}
