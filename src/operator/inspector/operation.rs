//! One operation: its state, what may be decided, its history, its request and response.

use http::{HeaderName, HeaderValue, StatusCode};
use maud::{Markup, html};

use crate::core::{HistoryEntry, HistoryEvent, Mode, Point, Record, Step, StoredRequest, StoredResponse};
use crate::operator::inspector::decision::{self, Choice};
use crate::operator::inspector::form::link;
use crate::operator::inspector::list::{badge, cause, name};
use crate::operator::inspector::page::{Page, Reply};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;
use crate::operator::inspector::words;
use crate::operator::shown::Shown;

pub(super) async fn show(visit: &Visit, hash: &str) -> Result<Reply, Refused> {
    let shown = visit.find(hash).await?;
    if visit.wants_json() {
        return Ok(Reply::Json(StatusCode::OK, shown.to_json()));
    }
    let record = &shown.record;
    let content = html! {
        (decision::done(visit))
        p { (badge(&shown)) }
        h1 { (name(&shown)) }
        (summary(&shown))
        @if visit.who.decides() { (choices(&shown)) }
        h2 { "What happened" }
        (timeline(record.history().iter()))
        @if record.history_dropped() > 0 {
            p.faint { (words::count(record.history_dropped() as usize, false)) " entries in the middle are left out." }
        }
        @if !record.steps().is_empty() { h2 { "Steps" } (steps(record)) }
        (facts(&shown))
        @if let Some(request) = record.request() { h2 { "Request" } (request_of(request)) }
        @if let Some(response) = record.response() { h2 { "Response" } (response_of(response)) }
        p.faint { a href=(visit.asked.link_with("json", "1")) { "This operation as JSON" } }
    };
    Ok(Reply::Page(Page::new(name(&shown), content)))
}

/// What state it is in, why, and what to do first.
pub(super) fn summary(shown: &Shown) -> Markup {
    let (_, meaning) = words::state(shown.state());
    html! {
        div.sheet {
            p { (meaning) }
            @if let Some(cause) = cause(shown) { p { strong { (cause) } } }
            @if let Some(finding) = shown.finding() { p.faint { "First: " (finding.first_response()) "." } }
        }
    }
}

fn choices(shown: &Shown) -> Markup {
    let choices = Choice::all(shown);
    html! {
        @if choices.is_empty() {
            p.faint { "There is nothing to decide while an attempt holds it." }
        } @else {
            h2 { "Decide" }
            ul.actions {
                @for choice in choices {
                    li {
                        a class={ "button" @if choice.kind.is_dangerous() { " danger" } } href=(choice.link(&shown.key)) {
                            (choice.title())
                        }
                    }
                }
            }
        }
    }
}

fn facts(shown: &Shown) -> Markup {
    let record = &shown.record;
    let mode = match record.mode() {
        Mode::AtMostOnce => "at most once",
        Mode::Resumable => "resumable: it goes on from its last recovery point",
    };
    let attempts = words::count(record.attempts() as usize, false);
    html! {
        h2 { "Facts" }
        dl.facts {
            @if let Some(created) = record.created_at() {
                (fact("Began", &format!("{}, {} ago", words::time(created), words::duration(shown.age()))))
            }
            (fact("Last written", &words::time(record.written_at())))
            (fact("Attempts", &attempts))
            @if let Some(by) = record.by() { (fact("Last written by", by)) }
            (fact("Mode", mode))
            @if record.pending_callback().is_some() { (fact("Callback", "pending")) }
            div { dt { "Reference" } dd.mono { (shown.reference()) } }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

pub(super) fn timeline<'a>(entries: impl Iterator<Item = &'a HistoryEntry>) -> Markup {
    html! { ol.timeline { @for entry in entries { li class=(colour(entry.event)) { (event(entry)) } } } }
}

fn event(entry: &HistoryEntry) -> Markup {
    html! {
        p {
            strong { (words::event(entry.event)) }
            @if let Some(text) = &entry.text { ": " (text) }
        }
        p.faint {
            (words::time(entry.at))
            @if entry.attempt > 0 { " · attempt " (entry.attempt) }
            @if let Some(by) = &entry.by { " · by " (by) }
        }
    }
}

const fn colour(event: HistoryEvent) -> &'static str {
    match event {
        HistoryEvent::StepSaved | HistoryEvent::Completed | HistoryEvent::CallbackDelivered => "good",
        HistoryEvent::Lapsed | HistoryEvent::Released | HistoryEvent::Undoing => "warn",
        HistoryEvent::Parked | HistoryEvent::StepFailed => "bad",
        _ => "calm",
    }
}

fn steps(record: &Record) -> Markup {
    html! {
        table {
            thead { tr { th scope="col" { "Step" } th scope="col" { "State" } th scope="col" { "Attempt" } } }
            tbody { @for step in record.steps() { (step_of(step)) } }
        }
    }
}

fn step_of(step: &Step) -> Markup {
    let (colour, state) = match step.point() {
        _ if step.is_undone() => ("calm", "undone".to_owned()),
        Point::Begun => ("bad", "in doubt: no result".to_owned()),
        Point::Saved(value) => ("good", format!("done, {}", words::bytes(value.len()))),
        Point::Failed(_) => ("warn", "failed for good".to_owned()),
    };
    html! {
        tr {
            th scope="row" { (step.name()) }
            td { span class={ "badge " (colour) } { (state) } }
            td { (step.attempt()) }
        }
    }
}

fn request_of(request: &StoredRequest) -> Markup {
    html! {
        dl.facts {
            (fact("Method", request.method().as_str()))
            (fact("Path", request.uri().path()))
            (fact("Headers", &names(request.headers())))
            (fact("Body", &words::bytes(request.body().len())))
        }
    }
}

fn response_of(response: &StoredResponse) -> Markup {
    let body = match (response.body(), response.not_retained()) {
        (Some(body), _) => words::bytes(body.len()),
        (None, why) => format!("not retained: {}", why.map_or("", |why| why.name())),
    };
    html! {
        dl.facts {
            (fact("Status", response.status().as_str()))
            (fact("Headers", &names(response.headers())))
            (fact("Body", &body))
        }
    }
}

/// Without their values, which may be secret.
fn names(lines: &[(HeaderName, HeaderValue)]) -> String {
    if lines.is_empty() {
        return "none".to_owned();
    }
    lines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Shows where an operation is, beside what is decided about it.
pub(super) fn back(shown: &Shown) -> Markup {
    html! { a href=(link(&[("operation", &shown.key.to_string())])) { (name(shown)) } }
}
