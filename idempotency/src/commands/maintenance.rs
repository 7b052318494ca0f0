//! `maintenance`: windows in which work rests, planned ahead.

use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::{SignedDuration, Timestamp as Instant, ZonedDateTime};
use serde_json::{Value, json};
use tower_idempotency::core::Timestamp;
use tower_idempotency::maintenance::{Covers, PlannedWindow, Window, WindowState};
use tower_idempotency::{Engine, Operator, OperatorError};

use super::decide::who;
use crate::arguments::{Change, Common, Maintenance, Plan};
use crate::confirm::confirm;
use crate::failure::{DONE, Failure};
use crate::output::{Output, Tone};
use crate::target::Target;
use crate::text::{age, time};

pub(crate) async fn run(common: &Common, maintenance: &Maintenance, output: Output) -> Result<u8, Failure> {
    match maintenance {
        Maintenance::List => list(&Operator::new(Target::open(common)?.engine), output).await,
        Maintenance::Plan(window) => plan(common, window, output).await,
        Maintenance::Extend { change, until } => {
            let operator = operator(common, change)?;
            let (seen, now) = seen(&operator, &change.id).await?;
            let until = at(until, now)?;
            let question =
                format!("Move the end of {} from {} to {}?", name(&seen), time(seen.window.until), time(until));
            confirm(&question, change.yes)?;
            operator.extend(&seen, until).await?;
            list(&operator, output).await
        }
        Maintenance::End(change) => {
            let operator = operator(common, change)?;
            let (seen, _) = seen(&operator, &change.id).await?;
            confirm(&format!("End {} now? What it covers goes on.", name(&seen)), change.yes)?;
            operator.end(&seen).await?;
            list(&operator, output).await
        }
    }
}

/// The window as it is now: if it changes before the operator has said yes, nothing is done.
async fn seen(operator: &Operator, id: &str) -> Result<(PlannedWindow, Timestamp), Failure> {
    let (windows, now) = operator.windows().await?;
    let found = windows.into_iter().find(|planned| planned.id == id);
    Ok((found.ok_or(OperatorError::NoSuchWindow)?, now))
}

fn name(planned: &PlannedWindow) -> String {
    format!("window {} ({})", planned.id, planned.window.reason)
}

/// A window that covers the store now: what works on the whole store rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// When it ends, on the store's clock.
    pub(super) until: Timestamp,
    /// How long that is from now.
    pub(super) left: Duration,
}

/// The window that covers the store now, if there is one; of several, the one that ends last.
///
/// # Errors
///
/// [`OperatorError`] if the store does not say.
pub(super) async fn rest(engine: &Engine) -> Result<Option<Rest>, OperatorError> {
    let (windows, now) = Operator::new(engine).windows().await?;
    let closes =
        |planned: &PlannedWindow| planned.window.covers == Covers::All && planned.state(now) == WindowState::Closed;
    let until = windows.into_iter().filter(closes).map(|planned| planned.window.until).max();
    Ok(until.map(|until| Rest { until, left: until.since(now) }))
}

/// When that window ends. If the store does not say, nothing rests: what is done next fails at
/// the same store.
pub(super) async fn rests_until(engine: &Engine) -> Option<Timestamp> {
    rest(engine).await.ok().flatten().map(|rest| rest.until)
}

fn operator(common: &Common, change: &Change) -> Result<Operator, Failure> {
    Ok(Operator::new(Target::open(common)?.engine).by(&who(change.who.as_deref())))
}

