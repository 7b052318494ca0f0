//! Schedules: where they stand, paused, run by hand, and periods run once more.

use std::collections::BTreeMap;

use super::Operator;
use super::error::OperatorError;
use crate::core::Timestamp;
use crate::schedule::cursor::{Cursor, Ended, Missed, Order};
use crate::schedule::directory;
use crate::schedule::state::{Removal, Seen, State, scope};
use crate::schedule::timing::{Period, Timing, period_at};
use crate::store::{StoreError, StoreErrorKind};
use crate::util::nonce::fresh_nonce;

/// How much may be asked for by hand and not have begun.
const MOST: usize = 1000;

/// Where a schedule stands, over all processes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShownSchedule {
    /// Its name.
    pub name: String,
    /// When its periods begin.
    pub timing: Timing,
    /// What becomes of those that are missed.
    pub missed: Missed,
    /// Who paused it and why, if it is paused.
    pub paused: Option<Order>,
    /// What runs, or waits until it is tried again.
    pub running: Option<Period>,
    /// Runs whose outcome is unknown, until an operator has decided about each.
    pub in_doubt: Vec<Period>,
    /// What was asked for by hand, and has not begun.
    pub asked: Vec<Period>,
    /// What ended, the latest last: 32 of them at most.
    pub ended: Vec<Ended>,
    /// The store's time.
    pub now: Timestamp,
    passed: Period,
    orders: BTreeMap<String, Order>,
}

impl ShownSchedule {
    /// The periods that come next.
    pub fn next_runs(&self) -> impl Iterator<Item = Period> + use<'_> {
        std::iter::successors(self.timing.following(&self.passed), |period| self.timing.following(period))
    }

    /// Who asked for this run by hand, and why; `None` of any other run.
    pub fn order(&self, period: &Period) -> Option<&Order> {
        self.orders.get(period.order()?)
    }

    /// The orders that are known here, each by what stands in the names of its runs.
    #[cfg(feature = "inspector")]
    pub(super) fn orders(&self) -> impl Iterator<Item = &str> {
        self.orders.keys().map(String::as_str)
    }

    /// The scope of its runs: with the [name](Period::name) of its period as its key, each is found as
    /// an [operation of a runner](Operator::find_of_runner).
    pub fn scope(&self) -> String {
        scope(&self.name)
    }
}

impl Operator {
    /// The names of all schedules that a process has run over this store, in the order of the
    /// alphabet: the first 1,000. One that no process has any longer stays until it is
    /// [forgotten](Self::forget_schedule).
    ///
    /// # Errors
    ///
    /// [`OperatorError::Store`] if the store can't be asked, or a newer release wrote it.
    pub async fn schedules(&self) -> Result<Vec<String>, OperatorError> {
        Ok(directory::names(&self.engine).await?.into_iter().collect())
    }

    /// Where the schedule of this name stands.
    ///
    /// # Errors
    ///
    /// [`OperatorError::NoSuchSchedule`] if no process has run one of this name;
    /// [`OperatorError::Store`] if the store can't be asked, a newer release wrote it, or its time
    /// zone is not known here.
    pub async fn schedule(&self, name: &str) -> Result<ShownSchedule, OperatorError> {
        let Seen { cursor, now, .. } = self.state(name).look().await?;
        let cursor = cursor.ok_or(OperatorError::NoSuchSchedule)?;
        let timing = cursor.timing.parse().map_err(|_| unreadable(&cursor.timing))?;
        let running = cursor.running().map(|open| open.period.clone());
        let in_doubt = cursor.open.iter().filter(|open| open.in_doubt).map(|open| open.period.clone()).collect();
        let Cursor { missed, paused, orders, asked, passed, ended, .. } = cursor;
        Ok(ShownSchedule {
            name: name.to_owned(),
            timing,
            missed,
            paused,
            running,
            in_doubt,
            asked: asked.into(),
            ended: ended.into(),
            now,
            passed,
            orders,
        })
    }

    /// Pauses it: no period begins, in any process, until an operator
    /// [goes on](Self::go_on_with_schedule) with it. What runs goes on. [Who](Self::by) and
    /// [why](Self::because) is shown until then.
    ///
    /// # Errors
    ///
    /// As [`schedule`](Self::schedule); [`OperatorError::Overtaken`] if it changes all the time.
    pub async fn pause_schedule(&self, name: &str) -> Result<(), OperatorError> {
        self.schedule(name).await?;
        self.change_schedule(name, |cursor, _| cursor.paused = Some(self.ordered())).await
    }

    /// Goes on with a schedule that was paused. The periods that began meanwhile were
    /// [missed](crate::schedule::Missed).
    ///
    /// # Errors
    ///
    /// As [`pause_schedule`](Self::pause_schedule).
    pub async fn go_on_with_schedule(&self, name: &str) -> Result<(), OperatorError> {
        self.schedule(name).await?;
        self.change_schedule(name, |cursor, _| cursor.paused = None).await
    }

