//! The model's store: one key, a clock, and what is on its way to it.

use tower_idempotency::core::{
    Acknowledge, Ask, CallbackAt, Claim, Command, EndCallback, Exchange, Fence, Fenced, Hold, Intake, Record, Reply,
    Resolve, Resume, Submit, Timestamp, Version,
};
use tower_idempotency::store::KeptRecord;

use crate::canon::{EPOCH, TICK};

/// One key of a store.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Shelf {
    pub(crate) record: Option<Record>,
    pub(crate) now: Timestamp,
}

/// What a store is asked.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Request {
    Load,
    Swap { expected: Option<Version>, next: Record },
    Remove { expected: Version },
}

/// Whose command a write carries out.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Author {
    /// In a process that takes so much.
    Claim(Claim, Intake),
    Holder(Fenced),
    Operator(Resolve),
    Completer(Resume),
    Submit(Submit, Intake),
    Acknowledge(Acknowledge),
    Teller(CallbackAt),
    Ender(EndCallback),
    /// Of a control record, which has a model of its own.
    Planner,
}

/// A write that is on its way, and whose reply nobody waits for.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Letter {
    pub(crate) request: Request,
    pub(crate) author: Author,
}

/// One command's loop, and where its current question is.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Task<C, T> {
    pub(crate) exchange: Exchange<C, T>,
    pub(crate) mail: Mail,
    pub(crate) author: Author,
    /// Its last write that took: in which life of the key, and at which
    /// version. The worker does not know this; the promises do.
    pub(crate) took: Option<(u8, Version)>,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum Mail {
    Asked(Request),
    /// The reply, and the life of the key in which it was given.
    Said(Reply, u8),
    /// The guess decided it: the store was never asked.
    Settled,
}

impl Shelf {
    pub(crate) const fn new() -> Self {
        Self { record: None, now: Timestamp::from_millis(EPOCH) }
    }

    /// Does what it is asked. `None` is a remove that found something else:
    /// the ledger then has to load.
    pub(crate) fn handle(&mut self, request: &Request) -> Option<Reply> {
        let version = self.record.as_ref().map(Record::version);
        match request {
            Request::Swap { expected, next } if version == *expected => {
                self.record = Some(next.clone().stamped(self.now));
                Some(Reply::Written)
            }
            Request::Remove { expected } if version == Some(*expected) => {
                self.record = None;
                Some(Reply::Written)
            }
            Request::Remove { .. } => None,
            Request::Load | Request::Swap { .. } => Some(Reply::Found(self.record.clone(), self.now)),
        }
    }

    pub(crate) const fn tick(&mut self) {
        self.now = Timestamp::from_millis(self.now.as_millis() + TICK);
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.is_expired(self.now))
    }
}

impl Request {
    pub(crate) const fn is_write(&self) -> bool {
        !matches!(self, Self::Load)
    }
}

impl<C: Command<Output = T>, T> Task<C, T> {
    /// Sends the first question.
    pub(crate) fn new(exchange: Exchange<C, T>, author: Author) -> Self {
        let mut task = Self { exchange, mail: Mail::Asked(Request::Load), author, took: None };
        if task.ask() {
            task.mail = Mail::Settled;
        }
        task
    }

    /// Asks the store the next question; `true` if there is none.
    pub(crate) fn ask(&mut self) -> bool {
        let request = match self.exchange.ask() {
            Ask::Finish => return true,
            Ask::Load => Request::Load,
            Ask::Swap { expected, next } => Request::Swap { expected, next: next.clone() },
            Ask::Remove { expected } => Request::Remove { expected },
        };
        self.mail = Mail::Asked(request);
        false
    }

    /// Hears what the store said, and asks on; `true` once the outcome is
    /// known. This is the body of the ledger's loop.
    pub(crate) fn hear(&mut self) -> bool {
        match &self.mail {
            Mail::Asked(_) => false,
            Mail::Settled => true,
            Mail::Said(reply, _) => self.exchange.answer(reply.clone()) || self.ask(),
        }
    }

    /// Whether the store just showed it its own write.
    pub(crate) fn sees_itself(&self) -> bool {
        let nonce = self.exchange.nonce();
        matches!(&self.mail, Mail::Said(Reply::Found(Some(found), _), _) if found.version() == nonce)
    }

    /// The life in which it was last replied to.
    pub(crate) const fn life(&self) -> Option<u8> {
        match &self.mail {
            Mail::Said(_, life) => Some(*life),
            _ => None,
        }
    }

    /// Remembers a write of this task that took.
    pub(crate) fn note(&mut self, version: Version, life: u8) {
        if self.exchange.nonce() == version {
            self.took = Some((life, version));
        }
    }
}

/// Under which fence it is held, lapsed or not.
pub(crate) fn fence_of(record: &Record) -> Option<Fence> {
    match record.hold() {
        Hold::Leased { fence, .. } => Some(*fence),
        _ => None,
    }
}
