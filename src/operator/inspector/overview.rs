//! The first page: is anything stuck?

use std::time::Duration;

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::core::{PlannedWindow, Timestamp, WindowState};
use crate::operator::counts::{Count, Counts};
use crate::operator::error::OperatorError;
use crate::operator::inspector::decision;
use crate::operator::inspector::list;
use crate::operator::inspector::maintenance;
use crate::operator::inspector::page::{Page, Reply};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;
use crate::operator::inspector::words;
use crate::operator::listing::{Listed, Listing};

/// How many of those that need attention it shows.
const SHOWN: usize = 20;

/// A completer takes what is due within seconds.
const TOO_LONG_DUE: Duration = Duration::from_secs(60);

pub(super) async fn show(visit: &Visit) -> Result<Reply, Refused> {
    let attention = Listing::needs_attention().limit(SHOWN);
    let (listed, counts, planned) = tokio::join!(visit.list(attention), counts(visit), planned(visit));
    let (listed, counts, (windows, now)) = (listed?, counts?, planned?);
    if visit.wants_json() {
        return Ok(Reply::Json(
            StatusCode::OK,
            as_json(&listed, counts.as_ref(), &maintenance::as_json(&windows, now)),
        ));
    }
    let content = html! {
        (decision::done(visit))
        (verdict(&listed, counts.as_ref()))
        (list::unreadable(&listed))
        (list::items(&listed.operations))
        @if listed.next.is_some() {
            p.actions { a.button href="?list=needs-attention" { "All that need attention" } }
        }
        @if !windows.is_empty() { h2 { "Maintenance" } (maintenance::items(&windows, now, false)) }
        @if let Some(counts) = &counts { h2 { "In the store" } (counted(counts)) }
    };
    Ok(Reply::Page(Page::new("Overview", content)))
}

/// Of all operations, so not for those who see some alone.
async fn counts(visit: &Visit) -> Result<Option<Counts>, OperatorError> {
    if visit.who.sees_all() { visit.operator.counts().await.map(Some) } else { Ok(None) }
}

/// Windows that are not over: they concern all operations too.
async fn planned(visit: &Visit) -> Result<(Vec<PlannedWindow>, Timestamp), OperatorError> {
    if !visit.who.sees_all() {
        return Ok((Vec::new(), Timestamp::default()));
    }
    let (mut windows, now) = visit.operator.windows().await?;
    windows.retain(|planned| planned.state(now) != WindowState::Over);
    Ok((windows, now))
}

fn verdict(listed: &Listed, counts: Option<&Counts>) -> Markup {
    let many = listed.operations.len();
    let most = counts.map(|counts| counts.needs_attention).unwrap_or_default();
    let overdue = counts.map(|counts| counts.due).filter(|due| due.oldest.is_some_and(|oldest| oldest > TOO_LONG_DUE));
    let capped = most.capped || most.count < many;
    let capped = if counts.is_some() { capped } else { listed.next.is_some() };
    let (count, first) = (most.count.max(many), listed.operations.iter().map(|shown| shown.age()).max());
    match (count, overdue) {
        (0, None) if capped => {
            let text = "There are more operations than one look covers: go on in the list, or look by state.";
            said("warn", "!", "None that was looked at needs attention", text.to_owned())
        }
        (0, None) => said("good", "✓", "Nothing needs attention", "No operation waits for an operator.".to_owned()),
        (0, Some(due)) => {
            let title = "Is a completer running?";
            let oldest = words::duration(due.oldest.unwrap_or_default());
            said("warn", "!", title, format!("Operations are due and not taken, the first one for {oldest}."))
        }
        _ => {
            let subject = if count == 1 { "operation needs" } else { "operations need" };
            let title = format!("{} {subject} attention", words::count(count, capped));
            let oldest = words::duration(most.oldest.or(first).unwrap_or_default());
            said("bad", "!", &title, format!("The oldest one began {oldest} ago. Open it to see why, and to decide."))
        }
    }
}

fn said(colour: &str, sign: &str, title: &str, text: String) -> Markup {
    html! {
        section class={ "verdict " (colour) } aria-labelledby="verdict" {
            span.sign aria-hidden="true" { (sign) }
            div { h1 id="verdict" { (title) } p { (text) } }
        }
    }
}

fn counted(counts: &Counts) -> Markup {
    let since = |count: &Count| count.oldest.map(|oldest| format!("the first for {}", words::duration(oldest)));
    html! {
        ul.counts {
            (tile("unfinished", "unfinished", Some(&counts.unfinished), None))
            (tile("due", "due for a completer", Some(&counts.due), since(&counts.due)))
            (tile("complete", "complete and remembered", counts.complete.as_ref(), None))
        }
    }
}

fn tile(list: &str, name: &str, count: Option<&Count>, more: Option<String>) -> Markup {
    html! {
        @if let Some(count) = count {
            li {
                a href={ "?list=" (list) } {
                    strong { (words::count(count.count, count.capped)) }
                    span { (name) }
                    @if let Some(more) = more { span.faint { (more) } }
                }
            }
        }
    }
}

fn as_json(listed: &Listed, counts: Option<&Counts>, maintenance: &Value) -> Value {
    let count = |count: &Count| {
        let oldest = count.oldest.map(|oldest| u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX));
        json!({ "count": count.count, "capped": count.capped, "oldest_ms": oldest })
    };
    json!({
        "needs_attention": listed.operations.iter().map(|shown| shown.to_json()).collect::<Vec<_>>(),
        "unreadable": listed.unreadable.count,
        "maintenance": maintenance["windows"],
        "counts": counts.map(|counts| json!({
            "needs_attention": count(&counts.needs_attention),
            "unfinished": count(&counts.unfinished),
            "due": count(&counts.due),
            "complete": counts.complete.as_ref().map(count),
        })),
    })
}
