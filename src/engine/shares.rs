//! How scopes share a limited number of places, so that one that hangs or floods leaves room
//! for others.
//!
//! A dynamic threshold (Choudhury and Hahne): a scope may hold a multiple of what is free at
//! that moment. So one alone gets most of the places, several get less each, and some are
//! always left for a scope that has none, without a number of scopes to be set.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex};

use tokio::sync::Notify;

use crate::core::Key;
use crate::util::signal::lock;

/// How many times what is left a scope may hold.
const MULTIPLE: usize = 3;
/// How many operations wait in line for a place of their scope.
const LINE: usize = 2000;
/// Of how many operations the scope is remembered: they take six megabytes.
const KNOWN: usize = 100_000;

/// Whether a scope that holds `held` places gets one of the `free` ones. One that holds none
/// always does.
pub(crate) const fn admits(held: usize, free: usize) -> bool {
    free > 0 && (held == 0 || held < MULTIPLE.saturating_mul(free - 1))
}

/// How many of `places` one scope gets while it is alone.
pub(crate) const fn most_of_one(places: usize) -> usize {
    places - places.div_ceil(MULTIPLE + 1)
}

/// A scope, as this process counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScopeTag(u64);

impl ScopeTag {
    /// Of all requests whose scope can't be told.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// By a hash that no client can foresee, or it could choose whom it shares a place with.
    pub(crate) fn of(scope: &str) -> Self {
        static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEYED.hash_one(scope))
    }
}

/// The places of a completer, and the operations whose scope holds too many of them.
#[derive(Clone, Debug)]
pub(crate) struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    state: Mutex<State>,
    on_freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    scopes: HashMap<ScopeTag, usize>,
    /// Those that were held back. Whatever is met again is not looked at again.
    known: HashMap<Key, Known>,
    /// Those of them that get the next place of their scope.
    line: VecDeque<Key>,
    /// More were held back than the line takes.
    has_more: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    scope: ScopeTag,
    is_in_line: bool,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Shares,
    scope: ScopeTag,
}

/// What is known of an operation that was met.
#[derive(Debug)]
pub(crate) enum Met {
    /// Nothing: it was not held back before.
    New,
    /// Its scope still holds too many places.
    HeldBack,
    /// There is a place for it now.
    Admitted(Share),
}

impl State {
    fn admits(&self, scope: ScopeTag, most: usize) -> bool {
        let held = self.scopes.get(&scope).copied().unwrap_or(0);
        admits(held, most.saturating_sub(self.taken))
    }

    fn hold_back(&mut self, key: Key, scope: ScopeTag) {
        if self.known.len() >= KNOWN && !self.known.contains_key(&key) {
            // All of them are looked at once more.
            self.known.clear();
            self.line.clear();
            self.has_more = true;
        }
        let known = self.known.entry(key).or_insert(Known { scope, is_in_line: false });
        if known.is_in_line {
            return;
        }
        if self.line.len() < LINE {
            known.is_in_line = true;
            self.line.push_back(key);
        } else {
            self.has_more = true;
        }
    }
}

impl Shares {
    pub(crate) fn of(places: usize) -> Self {
        Self(Arc::new(Inner { most: places, state: Mutex::default(), on_freed: Notify::new() }))
    }

    /// A place, if the scope may hold one more.
    pub(crate) fn take(&self, scope: ScopeTag) -> Option<Share> {
        self.take_in(&mut lock(&self.0.state), scope)
    }

    /// A place for this operation, or one in line.
    pub(crate) fn take_or_hold_back(&self, key: Key, scope: ScopeTag) -> Option<Share> {
        let mut state = lock(&self.0.state);
        let share = self.take_in(&mut state, scope);
        if share.is_none() {
            state.hold_back(key, scope);
        }
        share
    }

    /// What to do about an operation that is due.
    pub(crate) fn meet(&self, key: &Key) -> Met {
        let mut state = lock(&self.0.state);
        let Some(Known { scope, .. }) = state.known.get(key).copied() else { return Met::New };
        let Some(share) = self.take_in(&mut state, scope) else {
            state.hold_back(*key, scope);
            return Met::HeldBack;
        };
        state.known.remove(key);
        Met::Admitted(share)
    }

