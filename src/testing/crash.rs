//! Where a process dies.

use crate::core::{Point, Record, Status};

/// Where a [`Process`](super::Process) dies: at a step, or at its response.
///
/// ```
/// use tower_idempotency::testing::{Crash, TestBed};
///
/// let process = TestBed::new().process();
/// process.crash_at(Crash::after_step("charge"));
/// ```
#[derive(Clone, Debug)]
pub struct Crash(At);

#[derive(Clone, Debug)]
enum At {
    BeforeWork(Box<str>),
    AfterWork(Box<str>),
    AfterStep(Box<str>),
    BeforeResponse,
    AfterResponse,
    /// At the first step that is none of these, before it is on record.
    NewStep(Vec<Box<str>>),
}

/// What becomes of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    DiesBefore,
    DiesAfter,
}

impl Crash {
    /// When the step's intent is stored and its work has not begun. For a
    /// [`pay`](crate::Operation::pay) or a [`once`](crate::Operation::once) only: a
    /// [`step`](crate::Operation::step) has no intent, so the process does not die here.
    pub fn before_work(step: impl Into<String>) -> Self {
        Self(At::BeforeWork(step.into().into()))
    }

    /// When the step's work is done and its result is not stored.
    pub fn after_work(step: impl Into<String>) -> Self {
        Self(At::AfterWork(step.into().into()))
    }

    /// When the step's result, or its final error, is stored.
    pub fn after_step(step: impl Into<String>) -> Self {
        Self(At::AfterStep(step.into().into()))
    }

    /// When the handler has responded, and its response is not stored.
    pub const fn before_response() -> Self {
        Self(At::BeforeResponse)
    }

    /// When the response is stored, and the client does not have it.
    pub const fn after_response() -> Self {
        Self(At::AfterResponse)
    }

    pub(super) fn at_new_step<'a>(known: impl Iterator<Item = &'a str>) -> Self {
        Self(At::NewStep(known.map(Into::into).collect()))
    }

    /// What becomes of the write of `next` over `before`.
    pub(super) fn fate(&self, before: Option<&Record>, next: &Record) -> Fate {
        let becomes = |is: &dyn Fn(&Record) -> bool| is(next) && !before.is_some_and(is);
        let is_done = |step: &str| becomes(&|record| is_done(record, step));
        let (meets, fate) = match &self.0 {
            At::BeforeWork(step) => (becomes(&|record| record.step(step).is_some()) && !is_done(step), Fate::DiesAfter),
            At::AfterWork(step) => (is_done(step), Fate::DiesBefore),
            At::AfterStep(step) => (is_done(step), Fate::DiesAfter),
            At::BeforeResponse => (becomes(&is_complete), Fate::DiesBefore),
            At::AfterResponse => (becomes(&is_complete), Fate::DiesAfter),
            At::NewStep(known) => (new_step(known, next).is_some(), Fate::DiesBefore),
        };
        if meets { fate } else { Fate::Lives }
    }

    /// The step that was not expected, of the write at which it died.
    pub(super) fn met(&self, next: &Record) -> Option<Box<str>> {
        match &self.0 {
            At::NewStep(known) => new_step(known, next).map(Into::into),
            _ => None,
        }
    }
}

fn is_done(record: &Record, step: &str) -> bool {
    record.step(step).is_some_and(|step| *step.point() != Point::Begun)
}

fn is_complete(record: &Record) -> bool {
    record.status() == Status::Complete
}

fn new_step<'a>(known: &[Box<str>], next: &'a Record) -> Option<&'a str> {
    next.steps().iter().map(|step| step.name()).find(|name| !known.iter().any(|other| **other == **name))
}
