//! `schedule`: what runs once a period, and what an operator does about it.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tower_idempotency::core::Timestamp;
use tower_idempotency::schedule::{End, Ended, InvalidTiming, Missed, Order, Period, Timing};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Operator, OperatorError, ShownSchedule};

use super::decide::who;
use crate::arguments::Common;
use crate::arguments::schedule::{Next, Ordered, Schedule};
use crate::confirm::confirm;
use crate::failure::{DONE, Failure};
use crate::output::{Output, Piece, Tone};
use crate::target::Target;
use crate::text::{age, time};

/// How many of the next runs are shown.
const NEXT: usize = 3;

/// More than a schedule takes at once.
const TOO_MANY: usize = 1001;

pub(crate) async fn run(common: &Common, schedule: &Schedule, output: Output) -> Result<u8, Failure> {
    match schedule {
        Schedule::List => list(&reader(common)?, output).await,
        Schedule::Show { name } => show(&reader(common)?.schedule(name).await?, output),
        Schedule::Next(next) => print_next(common, next, output).await,
        Schedule::Pause(order) => {
            let (operator, _) = asked(common, order, "Pause it? No period begins until you go on.").await?;
            operator.pause_schedule(&order.name).await?;
            show(&operator.schedule(&order.name).await?, output)
        }
        Schedule::GoOn(order) => {
            let (operator, _) = asked(common, order, "Go on with it? What began meanwhile was missed.").await?;
            operator.go_on_with_schedule(&order.name).await?;
            show(&operator.schedule(&order.name).await?, output)
        }
        Schedule::Run(order) => {
            let (operator, _) = asked(common, order, "Run it once, now?").await?;
            let period = operator.trigger(&order.name).await?;
            print_asked(&order.name, &[period], output)
        }
        Schedule::BackFill { order, from, until } => back_fill(common, order, (from, until), output).await,
        Schedule::Forget(order) => {
            let question = "Forget it, and its runs? A process that still has it begins it anew.";
            let (operator, _) = asked(common, order, question).await?;
            operator.forget_schedule(&order.name).await?;
            list(&operator, output).await
        }
    }
}

fn reader(common: &Common) -> Result<Operator, Failure> {
    Ok(Operator::new(Target::open(common)?.engine))
}

/// The operator, once the question is answered, and the schedule as it was before.
async fn asked(common: &Common, order: &Ordered, question: &str) -> Result<(Operator, ShownSchedule), Failure> {
    let (operator, shown) = found(common, order).await?;
    confirm(&format!("{} ({}): {question}", order.name, shown.timing), order.yes)?;
    Ok((operator, shown))
}

async fn found(common: &Common, order: &Ordered) -> Result<(Operator, ShownSchedule), Failure> {
    let operator = reader(common)?.by(&who(order.who.as_deref())).because(order.why.as_deref().unwrap_or_default());
    let shown = operator.schedule(&order.name).await?;
    Ok((operator, shown))
}

async fn back_fill(
    common: &Common,
    order: &Ordered,
    (from, until): (&str, &str),
    output: Output,
) -> Result<u8, Failure> {
    let (operator, shown) = found(common, order).await?;
    let (from, until) = (moment(from, shown.now)?, moment(until, shown.now)?);
    let before = Timestamp::from_millis(from.as_millis().saturating_sub(1));
    let begun = std::iter::successors(shown.timing.next(before), |period| shown.timing.next(period.begin()));
    let count = begun.take_while(|period| period.begin() <= until.min(shown.now)).take(TOO_MANY).count();
    if count == 0 {
        return Err(Failure::refused("no period began in that time; `schedule show` has the timing"));
    }
    let periods = if count == 1 { "1 period".to_owned() } else { format!("{count} periods") };
    let question = format!("Run {periods} of {} once more, from {} until {}?", order.name, time(from), time(until));
    confirm(&question, order.yes)?;
    print_asked(&order.name, &operator.back_fill(&order.name, from, until).await?, output)
}

/// The moment that was typed. Periods begin at moments, however much this machine's clock is off.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if text == "now" {
        return Ok(now);
    }
    let local = |text: &str| text.parse::<DateTime>().and_then(|local| local.to_zoned_datetime(TimeZone::system()));
    let of_zone = |text: &str| if text.contains('[') { text.parse() } else { local(text) };
    let moment = text.parse().or_else(|_| of_zone(text).map(|moment| moment.timestamp()));
    let millis = moment.ok().and_then(|moment: jiff::Timestamp| u64::try_from(moment.as_millisecond()).ok());
    millis.map(Timestamp::from_millis).ok_or_else(|| {
        let forms = "2026-11-30T22:00, 2026-11-30T22:00Z, 2026-11-30T22:00[Asia/Tokyo] or now";
        Failure::usage(format!("`{text}` is no time; write it as {forms}"))
    })
}

