//! Operators who write the control record at once: no change of theirs is lost.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tower_idempotency::core::{Exchange, Overtaken, Record, Reply, SetControl, StoredResponse, Timestamp, Version};

use crate::canon::{Canon, EPOCH};
use crate::store::{Author, Letter, Mail, Shelf, Task};

/// How often one tries again whose change another one overtook.
const TRIES: u8 = 3;

/// An operator, who adds a line of their own to what the record says, as `Operator::plan` does.
#[derive(Clone, Debug, Hash)]
enum Planner {
    /// About to read, so many times more.
    Reads(u8),
    Writes(Task<SetControl, Result<(), Overtaken>>, u8),
    /// The operator was told that the change is on record.
    Done,
    GaveUp,
}

#[derive(Clone, Debug)]
struct Planning {
    shelf: Shelf,
    planners: Vec<Planner>,
    late: Vec<Letter>,
    faults: u8,
    minted: u64,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Read(usize),
    Store(usize, Delivery),
    Hear(usize),
    Arrive(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Fine,
    ReplyLost,
    Late,
    Twice,
}

/// What must have been seen at least once.
#[derive(Debug, Default)]
struct Seen {
    overtaken: u32,
    lost_and_done: u32,
    late_took: u32,
    late_came_to_nothing: u32,
}

impl Planning {
    fn new(planners: usize, faults: u8) -> Self {
        let planners = vec![Planner::Reads(TRIES); planners];
        Self { shelf: Shelf::new(), planners, late: Vec::new(), faults, minted: 0 }
    }

    fn canonical(&self) -> u64 {
        let mut canon = Canon::new(self.shelf.now);
        (&self.shelf, &self.planners, &self.late, self.faults).hash(&mut canon);
        canon.finish()
    }

    /// The lines that the record has.
    fn lines(&self) -> Vec<u8> {
        let body = self.shelf.record.as_ref().and_then(Record::response).and_then(|content| content.body());
        body.map_or_else(Vec::new, |body| body.to_vec())
    }

    fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (index, planner) in self.planners.iter().enumerate() {
            match planner {
                Planner::Reads(_) => actions.push(Action::Read(index)),
                Planner::Writes(Task { mail: Mail::Asked(request), .. }, _) => {
                    actions.push(Action::Store(index, Delivery::Fine));
                    if self.faults > 0 && request.is_write() {
                        let faults = [Delivery::ReplyLost, Delivery::Late, Delivery::Twice];
                        actions.extend(faults.map(|delivery| Action::Store(index, delivery)));
                    }
                }
                Planner::Writes(..) => actions.push(Action::Hear(index)),
                Planner::Done | Planner::GaveUp => {}
            }
        }
        actions.extend((0..self.late.len()).map(Action::Arrive));
        actions
    }

    fn step(&self, action: Action, seen: &mut Seen) -> Self {
        let mut next = self.clone();
        match action {
            Action::Read(index) => next.read(index),
            Action::Store(index, delivery) => next.store(index, delivery),
            Action::Hear(index) => next.hear(index, seen),
            Action::Arrive(index) => {
                let letter = next.late.remove(index);
                match next.shelf.handle(&letter.request) {
                    Some(Reply::Written) => seen.late_took += 1,
                    _ => seen.late_came_to_nothing += 1,
                }
            }
        }
        next
    }

    /// Reads the record, and is about to write it with a line more. A line that an earlier try
    /// wrote, whose reply was lost, is not written twice.
    fn read(&mut self, index: usize) {
        let Planner::Reads(left) = self.planners[index] else { return };
        let own = b'a' + index as u8;
        let mut lines = self.lines();
        lines.retain(|line| *line != own);
        lines.push(own);
        let content = StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some(Bytes::from(lines)));
        let seen = self.shelf.record.as_ref().map(Record::version);
        self.minted += 1;
        let nonce = Version::new((1 << 60) + self.minted);
        let command = SetControl { seen, content: Arc::new(content) };
        self.planners[index] = Planner::Writes(Task::new(Exchange::looking(command, nonce), Author::Planner), left);
    }

    fn store(&mut self, index: usize, delivery: Delivery) {
        let Planner::Writes(task, _) = &mut self.planners[index] else { return };
        let Mail::Asked(request) = task.mail.clone() else { return };
        let applied = match delivery {
            Delivery::Late => None,
            _ => self.shelf.handle(&request),
        };
        let is_heard = matches!(delivery, Delivery::Fine | Delivery::Twice);
        task.mail = Mail::Said(applied.filter(|_| is_heard).unwrap_or(Reply::Unknown), 0);
        self.faults -= u8::from(delivery != Delivery::Fine);
        if matches!(delivery, Delivery::Late | Delivery::Twice) {
            self.late.push(Letter { request, author: Author::Planner });
        }
    }

    fn hear(&mut self, index: usize, seen: &mut Seen) {
        let Planner::Writes(task, left) = &mut self.planners[index] else { return };
        let sees_itself = task.sees_itself();
        if !task.hear() {
            return;
        }
        let left = *left;
        let done = std::mem::replace(&mut self.planners[index], Planner::GaveUp);
        let Planner::Writes(task, _) = done else { return };
        match task.exchange.finish().map(|done| done.output) {
            Some(Ok(())) => {
                seen.lost_and_done += u32::from(sees_itself);
                self.planners[index] = Planner::Done;
            }
            Some(Err(Overtaken)) if left > 1 => {
                seen.overtaken += 1;
                self.planners[index] = Planner::Reads(left - 1);
            }
            _ => {}
        }
    }

    fn check(&self) {
        let lines = self.lines();
        for (index, planner) in self.planners.iter().enumerate() {
            let own = lines.iter().filter(|line| **line == b'a' + index as u8).count();
            assert!(own <= 1, "a change is made once: {self:#?}");
            assert!(own == 1 || !matches!(planner, Planner::Done), "a change that was confirmed is lost: {self:#?}");
        }
        let far = Timestamp::from_millis(EPOCH + 100 * 365 * 24 * 3600 * 1000);
        assert!(self.shelf.record.as_ref().is_none_or(|record| !record.is_expired(far)), "a control record expires");
    }
}

/// All that can happen, depth first: it is little.
fn explore(planners: usize, faults: u8) -> (usize, Seen) {
    let (mut known, mut seen) = (HashSet::new(), Seen::default());
    let mut open = vec![Planning::new(planners, faults)];
    while let Some(state) = open.pop() {
        if known.insert(state.canonical()) {
            state.check();
            open.extend(state.actions().into_iter().map(|action| state.step(action, &mut seen)));
        }
    }
    (known.len(), seen)
}

#[test]
fn no_change_of_a_control_record_is_lost() {
    for (planners, faults) in [(2, 2), (3, 1)] {
        let (states, seen) = explore(planners, faults);
        println!("control: {planners} operators, {faults} faults: {states} states");
        let Seen { overtaken, lost_and_done, late_took, late_came_to_nothing } = seen;
        let all = [overtaken, lost_and_done, late_took, late_came_to_nothing];
        assert!(all.iter().all(|times| *times > 0), "never reached: {seen:?}");
    }
}
