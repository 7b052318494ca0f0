//! What one process knows of its operations besides what the store has.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::core::Key;
use crate::engine::in_hand::InHand;
use crate::engine::unsaved::UnsavedAnswers;
use crate::util::signal::{Alarm, Hints};

/// How many claims of unknown outcome are withdrawn at once. A store that is
/// away must not fill the process with tasks that wait for it.
const WITHDRAWING: usize = 256;

/// Shared by all engines that were made of one.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) withdrawing: Arc<Semaphore>,
    /// Rings when an operation that this process released falls due.
    pub(crate) due: Alarm,
    /// What this process has for a completer: accepted, or ended and with a callback
    /// to be made.
    pub(crate) accepted: Hints<Key>,
    /// Responses that could not be stored.
    pub(crate) unsaved: UnsavedAnswers,
    /// What this process still runs, or still has to save.
    pub(crate) in_hand: Arc<InHand>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            withdrawing: Arc::new(Semaphore::new(WITHDRAWING)),
            due: Alarm::default(),
            accepted: Hints::default(),
            unsaved: UnsavedAnswers::default(),
            in_hand: Arc::default(),
        }
    }
}
