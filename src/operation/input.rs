//! What a step depends on.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::StepError;
use crate::attempt::Attempt;

/// A short hash. What can't be written as JSON has one of its own, so that it
/// is told from what can.
pub(super) fn hash<I: Serialize + ?Sized>(input: &I) -> u64 {
    let json = serde_json::to_vec(input).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(&json).into();
    digest.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// Whether an earlier attempt wrote `step` with another input.
pub(super) fn check<E>(attempt: &Attempt, step: &str, given: Option<u64>) -> Result<(), StepError<E>> {
    let stored = attempt.claimed().step(step).and_then(|step| Some((step.input()?, step.attempt())));
    match (stored, given) {
        (Some((stored, attempt)), Some(given)) if stored != given => {
            Err(StepError::InputChanged { step: step.to_owned(), stored, given, attempt })
        }
        _ => Ok(()),
    }
}
