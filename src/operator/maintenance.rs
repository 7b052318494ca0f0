//! Maintenance windows: planned, extended, ended early.

use std::time::Duration;

use super::Operator;
use super::error::OperatorError;
use crate::core::{Covers, Key, PlannedWindow, Timestamp, Window};
use crate::engine::look::Plan;
use crate::engine::plan::{Control, NAME};
use crate::util::nonce::fresh_nonce;

/// How many windows there may be, those that are over and not dropped yet included.
const MOST: usize = 64;
/// The longest reason, path or scope, in bytes.
const LONGEST: usize = 1000;
/// How long a window that is over is still listed.
const LISTED: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a change is tried again that another operator's overtook.
const TRIES: usize = 8;

impl Operator {
    /// Plans a [maintenance window](crate::guide::maintenance); returns its id. Every process
    /// over this store sees it within 5 seconds, so plan it at least that long ahead. One that
    /// has begun already counts from now on. Windows may overlap: then all of their time counts.
    ///
    /// The engine's [`instance`](crate::Engine::instance) is kept with it. The write is atomic:
    /// windows that others plan at the same time stay. Windows that are over for a day are
    /// dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::clock::{Clock, SystemClock};
    /// use tower_idempotency::maintenance::{Window, WindowState};
    /// use tower_idempotency::{Engine, Operator, store::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let operator = Operator::new(Engine::new(MemoryStore::new()).instance("eve"));
    /// let from = SystemClock::new().now().after(Duration::from_secs(600));
    /// let window = Window::new(from, from.after(Duration::from_secs(3600)), "the database moves");
    /// let id = operator.plan(window.lead(Duration::from_secs(300))).await?;
    /// let (windows, now) = operator.windows().await?;
    /// assert_eq!((&windows[0].id, windows[0].by.as_deref()), (&id, Some("eve")));
    /// assert_eq!(windows[0].state(now), WindowState::Planned);
    /// operator.extend(&windows[0], from.after(Duration::from_secs(7200))).await?;
    /// // It is no longer as it was seen.
    /// assert!(operator.end(&windows[0]).await.is_err());
    /// operator.end(&operator.windows().await?.0[0]).await?;
    /// assert!(operator.windows().await?.0.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`OperatorError::InvalidWindow`] if it would end before it begins, is over already, has no
    /// reason, or names no path where it is to cover one; if there are 64 windows, or a text is longer than 1,000
    /// bytes. [`OperatorError::Overtaken`] if other operators change the windows all the time.
    /// After [`OperatorError::Store`] it may have been planned: look at the
    /// [`windows`](Self::windows).
    pub async fn plan(&self, window: Window) -> Result<String, OperatorError> {
        let id = format!("{:08x}", fresh_nonce().get() >> 32);
        let planned = PlannedWindow::new(id.clone(), self.engine.name().map(ToString::to_string), window);
        self.change_windows(|windows, now| {
            check(&planned.window, now)?;
            // An earlier try may have taken, and its reply been lost.
            windows.retain(|other| other.id != planned.id);
            if windows.len() >= MOST {
                return Err(OperatorError::InvalidWindow("there are 64 windows already; end one of them first"));
            }
            windows.push(planned.clone());
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// Ends a window now, as it was [seen](Self::windows): work that it covered goes on, in every
    /// process within 5 seconds. One that has not begun is taken off the list.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Overtaken`] if another operator has changed this window since;
    /// [`OperatorError::NoSuchWindow`] if there is none of its id, or it is over; else as
    /// [`plan`](Self::plan).
    pub async fn end(&self, seen: &PlannedWindow) -> Result<(), OperatorError> {
        self.change_window(seen, |now| {
            let has_begun = seen.window.from < now;
            Ok(has_begun.then(|| Window { until: now, ..seen.window.clone() }))
        })
        .await
    }

    /// Moves the end of a window, as it was [seen](Self::windows), also to an earlier time.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Overtaken`] if another operator has changed this window since;
    /// [`OperatorError::NoSuchWindow`] if there is none of its id, or it is over;
    /// [`OperatorError::InvalidWindow`] if it would end before it begins, or before now; else as
    /// [`plan`](Self::plan).
    pub async fn extend(&self, seen: &PlannedWindow, until: Timestamp) -> Result<(), OperatorError> {
        self.change_window(seen, |now| {
            let window = Window { until, ..seen.window.clone() };
            check(&window, now)?;
            Ok(Some(window))
        })
        .await
    }

    /// Puts what `change` gives in the place of the window that was seen; nothing takes it off
    /// the list.
    async fn change_window(
        &self,
        seen: &PlannedWindow,
        change: impl Fn(Timestamp) -> Result<Option<Window>, OperatorError> + Send + Sync,
    ) -> Result<(), OperatorError> {
        // By an earlier try, which may have taken, and its reply been lost.
        let mut written = None;
        self.change_windows(|windows, now| {
            let at = windows.iter().position(|planned| planned.id == seen.id);
            if written.as_ref().is_some_and(|written| *written == at.map(|at| windows[at].clone())) {
                return Ok(());
            }
            let at = at.filter(|at| windows[*at].window.until > now).ok_or(OperatorError::NoSuchWindow)?;
            if windows[at] != *seen {
                return Err(OperatorError::Overtaken);
            }
            let by = self.engine.name().map(ToString::to_string);
            let changed = change(now)?.map(|window| PlannedWindow::new(seen.id.clone(), by, window));
            windows.splice(at..=at, changed.clone());
            written = Some(changed);
            Ok(())
        })
        .await
    }

    /// All windows that are planned, have begun, or were over less than a day ago, the earliest
    /// first; and the store's time, by which they have their
    /// [`state`](PlannedWindow::state).
    ///
    /// # Errors
    ///
    /// [`OperatorError::Store`] if the store can't be asked, or the windows can't be read.
    pub async fn windows(&self) -> Result<(Vec<PlannedWindow>, Timestamp), OperatorError> {
        let Plan { mut windows, now, .. } = self.engine.read_plan().await?;
        drop_old(&mut windows, now);
        windows.sort_by_key(|planned| planned.window.from);
        Ok((windows, now))
    }

    async fn change_windows(
        &self,
        mut change: impl FnMut(&mut Vec<PlannedWindow>, Timestamp) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        self.change_control(|control, windows, now| {
            drop_old(windows, now);
            change(windows, now)?;
            control.set_windows(windows);
            Ok(())
        })
        .await
    }

    /// Has the processes of this schedule look at it, within seconds.
    #[cfg(feature = "schedule")]
    pub(super) async fn call_schedule(&self, name: &str) -> Result<(), OperatorError> {
        self.change_control(|control, _, _| {
            control.call_schedule(name);
            Ok(())
        })
        .await
    }

    async fn change_control(
        &self,
        mut change: impl FnMut(&mut Control, &mut Vec<PlannedWindow>, Timestamp) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        for _ in 0..TRIES {
            let Plan { mut windows, mut control, version, now } = self.engine.read_plan().await?;
            change(&mut control, &mut windows, now)?;
            let is_done = self.engine.set_control(&Key::of_control(NAME), version, control.to_content()).await?;
            // Otherwise another operator's change came first: this one is made to what is there now.
            if is_done {
                self.engine.go_by(&windows, &control, now);
                return Ok(());
            }
        }
        Err(OperatorError::Overtaken)
    }
}

fn drop_old(windows: &mut Vec<PlannedWindow>, now: Timestamp) {
    windows.retain(|planned| planned.window.until.after(LISTED) > now);
}

fn check(window: &Window, now: Timestamp) -> Result<(), OperatorError> {
    let name = match &window.covers {
        Covers::All => None,
        Covers::Route(path) => Some((path, path.starts_with('/'))),
        Covers::Scope(scope) => Some((scope, true)),
    };
    let (long, named) = name.map_or((false, true), |(text, is_named)| (text.len() > LONGEST, is_named));
    Err(OperatorError::InvalidWindow(if window.until <= window.from {
        "the window ends before it begins; give a later end"
    } else if window.until <= now {
        "the window is over already, by the store's clock; give a later end"
    } else if window.reason.trim().is_empty() {
        "the window has no reason; say in a few words what is done"
    } else if window.reason.len() > LONGEST || long {
        "a text of the window is longer than 1,000 bytes; shorten it"
    } else if !named {
        "the window's path does not begin with a slash; give it as the client sends it"
    } else {
        return Ok(());
    }))
}
