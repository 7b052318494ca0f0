//! Whoever runs a request: claim, work, answer, as `run` and `attempt` do it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use tower_idempotency::core::{
    Acknowledge, Change, Claim, Claimed, Exchange, Fence, Fenced, Fingerprint, Intake, Labels, Lost, Mode,
    NotAcknowledged, Point, Reached, Record, Reply, Resume, Resumed, StoredRequest, StoredResponse, Submit, Submitted,
    Version,
};

use crate::canon::TICK;
use crate::store::{Author, Mail, Request, Task};
use crate::telling::Telling;

pub(crate) const LEASE: Duration = Duration::from_millis(TICK);
pub(crate) const RETENTION: Duration = Duration::from_millis(TICK);
/// How often a completer lets an operation be tried.
const TRIES: u32 = 3;

/// What the handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Program {
    /// Step "order", pay "charge", once "receipt", answer.
    Payment,
    /// An effect nobody knows anything about, run at most once.
    Opaque,
    /// Two legs are booked, and undone if the handler then says that it failed for
    /// good.
    Trip,
    /// Nothing but a response, or that an operator has to decide; and a callback is made.
    CallsBack,
    /// The trip, whose end is told.
    TripCallsBack,
    /// Any change in any order: what no sane handler does.
    Whimsical,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Owner,
    /// The same key, and another body.
    Stranger,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum Worker {
    Idle,
    Claiming(Task<Claim, Claimed>),
    /// A completer that found the operation.
    Resuming(Task<Resume, Resumed>),
    /// Accepts the operation for later, and runs nothing.
    Submitting(Task<Submit, Submitted>),
    /// Its client has the answer.
    Acknowledging(Task<Acknowledge, Result<(), NotAcknowledged>>),
    Holding(Attempt),
    /// A completer that makes a callback.
    Telling(Telling),
    /// Takes back a claim nobody knows the fate of; so many looks are left.
    Disowning(FencedTask, u8),
}

pub(crate) type FencedTask = Task<Fenced, Result<(), Lost>>;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Attempt {
    pub(crate) fence: Fence,
    pub(crate) life: u8,
    pub(crate) program: Program,
    /// As it was last written.
    pub(crate) record: Record,
    pub(crate) stage: Stage,
    pub(crate) write: Option<FencedTask>,
    pub(crate) answered: bool,
    /// A transaction on its way, beside the handler's other writes.
    pub(crate) aside: Option<FencedTask>,
    /// It came to the charge.
    pub(crate) reached: bool,
}

/// Where the handler is; while a write is under way, where it goes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Order,
    Charge,
    /// About to call the gateway. `ours`: the intent was written by this
    /// attempt, so no earlier call can have been made.
    Charging {
        ours: bool,
    },
    Receipt,
    Mailing,
    Answer,
    /// About to start the opaque handler, and in it.
    Opaque,
    Running,
    Whim,
    /// About to book, or to book again.
    Leg,
    Booking,
    /// All is booked; says whether that is good.
    Decide,
    Plan,
    Undo,
    Undoing,
    /// Answers that it failed, whatever it came to.
    Refuse,
    Release,
    Over,
}

impl Program {
    /// Whether its end is told.
    pub(crate) const fn calls_back(self) -> bool {
        matches!(self, Self::CallsBack | Self::TripCallsBack)
    }

    pub(crate) const fn is_trip(self) -> bool {
        matches!(self, Self::Trip | Self::TripCallsBack)
    }

    fn mode(self) -> Mode {
        if self == Self::Opaque { Mode::AtMostOnce } else { Mode::Resumable }
    }
}

impl Who {
    pub(crate) fn fingerprint(self) -> Fingerprint {
        let byte = match self {
            Self::Owner => 1,
            Self::Stranger => 2,
        };
        Fingerprint::from_bytes([byte; 32])
    }
}

