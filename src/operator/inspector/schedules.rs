//! Schedules: where each stands, what ran and what comes next, and forms to pause it and to run
//! it by hand.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::core::{IdempotencyKey, Key, Timestamp};
use crate::operator::error::OperatorError;
use crate::operator::inspector::form::{Pairs, link};
use crate::operator::inspector::page::{Page, Reply};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;
use crate::operator::inspector::words;
use crate::operator::schedules::ShownSchedule;
use crate::schedule::cursor::{End, Order};
use crate::schedule::timing::Period;
use crate::store::StoreError;

/// How many schedules are listed: each costs a read.
const LISTED: usize = 100;

/// How many of the next runs are shown.
const NEXT: usize = 5;

const OVERTAKEN: Refused = Refused::new(
    StatusCode::CONFLICT,
    "The schedule was changed meanwhile",
    "Nothing was changed by you. Open the schedule, and decide again.",
);

pub(super) async fn show(visit: &Visit) -> Result<Reply, Refused> {
    if !visit.who.sees_all() {
        return Err(Refused::NO_PAGE);
    }
    let Some(name) = visit.asked.get("schedule") else { return list(visit).await };
    let shown = visit.operator.schedule(name).await?;
    match visit.asked.get("do") {
        None if visit.wants_json() => Ok(Reply::Json(StatusCode::OK, as_json(&shown))),
        None => Ok(Reply::Page(Page::new(format!("Schedule {name}"), one(visit, &shown)))),
        Some(what) => confirm(visit, &shown, Action::named(what)?),
    }
}

/// Does what a form asks for, unless another operator changed the schedule since it was shown.
pub(super) async fn act(visit: &Visit, name: &str, form: &Pairs) -> Result<Reply, Refused> {
    if !may_act(visit) {
        return Err(Refused::MAY_NOT);
    }
    visit.check(form)?;
    let action = Action::named(visit.asked.get("do").unwrap_or_default())?;
    let operator = visit.operator.because(form.get("why").unwrap_or_default());
    let shown = operator.schedule(name).await?;
    if form.get("seen") != Some(&seen(&shown)) {
        return Err(OVERTAKEN);
    }
    match action {
        Action::Pause => operator.pause_schedule(name).await?,
        Action::GoOn => operator.go_on_with_schedule(name).await?,
        Action::Run => drop(operator.trigger(name).await?),
        Action::BackFill => {
            let (from, until) = (time(&shown, form, "from")?, time(&shown, form, "until")?);
            if operator.back_fill(name, from, until).await?.is_empty() {
                return Err(Refused::input("No period of the schedule began in that time."));
            }
        }
        Action::Forget => {
            operator.forget_schedule(name).await?;
            return Ok(Reply::See("?schedule".to_owned()));
        }
    }
    Ok(Reply::See(link(&[("schedule", name)])))
}

#[derive(Clone, Copy)]
enum Action {
    Pause,
    GoOn,
    Run,
    BackFill,
    Forget,
}

impl Action {
    fn named(name: &str) -> Result<Self, Refused> {
        let all = [Self::Pause, Self::GoOn, Self::Run, Self::BackFill, Self::Forget];
        all.into_iter().find(|action| action.name() == name).ok_or(Refused::NO_PAGE)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::GoOn => "go-on",
            Self::Run => "run",
            Self::BackFill => "back-fill",
            Self::Forget => "forget",
        }
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Pause => {
                ("Pause it", "No period begins, in any process, until an operator goes on. What runs goes on.")
            }
            Self::GoOn => ("Go on with it", "The periods that began meanwhile were missed: some of them may run now."),
            Self::Run => ("Run it now", "It runs once, besides its periods, also while it is paused."),
            Self::BackFill => ("Run periods once more", "All of their steps are done anew, the oldest period first."),
            Self::Forget => (
                "Forget it",
                "It is taken off the list, with what is on record of its runs. A process that still has it begins it anew.",
            ),
        }
    }
}

fn may_act(visit: &Visit) -> bool {
    visit.who.decides() && visit.who.sees_all()
}

/// What operators have done about it: a form that is sent twice counts once.
fn seen(shown: &ShownSchedule) -> String {
    let paused = if shown.paused.is_some() { "paused" } else { "on" };
    shown.orders().fold(paused.to_owned(), |seen, id| format!("{seen} {id}"))
}

