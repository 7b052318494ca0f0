//! Where a schedule stands, over all processes: which periods are behind it, and which run.
//!
//! It is kept in a control record, which never expires. A run begins only for a period that
//! stands open here, and a period is opened once, when the cursor passes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::timing::{Period, Timing};
use crate::core::{Record, StoredResponse, Timestamp};
use crate::engine::control::{content_of, said_in};
use crate::store::{StoreError, StoreErrorKind};

/// How many ended runs are listed.
const LISTED: usize = 32;

/// How many periods that were missed are looked at, one by one: the newest.
const MOST: u32 = 1_000_000;

/// What becomes of periods that began while no process ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// At most so many run, the oldest of them first; what was missed before them is passed
    /// over. None of them is as [`PassOver`](Self::PassOver).
    Newest(u32),
    /// None runs: a period that began more than a minute ago is passed over.
    PassOver,
}

/// How long ago a period may have begun that was not missed.
const LATE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// When its periods begin, as the process that wrote it last has it.
    pub(crate) timing: String,
    /// What becomes of missed ones, as that process has it.
    pub(crate) missed: Missed,
    /// Who paused it, if it is paused.
    pub(crate) paused: Option<Order>,
    /// Who asked for the runs by hand that are known here, by what stands in their names.
    pub(crate) orders: BTreeMap<String, Order>,
    /// What operators asked for, and has not begun.
    pub(crate) asked: VecDeque<Period>,
    /// The last period that it passed.
    pub(crate) passed: Period,
    /// Those that run, or are to run again.
    pub(crate) open: Vec<Open>,
    /// What ended, the latest last.
    pub(crate) ended: VecDeque<Ended>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) period: Period,
    /// When it was opened: its deadline counts from then.
    pub(crate) since: Timestamp,
    /// How often it failed.
    pub(crate) failures: u32,
    /// It does not run again before this.
    pub(crate) rests_until: Timestamp,
    /// What it did is unknown, and an operator decides: later periods don't wait for it.
    pub(crate) in_doubt: bool,
}

/// Who had a schedule paused, or asked for a run, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Order {
    /// Who: as [`Operator::by`](crate::Operator::by) says; else the engine's
    /// [`instance`](crate::Engine::instance), if it has one.
    pub by: Option<String>,
    /// Why, if [`Operator::because`](crate::Operator::because) says so.
    pub why: Option<String>,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// What it ran for; the last one of several that were passed over.
    pub period: Period,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub end: End,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The work is done.
    Complete,
    /// It failed as often as it may, or was not done by its deadline.
    Failed,
    /// So many periods in a row were missed, and passed over. A million are counted at most.
    PassedOver(u64),
}

impl Cursor {
    /// A schedule that begins now: nothing was missed before.
    pub(crate) fn new(timing: &Timing, missed: Missed, now: Timestamp) -> Self {
        Self {
            timing: timing.to_string(),
            missed,
            paused: None,
            orders: BTreeMap::new(),
            asked: VecDeque::new(),
            passed: Period { name: String::new(), begin: now },
            open: Vec::new(),
            ended: VecDeque::new(),
        }
    }

    /// Takes note of how the process has it that writes it; whether that is new.
    pub(crate) fn go_by(&mut self, timing: &Timing, missed: Missed) -> bool {
        let was =
            (std::mem::replace(&mut self.timing, timing.to_string()), std::mem::replace(&mut self.missed, missed));
        was != (timing.to_string(), missed)
    }

    /// The one that runs, or is to run again: later periods wait for it.
    pub(crate) fn running(&self) -> Option<&Open> {
        self.open.iter().find(|open| !open.in_doubt)
    }

    /// Opens the next period that is to run, if one has begun and none runs.
    pub(crate) fn advance(&mut self, timing: &Timing, missed: Missed, now: Timestamp) -> bool {
        if self.running().is_some() {
            return false;
        }
        // In turns, so that no list of what is asked for makes what falls due meanwhile wait.
        let was_asked_for = self.ended.back().is_some_and(|ended| ended.period.is_by_hand());
        was_asked_for && self.open_due(timing, missed, now)
            || self.open_asked(now)
            || self.open_due(timing, missed, now)
    }

