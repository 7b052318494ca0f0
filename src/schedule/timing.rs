//! When the periods of a schedule begin.
//!
//! A cron expression is asked in UTC, about times on a wall clock. The zone is put around it
//! here, where it can be read what becomes of a time that a day has twice or not at all.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions, parse_crontab_with};
use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use crate::core::Timestamp;

/// The longest time between two periods that begin at even distances.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// When the periods of a [`Schedule`](super::Schedule) begin: each day, by a cron expression,
/// or at even distances.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::core::Timestamp;
/// use tower_idempotency::schedule::Timing;
///
/// let nightly = Timing::daily("Europe/Zurich", "02:30")?;
/// let monthly = Timing::cron("America/New_York", "0 6 L * *")?;
/// let often = Timing::every(Duration::from_secs(90))?;
/// // One second before the year 2026.
/// let first = nightly.next(Timestamp::from_millis(1_767_225_599_000)).expect("a period");
/// assert_eq!(first.name(), "2026-01-01T02:30:00");
/// assert!(Timing::daily("Mars/Olympus", "02:30").is_err());
/// # Ok::<_, tower_idempotency::schedule::InvalidTiming>(())
/// ```
///
/// # Times that a day has twice, or not at all
///
/// If the hours of a cron expression begin with `*`, its periods go by the time that passes:
/// through an hour that a day has twice they come in both, and in an hour that a day lacks
/// there are none. All others, and those of [`daily`](Self::daily), are times of a day, and
/// come once in it: the first time if the day has it twice; and if the day lacks it, later by
/// as much as the clocks were put forward. Two that would begin at the same moment then are
/// one.
///
/// # As text
///
/// `cron Europe/Zurich 30 2 * * *` or `every 90s`, in whole seconds or milliseconds (`ms`): so
/// it is written by `Display`, kept with the schedule, and read by `FromStr`.
#[derive(Clone, Debug)]
pub struct Timing {
    kind: Kind,
    text: Box<str>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Every so many milliseconds since the Unix epoch.
    Every(u64),
    /// Times of a day.
    Wall(Box<Crontab>, TimeZone),
    /// By the time that passes.
    Flow(Box<Crontab>, TimeZone),
}

/// What a schedule runs once for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    pub(crate) name: String,
    pub(crate) begin: Timestamp,
}

/// What stands behind the name of one that an operator asked for.
const BY_HAND: &str = "/by-hand-";

impl Period {
    /// What tells it from all other periods of its schedule: the time of a day, without its
    /// zone (`2026-01-01T02:30:00`), or a moment (`2026-01-01T02:30:00Z`); for one that an
    /// operator asked for, with `/by-hand-` and a number.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, asked for by an operator: it runs once more for it, under a name of its own.
    pub(crate) fn by_hand(self, id: &str) -> Self {
        Self { name: format!("{}{BY_HAND}{id}", self.name), begin: self.begin }
    }

    /// Whether an operator asked for it: it runs though its period may have had its run.
    pub fn is_by_hand(&self) -> bool {
        self.name.contains(BY_HAND)
    }

    /// Which call of an operator's asked for it.
    pub(crate) fn order(&self) -> Option<&str> {
        self.name.split_once(BY_HAND).map(|(_, id)| id)
    }