async fn list(visit: &Visit) -> Result<Reply, Refused> {
    let names = visit.operator.schedules().await?;
    let (mut all, mut unreadable) = (Vec::new(), Vec::new());
    for name in names.iter().take(LISTED) {
        match visit.operator.schedule(name).await {
            Ok(shown) => all.push(shown),
            Err(OperatorError::NoSuchSchedule) => {}
            // The others are listed.
            Err(OperatorError::Store(error)) if error.is_unreadable() => unreadable.push((name, error)),
            Err(error) => return Err(error.into()),
        }
    }
    if visit.wants_json() {
        let failed = |(name, error): &(_, StoreError)| json!({ "name": name, "error": error.to_string() });
        let schedules: Value = all.iter().map(as_json).chain(unreadable.iter().map(failed)).collect();
        return Ok(Reply::Json(StatusCode::OK, json!({ "schedules": schedules })));
    }
    let content = html! {
        h1 { "Schedules" }
        @if all.is_empty() && unreadable.is_empty() { p.empty { "No process has run a schedule over this store." } }
        @for shown in &all {
            div.sheet {
                p { (badge(shown)) " " strong { a href=(link(&[("schedule", &shown.name)])) { (shown.name) } } }
                p.faint { (shown.timing) }
                @if let Some(next) = shown.next_runs().next() { p { "Next: " (begins(&next, shown.now)) } }
                @if let Some(last) = shown.ended.last() { p { "Last: " (last.period) ", " (ended(last.end).1) "." } }
            }
        }
        @for (name, error) in &unreadable {
            div.sheet {
                p { span class="badge bad" { "unreadable" } " " strong { (name) } }
                p.faint { (error) }
            }
        }
        @if names.len() > LISTED { p.faint { "These are the first " (LISTED) " of " (names.len()) "." } }
    };
    Ok(Reply::Page(Page::new("Schedules", content)))
}

fn badge(shown: &ShownSchedule) -> Markup {
    let (colour, text) = match (shown.in_doubt.len(), &shown.paused, &shown.running) {
        (0, Some(_), _) => ("warn", "paused"),
        (0, None, Some(_)) => ("calm", "running"),
        (0, None, None) => ("calm", "waiting"),
        (..) => ("bad", "in doubt"),
    };
    html! { span class={ "badge " (colour) } { (text) } }
}

fn one(visit: &Visit, shown: &ShownSchedule) -> Markup {
    let to = |action: Action| link(&[("schedule", &shown.name), ("do", action.name())]);
    let turn = if shown.paused.is_some() { Action::GoOn } else { Action::Pause };
    html! {
        h1 { (shown.name) }
        p { (badge(shown)) " " (shown.timing) }
        @if let Some(order) = &shown.paused { p { "Paused" (by(order)) "." } }
        @if may_act(visit) {
            ul.actions {
                @for action in [turn, Action::Run, Action::BackFill, Action::Forget] {
                    li { a.button href=(to(action)) { (action.words().0) } }
                }
            }
        }
        h2 { "Now" }
        @if shown.running.is_none() && shown.in_doubt.is_empty() && shown.asked.is_empty() {
            p.empty { "Nothing runs, and nothing waits." }
        }
        ul {
            @if let Some(period) = &shown.running { li { (run(shown, period)) ": runs, or waits for its next try" } }
            @for period in &shown.in_doubt { li { (run(shown, period)) ": in doubt, until an operator decides" } }
            @for period in &shown.asked { li { (period) (order(shown, period)) ": asked for, and not begun" } }
        }
        h2 { "Next" }
        ol { @for period in shown.next_runs().take(NEXT) { li { (begins(&period, shown.now)) } } }
        h2 { "What ended, the latest first" }
        @if shown.ended.is_empty() { p.empty { "Nothing yet." } }
        ul {
            @for past in shown.ended.iter().rev() {
                @let (colour, how) = ended(past.end);
                li {
                    span class={ "badge " (colour) } { (how) } " " (run(shown, &past.period))
                    span.faint { ", " (words::time(past.at)) }
                }
            }
        }
    }
}

fn begins(period: &Period, now: Timestamp) -> String {
    let begin = period.begin();
    let when = if begin <= now { "due".to_owned() } else { format!("in {}", words::duration(begin.since(now))) };
    format!("{} ({when})", words::time(begin))
}