/// Starts as `run::claim` does: with the guess that nothing is there.
pub(crate) fn claiming(program: Program, who: Who, intake: Intake, nonce: Version) -> Worker {
    let claim = Claim {
        fingerprint: who.fingerprint(),
        mode: program.mode(),
        lease: LEASE,
        request: Some(request()),
        labels: Labels::new(),
    };
    let author = Author::Claim(claim.clone(), intake);
    let exchange = Exchange::guessing(claim, nonce, None).calling_back(program.calls_back()).taking(intake);
    Worker::Claiming(Task::new(exchange, author))
}

/// Starts as a completer does: with a look.
pub(crate) fn resuming(nonce: Version) -> Worker {
    let resume = Resume { lease: LEASE, max_tries: TRIES, max_age: Duration::MAX, outgoing: false };
    let author = Author::Completer(resume.clone());
    Worker::Resuming(Task::new(Exchange::looking(resume, nonce), author))
}

/// Starts as `Guarded::submit` does: with the guess that nothing is there.
pub(crate) fn submitting(program: Program, intake: Intake, nonce: Version) -> Worker {
    let fingerprint = Who::Owner.fingerprint();
    let submit = Submit {
        fingerprint,
        mode: program.mode(),
        request: request(),
        room: true,
        lease: None,
        labels: Labels::new(),
        outgoing: false,
    };
    let author = Author::Submit(submit.clone(), intake);
    Worker::Submitting(Task::new(Exchange::guessing(submit, nonce, None).taking(intake), author))
}

/// Starts as `StatusService::acknowledge` does: with the same guess, and so a
/// look.
pub(crate) fn acknowledging(nonce: Version) -> Worker {
    let acknowledge = Acknowledge { grace: Duration::ZERO };
    Worker::Acknowledging(Task::new(Exchange::guessing(acknowledge, nonce, None), Author::Acknowledge(acknowledge)))
}

fn request() -> Arc<StoredRequest> {
    Arc::new(StoredRequest::capture(&Method::POST, &Uri::from_static("/"), &HeaderMap::new(), Bytes::new()))
}

pub(crate) fn disowning(fence: Fence, nonce: Version, looks: u8) -> Worker {
    let command = Fenced { fence, changes: vec![Change::Withdraw] };
    let author = Author::Holder(command.clone());
    Worker::Disowning(Task::new(Exchange::looking(command, nonce), author), looks)
}

impl Worker {
    pub(crate) const fn mail(&self) -> Option<&Mail> {
        match self {
            Self::Idle => None,
            Self::Claiming(task) => Some(&task.mail),
            Self::Resuming(task) => Some(&task.mail),
            Self::Submitting(task) => Some(&task.mail),
            Self::Acknowledging(task) => Some(&task.mail),
            Self::Telling(Telling { task: Some(task), .. }) => Some(&task.mail),
            Self::Telling(_) => None,
            Self::Disowning(task, _) => Some(&task.mail),
            Self::Holding(Attempt { write: Some(task), .. }) => Some(&task.mail),
            Self::Holding(_) => None,
        }
    }

    pub(crate) const fn asked(&mut self) -> Option<(&mut Mail, &Author)> {
        match self {
            Self::Idle => None,
            Self::Claiming(task) => Some((&mut task.mail, &task.author)),
            Self::Resuming(task) => Some((&mut task.mail, &task.author)),
            Self::Submitting(task) => Some((&mut task.mail, &task.author)),
            Self::Acknowledging(task) => Some((&mut task.mail, &task.author)),
            Self::Telling(Telling { task: Some(task), .. }) => Some((&mut task.mail, &task.author)),
            Self::Telling(_) => None,
            Self::Disowning(task, _) => Some((&mut task.mail, &task.author)),
            Self::Holding(Attempt { write: Some(task), .. }) => Some((&mut task.mail, &task.author)),
            Self::Holding(_) => None,
        }
    }

