//! Lists of operations.

use std::time::Duration;

use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;

use crate::core::Label;
use crate::operator::inspector::form::link;
use crate::operator::inspector::page::{Page, Reply};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;
use crate::operator::inspector::words;
use crate::operator::listing::{ListState, Listed, Listing};
use crate::operator::shown::{OperationState, Shown};
use crate::telemetry::finding::FindingKind;

/// The lists, as links and as people call them.
const LISTS: [(ListState, &str, &str); 4] = [
    (ListState::NeedsAttention, "needs-attention", "Needs attention"),
    (ListState::Unfinished, "unfinished", "Unfinished"),
    (ListState::Due, "due", "Due"),
    (ListState::Complete, "complete", "Complete"),
];

/// How old operations are at least, in seconds.
const AGES: [(&str, &str); 4] =
    [("", "any age"), ("60", "older than a minute"), ("3600", "older than an hour"), ("86400", "older than a day")];

/// What may be found about an operation.
const FINDINGS: [FindingKind; 4] = [FindingKind::Parked, FindingKind::InDoubt, FindingKind::Paid, FindingKind::Pending];

pub(super) async fn show(visit: &Visit, name: &str) -> Result<Reply, Refused> {
    let (state, _, title) = LISTS.into_iter().find(|(_, list, _)| *list == name).ok_or(Refused::NO_PAGE)?;
    let listed = visit.list(listing(visit, state)?).await?;
    let next = listed.next.as_ref().and_then(|next| visit.position(next));
    if visit.wants_json() {
        return Ok(Reply::Json(StatusCode::OK, as_json(visit, &listed, next)));
    }
    let content = html! {
        h1 { (title) }
        (tabs(name))
        (filter(visit, name))
        @if listed.operations.is_empty() { p.empty { (nothing(visit, &listed)) } }
        (items(&listed.operations))
        (unreadable(&listed))
        @if let Some(next) = next {
            p.actions { a.button href=(visit.asked.link_with("after", &next)) rel="next" { "Next page" } }
        }
    };
    Ok(Reply::Page(Page::new(title, content)))
}

fn listing(visit: &Visit, state: ListState) -> Result<Listing, Refused> {
    let asked = &visit.asked;
    let mut listing = Listing::new(state);
    if let Some(seconds) = asked.get("older") {
        let seconds = seconds.parse().map_err(|_| Refused::input("Give the age as a number of seconds."))?;
        listing = listing.older_than(Duration::from_secs(seconds));
    }
    if let Some(label) = asked.get("label") {
        let label = label.split_once('=').ok_or(Refused::input("Give a label as its name, = and its value."))?;
        listing = listing.label(Label::new(label.0.trim(), label.1.trim()));
    }
    if let Some(name) = asked.get("finding") {
        let kind = FINDINGS.into_iter().find(|kind| kind.name() == name);
        listing = listing.finding(kind.ok_or(Refused::input("Choose one of the findings of the list."))?);
    }
    if let Some(position) = asked.get("after") {
        listing = listing.after(visit.place(position)?);
    }
    Ok(listing)
}

fn as_json(visit: &Visit, listed: &Listed, next: Option<String>) -> serde_json::Value {
    json!({
        "operations": listed.operations.iter().map(Shown::to_json).collect::<Vec<_>>(),
        "unreadable": listed.unreadable.count,
        "next": next,
        "looked_at": visit.who.sees_all().then_some(listed.looked_at),
    })
}

fn tabs(current: &str) -> Markup {
    html! {
        nav.tabs aria-label="Lists" {
            @for (_, list, title) in LISTS {
                a href=(link(&[("list", list)])) aria-current=[(list == current).then_some("page")] { (title) }
            }
        }
    }
}