    /// Runs it once, besides its periods: now, or when what runs has ended; also while it is
    /// paused. Returns the period that the run is for.
    ///
    /// # Errors
    ///
    /// As [`pause_schedule`](Self::pause_schedule); [`OperatorError::TooManyAsked`] if 1,000
    /// wait already. After [`OperatorError::Store`] and [`OperatorError::Overtaken`] it may have
    /// been asked for: look at the [schedule](Self::schedule). If it has, and does not begin, no
    /// process has heard of it yet, and any later change of the schedule has it begin.
    pub async fn trigger(&self, name: &str) -> Result<Period, OperatorError> {
        let id = fresh_id();
        let now = |now| period_at(now).into_iter().map(|at| at.by_hand(&id)).collect();
        let asked = self.ask(name, &id, |_, at| now(at)).await?;
        asked.into_iter().next().ok_or(OperatorError::NoSuchSchedule)
    }

    /// Runs each of its periods that began from `from` until `until` once more, the oldest
    /// first. Returns them.
    ///
    /// # Errors
    ///
    /// As [`trigger`](Self::trigger). Then none of them runs.
    pub async fn back_fill(&self, name: &str, from: Timestamp, until: Timestamp) -> Result<Vec<Period>, OperatorError> {
        let id = fresh_id();
        let before = Timestamp::from_millis(from.as_millis().saturating_sub(1));
        self.ask(name, &id, |timing, now| {
            let begun = std::iter::successors(timing.next(before), |period| timing.following(period));
            let begun = begun.take_while(|period| period.begin() <= until.min(now)).take(MOST + 1);
            begun.map(|period| period.by_hand(&id)).collect()
        })
        .await
    }

    /// Forgets a schedule: takes one that no process has any longer off the
    /// [list](Self::schedules), with all that is on record of its runs, and what was asked for
    /// and has not begun. The event [`Decided`](crate::EventKind::Decided) is what remains, with
    /// [who](Self::by) and [why](Self::because).
    ///
    /// A process that still has the schedule begins it anew, with the first period after that. So
    /// this also sets right what a clock of the store that was far ahead has done. A period that
    /// was opened ahead of its time has another run then.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Unfinished`] while a run of it has begun and is not complete: wait for it,
    /// or [resolve](Self::resolve) it first. [`OperatorError::NoSuchSchedule`] if there is none of
    /// this name; [`OperatorError::Overtaken`] if it changes all the time. After
    /// [`OperatorError::Store`] part of it may have been removed: call this again.
    pub async fn forget_schedule(&self, name: &str) -> Result<(), OperatorError> {
        let state = self.state(name);
        match state.remove().await? {
            Removal::Done => self.decided(&state.key(), "forget a schedule"),
            Removal::Absent => return Err(OperatorError::NoSuchSchedule),
            Removal::Unfinished => return Err(OperatorError::Unfinished),
            Removal::Overtaken => return Err(OperatorError::Overtaken),
        }
        self.call_schedule(name).await
    }

    async fn ask(
        &self,
        name: &str,
        id: &str,
        what: impl Fn(&Timing, Timestamp) -> Vec<Period> + Send + Sync,
    ) -> Result<Vec<Period>, OperatorError> {
        // Decided once, however often the write is tried.
        let ShownSchedule { timing, now, .. } = self.schedule(name).await?;
        let asked = what(&timing, now);
        self.change_schedule(name, |cursor, _| {
            if cursor.asked.len() + asked.len() > MOST {
                return Err(OperatorError::TooManyAsked);
            }
            // An earlier try may have taken, and its reply been lost.
            cursor.asked.extend(asked.iter().filter(|period| !cursor.knows(period)).cloned().collect::<Vec<_>>());
            cursor.orders.insert(id.to_owned(), self.ordered());
            Ok(())
        })
        .await??;
        Ok(asked)
    }

    /// Of one that is known to be there.
    async fn change_schedule<T: Send>(
        &self,
        name: &str,
        change: impl FnMut(&mut Cursor, Timestamp) -> T + Send,
    ) -> Result<T, OperatorError> {
        let changed = self.state(name).change(change).await?.ok_or(OperatorError::Overtaken)?;
        self.call_schedule(name).await?;
        Ok(changed)
    }

    fn ordered(&self) -> Order {
        Order { by: self.engine.name().map(ToString::to_string), why: self.why.as_deref().map(str::to_owned) }
    }

    fn state<'a>(&'a self, name: &'a str) -> State<'a> {
        State { engine: &self.engine, name }
    }
}

/// Its processes have a newer release, or a zone that is not known here.
fn unreadable(timing: &str) -> StoreError {
    let why = format!("this machine knows no timing `{timing}`; ask on one where the schedule runs");
    StoreError::new(StoreErrorKind::NewerFormat, why)
}

fn fresh_id() -> String {
    format!("{:08x}", fresh_nonce().get() >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_schedule_in_a_zone_that_is_not_known_here_is_there_and_can_not_be_read() {
        let engine = Engine::new(MemoryStore::new());
        let timing = Timing::daily("UTC", "02:00").unwrap();
        let mut cursor = Cursor::new(&timing, Missed::PassOver, Timestamp::from_millis(0));
        cursor.timing = "cron Mars/Olympus 0 2 * * *".to_owned();
        let state = State { engine: &engine, name: "export" };
        assert!(state.write(&cursor, None).await.unwrap());
        let error = Operator::new(engine.clone()).schedule("export").await.unwrap_err();
        assert!(matches!(&error, OperatorError::Store(error) if error.is_unreadable()), "{error}");
        assert!(error.to_string().contains("knows no timing `cron Mars/Olympus 0 2 * * *`"), "{error}");
    }
}