    pub(crate) fn note(&mut self, version: Version, life: u8) {
        match self {
            Self::Idle => {}
            Self::Claiming(task) => task.note(version, life),
            Self::Resuming(task) => task.note(version, life),
            Self::Submitting(task) => task.note(version, life),
            Self::Acknowledging(task) => task.note(version, life),
            Self::Telling(telling) => telling.task.iter_mut().for_each(|task| task.note(version, life)),
            Self::Disowning(task, _) => task.note(version, life),
            Self::Holding(attempt) => {
                attempt.write.iter_mut().chain(&mut attempt.aside).for_each(|task| task.note(version, life));
            }
        }
    }

    /// Whether it holds, or may be about to be told that it holds, this claim.
    pub(crate) fn acts_under(&self, fence: Fence) -> bool {
        match self {
            Self::Claiming(task) => Fence::of(task.exchange.nonce()) == fence,
            Self::Resuming(task) => Fence::of(task.exchange.nonce()) == fence,
            Self::Holding(attempt) => attempt.fence == fence,
            Self::Idle | Self::Submitting(_) | Self::Acknowledging(_) | Self::Telling(_) | Self::Disowning(..) => false,
        }
    }

    pub(crate) const fn may_be_granted(&self) -> bool {
        matches!(self, Self::Claiming(_) | Self::Resuming(_))
    }

    pub(crate) const fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Holding(attempt) => Some(attempt),
            _ => None,
        }
    }
}

impl Attempt {
    pub(crate) const fn new(program: Program, fence: Fence, life: u8, record: Record) -> Self {
        let stage = match program {
            Program::Payment => Stage::Order,
            Program::Opaque => Stage::Opaque,
            Program::Trip | Program::TripCallsBack => Stage::Leg,
            Program::CallsBack => Stage::Decide,
            Program::Whimsical => Stage::Whim,
        };
        Self { fence, life, program, record, stage, write: None, answered: false, aside: None, reached: false }
    }

    /// Starts a write, as `Attempt::exchange` does: with what was last written
    /// as the guess.
    pub(crate) fn write(&mut self, change: Change, then: Stage, nonce: Version) {
        let rests = (change == Change::Release).then_some(Change::Postpone { retry_in: LEASE });
        let command = Fenced { fence: self.fence, changes: rests.into_iter().chain([change]).collect() };
        let author = Author::Holder(command.clone());
        let exchange = Exchange::guessing(command, nonce, Some(Arc::new(self.record.clone())));
        self.write = Some(Task::new(exchange, author));
        self.stage = then;
    }

    /// Goes on until the next write, or to where only the world can go on.
    /// The order in which a step is run is that of `operation::step`.
    pub(crate) fn go_on(&mut self, mut nonce: impl FnMut() -> Version) {
        while self.write.is_none() {
            match self.stage {
                Stage::Order if self.point("order").is_some() => self.stage = Stage::Charge,
                Stage::Order => self.save("order", Stage::Charge, nonce()),
                Stage::Charge => {
                    self.reached = true;
                    match self.point("charge") {
                        Some(Point::Begun) => return self.stage = Stage::Charging { ours: false },
                        Some(_) => self.stage = Stage::Receipt,
                        None => self.begin("charge", Stage::Charging { ours: true }, nonce()),
                    }
                }
                Stage::Receipt => match self.point("receipt") {
                    Some(Point::Begun) => self.write(park(), Stage::Over, nonce()),
                    Some(_) => self.stage = Stage::Answer,
                    None => self.begin("receipt", Stage::Mailing, nonce()),
                },
                Stage::Answer => self.write(self.complete(), Stage::Over, nonce()),
                Stage::Refuse => self.write(self.refusal(), Stage::Over, nonce()),
                Stage::Release => self.write(Change::Release, Stage::Over, nonce()),
                Stage::Leg | Stage::Plan | Stage::Undo => self.go_on_trip(nonce()),
                Stage::Booking | Stage::Decide | Stage::Undoing => return,
                Stage::Charging { .. } | Stage::Mailing | Stage::Opaque | Stage::Running | Stage::Whim => return,
                Stage::Over => return,
            }
        }
    }

    pub(crate) fn point(&self, step: &str) -> Option<&Point> {
        self.record.step(step).map(|step| step.point())
    }

