//! The outside world: what really happened, whatever the records say.

use bytes::Bytes;
use tower_idempotency::core::Version;

/// One life of the key: from its first claim until its answer expired.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Life {
    /// Calls of the gateway. One that honours the key charges once; one that
    /// does not charges every time.
    pub(crate) calls: u8,
    /// Effects of `once`.
    pub(crate) receipts: u8,
    /// Starts of the at-most-once handler, less those that were withdrawn.
    pub(crate) started: u8,
    /// It was accepted, and so it is the service's to finish.
    pub(crate) accepted: bool,
    /// The client has its answer, and the record may go early.
    pub(crate) acknowledged: bool,
    /// How often an operator let it run again.
    pub(crate) allowed: u8,
    /// How often one said that the step did not happen.
    pub(crate) charges_denied: u8,
    pub(crate) receipts_denied: u8,
    /// How often each leg of a trip was booked and undone. The sellers know a
    /// repetition by its key.
    pub(crate) booked: [u8; 2],
    pub(crate) undone: [u8; 2],
    /// The versions at which it ended, and those of which a callback was made.
    pub(crate) ends: Vec<Version>,
    pub(crate) delivered: Vec<Version>,
    /// Those whose callback an operator gave up.
    pub(crate) given_up: Vec<Version>,
    /// The different final answers that clients were given.
    pub(crate) answers: Vec<Bytes>,
}

/// All lives of the key, in their order.
#[derive(Clone, Debug, Hash)]
pub(crate) struct World {
    pub(crate) lives: Vec<Life>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { lives: vec![Life::default()] }
    }

    pub(crate) const fn current(&self) -> u8 {
        self.lives.len() as u8 - 1
    }

    pub(crate) fn life(&mut self, life: u8) -> &mut Life {
        &mut self.lives[usize::from(life)]
    }

    pub(crate) fn rebirth(&mut self) {
        self.lives.push(Life::default());
    }

    pub(crate) fn answer(&mut self, life: u8, answer: Option<&Bytes>) {
        let answer = answer.cloned().unwrap_or_default();
        let answers = &mut self.life(life).answers;
        if !answers.contains(&answer) {
            answers.push(answer);
        }
    }
}
