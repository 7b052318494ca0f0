//! What the store survives, and the responses that it does not have.

use std::time::Duration;

use tokio::time::Instant;

use super::Watcher;
use super::open_findings::Subject;
use super::state::{State, finding};
use crate::core::{Key, Status};
use crate::engine::unpersisted::UnpersistedResponse;
use crate::store::{Durability, Epoch, Since, StoreError};
use crate::telemetry::finding::FindingKind;

/// How often the store is asked what it survives.
const ASK: Duration = Duration::from_secs(60);
/// For how long a store that lost records is a finding: as long as the retention is by
/// default. Until then, retries of what it lost may come.
const FORGOT: Duration = Duration::from_secs(24 * 60 * 60);

impl Watcher {
    /// Asks the store what it survives, now and then.
    pub(super) async fn ask_store(&self, state: &mut State) -> Result<(), StoreError> {
        if state.store.asked.is_some_and(|asked| asked.elapsed() < ASK) {
            return Ok(());
        }
        let found = self.engine.durability().await?;
        state.store.asked = Some(Instant::now());
        self.check_durability(state, &found);
        self.check_epoch(state, found.epoch);
        Ok(())
    }

    fn check_durability(&self, state: &mut State, found: &Durability) {
        let minimum = self.settings.require;
        if found.survives >= minimum {
            return state.findings.clear(Subject::Store(FindingKind::BelowDurability));
        }
        let mut cause = format!("the store survives {}, and {minimum} is required", found.survives);
        for warning in &found.warnings {
            cause.push_str("; ");
            cause.push_str(warning);
        }
        self.store_finding(state, FindingKind::BelowDurability, cause);
    }

    fn check_epoch(&self, state: &mut State, epoch: Option<Epoch>) {
        let before = state.store.epoch;
        state.store.epoch = epoch.or(before);
        let since = before.zip(epoch).map_or(Since::Same, |(before, epoch)| epoch.since(&before));
        let cause = match since {
            Since::Same => {
                if state.store.forgot.is_some_and(|forgot| forgot.elapsed() >= FORGOT) {
                    state.store.forgot = None;
                    state.findings.clear(Subject::Store(FindingKind::EpochChanged));
                }
                return;
            }
            Since::Wiped => "the store was wiped, or it is another one: retries of what it had may run again",
            Since::Restored => "the store is back at an earlier state: retries of what it lost may run again",
        };
        state.store.forgot = Some(Instant::now());
        self.store_finding(state, FindingKind::EpochChanged, cause.to_owned());
    }

    /// The responses of this process that are not stored. In a maintenance window the store
    /// is not asked about those that were given up.
    pub(super) async fn responses(&self, state: &mut State, is_rested: bool) {
        let unpersisted = self.engine.unpersisted().all();
        for key in state.findings.responses() {
            if !unpersisted.iter().any(|(other, _)| *other == key) {
                state.findings.clear(Subject::Response(key));
            }
        }
        for (key, unpersisted) in unpersisted {
            if unpersisted.given_up && !is_rested && self.is_settled(&key).await {
                self.engine.unpersisted().remove(&key);
                state.findings.clear(Subject::Response(key));
            } else {
                self.unsaved_finding(state, key, &unpersisted);
            }
        }
    }

    fn unsaved_finding(&self, state: &mut State, key: Key, unpersisted: &UnpersistedResponse) {
        let cause = match unpersisted.given_up {
            false => format!("the client has a response that is not stored yet: {}", unpersisted.error),
            true => format!("the client has a response that will not be stored: {}", unpersisted.error),
        };
        let violation = (FindingKind::Unsaved, cause, unpersisted.since);
        state.findings.set(Subject::Response(key), finding(Some(key), violation), None, 0);
    }

    /// Whether the store has a response by now, from any attempt.
    async fn is_settled(&self, key: &Key) -> bool {
        let looked = self.engine.look(key).await;
        looked.is_ok_and(|found| found.record.is_none_or(|record| record.status() == Status::Complete))
    }
}