async fn plan(common: &Common, plan: &Plan, output: Output) -> Result<u8, Failure> {
    let operator = Operator::new(Target::open(common)?.engine).by(&who(plan.who.as_deref()));
    let (_, now) = operator.windows().await?;
    let from = at(&plan.from, now)?;
    let covers = match (&plan.route, &plan.scope) {
        (Some(path), _) => Covers::Route(path.clone()),
        (None, Some(scope)) => Covers::Scope(scope.clone()),
        (None, None) => Covers::All,
    };
    let window = Window::new(from, from.after(plan.length), plan.reason.as_str()).lead(plan.lead).covers(covers);
    confirm(&question(&window, now), plan.yes)?;
    let id = operator.plan(window).await?;
    if output.is_json() {
        output.value(&json!({ "id": id }))?;
        return Ok(DONE);
    }
    output.line(&format!("planned; `idempotency maintenance end {id}` ends it early"), Tone::Good)?;
    list(&operator, output).await
}

fn question(window: &Window, now: Timestamp) -> String {
    format!(
        "Let {} rest from {} (in {}) until {}, and refuse new work from {} before?",
        covered(&window.covers),
        time(window.from),
        age(window.from.since(now)),
        time(window.until),
        age(window.lead),
    )
}

async fn list(operator: &Operator, output: Output) -> Result<u8, Failure> {
    let (windows, now) = operator.windows().await?;
    if output.is_json() {
        let windows: Vec<_> = windows.iter().map(|planned| value(planned, now)).collect();
        output.value(&json!({ "windows": windows, "now": now.as_millis() }))?;
    } else if windows.is_empty() {
        output.line("no maintenance is planned", Tone::Plain)?;
    } else {
        let headings = ["WINDOW", "STATE", "FROM", "UNTIL", "LEAD", "COVERS", "REASON", "BY"];
        output.table(&headings, windows.iter().map(|planned| row(planned, now)).collect())?;
    }
    Ok(DONE)
}

fn row(planned: &PlannedWindow, now: Timestamp) -> Vec<(String, Tone)> {
    let PlannedWindow { id, by, window, .. } = planned;
    let (state, tone) = state(planned.state(now));
    vec![
        (id.clone(), Tone::Plain),
        (state.to_owned(), tone),
        (time(window.from), Tone::Plain),
        (time(window.until), Tone::Plain),
        (age(window.lead), Tone::Plain),
        (covered(&window.covers), Tone::Plain),
        (window.reason.clone(), Tone::Plain),
        (by.clone().unwrap_or_default(), Tone::Quiet),
    ]
}

fn value(planned: &PlannedWindow, now: Timestamp) -> Value {
    let PlannedWindow { id, by, window, .. } = planned;
    json!({
        "id": id,
        "state": state(planned.state(now)).0,
        "from": window.from.as_millis(),
        "until": window.until.as_millis(),
        "lead_ms": u64::try_from(window.lead.as_millis()).unwrap_or(u64::MAX),
        "covers": covered(&window.covers),
        "reason": window.reason,
        "by": by,
    })
}

const fn state(state: WindowState) -> (&'static str, Tone) {
    match state {
        WindowState::Planned => ("planned", Tone::Plain),
        WindowState::RefusingNewWork => ("refusing-new-work", Tone::Warning),
        WindowState::Closed => ("closed", Tone::Bad),
        WindowState::Over => ("over", Tone::Quiet),
        _ => ("unknown", Tone::Warning),
    }
}

fn covered(covers: &Covers) -> String {
    match covers {
        Covers::All => "all requests".to_owned(),
        Covers::Route(path) => format!("requests to {path}"),
        Covers::Scope(scope) => format!("requests of scope {scope}"),
        _ => "what this release does not know".to_owned(),
    }
}

