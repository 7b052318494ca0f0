//! Maintenance windows: which there are, and forms to plan, extend and end them.

use std::time::Duration;

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::core::{Covers, PlannedWindow, Timestamp, Window, WindowState};
use crate::operator::error::OperatorError;
use crate::operator::inspector::form::{Pairs, link};
use crate::operator::inspector::page::{Page, Reply};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;
use crate::operator::inspector::words;

pub(super) async fn show(visit: &Visit) -> Result<Reply, Refused> {
    if !visit.who.sees_all() {
        return Err(Refused::NO_PAGE);
    }
    let (windows, now) = visit.operator.windows().await?;
    match visit.asked.get("maintenance") {
        None if visit.wants_json() => Ok(Reply::Json(StatusCode::OK, as_json(&windows, now))),
        None => overview(visit, &windows, now),
        Some("extend") => confirm(visit, "Extend", found(visit, &windows, now)?, now),
        Some("end") => confirm(visit, "End", found(visit, &windows, now)?, now),
        Some(_) => Err(Refused::NO_PAGE),
    }
}

/// Does what a form asks for, if the window is still as it was shown.
pub(super) async fn act(visit: &Visit, what: &str, form: &Pairs) -> Result<Reply, Refused> {
    if !visit.who.plans() {
        return Err(Refused::MAY_NOT_PLAN);
    }
    visit.check(form)?;
    let operator = &visit.operator;
    if what == "plan" {
        operator.plan(window(form)?).await?;
        return Ok(Reply::See(link(&[("maintenance", "")])));
    }
    let (windows, now) = operator.windows().await?;
    let planned = found(visit, &windows, now)?;
    if form.get("seen") != Some(&seen(planned)) {
        return Err(OVERTAKEN);
    }
    match what {
        "extend" => operator.extend(planned, time(form, "until")?).await.map_err(refused)?,
        "end" => operator.end(planned).await.map_err(refused)?,
        _ => return Err(Refused::NO_PAGE),
    }
    Ok(Reply::See(link(&[("maintenance", "")])))
}

const OVERTAKEN: Refused = Refused::new(
    StatusCode::CONFLICT,
    "The window changed meanwhile",
    "Nothing was changed by you. Open the list of windows, and decide again.",
);

/// Another operator may change it between the look and the write.
fn refused(error: OperatorError) -> Refused {
    if matches!(error, OperatorError::Overtaken) { OVERTAKEN } else { error.into() }
}

/// The window that is asked for, if it is not over.
fn found<'a>(visit: &Visit, windows: &'a [PlannedWindow], now: Timestamp) -> Result<&'a PlannedWindow, Refused> {
    let id = visit.asked.get("window").unwrap_or_default();
    let found = windows.iter().find(|planned| planned.id == id && planned.state(now) != WindowState::Over);
    found.ok_or_else(|| OperatorError::NoSuchWindow.into())
}

fn seen(planned: &PlannedWindow) -> String {
    let Window { from, until, .. } = &planned.window;
    format!("{}-{}", from.as_millis(), until.as_millis())
}

fn overview(visit: &Visit, windows: &[PlannedWindow], now: Timestamp) -> Result<Reply, Refused> {
    let (form, cookie) = match visit.who.plans() {
        true => {
            let (token, cookie) = visit.token()?;
            (Some(plan(&token, now)), Some(cookie))
        }
        false => (None, None),
    };
    let content = html! {
        h1 { "Maintenance" }
        p.faint { "It is " (words::time(now)) " by the store's clock, which counts." }
        @if windows.is_empty() { p.empty { "No window is planned." } }
        (items(windows, now, visit.who.plans()))
        @if let Some(form) = form { h2 { "Plan a window" } (form) }
    };
    Ok(Reply::Page(Page { cookie, ..Page::new("Maintenance", content) }))
}

/// Windows as a list, for those who plan with links to change them.
pub(super) fn items(windows: &[PlannedWindow], now: Timestamp, plans: bool) -> Markup {
    html! {
        @for planned in windows { div.sheet { (item(planned, now, plans && planned.state(now) != WindowState::Over)) } }
    }
}

fn item(planned: &PlannedWindow, now: Timestamp, changes: bool) -> Markup {
    let window = &planned.window;
    let (colour, state) = named(planned.state(now));
    let to = |what| link(&[("maintenance", what), ("window", &planned.id)]);
    html! {
        p { span class={ "badge " (colour) } { (state) } " " strong { (window.reason) } }
        p { "From " (words::time(window.from)) " until " (words::time(window.until)) ": " (covers(&window.covers)) }
        p.faint {
            @if !window.lead.is_zero() { "New work is refused " (words::duration(window.lead)) " before it begins. " }
            @if let Some(by) = &planned.by { "Written by " (by) "." }
        }
        @if changes {
            ul.actions {
                li { a.button href=(to("extend")) { "Move its end" } }
                li { a.button.danger href=(to("end")) { "End it" } }
            }
        }
    }
}

