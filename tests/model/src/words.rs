//! Traces that can be read.

use std::fmt::Write;

use tower_idempotency::core::{Hold, Intake, Point, Record, Resolution};

use crate::state::{Action, Actor, Delivery, State};
use crate::store::Request;
use crate::worker::whims;

impl State {
    /// What is about to happen.
    pub(crate) fn describe(&self, action: &Action) -> String {
        match action {
            Action::Start(worker, who, Intake::Open) => format!("{} starts on a request of the {who:?}", name(*worker)),
            Action::Start(worker, who, intake) => {
                format!("{}, which takes {intake:?}, starts on a request of the {who:?}", name(*worker))
            }
            Action::Resume(worker) => format!("{} finds the operation, as a completer", name(*worker)),
            Action::Submit(worker, intake) => {
                format!("{}, which takes {intake:?}, starts on a request that is to be done later", name(*worker))
            }
            Action::Acknowledge(worker) => format!("{} hears that the client has its answer", name(*worker)),
            Action::Store(actor, delivery) => self.describe_delivery(*actor, *delivery),
            Action::Arrive(letter) => format!("a late write arrives: {}", words(&self.late[*letter].request)),
            Action::Hear(actor) => format!("{} hears from the store", who(*actor)),
            Action::GiveUp(worker) => format!("{} stops waiting for the store", name(*worker)),
            Action::Charge(worker) => format!("{} charges", name(*worker)),
            Action::Harmless(worker) => format!("{}'s call is refused before anything is charged", name(*worker)),
            Action::Mail(worker) => format!("{} mails the receipt", name(*worker)),
            Action::Run(worker) => format!("{} starts the opaque handler", name(*worker)),
            Action::End(worker, ending) => format!("{}'s handler ends: {ending:?}", name(*worker)),
            Action::Fail(worker) => format!("{}'s handler fails, and may be tried again", name(*worker)),
            Action::Refuse(worker) => format!("{}'s handler fails, for good", name(*worker)),
            Action::Renew(worker) => format!("{} renews its lease", name(*worker)),
            Action::Whim(worker, whim) => format!("{} writes {:?}", name(*worker), whims()[*whim]),
            Action::Crash(worker) => format!("{} crashes", name(*worker)),
            Action::Book(worker) => format!("{} books", name(*worker)),
            Action::Undo(worker) => format!("{} undoes a leg", name(*worker)),
            Action::Succeed(worker) => format!("{}'s handler is done", name(*worker)),
            Action::Aside(worker, ends) => {
                let what = if *ends { "its answer" } else { "a step" };
                format!("{} is about to commit a transaction with {what}", name(*worker))
            }
            Action::Tell(worker) => format!("{} tells of the end", name(*worker)),
            Action::FailToTell(worker) => format!("{} tells of the end, and does not know of it", name(*worker)),
            Action::Tick => "a lease's time passes".into(),
            Action::Purge => "the store drops an expired record".into(),
            Action::EndCallback => "an operator gives the callback up".into(),
            Action::Resolve(resolution) => format!("an operator decides: {}", decision(resolution)),
        }
    }

    fn describe_delivery(&self, actor: Actor, delivery: Delivery) -> String {
        let request = self.request(actor).map_or_else(String::new, words);
        let how = match delivery {
            Delivery::Fine => "",
            Delivery::ReplyLost => ": done, and the reply is lost",
            Delivery::Refused => ": fails",
            Delivery::Late => ": fails, and will be done later",
            Delivery::Twice => ": done, and will be done again later",
        };
        format!("the store is asked by {} to {request}{how}", who(actor))
    }

    /// What the store has, in one line.
    pub(crate) fn summary(&self) -> String {
        let record = self.shelf.record.as_ref().map_or_else(|| "no record".into(), sketch);
        format!("{record}; lives: {:?}", self.world.lives)
    }
}

fn name(worker: usize) -> String {
    ["Ann", "Bob", "Cem"].get(worker).map_or_else(|| format!("worker {worker}"), |name| (*name).to_owned())
}

fn who(actor: Actor) -> String {
    match actor {
        Actor::Worker(worker) => name(worker),
        Actor::Aside(worker) => format!("{}'s transaction", name(worker)),
        Actor::Operator => "the operator".into(),
        Actor::Ender => "the operator of callbacks".into(),
    }
}

fn words(request: &Request) -> String {
    match request {
        Request::Load => "load".into(),
        Request::Remove { expected } => format!("remove {expected:?}"),
        Request::Swap { expected: None, next } => format!("put {}", sketch(next)),
        Request::Swap { expected: Some(expected), next } => format!("replace {expected:?} by {}", sketch(next)),
    }
}

fn sketch(record: &Record) -> String {
    let hold = match record.hold() {
        Hold::Leased { fence, .. } => format!("held under {:?}", fence.version()),
        other => format!("{other:?}"),
    };
    let mut line = format!("{:?} ({:?}, attempt {}, {hold}", record.version(), record.status(), record.attempts());
    for step in record.steps() {
        let point = match step.point() {
            Point::Begun => "begun",
            Point::Saved(_) => "saved",
            Point::Failed(_) => "failed",
            _ => "at a point that is new",
        };
        // Writing to a string does not fail.
        let _ = write!(line, ", {} {point}", step.name());
    }
    if let Some(plan) = record.undoing() {
        let _ = write!(line, ", undoing {:?}, left {:?}", plan.steps(), record.left_to_undo().collect::<Vec<_>>());
    }
    if let Some(owed) = record.pending_callback() {
        let _ = write!(line, ", to be told of {:?}", owed.end());
    }
    line + ")"
}

fn decision(resolution: &Resolution) -> &'static str {
    match resolution {
        Resolution::Respond { .. } => "it happened, and this is the answer",
        Resolution::StepDone { .. } => "the step was done",
        Resolution::DidNotHappen { .. } => "the step did not happen",
        Resolution::Undone { .. } => "the step is undone",
        Resolution::RunAgain => "it may run again",
        Resolution::Park { .. } => "an operator has to decide",
        _ => "a decision that is new",
    }
}
