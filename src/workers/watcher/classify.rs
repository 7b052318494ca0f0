//! Which finding one operation is, if any.

use std::time::Duration;

use crate::core::{Hold, Outlook, Record, Status, Timestamp};
use crate::store::Found;
use crate::telemetry::finding::FindingKind;

/// After how long each is a finding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    pub(super) pending: Duration,
    pub(super) paid: Duration,
    pub(super) in_doubt: Duration,
}

/// As the docs of the watcher's setters say.
impl Default for Thresholds {
    fn default() -> Self {
        Self {
            pending: Duration::from_secs(15 * 60),
            paid: Duration::from_secs(5 * 60),
            in_doubt: Duration::from_secs(60),
        }
    }
}

/// A finding, less the operation it is about.
pub(crate) type Violation = (FindingKind, String, Timestamp);

/// What falls due later than this never will: no completer continues it.
pub(crate) const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Thresholds {
    /// The same, without waiting for a completer or a reconciler.
    pub(crate) const fn impatient(self) -> Self {
        Self { in_doubt: Duration::ZERO, ..self }
    }

    /// Whether the record itself has to be read, to find out.
    pub(crate) fn suspects(&self, found: &Found, now: Timestamp) -> bool {
        let unattended = now >= found.due.after(self.in_doubt) || found.due > now.after(FAR);
        unattended || now >= found.created.after(self.age(found.status))
    }

    const fn age(&self, status: Status) -> Duration {
        match status {
            Status::Pending => self.pending,
            Status::Paid | Status::Complete => self.paid,
        }
    }

    /// The worst finding. Its text must not change while the operation does not: it
    /// would be reported anew.
    pub(crate) fn classify(&self, record: &Record, now: Timestamp) -> Option<Violation> {
        if record.status() == Status::Complete {
            return None;
        }
        if let Some(why) = record.parked_for() {
            return Some((FindingKind::Parked, why.to_string(), record.written_at()));
        }
        let since = unattended_since(record, now).filter(|since| now >= since.after(self.in_doubt));
        if let Some((since, doubt)) = since.zip(doubt(record)) {
            return Some((FindingKind::InDoubt, doubt, since));
        }
        let created = record.created_at().unwrap_or_default();
        if now < created.after(self.age(record.status())) {
            return None;
        }
        Some(match record.status() {
            Status::Paid => (FindingKind::Paid, "it is paid for and has no response".to_owned(), created),
            _ => (FindingKind::Pending, "it is neither paid for nor complete".to_owned(), created),
        })
    }
}

/// Since when a completer could have continued it.
fn unattended_since(record: &Record, now: Timestamp) -> Option<Timestamp> {
    let due = record.falls_due();
    match record.hold() {
        Hold::Leased { .. } => Some(due).filter(|due| *due <= now),
        _ if due > now.after(FAR) => Some(record.written_at()),
        _ => Some(due).filter(|due| *due <= now),
    }
}

/// What is in doubt about it.
fn doubt(record: &Record) -> Option<String> {
    let steps: Vec<_> = record.in_doubt().map(|step| format!("{step:?}")).collect();
    if !steps.is_empty() {
        return Some(format!("begun, with no result and no holder: {}", steps.join(", ")));
    }
    (record.outlook() == Outlook::InDoubt)
        .then(|| "it ran in at-most-once mode, and may or may not have finished".to_owned())
}
