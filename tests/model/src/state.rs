//! A state of the model, and what can happen next in it.

use std::hash::Hash;

use tower_idempotency::core::{
    EndCallback, Hold, Intake, NotEnded, NotResolved, Point, Resolution, Resolve, Status, Version,
};

use crate::budget::{Budget, Kind};
use crate::canon::Canon;
use crate::store::{Letter, Mail, Request, Shelf, Task};
use crate::telling::Telling;
use crate::worker::{Attempt, Program, Stage, Who, Worker, whims};
use crate::world::World;

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) program: Program,
    pub(crate) shelf: Shelf,
    pub(crate) workers: Vec<Worker>,
    pub(crate) operator: Option<Task<Resolve, Result<(), NotResolved>>>,
    /// Another operator, who gives the callback up.
    pub(crate) ender: Option<Task<EndCallback, Result<(), NotEnded>>>,
    pub(crate) late: Vec<Letter>,
    pub(crate) world: World,
    pub(crate) budget: Budget,
    /// How many versions were drawn. Not part of the state: only that they
    /// differ counts.
    minted: u64,
}

/// Who waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Worker(usize),
    /// The transaction of its handler.
    Aside(usize),
    Operator,
    Ender,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Fine,
    ReplyLost,
    Refused,
    Late,
    Twice,
}

/// How the opaque handler ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    Nothing,
    Panic,
}

/// One atomic step.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// In a process that takes so much: processes hear of windows at different times.
    Start(usize, Who, Intake),
    Resume(usize),
    Submit(usize, Intake),
    Acknowledge(usize),
    Store(Actor, Delivery),
    Arrive(usize),
    Hear(Actor),
    GiveUp(usize),
    Charge(usize),
    /// The gateway refuses the call: this one did not happen.
    Harmless(usize),
    Mail(usize),
    Run(usize),
    End(usize, Ending),
    Fail(usize),
    /// The handler answers that it failed; if it was granted just now, before it
    /// came to anything.
    Refuse(usize),
    Book(usize),
    Undo(usize),
    /// The handler is content.
    Succeed(usize),
    /// A transaction begins; `true`: with the answer.
    Aside(usize, bool),
    /// The end is told; the second one without knowing of it.
    Tell(usize),
    FailToTell(usize),
    Renew(usize),
    Whim(usize, usize),
    Crash(usize),
    Tick,
    Purge,
    Resolve(Resolution),
    EndCallback,
}

impl Action {
    /// Whose handler acts, if one does.
    pub(crate) const fn of_handler(&self) -> Option<usize> {
        match self {
            Self::Charge(worker) | Self::Harmless(worker) | Self::Mail(worker) | Self::Run(worker) => Some(*worker),
            Self::Book(worker) | Self::Undo(worker) | Self::Succeed(worker) | Self::Aside(worker, _) => Some(*worker),
            Self::Refuse(worker)
            | Self::End(worker, _)
            | Self::Fail(worker)
            | Self::Renew(worker)
            | Self::Whim(worker, _) => Some(*worker),
            _ => None,
        }
    }
}

impl State {
    pub(crate) fn new(program: Program, workers: usize, budget: Budget) -> Self {
        Self {
            program,
            shelf: Shelf::new(),
            workers: vec![Worker::Idle; workers],
            operator: None,
            ender: None,
            late: Vec::new(),
            world: World::new(),
            budget,
            minted: 0,
        }
    }

    /// A version that was never there.
    pub(crate) fn mint(&mut self) -> Version {
        mint(&mut self.minted)
    }

    /// What tells this state from others: the same for all orders of the
    /// workers, and whatever the versions are.
    pub(crate) fn canonical(&self) -> u64 {
        orders(self.workers.len()).iter().map(|order| self.hash_in(order)).min().unwrap_or_default()
    }

    fn hash_in(&self, order: &[usize]) -> u64 {
        let mut canon = Canon::new(self.shelf.now);
        self.shelf.hash(&mut canon);
        order.iter().for_each(|index| self.workers[*index].hash(&mut canon));
        (&self.late, &self.operator, &self.ender, &self.world, &self.budget).hash(&mut canon);
        std::hash::Hasher::finish(&canon)
    }

