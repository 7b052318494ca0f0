//! One round: what is unfinished, a page at a time.

use super::Watcher;
use super::open_findings::Subject;
use super::state::{State, Watched, finding};
use crate::core::{Key, Timestamp, Version};
use crate::store::{Cursor, Filter, Found, Loaded, Query, StoreError, StoreErrorKind};
use crate::telemetry::event::EventKind;
use crate::telemetry::finding::FindingKind;
use crate::util::clock::Clock;

/// How many records one page of a scan has.
const PAGE: usize = 500;
/// How many records one round comes across, and how many it looks at closely.
const MOST: usize = 10_000;
const MOST_LOADS: usize = 1000;

impl Watcher {
    pub(super) async fn round(&self, state: &mut State) -> Watched {
        let mut watched = Watched::default();
        // What it knew of the store stands until it may look again. Its own memory it may.
        let is_rested = self.engine.is_closed().await;
        let asked = if is_rested { None } else { Some(self.ask(state, &mut watched).await) };
        self.responses(state, is_rested).await;
        match &asked {
            None => {}
            Some(Ok(())) => state.findings.clear(Subject::Store(FindingKind::StoreAway)),
            Some(Err(error)) => {
                self.store_finding(state, FindingKind::StoreAway, format!("the store does not respond: {error}"))
            }
        }
        watched.open = FindingKind::ALL.iter().map(|kind| state.findings.count(*kind)).sum();
        for finding in state.findings.news() {
            let emit = |kind| match &finding.key {
                Some(key) => self.engine.emit(key, || kind),
                None => self.engine.emit_unkeyed(|| kind),
            };
            emit(EventKind::Found { finding: Box::new(finding.clone()) });
        }
        #[cfg(feature = "metrics")]
        crate::telemetry::metrics::watched(asked.map(|asked| asked.is_ok()), |kind| state.findings.count(kind));
        watched
    }

    async fn ask(&self, state: &mut State, watched: &mut Watched) -> Result<(), StoreError> {
        self.ask_store(state).await?;
        let whole = state.cursor.is_none();
        self.sweep(state, watched).await?;
        watched.capped = !whole || state.cursor.is_some() || !state.findings.has_room();
        if watched.capped {
            let cause =
                "more operations are unfinished than the watcher reads in one round; it takes several".to_owned();
            self.store_finding(state, FindingKind::Capped, cause);
        } else {
            state.findings.clear(Subject::Store(FindingKind::Capped));
        }
        Ok(())
    }

    /// Looks at what is unfinished, from where the last round stopped.
    async fn sweep(&self, state: &mut State, watched: &mut Watched) -> Result<(), StoreError> {
        let mut query = Query::new(Filter::Unfinished, PAGE);
        query.after = state.cursor;
        let mut now = None;
        loop {
            let page = self.engine.scan(&query).await?;
            state.nameless += page.unreadable.nameless();
            watched.unreadable += page.unreadable.count;
            for key in &page.unreadable.keys {
                if self.is_news(state, *key) {
                    watched.loaded += 1;
                    now = self.examine(state, *key, None).await?.or(now);
                }
            }
            for found in &page.found {
                if watched.scanned == MOST || watched.loaded >= MOST_LOADS {
                    return Ok(());
                }
                watched.scanned += 1;
                if self.needs_reading(state, found, now) {
                    watched.loaded += 1;
                    now = self.examine(state, found.key, Some(found.version)).await?.or(now);
                }
                state.cursor = Some(Cursor { due: found.due, key: found.key });
            }
            let Some(next) = page.next else { break };
            state.cursor = Some(next);
            if watched.unreadable >= MOST {
                return Ok(());
            }
            query = query.after(next);
        }
        self.nameless_finding(state);
        // What was not met may have moved past the cursor, or be over.
        for key in state.findings.unmet(state.sweep) {
            self.examine(state, key, None).await?;
        }
        state.cursor = None;
        state.sweep += 1;
        Ok(())
    }

    /// Whether what can't be read is not known yet, and there is room for it.
    fn is_news(&self, state: &mut State, key: Key) -> bool {
        let (sweep, room) = (state.sweep, state.findings.has_room());
        match state.findings.get_mut(Subject::Operation(key)) {
            Some(open) => {
                open.sweep = sweep;
                open.finding.kind != FindingKind::Unreadable
            }
            None => room,
        }
    }

    /// Entries among the records that do not have the key of a record.
    fn nameless_finding(&self, state: &mut State) {
        match std::mem::take(&mut state.nameless) {
            0 => state.findings.clear(Subject::Store(FindingKind::Unreadable)),
            count => {
                let cause = format!("{count} entries among its records do not have the key of a record");
                self.store_finding(state, FindingKind::Unreadable, cause);
            }
        }
    }

    /// Most records show from outside that all is well with them, and one that
    /// did not change says nothing new.
    fn needs_reading(&self, state: &mut State, found: &Found, now: Option<Timestamp>) -> bool {
        let sweep = state.sweep;
        // The first of each round, to learn the store's time.
        let Some(now) = now else { return true };
        if let Some(open) = state.findings.get_mut(Subject::Operation(found.key)) {
            open.sweep = sweep;
            let grows = matches!(open.finding.kind, FindingKind::Pending | FindingKind::Paid);
            return grows || open.version != Some(found.version);
        }
        self.settings.thresholds.suspects(found, now)
    }

    /// Classifies one operation. Returns the store's time.
    async fn examine(
        &self,
        state: &mut State,
        key: Key,
        version: Option<Version>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (violation, version, now) = match self.engine.look(&key).await {
            Ok(Loaded { record, now }) => {
                let violation = record.as_ref().and_then(|record| self.settings.thresholds.classify(record, now));
                (violation, record.map(|record| record.version()), Some(now))
            }
            Err(error) if error.kind() == StoreErrorKind::Unavailable => return Err(error),
            Err(error) => (Some((FindingKind::Unreadable, error.to_string(), self.clock.now())), version, None),
        };
        let subject = Subject::Operation(key);
        match violation {
            Some(violation) if state.findings.get_mut(subject).is_some() || state.findings.has_room() => {
                state.findings.set(subject, finding(Some(key), violation), version, state.sweep);
            }
            Some(_) => {}
            None => state.findings.clear(subject),
        }
        Ok(now)
    }

    pub(super) fn store_finding(&self, state: &mut State, kind: FindingKind, cause: String) {
        let sweep = state.sweep;
        state.findings.set(Subject::Store(kind), finding(None, (kind, cause, self.clock.now())), None, sweep);
    }
}
