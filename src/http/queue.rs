//! How many requests that were accepted wait to be run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::{Key, Status, Timestamp};
use crate::engine::Engine;
use crate::engine::shares::{ScopeTag, admits, most_of_one};
use crate::store::{Cursor, Filter, Query};
use crate::util::signal::lock;

/// How long what the store said of its backlog is believed.
const BELIEVED: Duration = Duration::from_millis(500);
/// How far what this process takes for the store's time may be behind it.
const TOLERANCE: Duration = Duration::from_secs(5);
/// How many times the length of the queue is looked at to count what waits.
const LOOKED_AT: usize = 4;

/// How many wait to be run, as far as this process knows. Shared by clones.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    most: usize,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    waiting: usize,
    /// When the store was asked.
    looked: Option<Instant>,
    /// Those that this process accepted, where there are several scopes.
    accepted: HashMap<Key, Accepted>,
    scopes: HashMap<ScopeTag, usize>,
}

/// One that this process accepted.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    scope: ScopeTag,
    /// After it falls due, while no attempt has begun; `None` if that is not known.
    due: Option<Timestamp>,
}

/// What waits in the store, those that fall due earliest first.
struct Backlog {
    waiting: HashSet<Key>,
    /// How far it was looked at; `None` if to its end.
    end: Option<Cursor>,
}

impl Backlog {
    /// Whether it may wait behind what was looked at, if not in it.
    fn may_have(&self, key: &Key, accepted: &Accepted) -> bool {
        let is_behind = |end: Cursor| accepted.due.is_none_or(|due| due >= end.due);
        self.waiting.contains(key) || self.end.is_some_and(is_behind)
    }
}

impl Known {
    fn has_room(&self, scope: Option<ScopeTag>, most: usize) -> bool {
        let held = scope.and_then(|scope| self.scopes.get(&scope)).copied().unwrap_or(0);
        let free = most.saturating_sub(self.waiting);
        if scope.is_some() { admits(held, free) } else { free > 0 }
    }

    /// Takes over what the store says.
    fn learn(&mut self, backlog: &Backlog, has_scopes: bool, most: usize) {
        if !has_scopes {
            self.waiting = backlog.waiting.len();
            return;
        }
        self.accepted.retain(|key, accepted| backlog.may_have(key, accepted));
        self.scopes.clear();
        self.accepted.values().for_each(|accepted| *self.scopes.entry(accepted.scope).or_default() += 1);
        // What other processes accepted may be a flood of one scope, and counts as one.
        let others = backlog.waiting.iter().filter(|key| !self.accepted.contains_key(*key)).count();
        let left = most.saturating_sub(self.accepted.len());
        self.waiting = self.accepted.len() + others.min(most_of_one(left));
    }

    fn remove(&mut self, key: &Key) {
        let Some(Accepted { scope, .. }) = self.accepted.remove(key) else { return };
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(held) = self.scopes.get_mut(&scope) {
            *held -= 1;
            if *held == 0 {
                self.scopes.remove(&scope);
            }
        }
    }
}

impl Queue {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, known: Arc::default() }
    }

    /// Whether there is room for one more of this scope.
    pub(crate) async fn has_room(&self, engine: &Engine, scope: Option<ScopeTag>) -> bool {
        {
            let mut known = lock(&self.known);
            if known.has_room(scope, self.most) {
                return true;
            }
            if known.looked.is_some_and(|looked| looked.elapsed() < BELIEVED) {
                return false;
            }
            // One asks; the others believe what was known so far.
            known.looked = Some(Instant::now());
        }
        // A store that fails is found out by what follows.
        let Some(backlog) = self.backlog(engine).await else { return true };
        let mut known = lock(&self.known);
        known.learn(&backlog, scope.is_some(), self.most);
        known.has_room(scope, self.most)
    }

    /// `None` if the store does not say.
    async fn backlog(&self, engine: &Engine) -> Option<Backlog> {
        let (mut query, mut waiting, mut seen) = (Query::new(Filter::Lapsed, self.most), HashSet::new(), 0);
        while waiting.len() < self.most && seen < LOOKED_AT.saturating_mul(self.most) {
            let page = engine.scan(&query).await.ok()?;
            seen += page.found.len() + page.unreadable.keys.len();
            // The others are on their way, or only owe a callback.
            waiting.extend(page.found.iter().filter(|found| found.status == Status::Pending).map(|found| found.key));
            // A store may hand out fewer at a time than it was asked for.
            let Some(next) = page.next else { return Some(Backlog { waiting, end: None }) };
            query = query.after(next);
        }
        Some(Backlog { waiting, end: query.after })
    }

    /// It was accepted just now.
    pub(crate) fn add(&self, engine: &Engine, key: Key, scope: Option<ScopeTag>) {
        let due = engine.store_time().map(|now| now.after(TOLERANCE));
        let mut known = lock(&self.known);
        known.waiting += 1;
        if let Some(scope) = scope
            && known.accepted.insert(key, Accepted { scope, due }).is_none()
        {
            *known.scopes.entry(scope).or_default() += 1;
        }
    }

    /// A completer of this process has started it.
    pub(crate) fn started(&self, key: &Key) {
        lock(&self.known).remove(key);
    }
}