    /// The first in line that has a place now.
    pub(crate) fn next_in_line(&self) -> Option<(Key, Share)> {
        let mut state = lock(&self.0.state);
        let State { known, line, .. } = &mut *state;
        line.retain(|key| known.contains_key(key));
        let most = self.0.most;
        let at =
            state.line.iter().position(|key| state.known.get(key).is_some_and(|of| state.admits(of.scope, most)))?;
        let key = state.line.remove(at)?;
        let Known { scope, .. } = state.known.remove(&key)?;
        self.take_in(&mut state, scope).map(|share| (key, share))
    }

    /// The same, once there is one; `None` once the line is empty and there were more than it
    /// takes. Cancel safe.
    pub(crate) async fn turn(&self) -> Option<(Key, Share)> {
        loop {
            let mut freed = std::pin::pin!(self.0.on_freed.notified());
            // Listen before looking, or a place could become free in between.
            freed.as_mut().enable();
            let next = self.next_in_line();
            if next.is_some() || self.begins_anew() {
                return next;
            }
            freed.await;
        }
    }

    fn begins_anew(&self) -> bool {
        let mut state = lock(&self.0.state);
        state.line.is_empty() && std::mem::take(&mut state.has_more)
    }

    /// All that is due was met. What no operation waits for is forgotten.
    pub(crate) fn forget_if_idle(&self) {
        let mut state = lock(&self.0.state);
        if state.line.is_empty() && !state.has_more {
            state.known = HashMap::new();
        }
    }

    fn take_in(&self, state: &mut State, scope: ScopeTag) -> Option<Share> {
        if !state.admits(scope, self.0.most) {
            return None;
        }
        state.taken += 1;
        *state.scopes.entry(scope).or_default() += 1;
        Some(Share { of: self.clone(), scope })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.of.0.state);
            state.taken -= 1;
            if let Some(held) = state.scopes.get_mut(&self.scope) {
                *held -= 1;
                if *held == 0 {
                    state.scopes.remove(&self.scope);
                }
            }
        }
        self.of.0.on_freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::IdempotencyKey;

    fn key(number: usize) -> Key {
        Key::new("", &IdempotencyKey::parse(number.to_string().as_bytes()).unwrap())
    }

    fn taken(shares: &Shares, scope: &str) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(ScopeTag::of(scope))).collect()
    }

    #[test]
    fn one_scope_leaves_a_quarter_and_each_finds_a_place() {
        for (places, most) in [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12), (100, 75)] {
            let shares = Shares::of(places);
            let held = taken(&shares, "a");
            assert_eq!(held.len(), most, "of {places}");
            assert_eq!(shares.take(ScopeTag::of("b")).is_some(), places > 1);
        }
    }

    #[test]
    fn several_get_less_each_and_a_place_comes_back() {
        let shares = Shares::of(16);
        let mut held: Vec<_> = (0..100).filter_map(|turn| shares.take(ScopeTag::of(["a", "b"][turn % 2]))).collect();
        assert_eq!(held.len(), 13, "seven and six");
        let last: Vec<_> = (0..10).filter_map(|scope| shares.take(ScopeTag::of(&format!("c{scope}")))).collect();
        assert_eq!(last.len(), 3, "one for each, while there are some");
        assert!(shares.take(ScopeTag::of("z")).is_none());
        held.clear();
        assert!(shares.take(ScopeTag::of("z")).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let shares = Shares::of(1);
        let scope = ScopeTag::of("a");
        let held = shares.take(scope);
        (0..KNOWN + 10).for_each(|number| assert!(shares.take_or_hold_back(key(number), scope).is_none()));
        let state = lock(&shares.0.state);
        assert_eq!((state.known.len(), state.line.len(), state.has_more), (10, 10, true));
        drop(state);
        drop(held);
        assert_eq!(shares.next_in_line().map(|(first, _)| first), Some(key(KNOWN)));
    }
}
