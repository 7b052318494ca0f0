//! What happened, as one sentence: what the log shows.

use std::fmt;

use crate::core::Mode;
use crate::telemetry::event::EventKind;

/// One sentence of plain English, without the operation's key and without a full stop.
///
/// ```
/// use tower_idempotency::EventKind;
///
/// assert_eq!(EventKind::Resumed { attempt: 2 }.to_string(), "attempt 2 resumes from the recovery points on record");
/// ```
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sentence) = self.fixed() {
            return f.write_str(sentence);
        }
        match self {
            Self::Released { mode: Mode::Resumable, reason } => {
                because(f, "the attempt ended without a final response; a retry resumes", reason.as_deref())
            }
            Self::Released { mode: Mode::AtMostOnce, reason } => because(
                f,
                "the attempt ended without a final response, and its outcome is unknown until an operator decides",
                reason.as_deref(),
            ),
            Self::Withdrawn { reason } => because(f, "the attempt ended, and nothing had happened", reason.as_deref()),
            Self::Resumed { attempt } => write!(f, "attempt {attempt} resumes from the recovery points on record"),
            Self::Parked { why } => write!(f, "the operation is parked until an operator decides: {why}"),
            Self::NoRoute { status } => {
                write!(f, "the completer's service has no route for the operation: status {status}")
            }
            Self::NotWired { why } => write!(f, "the completer has stopped: {why}"),
            Self::Unreadable { error } => write!(f, "the record can't be read, and stays as it is: {error}"),
            Self::Found { finding } => finding.fmt(f),
            Self::CallbackDelivered { call } => write!(f, "call {call} delivered the callback"),
            Self::CallbackFailed { call, error, given_up: false } => {
                write!(f, "call {call} of the callback failed, and the completer will call again: {error}")
            }
            Self::CallbackFailed { call, error, given_up: true } => {
                write!(f, "call {call} of the callback failed, and it is given up: {error}")
            }
            Self::Refused { refusal } => write!(f, "the layer refused the request: {refusal}"),
            Self::StoreFailed { error, repeated: false } if error.is_outage() => {
                write!(f, "the store is lost until a line says that it is back: {error}")
            }
            Self::StoreFailed { error, .. } => write!(f, "a call to the store failed: {error}"),
            Self::Unsaved { error } => {
                write!(f, "the client has the response, and the store has not, so saving goes on: {error}")
            }
            Self::SaveFailed { error } => {
                write!(f, "the client has the response, and saving it is given up, so no retry gets it: {error}")
            }
            Self::DrainBegun { deadline } => {
                write!(f, "a drain has begun, and may take {} s: new work is refused", deadline.as_secs_f32())
            }
            Self::DrainEnded { left } => left.fmt(f),
            Self::CredentialDropped { name } => {
                write!(f, "the field {name} is taken for a credential, and is not stored; this is said once")
            }
            Self::KeyIgnored { method } => {
                write!(
                    f,
                    "a request with a key ran unprotected, since the layer does not cover {method}; this is said once"
                )
            }
            other => other.of_operators(f),
        }
    }
}

fn because(f: &mut fmt::Formatter<'_>, what: &str, why: Option<&str>) -> fmt::Result {
    f.write_str(what)?;
    why.map_or(Ok(()), |why| write!(f, ": {why}"))
}

impl EventKind {
    /// The sentence of what has nothing more to say.
    const fn fixed(&self) -> Option<&'static str> {
        Some(match self {
            Self::Accepted => "the operation is accepted, and will run in the background",
            Self::Claimed => "a first attempt starts",
            Self::Completed { retained: true, .. } => "the response is stored",
            Self::Completed { retained: false, .. } => {
                "the operation is complete, and the body of its response is not stored"
            }
            Self::Replayed => "a retry got the stored response",
            Self::StoreBack => "the store is back",
            Self::Panicked => "the handler panicked",
            Self::LeaseLost => "the attempt lost its claim: another attempt took over, or the store does not reply",
            Self::Overdue => "the attempt runs for longer than it may keep its lease",
            Self::Reconciled => "a reconciler found out what the operation did",
            Self::SavedLate => "the response that could not be stored at first is stored now",
            Self::RedactionFailed { request: true } => "the hook for requests failed, and the request is not stored",
            Self::RedactionFailed { request: false } => {
                "the hook for responses failed, and the response is stored without its body"
            }
            Self::SharedScope => {
                "a request with credentials came under Scope::shared, where callers share responses; this is said once"
            }
            _ => return None,
        })
    }

    /// The sentence of what an operator did.
    fn of_operators(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided { what, who, why } => {
                write!(f, "{} decided: {what}", who.as_deref().unwrap_or("an operator"))?;
                why.as_ref().map_or(Ok(()), |why| write!(f, "; {why}"))
            }
            Self::MaintenanceBegun { window, reason, .. } => {
                write!(f, "maintenance window {window} has begun: {reason}")
            }
            Self::Schedule { schedule, period, turn } => write!(f, "schedule {schedule}, {period}: {turn}"),
            Self::MaintenanceEnded { window } => write!(f, "maintenance window {window} is over"),
            other => other.of_steps(f),
        }
    }

    /// The sentence of what is about steps.
    fn of_steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |steps: &[String]| if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
        match self {
            Self::StepBegun { step } => write!(f, "step {step} is about to act"),
            Self::StepSaved { step } => write!(f, "step {step} is done, and its result is stored"),
            Self::StepFailed { step } => write!(f, "step {step} failed for good, and its error is stored"),
            Self::StepReplayed { step } => write!(f, "step {step} was done before, and did not run again"),
            Self::Undoing { steps } => write!(f, "the operation failed for good; steps to be undone: {}", named(steps)),
            Self::NotReached { steps } => {
                write!(
                    f,
                    "the response is stored, and its attempt did not reach what was begun or paid: {}",
                    named(steps)
                )
            }
            Self::CutOff { steps } => {
                write!(f, "the completer cut the attempt off, since it took too long; steps that ran: {}", named(steps))
            }
            // Of a kind that has no sentence here yet: an empty line would hide it.
            _ => write!(f, "{self:?}"),
        }
    }
}