    /// When it begins.
    pub const fn begin(&self) -> Timestamp {
        self.begin
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Timing {
    /// At even distances, counted from the Unix epoch. From one second to 366 days, in whole
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// [`InvalidTiming`] if it is shorter or longer.
    pub fn every(distance: Duration) -> Result<Self, InvalidTiming> {
        if !(Duration::from_secs(1)..=LONGEST).contains(&distance) {
            return Err(InvalidTiming(format!("a period each {distance:?}; take one second to 366 days")));
        }
        let millis = u64::try_from(distance.as_millis()).unwrap_or(u64::MAX);
        let text = match millis % 1000 {
            0 => format!("every {}s", millis / 1000),
            _ => format!("every {millis}ms"),
        };
        Ok(Self { kind: Kind::Every(millis), text: text.into() })
    }

    /// Once a day, at a time such as `02:30` in a zone such as `Europe/Zurich`.
    ///
    /// # Errors
    ///
    /// [`InvalidTiming`] if there is no such zone, or no such time.
    pub fn daily(zone: &str, time: &str) -> Result<Self, InvalidTiming> {
        let (hour, minute) = time_of_day(time)
            .ok_or_else(|| InvalidTiming(format!("`{time}` is not a time of a day; write it as 02:30")))?;
        Self::cron(zone, &format!("{minute} {hour} * * *"))
    }

    /// By a cron expression of five fields: minute, hour, day of the month, month, day of the
    /// week; with `L` for the last day of a month, `5#3` for the third Friday, and `15W` for
    /// the weekday nearest to the 15th. As in Vixie's cron, a day matches if the day of the
    /// month *or* the day of the week does, where neither begins with `*`.
    ///
    /// The zones are those of the machine; where it has none, those that this crate was built
    /// with.
    ///
    /// # Errors
    ///
    /// [`InvalidTiming`] if there is no such zone, if the expression can't be read, or if its
    /// time never comes.
    pub fn cron(zone: &str, expression: &str) -> Result<Self, InvalidTiming> {
        let wrong_zone = || InvalidTiming(format!("`{zone}` is no time zone; take a name as Europe/Zurich or UTC"));
        let zone = TimeZone::get(zone).map_err(|_| wrong_zone())?;
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let &[_, hours, ..] = fields.as_slice() else { return Err(wrong_count(expression, fields.len())) };
        if fields.len() != 5 {
            return Err(wrong_count(expression, fields.len()));
        }
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let pattern =
            parse_crontab_with(&fields.join(" "), options).map_err(|error| InvalidTiming(error.to_string()))?;
        let kind = if hours.starts_with('*') { Kind::Flow } else { Kind::Wall };
        let text = format!("cron {} {}", zone.iana_name().ok_or_else(wrong_zone)?, fields.join(" ")).into();
        let timing = Self { kind: kind(Box::new(pattern), zone), text };
        match timing.next(Timestamp::default()) {
            Some(_) => Ok(timing),
            None => Err(InvalidTiming(format!("`{expression}` never comes; is there such a day in such a month?"))),
        }
    }

    /// The first period that begins after this time; `None` after the year 9999.
    pub fn next(&self, after: Timestamp) -> Option<Period> {
        self.next_from(None, after)
    }

    /// The zone of its times; UTC for even distances.
    #[cfg(feature = "inspector")]
    fn zone(&self) -> TimeZone {
        match &self.kind {
            Kind::Every(_) => TimeZone::UTC,
            Kind::Wall(_, zone) | Kind::Flow(_, zone) => zone.clone(),
        }
    }

    /// The name of that zone.
    #[cfg(feature = "inspector")]
    pub(crate) fn zone_name(&self) -> String {
        self.zone().iana_name().unwrap_or_default().to_owned()
    }

    /// The moment of a time in that zone, as `2026-11-29T22:00`. The first one if the day has it
    /// twice, and later by as much as the clocks were put forward if the day lacks it.
    #[cfg(feature = "inspector")]
    pub(crate) fn moment_of(&self, text: &str) -> Option<Timestamp> {
        stamp(self.zone().to_ambiguous_timestamp(text.parse().ok()?).compatible().ok()?)
    }

    /// The same back; seconds are cut.
    #[cfg(feature = "inspector")]
    pub(crate) fn time_at(&self, at: Timestamp) -> Option<String> {
        Some(self.zone().to_datetime(moment(at)?).strftime("%Y-%m-%dT%H:%M").to_string())
    }

    /// Two periods begin no closer to each other than that.
    pub(crate) const fn shortest(&self) -> Duration {
        match &self.kind {
            Kind::Every(distance) => Duration::from_millis(*distance),
            Kind::Wall(..) | Kind::Flow(..) => Duration::from_secs(60),
        }
    }

    /// The period that follows this one: by its time of a day, where it has one, so that it
    /// does not come a second time if the zone's rules were changed meanwhile.
    pub(crate) fn following(&self, period: &Period) -> Option<Period> {
        self.next_from(period.name.parse().ok(), period.begin)
    }

    fn next_from(&self, wall: Option<DateTime>, after: Timestamp) -> Option<Period> {
        match &self.kind {
            Kind::Every(distance) => {
                let begin = (after.as_millis() / distance + 1).checked_mul(*distance)?;
                named_by_moment(moment(Timestamp::from_millis(begin))?)
            }
            Kind::Flow(pattern, zone) => named_by_moment(flow(pattern, zone, moment(after)?)?),
            Kind::Wall(pattern, zone) => {
                let after = moment(after)?;
                // A day earlier, for what is later than the clock says.
                let wall = wall.or_else(|| zone.to_datetime(after).checked_sub(1.day()).ok())?;
                once_a_day(pattern, zone, wall, after)
            }
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Timing {
    type Err = InvalidTiming;

    fn from_str(text: &str) -> Result<Self, InvalidTiming> {
        let wrong = || InvalidTiming(format!("`{text}` is no timing; write `every 90s` or `cron ZONE EXPRESSION`"));
        match text.split_once(' ').ok_or_else(wrong)? {
            ("cron", rest) => {
                let (zone, expression) = rest.split_once(' ').ok_or_else(wrong)?;
                Self::cron(zone, expression)
            }
            ("every", distance) => Self::every(length(distance).ok_or_else(wrong)?),
            _ => Err(wrong()),
        }
    }
}

fn length(text: &str) -> Option<Duration> {
    let millis = text.strip_suffix("ms").map(|millis| millis.parse().map(Duration::from_millis));
    let seconds = || text.strip_suffix('s').map(|seconds| seconds.parse().map(Duration::from_secs));
    millis.or_else(seconds)?.ok()
}

fn once_a_day(pattern: &Crontab, zone: &TimeZone, mut wall: DateTime, after: jiff::Timestamp) -> Option<Period> {
    loop {
        wall = next_match(pattern, wall)?;
        let begin = zone.to_ambiguous_timestamp(wall).compatible().ok()?;
        if begin > after {
            return Some(Period { name: wall.to_string(), begin: stamp(begin)? });
        }
    }
}

/// From one change of the zone's offset to the next its clock runs on like any other.
fn flow(pattern: &Crontab, zone: &TimeZone, mut after: jiff::Timestamp) -> Option<jiff::Timestamp> {
    loop {
        let offset = zone.to_offset(after);
        let change = zone.following(after).next().map(|change| change.timestamp());
        let found = next_match(pattern, offset.to_datetime(after)).and_then(|wall| offset.to_timestamp(wall).ok());
        let Some(change) = change.filter(|change| found.is_none_or(|found| found >= *change)) else { return found };
        if matches(pattern, zone.to_offset(change).to_datetime(change)) {
            return Some(change);
        }
        after = change;
    }
}

fn matches(pattern: &Crontab, wall: DateTime) -> bool {
    wall.second() == 0 && Offset::UTC.to_timestamp(wall).is_ok_and(|at| pattern.matches(at).unwrap_or(false))
}

/// The first time on a wall clock after this one that the pattern has.
fn next_match(pattern: &Crontab, after: DateTime) -> Option<DateTime> {
    // It looks four years ahead. From one 29th of February to the next it may be eight.
    [0, 4, 7].into_iter().find_map(|years| {
        let from = Offset::UTC.to_timestamp(after.checked_add(years.years()).ok()?).ok()?;
        pattern.find_next(from).ok().map(|found| found.datetime())
    })
}

fn time_of_day(text: &str) -> Option<(u8, u8)> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| match digits.as_bytes() {
        [b'0'..=b'9', b'0'..=b'9'] => digits.parse::<u8>().ok(),
        _ => None,
    };
    Some((number(hour).filter(|hour| *hour < 24)?, number(minute).filter(|minute| *minute < 60)?))
}

fn wrong_count(expression: &str, count: usize) -> InvalidTiming {
    InvalidTiming(format!(
        "`{expression}` has {count} fields; write five: minute, hour, day of the month, month, day of the week"
    ))
}

/// The moment itself, as a period.
pub(crate) fn period_at(at: Timestamp) -> Option<Period> {
    named_by_moment(moment(at)?)
}

fn named_by_moment(begin: jiff::Timestamp) -> Option<Period> {
    Some(Period { name: begin.to_string(), begin: stamp(begin)? })
}

fn moment(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(at.as_millis()).ok()?).ok()
}

fn stamp(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}

/// A [`Timing`] that can't be: what is wrong with it, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTiming(String);

impl fmt::Display for InvalidTiming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidTiming {}
