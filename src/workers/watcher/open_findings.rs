//! The findings that are open, and which of them are still to be reported.

use std::collections::BTreeMap;

use crate::core::{Key, Version};
use crate::telemetry::finding::{Finding, FindingKind};

/// How many findings about operations are kept.
pub(super) const MOST_OPEN: usize = 1000;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// What the store has under a key.
    Operation(Key),
    /// A response of this process.
    Response(Key),
    /// The store as a whole, or the watch itself.
    Store(FindingKind),
}

/// One that is open, or is over and was not reported yet.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) finding: Finding,
    /// The version at which it was found.
    pub(super) version: Option<Version>,
    /// In which sweep it was last met.
    pub(super) sweep: u64,
    unreported: bool,
    /// It was reported before, perhaps as something else.
    known: bool,
}

/// All that are open. Bounded: see [`MOST_OPEN`].
#[derive(Debug, Default)]
pub(super) struct OpenFindings {
    open: BTreeMap<Subject, Open>,
    /// What is new since the last call of `news`.
    news: Vec<Finding>,
}

impl OpenFindings {
    pub(super) fn get_mut(&mut self, subject: Subject) -> Option<&mut Open> {
        self.open.get_mut(&subject).filter(|open| !open.finding.over)
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.len() < MOST_OPEN
    }

    /// It is open now: that is news, unless it was open before.
    pub(super) fn set(&mut self, subject: Subject, finding: Finding, version: Option<Version>, sweep: u64) {
        let mut known = false;
        if let Some(open) = self.open.get_mut(&subject) {
            known = open.known;
            (open.version, open.sweep) = (version, sweep);
            if open.finding.same(&finding) {
                return;
            }
        }
        self.news.push(finding.clone());
        self.open.insert(subject, Open { finding, version, sweep, unreported: true, known });
    }

    /// It is over.
    pub(super) fn clear(&mut self, subject: Subject) {
        let Some(open) = self.open.get_mut(&subject).filter(|open| !open.finding.over) else { return };
        open.finding.over = true;
        open.unreported = true;
        self.news.push(open.finding.clone());
        if !open.known {
            // It was never reported.
            self.open.remove(&subject);
        }
    }

    /// The operations that this sweep did not meet.
    pub(super) fn unmet(&self, sweep: u64) -> Vec<Key> {
        let unmet = |(subject, open): (&Subject, &Open)| match subject {
            Subject::Operation(key) if open.sweep != sweep && !open.finding.over => Some(*key),
            _ => None,
        };
        self.open.iter().filter_map(unmet).collect()
    }

    /// The responses that are open.
    pub(super) fn responses(&self) -> Vec<Key> {
        let response = |subject: &Subject| if let Subject::Response(key) = subject { Some(*key) } else { None };
        self.open.keys().filter_map(response).collect()
    }

    pub(super) fn news(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.news)
    }

    /// The next that is to be reported.
    pub(super) fn unreported(&self) -> Option<(Subject, Finding)> {
        self.open.iter().find(|(_, open)| open.unreported).map(|(subject, open)| (*subject, open.finding.clone()))
    }

    /// It was reported. If it is over, it is forgotten now.
    pub(super) fn reported(&mut self, subject: Subject) {
        let Some(open) = self.open.get_mut(&subject) else { return };
        (open.unreported, open.known) = (false, true);
        if open.finding.over {
            self.open.remove(&subject);
        }
    }

    pub(super) fn count(&self, kind: FindingKind) -> usize {
        self.open.values().filter(|open| open.finding.kind == kind && !open.finding.over).count()
    }
}
