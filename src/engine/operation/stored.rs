//! What is on record of a step, read back.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StepError;
use super::result;
use super::step::Step;

impl<T, E> Step<'_, T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync,
    E: Send,
{
    pub(super) fn decode(&self, value: &[u8]) -> Result<T, StepError<E>> {
        serde_json::from_slice(value).map_err(|source| self.unreadable_now(value, source))
    }

    pub(super) fn decode_final(&self, error: &[u8]) -> StepError<E> {
        let Some(finals) = &self.finals else {
            let missing = "an earlier attempt stored a final error, and this step has no `final_when`";
            return self.unreadable(serde::de::Error::custom(missing));
        };
        match (finals.decode)(error) {
            Ok(error) => StepError::Final(error),
            Err(source) => self.unreadable_now(error, source),
        }
    }

    /// What is on record can't be read now. What no release can read parks the
    /// operation, for this attempt needs it.
    fn unreadable_now(&self, stored: &[u8], source: serde_json::Error) -> StepError<E> {
        if result::is_unreadable(stored) {
            let why = format!("step {:?} was done, and its result could not be written as JSON", self.name);
            self.operation.attempt.park(&self.name, &why);
        }
        self.unreadable(source)
    }

    pub(super) fn unreadable(&self, source: serde_json::Error) -> StepError<E> {
        StepError::Unreadable { step: self.name.to_string(), source }
    }
}