fn plan(token: &str, now: Timestamp) -> Markup {
    let soon = words::form_time(now.after(Duration::from_secs(10 * 60)));
    html! {
        form.stack method="post" action="?maintenance=plan" {
            input type="hidden" name="token" value=(token);
            div.row {
                label { "From, in UTC" input name="from" type="datetime-local" value=(soon) required; }
                label { "Until, in UTC" input name="until" type="datetime-local" required; }
            }
            label {
                "Lead, in minutes"
                span.hint { "So long before, new work is refused, and what is on record finishes. Longer than your slowest handler." }
                input name="lead" type="number" min="0" max="10080" value="5" required;
            }
            div.row {
                label {
                    "It covers"
                    select name="covers" {
                        option value="all" { "everything" }
                        option value="route" { "a path and all below it" }
                        option value="scope" { "one scope" }
                    }
                }
                label { "Path or scope" input name="name" maxlength="1000" autocomplete="off"; }
            }
            label { "Why" input name="why" required maxlength="1000" autocomplete="off"; }
            div { button { "Plan it" } }
        }
    }
}

fn confirm(visit: &Visit, what: &str, planned: &PlannedWindow, now: Timestamp) -> Result<Reply, Refused> {
    if !visit.who.plans() {
        return Err(Refused::MAY_NOT_PLAN);
    }
    let (token, cookie) = visit.token()?;
    let is_end = what == "End";
    let action = link(&[("maintenance", if is_end { "end" } else { "extend" }), ("window", &planned.id)]);
    let content = html! {
        h1 { (what) " this window?" }
        (items(std::slice::from_ref(planned), now, false))
        form.stack method="post" action=(action) {
            input type="hidden" name="token" value=(token);
            input type="hidden" name="seen" value=(seen(planned));
            @if is_end {
                p { "What it covers goes on at once, in every process within seconds." }
            } @else {
                label {
                    "Until, in UTC"
                    input name="until" type="datetime-local" value=(words::form_time(planned.window.until)) required autofocus;
                }
            }
            div.row {
                button class=[is_end.then_some("danger")] { (what) " it" }
                a.button href="?maintenance" { "Cancel" }
            }
        }
    };
    Ok(Reply::Page(Page { cookie: Some(cookie), ..Page::new(format!("{what} a window"), content) }))
}

fn window(form: &Pairs) -> Result<Window, Refused> {
    let name = || form.get("name").unwrap_or_default().to_owned();
    let lead = form.get("lead").and_then(|lead| lead.parse::<u32>().ok());
    let lead = lead.ok_or(Refused::input("Give the lead as a number of minutes."))?;
    let covers = match form.get("covers") {
        Some("route") => Covers::Route(name()),
        Some("scope") => Covers::Scope(name()),
        Some("all") => Covers::All,
        _ => return Err(Refused::input("Say what the window is to cover.")),
    };
    let window = Window::new(time(form, "from")?, time(form, "until")?, form.get("why").unwrap_or_default());
    Ok(window.lead(Duration::from_secs(60 * u64::from(lead))).covers(covers))
}

fn time(form: &Pairs, name: &str) -> Result<Timestamp, Refused> {
    let time = form.get(name).and_then(words::parse_time);
    time.ok_or(Refused::input("Give times in UTC like 2026-11-29T22:00."))
}

const fn named(state: WindowState) -> (&'static str, &'static str) {
    match state {
        WindowState::Planned => ("calm", "planned"),
        WindowState::RefusingNewWork => ("warn", "refusing new work"),
        WindowState::Closed => ("bad", "closed"),
        WindowState::Over => ("calm", "over"),
    }
}

fn covers(covers: &Covers) -> String {
    match covers {
        Covers::All => "everything rests.".to_owned(),
        Covers::Route(path) => format!("what is sent to {path} and below rests."),
        Covers::Scope(scope) => format!("what is of the scope {scope} rests."),
    }
}

/// The windows for programs.
pub(super) fn as_json(windows: &[PlannedWindow], now: Timestamp) -> Value {
    let one = |planned: &PlannedWindow| {
        let window = &planned.window;
        let (kind, name) = match &window.covers {
            Covers::All => ("all", None),
            Covers::Route(path) => ("route", Some(path)),
            Covers::Scope(scope) => ("scope", Some(scope)),
        };
        json!({
            "id": planned.id,
            "state": named(planned.state(now)).1.replace(' ', "-"),
            "from": window.from.as_millis(),
            "until": window.until.as_millis(),
            "lead_ms": u64::try_from(window.lead.as_millis()).unwrap_or(u64::MAX),
            "reason": window.reason,
            "covers": kind,
            "name": name,
            "by": planned.by,
        })
    };
    json!({ "now": now.as_millis(), "windows": windows.iter().map(one).collect::<Vec<_>>() })
}