    /// What an operator asked for begins also while the schedule is paused.
    fn open_asked(&mut self, now: Timestamp) -> bool {
        let asked = self.asked.pop_front();
        asked.map(|asked| self.begin(asked, now)).is_some()
    }

    fn open_due(&mut self, timing: &Timing, missed: Missed, now: Timestamp) -> bool {
        if self.paused.is_some() {
            return false;
        }
        let (passed_over, last, next) = self.due(timing, missed, now);
        if let Some(last) = last {
            self.passed = last.clone();
            self.end(last, now, End::PassedOver(passed_over));
        }
        if let Some(next) = next {
            self.passed = next.clone();
            self.begin(next, now);
        }
        passed_over > 0 || self.running().is_some()
    }

    fn begin(&mut self, period: Period, since: Timestamp) {
        self.open.push(Open { period, since, failures: 0, rests_until: Timestamp::default(), in_doubt: false });
    }

    /// How many of those that have begun are passed over, the last of them, and the one that is
    /// to run.
    fn due(&self, timing: &Timing, missed: Missed, now: Timestamp) -> (u64, Option<Period>, Option<Period>) {
        // So many may have begun, and no more.
        let shortest = timing.shortest();
        let bound = now.since(self.passed.begin).as_millis() / shortest.as_millis() + 1;
        let first = match now.since(Timestamp::default()).checked_sub(shortest * MOST) {
            Some(oldest) if bound > u128::from(MOST) => timing.next(Timestamp::default().after(oldest)),
            _ => timing.following(&self.passed),
        };
        if matches!(missed, Missed::Newest(most) if bound <= u128::from(most)) {
            return (0, None, first.filter(|period| period.begin <= now));
        }
        let (mut passed_over, mut last, mut waiting) = (0, None, VecDeque::new());
        let following = std::iter::successors(first, |period| timing.following(period));
        for period in following.take_while(|period| period.begin <= now) {
            waiting.push_back(period);
            let is_missed = match missed {
                Missed::Newest(most) => waiting.len() > usize::try_from(most).unwrap_or(usize::MAX),
                Missed::PassOver => waiting.front().is_some_and(|period| period.begin.after(LATE) < now),
            };
            if is_missed {
                (passed_over, last) = (passed_over + 1, waiting.pop_front());
            }
        }
        (passed_over, last, waiting.pop_front())
    }

    /// Takes note that it ended.
    pub(crate) fn end(&mut self, period: Period, at: Timestamp, end: End) {
        self.open.retain(|open| open.period != period);
        self.ended.push_back(Ended { period, at, end });
    }

    /// Those that are to be listed no longer.
    pub(crate) fn unlisted(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter().take(self.ended.len().saturating_sub(LISTED))
    }

    pub(crate) fn unlist(&mut self) {
        self.ended.drain(..self.ended.len().saturating_sub(LISTED));
        let known: BTreeSet<_> = self.periods().filter_map(Period::order).map(str::to_owned).collect();
        self.orders.retain(|id, _| known.contains(id));
    }

