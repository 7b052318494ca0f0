//! Maintenance windows: what they cover, and what they let begin.

use std::time::Duration;

use super::record::time::{Intake, Timestamp};

/// A time for which work is to rest, in all processes over one store: see [the
/// guide](crate::guide::maintenance).
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::core::Timestamp;
/// use tower_idempotency::maintenance::{Covers, Window};
///
/// let ten = Timestamp::from_millis(1_796_162_400_000);
/// let window = Window::new(ten, ten.after(Duration::from_secs(3600)), "the database moves")
///     .lead(Duration::from_secs(300))
///     .covers(Covers::Route("/payments".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use]
pub struct Window {
    /// From when on all rests that the window covers, on the store's clock.
    pub from: Timestamp,
    /// When work goes on, on the store's clock.
    pub until: Timestamp,
    /// How long before `from` new work is refused, so that what is on record can finish.
    pub lead: Duration,
    /// Why, for operators: the layer does not show it to clients.
    pub reason: String,
    /// Which work rests.
    pub covers: Covers,
}

impl Window {
    /// A window that covers all work, without a lead.
    pub fn new(from: Timestamp, until: Timestamp, reason: impl Into<String>) -> Self {
        Self { from, until, lead: Duration::ZERO, reason: reason.into(), covers: Covers::All }
    }

    /// How long before its begin new work is refused: not at all by default. Take longer than
    /// your slowest handler: what still runs at the begin can't be stopped.
    pub const fn lead(mut self, lead: Duration) -> Self {
        self.lead = lead;
        self
    }

    /// Which work rests: all by default.
    pub fn covers(mut self, covers: Covers) -> Self {
        self.covers = covers;
        self
    }

    /// When it begins to refuse new work.
    pub(crate) fn refuses_from(&self) -> Timestamp {
        Timestamp::from_millis(self.from.as_millis().saturating_sub(super::record::time::millis(self.lead)))
    }

    /// What it lets begin at that time.
    const fn intake(&self, now: Timestamp) -> Intake {
        match now.as_millis() < self.from.as_millis() {
            true => Intake::OnRecord,
            false => Intake::Closed,
        }
    }
}

/// Which work a [`Window`] covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Covers {
    /// All that works on the store.
    All,
    /// Requests to this path, and to all below it: `/payments` covers `/payments/17`, and
    /// not `/payments-old`. The path as the client sends it, without a query.
    Route(String),
    /// The requests and the runner's calls of this [scope](crate::Scope).
    Scope(String),
}

/// How far a [`Window`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WindowState {
    /// It changes nothing yet.
    Planned,
    /// New work is refused; what is on record goes on.
    RefusingNewWork,
    /// All that it covers rests.
    Closed,
    /// It is over, or was ended early.
    Over,
}

/// A [`Window`] as it is on record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PlannedWindow {
    /// What [`Operator::plan`](crate::Operator::plan) called it.
    pub id: String,
    /// Who wrote it last: the engine's [`instance`](crate::Engine::instance).
    pub by: Option<String>,
    /// What is planned.
    pub window: Window,
}

impl PlannedWindow {
    pub(crate) const fn new(id: String, by: Option<String>, window: Window) -> Self {
        Self { id, by, window }
    }

    /// How far it is at this time of the store.
    pub fn state(&self, now: Timestamp) -> WindowState {
        match now {
            now if now >= self.window.until => WindowState::Over,
            now if now >= self.window.from => WindowState::Closed,
            now if now >= self.window.refuses_from() => WindowState::RefusingNewWork,
            _ => WindowState::Planned,
        }
    }
}

/// In the extensions of a response that was refused for a [`Window`]: what the user's own page
/// may say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintenance {
    /// When work goes on, on the store's clock.
    pub until: Timestamp,
    /// How long that is from now.
    pub left: Duration,
    /// Why, as the operator wrote it.
    pub reason: String,
}

/// What may rest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work<'a> {
    /// What works on the store as a whole.
    Store,
    /// An operation, by its path and its scope. One whose scope is not known may be of any.
    Operation { route: Option<&'a str>, scope: Option<&'a str> },
}

impl Covers {
    fn has(&self, work: Work<'_>) -> bool {
        match (self, work) {
            (Self::All, _) => true,
            (Self::Route(path), Work::Operation { route: Some(route), .. }) => is_below(route, path),
            (Self::Scope(name), Work::Operation { scope, .. }) => scope.is_none_or(|scope| scope == name),
            _ => false,
        }
    }
}

fn is_below(route: &str, path: &str) -> bool {
    let rest = route.strip_prefix(path.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// That work rests now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// What of it may begin all the same.
    pub(crate) intake: Intake,
    pub(crate) notice: Maintenance,
}

/// Whether `work` rests at this time of the store. Windows that overlap or touch count as one:
/// the strictest says what may begin, and the last what the end is.
pub(crate) fn rest_of(windows: &[PlannedWindow], work: Work<'_>, now: Timestamp) -> Option<Rest> {
    let covering = || windows.iter().map(|planned| &planned.window).filter(|window| window.covers.has(work));
    let acts = |at: Timestamp| move |window: &&Window| window.refuses_from() <= at && at < window.until;
    let first = covering().filter(acts(now)).min_by_key(|window| window.from)?;
    let mut until = first.until;
    while let Some(later) = covering().filter(acts(until)).map(|window| window.until).max() {
        until = later;
    }
    let notice = Maintenance { until, left: until.since(now), reason: first.reason.clone() };
    Some(Rest { intake: first.intake(now), notice })
}