    /// Everything that can happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.clients(&mut actions);
        for (index, worker) in self.workers.iter().enumerate() {
            self.of_worker(index, worker, &mut actions);
        }
        if let Some(task) = &self.operator {
            self.of_mail(Actor::Operator, &task.mail, &mut actions);
        }
        if let Some(task) = &self.ender {
            self.of_mail(Actor::Ender, &task.mail, &mut actions);
        }
        actions.extend((0..self.late.len()).map(Action::Arrive));
        if self.shelf.record.is_some() && self.budget.allows(Kind::Tick) {
            actions.push(Action::Tick);
        }
        if self.shelf.has_expired() && self.budget.allows(Kind::Purge) {
            actions.push(Action::Purge);
        }
        if self.operator.is_none() && self.budget.allows(Kind::Resolve) {
            actions.extend(self.resolutions().into_iter().map(Action::Resolve));
        }
        let owes = self.shelf.record.as_ref().is_some_and(|record| record.pending_callback().is_some());
        if owes && self.ender.is_none() && self.budget.allows(Kind::EndCallback) {
            actions.push(Action::EndCallback);
        }
        actions
    }

    /// Idle workers are alike, so one is enough.
    fn clients(&self, actions: &mut Vec<Action>) {
        let Some(idle) = self.workers.iter().position(|worker| matches!(worker, Worker::Idle)) else { return };
        if self.budget.allows(Kind::Request) {
            actions.push(Action::Start(idle, Who::Owner, Intake::Open));
        }
        if self.shelf.record.is_some() && self.budget.allows(Kind::Stranger) {
            actions.push(Action::Start(idle, Who::Stranger, Intake::Open));
        }
        if self.shelf.record.is_some() && self.budget.allows(Kind::Resume) {
            actions.push(Action::Resume(idle));
        }
        if self.budget.allows(Kind::Submit) {
            actions.push(Action::Submit(idle, Intake::Open));
        }
        if self.budget.allows(Kind::Window) {
            for intake in [Intake::OnRecord, Intake::Closed] {
                actions.extend([Action::Start(idle, Who::Owner, intake), Action::Submit(idle, intake)]);
            }
        }
        if self.shelf.record.is_some() && self.budget.allows(Kind::Acknowledge) {
            actions.push(Action::Acknowledge(idle));
        }
    }

    fn of_worker(&self, index: usize, worker: &Worker, actions: &mut Vec<Action>) {
        if matches!(worker, Worker::Idle) {
            return;
        }
        if self.budget.allows(Kind::Crash) {
            actions.push(Action::Crash(index));
        }
        if let Some(mail) = worker.mail() {
            self.of_mail(Actor::Worker(index), mail, actions);
            let may_give_up = !matches!(worker, Worker::Disowning(..)) && mail.is_unknown();
            if may_give_up && self.budget.allows(Kind::GiveUp) {
                actions.push(Action::GiveUp(index));
            }
        }
        let heard = matches!(worker.mail(), Some(Mail::Said(..))) && worker.attempt().is_none();
        let early = heard && worker.may_be_granted() && self.program == Program::Payment;
        if early && self.budget.allows(Kind::Refuse) {
            actions.push(Action::Refuse(index));
        }
        if let Worker::Telling(Telling { task: None, called: false, .. }) = worker {
            actions.push(Action::Tell(index));
            if self.budget.allows(Kind::Fail) {
                actions.push(Action::FailToTell(index));
            }
        }
        match worker.attempt().map(|attempt| (attempt, &attempt.aside)) {
            Some((_, Some(task))) => self.of_mail(Actor::Aside(index), &task.mail, actions),
            Some((attempt, None)) if attempt.program.is_trip() && self.budget.allows(Kind::Aside) => {
                actions.extend([false, true].map(|ends| Action::Aside(index, ends)));
            }
            _ => {}
        }
        if let Some(attempt) = worker.attempt().filter(|attempt| attempt.write.is_none()) {
            self.of_handler(index, attempt, actions);
        }
    }

    fn of_mail(&self, actor: Actor, mail: &Mail, actions: &mut Vec<Action>) {
        let Mail::Asked(request) = mail else { return actions.push(Action::Hear(actor)) };
        let mut may = |kind, delivery| {
            if self.budget.allows(kind) {
                actions.push(Action::Store(actor, delivery));
            }
        };
        may(Kind::Error, Delivery::Refused);
        if request.is_write() {
            may(Kind::Lost, Delivery::ReplyLost);
            may(Kind::Late, Delivery::Late);
            may(Kind::Twice, Delivery::Twice);
        }
        actions.push(Action::Store(actor, Delivery::Fine));
    }

    fn of_handler(&self, index: usize, attempt: &Attempt, actions: &mut Vec<Action>) {
        let fails = self.budget.allows(Kind::Fail);
        match attempt.stage {
            Stage::Charging { .. } => {
                actions.push(Action::Charge(index));
                actions.extend(fails.then_some(Action::Harmless(index)));
            }
            Stage::Mailing => actions.push(Action::Mail(index)),
            Stage::Opaque => actions.push(Action::Run(index)),
            Stage::Booking => actions.push(Action::Book(index)),
            Stage::Undoing => actions.push(Action::Undo(index)),
            Stage::Decide => {
                actions.push(Action::Succeed(index));
                actions.extend(self.budget.allows(Kind::Refuse).then_some(Action::Refuse(index)));
            }
            Stage::Running => {
                actions.push(Action::End(index, Ending::Done));
                if fails {
                    actions.push(Action::End(index, Ending::Nothing));
                    actions.push(Action::End(index, Ending::Panic));
                }
            }
            Stage::Whim if self.budget.allows(Kind::Whim) => {
                actions.extend((0..whims().len()).map(|whim| Action::Whim(index, whim)));
            }
            _ => {}
        }
        if fails && !matches!(attempt.program, Program::Opaque | Program::Whimsical) {
            actions.push(Action::Fail(index));
        }
        if attempt.program == Program::Payment && self.budget.allows(Kind::Refuse) {
            actions.push(Action::Refuse(index));
        }
        if self.budget.allows(Kind::Renew) {
            actions.push(Action::Renew(index));
        }
    }

    /// What an operator could decide. The core has to refuse it where someone
    /// holds the operation.
    fn resolutions(&self) -> Vec<Resolution> {
        let Some(record) = self.shelf.record.as_ref().filter(|record| record.status() != Status::Complete) else {
            return Vec::new();
        };
        let begun = |name: &&str| record.step(name).is_some_and(|step| *step.point() == Point::Begun);
        let deny = |name: &str| Resolution::DidNotHappen { step: name.into() };
        let mut all: Vec<_> = ["charge", "receipt"].iter().filter(|name| begun(name)).map(|name| deny(name)).collect();
        all.push(Resolution::RunAgain);
        if self.program == Program::CallsBack {
            all.push(Resolution::Park { why: "look again".into() });
        }
        let parked = matches!(record.hold(), Hold::Parked { .. });
        if parked {
            all.push(Resolution::StepDone { step: "receipt".into(), value: "receipt by hand;".into() });
        }
        // The answer that a reconciler found is the one that the handler gave,
        // if it gave any.
        if parked || self.program != Program::Payment {
            let body = if matches!(self.program, Program::Opaque | Program::CallsBack) { "done" } else { "by hand" };
            all.push(Resolution::Respond {
                response: crate::worker::response(body.into()),
                retention: crate::worker::RETENTION,
            });
        }
        all
    }

    /// Whether only faults could happen from here on.
    pub(crate) fn is_quiet(&self) -> bool {
        self.operator.is_none()
            && self.ender.is_none()
            && self.workers.iter().all(|worker| matches!(worker, Worker::Idle))
    }

    pub(crate) fn take_version(&mut self) -> impl FnMut() -> Version + use<> {
        // The worker borrows itself from the state, so the source is taken out
        // for that long, and versions skipped rather than shared.
        let mut from = self.minted;
        self.minted += 4;
        move || mint(&mut from)
    }

    pub(crate) fn request(&self, actor: Actor) -> Option<&Request> {
        match actor {
            Actor::Worker(index) => self.workers[index].mail()?.request(),
            Actor::Aside(index) => self.workers[index].attempt()?.aside.as_ref()?.mail.request(),
            Actor::Operator => self.operator.as_ref()?.mail.request(),
            Actor::Ender => self.ender.as_ref()?.mail.request(),
        }
    }
}

/// Fresh for every write. Large, so that they are told from other numbers.
const fn mint(minted: &mut u64) -> Version {
    *minted += 1;
    Version::new((1 << 60) + *minted)
}

fn orders(workers: usize) -> &'static [&'static [usize]] {
    match workers {
        1 => &[&[0]],
        2 => &[&[0, 1], &[1, 0]],
        _ => &[&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]],
    }
}