/// The time that was typed, on the store's clock: what lies ahead is ahead for both, however
/// much this machine's clock is off.
fn at(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let here = ZonedDateTime::now();
    let ahead = ahead(text, &here).ok_or_else(|| {
        Failure::usage(
            "write a time as 22:00, 2026-11-30T22:00, 2026-11-30T22:00Z, 2026-11-30T22:00[Asia/Tokyo], now, or +10m",
        )
    })?;
    let by = Duration::from_millis(ahead.as_millis().unsigned_abs().try_into().unwrap_or(u64::MAX));
    Ok(if ahead.is_negative() {
        Timestamp::from_millis(now.as_millis().saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    } else {
        now.after(by)
    })
}

/// How far ahead it is. A time of the day is the next one.
fn ahead(text: &str, here: &ZonedDateTime) -> Option<SignedDuration> {
    if text == "now" {
        return Some(SignedDuration::ZERO);
    }
    if let Some(length) = text.strip_prefix('+') {
        return length.parse().ok();
    }
    if let Ok(time) = text.parse::<Instant>() {
        return Some(time.duration_since(here.timestamp()));
    }
    // Of another zone, as 2026-11-30T22:00[Asia/Tokyo].
    if text.contains('[') {
        return Some(text.parse::<ZonedDateTime>().ok()?.duration_since(here));
    }
    // Before dates: a date and time is no time of the day.
    if text.len() <= "22:00:00".len() {
        let time: Time = text.parse().ok()?;
        let today = here.date().to_datetime(time).to_zoned_datetime(here.time_zone().clone()).ok()?;
        let next = if today <= *here { here.date().tomorrow().ok()?.to_datetime(time) } else { today.datetime() };
        return Some(next.to_zoned_datetime(here.time_zone().clone()).ok()?.duration_since(here));
    }
    let local: DateTime = text.parse().ok()?;
    Some(local.to_zoned_datetime(here.time_zone().clone()).ok()?.duration_since(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_day_is_the_next_one_here() {
        let here: ZonedDateTime = "2026-11-29T21:00[Europe/Berlin]".parse().unwrap_or_default();
        let hours = |text| ahead(text, &here).map(|ahead| ahead.as_secs() / 3600);
        assert_eq!(hours("22:00"), Some(1));
        assert_eq!(hours("21:00"), Some(24), "not now");
        assert_eq!(hours("2026-11-30T22:00"), Some(25));
        assert_eq!(hours("2026-11-30 22:00"), Some(25));
        assert_eq!(hours("2026-11-29T22:00Z"), Some(2));
        assert_eq!(hours("+3h"), Some(3));
        assert_eq!(hours("2026-11-29T20:00"), Some(-1));
        assert_eq!((hours("now"), hours("tonight")), (Some(0), None));
    }

    #[test]
    fn a_time_is_one_of_the_zone_here_or_of_the_one_that_it_names() {
        let minutes = |here: &str, text: &str| {
            let here: ZonedDateTime = here.parse().unwrap_or_default();
            ahead(text, &here).map(|ahead| ahead.as_secs() / 60)
        };
        let tokyo = "2026-11-29T21:00[Asia/Tokyo]";
        assert_eq!(minutes(tokyo, "2026-11-29T22:00"), Some(60));
        assert_eq!(minutes(tokyo, "2026-11-29T13:00Z"), Some(60));
        assert_eq!(minutes(tokyo, "2026-11-29T08:00-05:00"), Some(60));
        assert_eq!(minutes(tokyo, "2026-11-29T14:00[Europe/Berlin]"), Some(60));
        assert_eq!(minutes(tokyo, "2026-11-29T14:00[Europe/Nowhere]"), None);
        // The night in which the clocks go forward has 23 hours, and the other one 25.
        let (spring, autumn) = ("2026-03-28T22:00[Europe/Berlin]", "2026-10-24T22:00[Europe/Berlin]");
        assert_eq!(minutes(spring, "06:00"), Some(7 * 60));
        assert_eq!(minutes(autumn, "06:00"), Some(9 * 60));
        assert_eq!(minutes(spring, "02:30"), Some(4 * 60 + 30), "there is none: as long after midnight");
        assert_eq!(minutes(spring, "2026-03-29T02:30"), Some(4 * 60 + 30));
        assert_eq!(minutes(autumn, "02:30"), Some(4 * 60 + 30), "the first of two");
        assert_eq!(minutes(spring, "+8h"), Some(8 * 60), "a length of time is one everywhere");
    }
}
