//! Finds an operation by what an operator has of it.

use maud::html;

use crate::operator::inspector::form::{Pairs, link};
use crate::operator::inspector::page::{Page, Reply};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;

/// The form. It is sent with POST, so that a client's key gets into no log of addresses.
pub(super) fn show(problem: Option<&Refused>) -> Reply {
    let content = html! {
        h1 { "Find an operation" }
        @if let Some(problem) = problem {
            div.verdict.warn role="alert" { div { strong { (problem.title) } p { (problem.advice) } } }
        }
        form.stack method="post" action="?search" {
            label {
                "Key, hash of a key, or reference"
                span.hint { "The Idempotency-Key as the client sent it; or what a log line, an event or a problem shows." }
                input name="text" required autofocus autocomplete="off" spellcheck="false" maxlength="1024";
            }
            label {
                "Scope"
                span.hint { "Whose key it is, as the layer's Scope has it. Only for a key; empty if all clients share one." }
                input name="scope" autocomplete="off" spellcheck="false" maxlength="1024";
            }
            label.choice { input type="checkbox" name="runner" value="1"; "The key of a Runner, not of a request" }
            div { button { "Find it" } }
        }
    };
    let status = problem.map_or(http::StatusCode::OK, |problem| problem.status);
    Reply::Page(Page { status, ..Page::new("Find an operation", content) })
}

pub(super) async fn find(visit: &Visit, form: &Pairs) -> Result<Reply, Refused> {
    let operator = &visit.operator;
    let text = form.get("text").ok_or(Refused::input("Type a key, a hash or a reference."))?;
    let scope = form.get("scope").unwrap_or_default();
    let found = match (is_hash(text), is_reference(text)) {
        (true, _) => operator.find_by_hash(text).await,
        (_, true) => operator.find_by_reference(text).await,
        _ if form.has("runner") => operator.find_of_runner(scope, text).await,
        _ => operator.find(scope, text).await,
    };
    match visit.visible(found) {
        Ok(shown) if visit.wants_json() => Ok(Reply::Json(http::StatusCode::OK, shown.to_json())),
        Ok(shown) => Ok(Reply::See(link(&[("operation", &shown.key.to_string())]))),
        Err(refused) if visit.wants_json() => Err(refused),
        Err(refused) => Ok(show(Some(&refused))),
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn is_reference(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(hash, attempt)| is_hash(hash) && attempt.bytes().all(|digit| digit.is_ascii_digit()))
}
