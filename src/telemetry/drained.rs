//! What a drain left.

use std::fmt;

use crate::core::{Key, Mode};

/// How many operations its sentence names.
const NAMED: usize = 10;

/// What had not ended when a [drain](crate::IdempotencyLayer::drain) was over.
///
/// Its [`Display`](fmt::Display) is one sentence, for the log.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared());
/// let drained = layer.drain(Duration::from_secs(20)).await;
/// assert!(drained.is_empty());
/// assert_eq!(drained.to_string(), "drained: all that was begun has ended");
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The operations whose handler still ran, or whose end was not stored yet, by key.
    pub operations: Vec<Unfinished>,
    /// How much else was under way: claims on their way to the store or back from it, and
    /// callbacks. What these are about is on record.
    pub others: usize,
}

/// An operation that a drain left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// What it is stored under.
    pub key: Key,
    /// Which attempt it is; the first is 1.
    pub attempt: u32,
    /// A [resumable](Mode::Resumable) one is resumed, by a retry or a completer of another
    /// process, once its lease is over. Of one in at-most-once mode the outcome is unknown
    /// then.
    pub mode: Mode,
}

impl Unfinished {
    pub(crate) const fn new(key: Key, attempt: u32, mode: Mode) -> Self {
        Self { key, attempt, mode }
    }
}

impl Drained {
    /// Whether all that was begun has ended.
    pub const fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.others == 0
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("drained: all that was begun has ended");
        }
        let (operations, others) = (self.operations.len(), self.others);
        write!(f, "drained until the deadline: operations left: {operations}")?;
        for (n, left) in self.operations.iter().take(NAMED).enumerate() {
            let mode = if left.mode == Mode::Resumable { "resumable" } else { "at-most-once" };
            let before = if n == 0 { " (" } else { "; " };
            write!(f, "{before}{}, attempt {}, {mode}", left.key, left.attempt)?;
        }
        match operations {
            0 => {}
            1..=NAMED => f.write_str(")")?,
            _ => write!(f, "; and {} more)", operations - NAMED)?,
        }
        write!(f, ", other tasks left: {others}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(count: usize) -> String {
        let operation = Unfinished::new(Key::from_bytes([7; 32]), 2, Mode::Resumable);
        Drained { operations: vec![operation; count], others: 3 }.to_string()
    }

    #[test]
    fn it_is_one_sentence_however_much_was_left() {
        assert_eq!(left(0), "drained until the deadline: operations left: 0, other tasks left: 3");
        let one = left(1);
        assert!(one.ends_with(", attempt 2, resumable), other tasks left: 3"), "{one}");
        let key = Key::from_bytes([7; 32]).to_string();
        assert_eq!(left(10).matches(&key).count(), 10);
        assert!(!left(10).contains("more"));
        assert_eq!(left(10_000).matches(&key).count(), NAMED);
        assert!(left(10_000).ends_with("; and 9990 more), other tasks left: 3"));
    }
}
