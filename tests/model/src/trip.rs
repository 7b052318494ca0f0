//! A trip: two legs are booked, and if the handler then fails for good they are
//! undone, as `operation::undo` does it.

use std::sync::Arc;

use bytes::Bytes;
use tower_idempotency::core::{Change, Exchange, Fenced, Point, Reached, Version};

use crate::store::{Author, Task};
use crate::worker::{Attempt, FencedTask, RETENTION, Stage, response};

/// In the order in which they are booked.
pub(crate) const LEGS: [&str; 2] = ["flight", "hotel"];
/// What a transaction beside them does.
pub(crate) const ASIDE: &str = "meal";

pub(crate) fn booked() -> Bytes {
    Bytes::from_static(b"booked")
}

/// The leg's place in the books of the world.
pub(crate) fn leg(step: &str) -> Option<usize> {
    LEGS.iter().position(|leg| *leg == step)
}

impl Attempt {
    /// One move of the handler. What is on record as undone stays so, whatever it
    /// wants.
    pub(crate) fn go_on_trip(&mut self, nonce: Version) {
        let left: Option<Box<str>> = self.record.left_to_undo().next().map(Into::into);
        match (self.stage, left) {
            (Stage::Undo, Some(_)) => self.stage = Stage::Undoing,
            // What it answers now does not count.
            (Stage::Undo, None) => self.write(self.failure(), Stage::Over, nonce),
            (Stage::Plan, _) => {
                let response = response(format!("sold out, says attempt {}", self.record.attempts()).into());
                let steps = LEGS.into_iter().map(Box::from).collect();
                self.write(Change::Undo { steps, response }, Stage::Undo, nonce);
            }
            _ if self.record.undoing().is_some() => self.stage = Stage::Undo,
            _ => match self.next_leg() {
                None => self.stage = Stage::Decide,
                Some(leg) if self.point(leg) == Some(&Point::Begun) => self.stage = Stage::Booking,
                Some(leg) => self.begin(leg, Stage::Booking, nonce),
            },
        }
    }

    /// The first one that is not booked, as far as is known.
    pub(crate) fn next_leg(&self) -> Option<&'static str> {
        LEGS.into_iter().find(|leg| !matches!(self.point(leg), Some(Point::Saved(_))))
    }

    fn failure(&self) -> Change {
        let response = response(format!("whatever attempt {} says", self.record.attempts()).into());
        Change::Complete { response, retention: RETENTION, reached: Reached::All }
    }

    /// Starts a transaction beside the other writes: with a step, or with the answer.
    pub(crate) fn start_aside(&mut self, ends: bool, nonce: Version) {
        let change = if ends {
            Change::Complete { response: response(booked()), retention: RETENTION, reached: Reached::All }
        } else {
            Change::Save { step: ASIDE.into(), value: Bytes::from_static(b"rows") }
        };
        let command = Fenced { fence: self.fence, changes: vec![change] };
        let author = Author::Holder(command.clone());
        let exchange = Exchange::guessing(command, nonce, Some(Arc::new(self.record.clone())));
        self.aside = Some(Task::new(exchange, author));
    }
}

/// Whether what a transaction is about to write is what it is about: otherwise it is
/// rolled back.
pub(crate) fn is_worth_it(task: &FencedTask) -> bool {
    let (Author::Holder(command), Some(next)) = (&task.author, task.exchange.writes()) else { return true };
    match command.changes.first() {
        Some(Change::Complete { response, .. }) => next.response() == Some(response),
        _ => next.step(ASIDE).is_some(),
    }
}
