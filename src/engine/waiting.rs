//! Requests that wait for the end of an operation. Its holder in this process wakes them;
//! of one elsewhere, one of them at a time asks the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::core::{Claimed, Fingerprint, Key};
use crate::util::signal::lock;

/// The operations that are waited for, and those that may be: no more than the
/// requests that run or wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Most of the time there are none, and no lock has to be taken.
    count: AtomicUsize,
    rooms: Mutex<HashMap<Key, Arc<Room>>>,
}

/// Where those are that wait for one operation, and its holder.
#[derive(Debug)]
struct Room {
    state: watch::Sender<State>,
    /// Of those who ask the store, one at a time does.
    turn: Semaphore,
}

#[derive(Clone, Debug)]
enum State {
    /// No holder of this process is known.
    Elsewhere,
    /// Its holder in this process will tell its end.
    Held,
    Ended(Ended),
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) fingerprint: Fingerprint,
    /// What the same request gets.
    pub(crate) claimed: Claimed,
    /// The attempt that ended, or that was running when it was last looked at.
    pub(crate) attempt: u32,
}

impl Waiting {
    fn enter(self: &Arc<Self>, key: Key) -> Place {
        self.count.fetch_add(1, Ordering::Release);
        let new = || Arc::new(Room { state: watch::Sender::new(State::Elsewhere), turn: Semaphore::new(1) });
        let room = Arc::clone(lock(&self.rooms).entry(key).or_insert_with(new));
        Place { waiting: Arc::clone(self), key, room }
    }

    /// A place of one that waits.
    pub(crate) fn sit(self: &Arc<Self>, key: Key) -> Seat {
        let place = self.enter(key);
        Seat { heard: place.room.state.subscribe(), place }
    }

    /// The place of the holder.
    pub(crate) fn hold(self: &Arc<Self>, key: Key) -> Holding {
        let place = self.enter(key);
        place.room.state.send_replace(State::Held);
        Holding(place)
    }

    /// Whether any request of this process waits for its end.
    pub(crate) fn is_awaited(&self, key: &Key) -> bool {
        self.count.load(Ordering::Acquire) > 0
            && lock(&self.rooms).get(key).is_some_and(|room| room.state.receiver_count() > 0)
    }

    /// Tells all that wait how it ended. Those that come later wait for something else.
    pub(crate) fn end(&self, key: &Key, ended: Ended) {
        let room = lock(&self.rooms).remove(key);
        if let Some(room) = room {
            room.state.send_replace(State::Ended(ended));
        }
    }
}

#[derive(Debug)]
struct Place {
    waiting: Arc<Waiting>,
    key: Key,
    room: Arc<Room>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut rooms = lock(&self.waiting.rooms);
        // Two: this one, and the map's.
        let is_last =
            rooms.get(&self.key).is_some_and(|room| Arc::ptr_eq(room, &self.room) && Arc::strong_count(room) == 2);
        if is_last {
            rooms.remove(&self.key);
        }
        drop(rooms);
        self.waiting.count.fetch_sub(1, Ordering::Release);
    }
}

/// The holder's place. Dropped before the end was told, those that wait ask the store.
#[derive(Debug)]
pub(crate) struct Holding(Place);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.room.state.send_if_modified(|state| {
            let is_held = matches!(state, State::Held);
            if is_held {
                *state = State::Elsewhere;
            }
            is_held
        });
    }
}

/// The place of one that waits.
#[derive(Debug)]
pub(crate) struct Seat {
    place: Place,
    heard: watch::Receiver<State>,
}

impl Seat {
    /// Resolves once the end was told in this process.
    pub(crate) async fn ended(&self) -> Ended {
        let mut heard = self.heard.clone();
        let ended = heard.wait_for(|state| matches!(state, State::Ended(_))).await;
        let ended = ended.ok().and_then(|state| match &*state {
            State::Ended(ended) => Some(ended.clone()),
            State::Elsewhere | State::Held => None,
        });
        match ended {
            Some(ended) => ended,
            // The sender is ours.
            None => std::future::pending().await,
        }
    }

    /// Resolves when it is this one's turn to ask the store. It is over once the permit is dropped.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.place.room.turn.acquire().await.ok()
    }

    /// Resolves unless a holder of this process will tell the end.
    pub(crate) async fn is_elsewhere(&self) {
        let _ = self.heard.clone().wait_for(|state| !matches!(state, State::Held)).await;
    }

    /// Tells the others what the store had.
    pub(crate) fn announce(&self, ended: Ended) {
        self.place.waiting.end(&self.place.key, ended);
    }
}
