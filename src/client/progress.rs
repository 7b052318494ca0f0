//! How far an operation is that a server accepted for later.

use serde_json::Value;

/// How far an operation is, as its status resource says.
#[derive(Clone, Debug)]
pub struct Progress(Value);

impl Progress {
    /// The document of a status resource, if it is one.
    pub(super) fn read(document: &[u8]) -> Option<Self> {
        let progress = Self(serde_json::from_slice(document).ok()?);
        (!progress.state().is_empty()).then_some(progress)
    }

    /// `queued`, `running`, `waiting`, `parked` or `complete`: see
    /// [the guide](crate::guide::background).
    pub fn state(&self) -> &str {
        self.0.get("state").and_then(Value::as_str).unwrap_or_default()
    }

    /// How many attempts were begun.
    pub fn attempts(&self) -> u64 {
        self.0.get("attempts").and_then(Value::as_u64).unwrap_or_default()
    }

    /// How many steps are done.
    pub fn steps_done(&self) -> u64 {
        self.0.get("steps_done").and_then(Value::as_u64).unwrap_or_default()
    }

    /// The steps in the order of what happened: their names, and `begun`, `done` or `failed`.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &str)> {
        let steps = self.0.get("steps").and_then(Value::as_array);
        steps.into_iter().flatten().filter_map(|step| Some((step.get("name")?.as_str()?, step.get("state")?.as_str()?)))
    }

    /// No attempt runs any more: it has its response, or waits for an operator.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state(), "complete" | "parked")
    }
}