fn filter(visit: &Visit, name: &str) -> Markup {
    let asked = |name: &str| visit.asked.get(name).unwrap_or_default();
    let (older, finding) = (asked("older"), asked("finding"));
    html! {
        form.filter role="search" aria-label="Filter" {
            input type="hidden" name="list" value=(name);
            label {
                "Age"
                select name="older" {
                    @for (seconds, text) in AGES { option value=(seconds) selected[seconds == older] { (text) } }
                }
            }
            label {
                "Finding"
                select name="finding" {
                    option value="" { "any or none" }
                    @for kind in FINDINGS {
                        option value=(kind.name()) selected[kind.name() == finding] { (kind.name()) }
                    }
                }
            }
            label {
                "Label"
                input name="label" value=(asked("label")) placeholder="order=17" autocomplete="off" spellcheck="false" maxlength="200";
            }
            button { "Filter" }
        }
    }
}

fn nothing(visit: &Visit, listed: &Listed) -> String {
    match listed.next {
        None => "No operation is in this list.".to_owned(),
        Some(_) if !visit.who.sees_all() => {
            "None of those that this page looked at is yours to see. There may be some on the next one.".to_owned()
        }
        Some(_) => format!(
            "None of the {} records that this page looked at belongs to this list. There may be some on the next one.",
            words::count(listed.looked_at, false)
        ),
    }
}

/// Operations, a line or two for each.
pub(super) fn items(operations: &[Shown]) -> Markup {
    html! {
        @if !operations.is_empty() {
            ul.operations { @for shown in operations { li { (item(shown)) } } }
        }
    }
}

fn item(shown: &Shown) -> Markup {
    html! {
        p.line {
            (badge(shown))
            a href=(link(&[("operation", &shown.key.to_string())])) { (name(shown)) }
            span.age { (words::duration(shown.age())) " old" }
        }
        p { (why(shown)) }
        p.faint { (attempts(shown)) }
    }
}

/// What of a page could not be read.
pub(super) fn unreadable(listed: &Listed) -> Markup {
    html! {
        @if listed.unreadable.count > 0 {
            div.verdict.bad role="alert" {
                div {
                    strong { (words::count(listed.unreadable.count, false)) " records can't be read" }
                    p { "Roll back the release if their format is newer, else restore them. Do not delete them." }
                }
            }
        }
    }
}

/// Its state, in a colour.
pub(super) fn badge(shown: &Shown) -> Markup {
    let state = shown.state();
    let colour = match state {
        OperationState::Parked | OperationState::OutcomeUnknown => "bad",
        OperationState::Due | OperationState::CallbackPending => "warn",
        OperationState::Complete => "good",
        OperationState::Running | OperationState::Waiting if shown.needs_attention() => "bad",
        OperationState::Running | OperationState::Waiting => "calm",
    };
    html! { span class={ "badge " (colour) } { (words::state(state).0) } }
}

/// What people call it: what was asked for, as far as it is stored.
pub(super) fn name(shown: &Shown) -> String {
    match shown.record.request() {
        Some(request) => format!("{} {}", request.method(), request.uri().path()),
        None => format!("Operation {}", &shown.key.to_string()[..12]),
    }
}

fn attempts(shown: &Shown) -> String {
    let attempts = shown.record.attempts();
    let attempts = format!("{attempts} {}", if attempts == 1 { "attempt" } else { "attempts" });
    let by = shown.record.by().map(|by| format!(", last written by {by}"));
    attempts + &by.unwrap_or_default()
}

/// Why it is where it is, in one line.
fn why(shown: &Shown) -> String {
    cause(shown).unwrap_or_else(|| words::state(shown.state()).1.to_owned())
}

/// Why it needs attention, if it does and that is known.
pub(super) fn cause(shown: &Shown) -> Option<String> {
    let in_doubt: Vec<_> = shown.in_doubt().collect();
    let in_doubt = (!in_doubt.is_empty()).then(|| format!("begun, and without a result: {}", in_doubt.join(", ")));
    let parked = shown.parked().map(str::to_owned);
    parked.or(in_doubt).or_else(|| shown.finding().map(|finding| finding.cause))
}