fn print_asked(name: &str, periods: &[Period], output: Output) -> Result<u8, Failure> {
    if output.is_json() {
        output.value(&json!({ "asked": periods.iter().map(period_value).collect::<Value>() }))?;
        return Ok(DONE);
    }
    for period in periods {
        output.line(&format!("asked for {period}"), Tone::Good)?;
    }
    output.line(
        &format!("a process runs it within seconds; `idempotency schedule show {name}` follows it"),
        Tone::Plain,
    )?;
    Ok(DONE)
}

async fn list(operator: &Operator, output: Output) -> Result<u8, Failure> {
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for name in operator.schedules().await? {
        match operator.schedule(&name).await {
            Ok(schedule) => {
                rows.push(row(&schedule));
                values.push(value(&schedule));
            }
            // A process that is just starting has put down its name, or the store forgot the rest.
            Err(OperatorError::NoSuchSchedule) => {}
            // The others are listed.
            Err(OperatorError::Store(error)) if is_unreadable(error.kind()) => {
                values.push(json!({ "name": name, "state": "unreadable", "error": error.to_string() }));
                let quiet = || (String::new(), Tone::Quiet);
                let state = ("unreadable".to_owned(), Tone::Bad);
                rows.push(vec![(name, Tone::Plain), state, quiet(), quiet(), (error.to_string(), Tone::Quiet)]);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if output.is_json() {
        output.value(&json!({ "schedules": values }))?;
    } else if rows.is_empty() {
        output.line("no process has run a schedule over this store", Tone::Plain)?;
    } else {
        output.table(&["SCHEDULE", "STATE", "NEXT", "LAST", "TIMING"], rows)?;
    }
    Ok(DONE)
}

const fn is_unreadable(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Corrupt | StoreErrorKind::NewerFormat | StoreErrorKind::Undecryptable)
}

fn row(shown: &ShownSchedule) -> Vec<Piece> {
    let (state, tone) = state(shown);
    let next = shown.next_runs().next().map(|period| time(period.begin()));
    let last = shown.ended.last().map(|ended| (format!("{} {}", end(ended.end), time(ended.at)), end_tone(ended.end)));
    vec![
        (shown.name.clone(), Tone::Plain),
        (state, tone),
        (next.unwrap_or_default(), Tone::Plain),
        last.unwrap_or_else(|| (String::new(), Tone::Plain)),
        (shown.timing.to_string(), Tone::Quiet),
    ]
}

/// What an operator should know first.
fn state(shown: &ShownSchedule) -> (String, Tone) {
    if !shown.in_doubt.is_empty() {
        return (format!("in doubt: {}", shown.in_doubt.len()), Tone::Bad);
    }
    match (&shown.paused, &shown.running) {
        (Some(_), _) => ("paused".to_owned(), Tone::Warning),
        (None, Some(_)) => ("running".to_owned(), Tone::Good),
        (None, None) => ("waiting".to_owned(), Tone::Plain),
    }
}

fn end(end: End) -> String {
    match end {
        End::Complete => "complete".to_owned(),
        End::Failed => "failed".to_owned(),
        End::PassedOver(1) => "passed over".to_owned(),
        End::PassedOver(periods) => format!("passed over: {periods} periods"),
        _ => "ended as this release does not know".to_owned(),
    }
}

const fn end_tone(end: End) -> Tone {
    match end {
        End::Complete => Tone::Good,
        End::Failed => Tone::Bad,
        _ => Tone::Warning,
    }
}

fn show(shown: &ShownSchedule, output: Output) -> Result<u8, Failure> {
    if output.is_json() {
        output.value(&value(shown))?;
        return Ok(DONE);
    }
    output.line(&format!("{}: {}", shown.name, shown.timing), Tone::Heading)?;
    let (state, tone) = state(shown);
    let by = shown.paused.as_ref().map(ordered).unwrap_or_default();
    output.pieces(&[(state, tone), (by, Tone::Plain)])?;
    output.line(&format!("of missed periods {}", missed(shown.missed)), Tone::Quiet)?;
    let lines = shown.running.iter().map(|period| ("runs", period, Tone::Good));
    let lines = lines.chain(shown.in_doubt.iter().map(|period| ("in doubt", period, Tone::Bad)));
    for (what, period, tone) in lines.chain(shown.asked.iter().map(|period| ("asked for", period, Tone::Plain))) {
        output.pieces(&[(format!("{what} {period}"), tone), (by_hand(shown, period), Tone::Quiet)])?;
    }
    for ended in &shown.ended {
        let Ended { period, at, end: how, .. } = ended;
        let text = format!("{} {period} at {}", end(*how), time(*at));
        output.pieces(&[(text, end_tone(*how)), (by_hand(shown, period), Tone::Quiet)])?;
    }
    for period in shown.next_runs().take(NEXT) {
        output.line(&next_line(&period, shown.now), Tone::Plain)?;
    }
    if let Some(period) = shown.in_doubt.first() {
        let scope = shown.scope();
        output.line(&format!("idempotency show --runner --scope {scope} --key {period}"), Tone::Plain)?;
    }
    Ok(DONE)
}

fn by_hand(shown: &ShownSchedule, period: &Period) -> String {
    shown.order(period).map(ordered).unwrap_or_default()
}

fn ordered(order: &Order) -> String {
    let by = order.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
    order.why.as_deref().map_or_else(|| by.clone(), |why| format!("{by}: {why}"))
}

fn missed(missed: Missed) -> String {
    match missed {
        Missed::Newest(1) => "the newest runs".to_owned(),
        Missed::Newest(most) => format!("the newest {most} run, oldest first"),
        _ => "none runs".to_owned(),
    }
}

fn next_line(period: &Period, now: Timestamp) -> String {
    let begin = period.begin();
    let when = if begin <= now { "due".to_owned() } else { format!("in {}", age(begin.since(now))) };
    format!("next {period}: {} ({when})", time(begin))
}

async fn print_next(common: &Common, next: &Next, output: Output) -> Result<u8, Failure> {
    let count = usize::from(next.count);
    let timing = match (&next.cron, next.every) {
        (Some(cron), _) => Some(Timing::cron(next.zone.as_deref().unwrap_or_default(), cron)),
        (None, Some(every)) => Some(Timing::every(every)),
        (None, None) => None,
    };
    let (periods, now) = if let Some(timing) = timing {
        let timing = timing.map_err(|error: InvalidTiming| Failure::usage(error.to_string()))?;
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
        let now = Timestamp::from_millis(now);
        let following = std::iter::successors(timing.next(now), |period| timing.next(period.begin()));
        (following.take(count).collect::<Vec<_>>(), now)
    } else {
        let shown = reader(common)?.schedule(next.name.as_deref().unwrap_or_default()).await?;
        (shown.next_runs().take(count).collect(), shown.now)
    };
    if output.is_json() {
        let next: Value = periods.iter().map(period_value).collect();
        output.value(&json!({ "next": next, "now": now.as_millis() }))?;
        return Ok(DONE);
    }
    for period in &periods {
        output.line(&next_line(period, now), Tone::Plain)?;
    }
    Ok(DONE)
}

fn value(shown: &ShownSchedule) -> Value {
    json!({
        "name": shown.name,
        "timing": shown.timing.to_string(),
        "missed": missed_value(shown.missed),
        "state": if shown.paused.is_some() { "paused" } else if shown.running.is_some() { "running" } else { "waiting" },
        "paused": shown.paused.as_ref().map(order_value),
        "running": shown.running.as_ref().map(|period| run_value(shown, period)),
        "in_doubt": shown.in_doubt.iter().map(|period| run_value(shown, period)).collect::<Value>(),
        "asked": shown.asked.iter().map(|period| run_value(shown, period)).collect::<Value>(),
        "ended": shown.ended.iter().map(|ended| ended_value(shown, ended)).collect::<Value>(),
        "next": shown.next_runs().take(NEXT).map(|period| period_value(&period)).collect::<Value>(),
        "scope": shown.scope(),
        "now": shown.now.as_millis(),
    })
}

/// How many run at most.
const fn missed_value(missed: Missed) -> u32 {
    match missed {
        Missed::Newest(most) => most,
        _ => 0,
    }
}

fn period_value(period: &Period) -> Value {
    json!({ "period": period.name(), "begin": period.begin().as_millis(), "by_hand": period.is_by_hand() })
}

fn run_value(shown: &ShownSchedule, period: &Period) -> Value {
    let mut value = period_value(period);
    value["order"] = shown.order(period).map(order_value).into();
    value
}

fn ended_value(shown: &ShownSchedule, ended: &Ended) -> Value {
    let (how, passed_over) = match ended.end {
        End::Complete => ("complete", None),
        End::Failed => ("failed", None),
        End::PassedOver(periods) => ("passed-over", Some(periods)),
        _ => ("unknown", None),
    };
    let mut value = run_value(shown, &ended.period);
    value["at"] = ended.at.as_millis().into();
    value["end"] = how.into();
    value["passed_over"] = passed_over.into();
    value
}

fn order_value(order: &Order) -> Value {
    json!({ "by": order.by, "why": order.why })
}