    pub(crate) fn begin(&mut self, step: &str, then: Stage, nonce: Version) {
        self.write(Change::Begin { step: step.into() }, then, nonce);
    }

    /// Saves a value that shows which attempt it is of: were a step redone
    /// after its result was stored, the answers would differ.
    pub(crate) fn save(&mut self, step: &str, then: Stage, nonce: Version) {
        let value = format!("{step} of attempt {};", self.record.attempts()).into();
        self.write(Change::Save { step: step.into(), value }, then, nonce);
    }

    fn complete(&self) -> Change {
        Change::Complete { response: response(self.body()), retention: RETENTION, reached: Reached::All }
    }

    /// A failure, of which only what the attempt came to is known.
    fn refusal(&self) -> Change {
        let reached = if self.reached { vec!["order".into(), "charge".into()] } else { Vec::new() };
        let response = StoredResponse::capture(StatusCode::BAD_REQUEST, &HeaderMap::new(), Some(refused()));
        Change::Complete { response: Arc::new(response), retention: RETENTION, reached: Reached::Only(reached.into()) }
    }

    /// What the client is told if the end can't be stored now; `None` if that is that an
    /// operator has to decide.
    pub(crate) fn unsaved(&self) -> Option<Bytes> {
        let next = self.write.as_ref()?.exchange.writes()?;
        Some(next.response()?.body().cloned().unwrap_or_default())
    }

    /// The handler's answer: for a payment, the results of all its steps.
    pub(crate) fn body(&self) -> Bytes {
        if self.program.is_trip() {
            return crate::trip::booked();
        }
        if matches!(self.program, Program::Opaque | Program::CallsBack) {
            return Bytes::from_static(b"done");
        }
        let values = self.record.steps().iter().filter_map(|step| match step.point() {
            Point::Saved(value) => Some(value.as_ref()),
            _ => None,
        });
        values.collect::<Vec<_>>().concat().into()
    }

    /// Whether its end is being written, and is an answer.
    pub(crate) fn is_answering(&self) -> bool {
        let completes = |change: &Change| matches!(change, Change::Complete { .. });
        self.write.as_ref().is_some_and(|task| match &task.author {
            Author::Holder(command) => command.changes.iter().any(completes),
            _ => false,
        })
    }
}

pub(crate) fn response(body: Bytes) -> Arc<StoredResponse> {
    Arc::new(StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some(body)))
}

fn refused() -> Bytes {
    Bytes::from_static(b"refused")
}

pub(crate) fn park() -> Change {
    Change::Park { why: "nobody knows".into() }
}

/// Everything a handler could do to its record.
pub(crate) fn whims() -> Vec<Change> {
    let mut whims = vec![Change::Renew, Change::Release, Change::Withdraw, park()];
    for step in ["charge", "receipt"] {
        whims.push(Change::Begin { step: step.into() });
        whims.push(Change::Save { step: step.into(), value: Bytes::from_static(b"one") });
        whims.push(Change::Clear { step: step.into() });
    }
    whims.push(Change::Save { step: "charge".into(), value: Bytes::from_static(b"two") });
    whims.push(Change::Fail { step: "charge".into(), error: Bytes::from_static(b"declined") });
    for (steps, answer) in [(&["charge"][..], "sorry"), (&["receipt", "charge"], "another")] {
        let steps = steps.iter().map(|step| Box::from(*step)).collect();
        whims.push(Change::Undo { steps, response: response(Bytes::from_static(answer.as_bytes())) });
    }
    whims.push(Change::Undone { step: "charge".into() });
    whims.push(Change::Complete {
        response: response(Bytes::from_static(b"whim")),
        retention: RETENTION,
        reached: Reached::All,
    });
    whims
}

impl Mail {
    /// Whether the driver was told that nobody knows.
    pub(crate) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Said(Reply::Unknown, _))
    }

    pub(crate) const fn request(&self) -> Option<&Request> {
        match self {
            Self::Asked(request) => Some(request),
            _ => None,
        }
    }
}