    pub(crate) fn find(&mut self, period: &Period) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.period == *period)
    }

    /// Whether it waits, runs or is listed as ended.
    pub(crate) fn knows(&self, period: &Period) -> bool {
        self.periods().any(|known| known == period)
    }

    fn periods(&self) -> impl Iterator<Item = &Period> {
        let open = self.open.iter().map(|open| &open.period);
        let ended = self.ended.iter().map(|ended| &ended.period);
        self.asked.iter().chain(open).chain(ended)
    }

    /// What the record is to say.
    pub(crate) fn to_content(&self) -> Arc<StoredResponse> {
        content_of(&json!({
            "timing": self.timing,
            "missed": missed_value(self.missed),
            "paused": self.paused.as_ref().map(order_value),
            "orders": self.orders.iter().map(|(id, order)| (id.clone(), order_value(order))).collect::<Value>(),
            "asked": self.asked.iter().map(value).collect::<Value>(),
            "passed": value(&self.passed),
            "open": self.open.iter().map(open_value).collect::<Value>(),
            "ended": self.ended.iter().map(ended_value).collect::<Value>(),
        }))
    }

    /// What the record says.
    pub(crate) fn of(record: &Record) -> Result<Self, StoreError> {
        record.response().and_then(|content| Self::of_content(content)).ok_or_else(|| {
            let why = "the schedule was written by a newer release; run it with that one";
            StoreError::new(StoreErrorKind::NewerFormat, why)
        })
    }

    pub(crate) fn of_content(content: &StoredResponse) -> Option<Self> {
        parse(&said_in(content)?)
    }
}

fn value(Period { name, begin }: &Period) -> Value {
    json!({ "name": name, "begin_ms": begin.as_millis() })
}

/// How many run at most; 0 if none does.
fn missed_value(missed: Missed) -> Value {
    match missed {
        Missed::Newest(most) => json!(most),
        Missed::PassOver => json!(0),
    }
}

fn order_value(Order { by, why }: &Order) -> Value {
    json!({ "by": by, "why": why })
}

fn open_value(open: &Open) -> Value {
    json!({
        "period": value(&open.period),
        "since_ms": open.since.as_millis(),
        "failures": open.failures,
        "rests_until_ms": open.rests_until.as_millis(),
        "in_doubt": open.in_doubt,
    })
}

fn ended_value(ended: &Ended) -> Value {
    let end = match ended.end {
        End::Complete => json!("complete"),
        End::Failed => json!("failed"),
        End::PassedOver(periods) => json!(periods),
    };
    json!({ "period": value(&ended.period), "at_ms": ended.at.as_millis(), "end": end })
}

fn parse(content: &Value) -> Option<Cursor> {
    Some(Cursor {
        timing: content["timing"].as_str()?.to_owned(),
        missed: missed(&content["missed"])?,
        paused: Some(&content["paused"]).filter(|paused| !paused.is_null()).map(order),
        orders: content["orders"].as_object()?.iter().map(|(id, by)| (id.clone(), order(by))).collect(),
        asked: content["asked"].as_array()?.iter().map(period).collect::<Option<_>>()?,
        passed: period(&content["passed"])?,
        open: content["open"].as_array()?.iter().map(open).collect::<Option<_>>()?,
        ended: content["ended"].as_array()?.iter().map(ended).collect::<Option<_>>()?,
    })
}

fn missed(value: &Value) -> Option<Missed> {
    Some(match u32::try_from(value.as_u64()?).ok()? {
        0 => Missed::PassOver,
        most => Missed::Newest(most),
    })
}

fn order(value: &Value) -> Order {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    Order { by: text("by"), why: text("why") }
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_u64().map(Timestamp::from_millis)
}

fn period(value: &Value) -> Option<Period> {
    Some(Period { name: value["name"].as_str()?.to_owned(), begin: time(&value["begin_ms"])? })
}

fn open(value: &Value) -> Option<Open> {
    Some(Open {
        period: period(&value["period"])?,
        since: time(&value["since_ms"])?,
        failures: u32::try_from(value["failures"].as_u64()?).ok()?,
        rests_until: time(&value["rests_until_ms"])?,
        in_doubt: value["in_doubt"].as_bool()?,
    })
}

fn ended(value: &Value) -> Option<Ended> {
    let end = match &value["end"] {
        Value::String(end) if end == "complete" => End::Complete,
        Value::String(end) if end == "failed" => End::Failed,
        end => End::PassedOver(end.as_u64()?),
    };
    Some(Ended { period: period(&value["period"])?, at: time(&value["at_ms"])?, end })
}
