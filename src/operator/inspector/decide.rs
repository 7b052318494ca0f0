//! Asks for a decision to be confirmed, and carries it out.

use http::StatusCode;
use maud::{Markup, html};

use crate::operator::error::OperatorError;
use crate::operator::inspector::decision::{Choice, Kind};
use crate::operator::inspector::form::{Pairs, link};
use crate::operator::inspector::list::badge;
use crate::operator::inspector::operation::{back, summary, timeline};
use crate::operator::inspector::page::{Page, Reply};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;
use crate::operator::shown::Shown;

/// A form that asks why, and says what will happen.
pub(super) async fn ask(visit: &Visit, hash: &str, what: &str) -> Result<Reply, Refused> {
    if !visit.who.decides() {
        return Err(Refused::MAY_NOT);
    }
    let (shown, choice) = chosen(visit, hash, what).await?;
    if !Choice::all(&shown).contains(&choice) {
        return Err(NOT_NOW);
    }
    let (token, cookie) = visit.token()?;
    let content = html! {
        h1 { (choice.title()) "?" }
        p { (badge(&shown)) " " (back(&shown)) }
        (summary(&shown))
        p { (choice.kind.effect()) }
        form.stack method="post" action=(choice.link(&shown.key)) {
            input type="hidden" name="token" value=(token);
            input type="hidden" name="version" value=(version(&shown));
            input type="hidden" name="events" value=(events(&shown));
            (choice.fields())
            label {
                "Why"
                span.hint { "For the history, with your name: " (visit.who.name()) "." }
                input name="why" required maxlength="200" autocomplete="off" autofocus[!choice.has_fields()];
            }
            div.row {
                button class=[choice.kind.is_dangerous().then_some("danger")] { (choice.title()) }
                a.button href=(link(&[("operation", &shown.key.to_string())])) { "Cancel" }
            }
        }
    };
    Ok(Reply::Page(Page { cookie: Some(cookie), ..Page::new(choice.title(), content) }))
}

/// Carries out what was confirmed, if the operation is still as it was shown.
pub(super) async fn act(visit: &Visit, hash: &str, what: &str, form: &Pairs) -> Result<Reply, Refused> {
    if !visit.who.decides() {
        return Err(Refused::MAY_NOT);
    }
    visit.check(form)?;
    let (shown, choice) = chosen(visit, hash, what).await?;
    if form.get("version") != Some(&version(&shown)) {
        return Ok(overtaken(visit, form, &shown));
    }
    let why = form.get("why").ok_or(Refused::input("Say why: the history is read by those who come after you."))?;
    let decided = choice.act(form, why)?.carry_out(&visit.operator.because(why), &shown).await;
    match decided {
        Ok(()) if choice.kind == Kind::Forget => Ok(Reply::See(link(&[("done", choice.kind.name())]))),
        Ok(()) => Ok(Reply::See(link(&[("operation", hash), ("done", choice.kind.name())]))),
        Err(OperatorError::Overtaken) => Ok(overtaken(visit, form, &visit.find(hash).await?)),
        Err(error) => Err(error.into()),
    }
}

const NOT_NOW: Refused = Refused::new(
    StatusCode::CONFLICT,
    "This can't be decided now",
    "Nothing was changed. Open the operation again: it says what may be decided.",
);

async fn chosen(visit: &Visit, hash: &str, what: &str) -> Result<(Shown, Choice), Refused> {
    let kind = Kind::named(what).ok_or(Refused::NO_PAGE)?;
    let shown = visit.find(hash).await?;
    Ok((shown, Choice { kind, step: visit.asked.get("step").map(str::to_owned) }))
}

fn version(shown: &Shown) -> String {
    format!("{:016x}", shown.record.version().get())
}

/// How many entries its history has had.
fn events(shown: &Shown) -> usize {
    shown.record.history().len().saturating_add(shown.record.history_dropped() as usize)
}

/// The operation is not what it was when the form was shown: what happened since?
fn overtaken(visit: &Visit, form: &Pairs, shown: &Shown) -> Reply {
    let refused = Refused::from(OperatorError::Overtaken);
    if visit.wants_json() {
        return Reply::refused(&refused, true);
    }
    let seen = form.get("events").and_then(|seen| seen.parse().ok()).unwrap_or(0);
    let content = html! {
        div.verdict.warn role="alert" {
            div {
                h1 { "The operation changed meanwhile" }
                p { "Nothing was changed by you: you decided about a state that is gone. Look at it, and decide again." }
            }
        }
        p { (badge(shown)) " " (back(shown)) }
        (summary(shown))
        h2 { "Since then" }
        (since(shown, seen))
        p.actions { a.button.first href=(link(&[("operation", &shown.key.to_string())])) { "Look at it again" } }
    };
    Reply::Page(Page { status: refused.status, ..Page::new("The operation changed", content) })
}

fn since(shown: &Shown, seen: usize) -> Markup {
    let history = shown.record.history();
    let fresh = events(shown).saturating_sub(seen).clamp(1, history.len().max(1));
    let from = history.len().saturating_sub(fresh);
    timeline(history.iter().skip(from))
}