/// A run, with a link to its operation.
fn run(shown: &ShownSchedule, period: &Period) -> Markup {
    html! {
        @match hash(shown, period) {
            Some(hash) => a href=(link(&[("operation", &hash)])) { (period) },
            None => (period),
        }
        (order(shown, period))
    }
}

fn hash(shown: &ShownSchedule, period: &Period) -> Option<String> {
    let is_passed_over = |end: End| matches!(end, End::PassedOver(_));
    if shown.ended.iter().any(|ended| ended.period == *period && is_passed_over(ended.end)) {
        return None;
    }
    let key = IdempotencyKey::parse(period.name().as_bytes()).ok()?;
    Some(Key::of_runner(&shown.scope(), &key).to_string())
}

fn order(shown: &ShownSchedule, period: &Period) -> Markup {
    html! { @if let Some(order) = shown.order(period) { span.faint { (by(order)) } } }
}

fn by(order: &Order) -> String {
    let who = order.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
    order.why.as_deref().map_or_else(|| who.clone(), |why| format!("{who}: {why}"))
}

fn ended(end: End) -> (&'static str, String) {
    match end {
        End::Complete => ("good", "complete".to_owned()),
        End::Failed => ("bad", "failed".to_owned()),
        End::PassedOver(1) => ("warn", "passed over".to_owned()),
        End::PassedOver(periods) => ("warn", format!("{periods} periods passed over")),
    }
}

fn confirm(visit: &Visit, shown: &ShownSchedule, action: Action) -> Result<Reply, Refused> {
    if !may_act(visit) {
        return Err(Refused::MAY_NOT);
    }
    let (token, cookie) = visit.token()?;
    let (what, means) = action.words();
    let (title, zone) = (format!("{what}: {}?", shown.name), shown.timing.zone_name());
    let target = link(&[("schedule", &shown.name), ("do", action.name())]);
    let content = html! {
        h1 { (title) }
        p { (shown.timing) }
        p { (means) }
        form.stack method="post" action=(target) {
            input type="hidden" name="token" value=(token);
            input type="hidden" name="seen" value=(seen(shown));
            @if matches!(action, Action::BackFill) {
                div.row {
                    label { "From, in " (zone) input name="from" type="datetime-local" required; }
                    label { "Until, in " (zone) input name="until" type="datetime-local" value=[shown.timing.time_at(shown.now)] required; }
                }
            }
            label { "Why" input name="why" maxlength="200" autocomplete="off" autofocus; }
            div.row {
                button { (what) }
                a.button href=(link(&[("schedule", &shown.name)])) { "Cancel" }
            }
        }
    };
    Ok(Reply::Page(Page { cookie: Some(cookie), ..Page::new(title, content) }))
}

/// A time in the schedule's own zone.
fn time(shown: &ShownSchedule, form: &Pairs, name: &str) -> Result<Timestamp, Refused> {
    let time = form.get(name).and_then(|text| shown.timing.moment_of(text));
    time.ok_or(Refused::input("Give times in the schedule's own zone, like 2026-11-29T22:00."))
}

/// A schedule for programs.
fn as_json(shown: &ShownSchedule) -> Value {
    let run = |period: &Period| {
        let order = shown.order(period).map(|order| json!({ "by": order.by, "why": order.why }));
        json!({ "period": period.name(), "begin": period.begin().as_millis(), "key": hash(shown, period), "order": order })
    };
    let past = shown.ended.iter().map(|past| {
        let mut value = run(&past.period);
        (value["at"], value["end"]) = (past.at.as_millis().into(), ended(past.end).1.into());
        value
    });
    json!({
        "name": shown.name,
        "timing": shown.timing.to_string(),
        "now": shown.now.as_millis(),
        "paused": shown.paused.as_ref().map(|order| json!({ "by": order.by, "why": order.why })),
        "running": shown.running.as_ref().map(run),
        "in_doubt": shown.in_doubt.iter().map(run).collect::<Value>(),
        "asked": shown.asked.iter().map(run).collect::<Value>(),
        "ended": past.collect::<Value>(),
        "next": shown.next_runs().take(NEXT).map(|period| run(&period)).collect::<Value>(),
    })
}