#[cfg(feature = "tracing")]
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::Timestamp;
    use crate::store::{StoreError, StoreErrorKind};
    use crate::telemetry::scheduled::ScheduleTurn;

    fn scheduled(turn: ScheduleTurn) -> EventKind {
        EventKind::Schedule { schedule: "daily-export".to_owned(), period: "2026-11-29T02:00:00".to_owned(), turn }
    }

    #[test]
    fn the_guide_has_each_line_as_it_is_logged_with_its_level() {
        let error = || StoreError::new(StoreErrorKind::Unavailable, "connection refused");
        let shown = [
            EventKind::Resumed { attempt: 2 },
            EventKind::Parked { why: "cause".to_owned() },
            EventKind::Released { mode: Mode::Resumable, reason: Some("cause".to_owned()) },
            EventKind::Released { mode: Mode::AtMostOnce, reason: None },
            EventKind::StoreFailed { error: error(), repeated: false },
            EventKind::StoreFailed { error: error(), repeated: true },
            EventKind::StoreFailed { error: StoreError::new(StoreErrorKind::Corrupt, "cause"), repeated: false },
            EventKind::StoreBack,
            EventKind::Unsaved { error: error() },
            EventKind::SavedLate,
            EventKind::SaveFailed { error: "cause".to_owned() },
            EventKind::NoRoute { status: 404 },
            EventKind::CutOff { steps: vec!["charge".to_owned()] },
            EventKind::NotWired { why: "cause".to_owned() },
            EventKind::DrainBegun { deadline: Duration::from_secs(20) },
            EventKind::Decided { what: "run again", who: Some("eve".to_owned()), why: None },
            EventKind::MaintenanceBegun {
                window: "w1".to_owned(),
                reason: "cause".to_owned(),
                until: Timestamp::from_millis(0),
            },
            EventKind::MaintenanceEnded { window: "w1".to_owned() },
            scheduled(ScheduleTurn::Failed { tries: 2 }),
            scheduled(ScheduleTurn::GivenUp { tries: 6 }),
            scheduled(ScheduleTurn::InDoubt),
            scheduled(ScheduleTurn::PassedOver { periods: 3 }),
            EventKind::Panicked,
            EventKind::LeaseLost,
        ];
        let guide = include_str!("../guide/operations.md");
        let table = guide.split("| situation | line | level |\n|---|---|---|\n").nth(1).unwrap();
        let rows: Vec<Vec<&str>> =
            table.lines().take_while(|line| line.starts_with('|')).map(|row| row.split(" | ").collect()).collect();
        assert_eq!(rows.len(), shown.len());
        for (row, kind) in rows.iter().zip(&shown) {
            let (line, level) = (kind.to_string(), row[2].trim_end_matches(" |"));
            let causeless = [
                ": cause",
                ": status 404",
                ": the store is unavailable",
                ": connection refused",
                ": the record is damaged",
            ];
            assert!(line.starts_with(row[1]), "{line}");
            let rest = &line[row[1].len()..];
            assert!(rest.is_empty() || causeless.iter().any(|cause| rest.starts_with(cause)), "{line}: {rest}");
            let logged = match (kind.needs_attention(), kind.is_news()) {
                (true, _) => "WARN",
                (false, true) => "INFO",
                (false, false) => "DEBUG",
            };
            assert_eq!(level, logged, "{line}");
        }
    }
}
