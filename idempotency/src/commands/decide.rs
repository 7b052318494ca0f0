//! `resolve`, `retry`, `forget` and `end-callback`: what an operator decides.

use std::env;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tower_idempotency::core::{Resolution, StoredResponse};
use tower_idempotency::{Operator, OperatorError, Shown};

use super::show::{find, summary};
use crate::arguments::{Common, Decision, Resolve};
use crate::confirm::confirm;
use crate::failure::{DONE, Failure};
use crate::output::{Output, Tone};
use crate::target::Target;
use crate::text::version;

pub(crate) async fn resolve(common: &Common, resolve: &Resolve, output: Output) -> Result<u8, Failure> {
    // Before the store is asked, and the operator.
    let (what, resolution) = resolution(resolve)?;
    let (operator, shown) = decided(common, &resolve.decision, &what, output).await?;
    operator.resolve(&shown, resolution).await?;
    done(&shown, output)
}

pub(crate) async fn retry(common: &Common, decision: &Decision, output: Output) -> Result<u8, Failure> {
    let (operator, shown) = decided(common, decision, "Let this operation run again?", output).await?;
    operator.retry(&shown).await?;
    done(&shown, output)
}

pub(crate) async fn forget(common: &Common, decision: &Decision, output: Output) -> Result<u8, Failure> {
    let what = "Remove this operation? A retry of its client runs it anew.";
    let (operator, shown) = decided(common, decision, what, output).await?;
    operator.forget(&shown).await?;
    done(&shown, output)
}

pub(crate) async fn end_callback(common: &Common, decision: &Decision, output: Output) -> Result<u8, Failure> {
    let what = "Give up the callback of this operation? It is never made.";
    let (operator, shown) = decided(common, decision, what, output).await?;
    operator.end_callback(&shown).await?;
    done(&shown, output)
}

/// Shows the operation as it is, and asks, unless the operator has seen it and said so.
async fn decided(
    common: &Common,
    decision: &Decision,
    question: &str,
    output: Output,
) -> Result<(Operator, Shown), Failure> {
    let target = Target::open(common)?;
    let operator = Operator::new(target.engine).by(&who(decision.who.as_deref())).because(&decision.why);
    let shown = find(&operator, &decision.which).await?;
    if decision.seen.as_ref().is_some_and(|seen| *seen != version(&shown.record)) {
        return Err(OperatorError::Overtaken.into());
    }
    if !decision.yes && !output.is_json() {
        summary(&shown, output)?;
    }
    confirm(question, decision.yes)?;
    Ok((operator, shown))
}

fn done(shown: &Shown, output: Output) -> Result<u8, Failure> {
    if output.is_json() {
        output.value(&json!({ "done": true, "key": shown.key.to_string() }))?;
    } else {
        output.line("done; `idempotency show` has it in the history", Tone::Good)?;
    }
    Ok(DONE)
}

/// Who decides.
pub(crate) fn who(name: Option<&str>) -> String {
    if let Some(name) = name {
        return name.to_owned();
    }
    let user = env::var("USER").or_else(|_| env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

/// What was decided, with the question that asks for it.
fn resolution(resolve: &Resolve) -> Result<(String, Resolution), Failure> {
    let what = &resolve.what;
    if let Some(status) = what.respond {
        let question = format!("Store a response with status {} as the outcome?", status.as_u16());
        let resolution = Resolution::Respond { response: response(resolve, status)?, retention: resolve.retention };
        return Ok((question, resolution));
    }
    if let Some(step) = &what.step_done {
        let question = format!("Store this result of step {step:?}, as done?");
        return Ok((question, Resolution::StepDone { step: step.as_str().into(), value: result(resolve)? }));
    }
    if let Some(step) = &what.did_not_happen {
        let question = format!("Step {step:?} did not happen, and will not?");
        return Ok((question, Resolution::DidNotHappen { step: step.as_str().into() }));
    }
    if let Some(step) = &what.undone {
        return Ok((format!("Step {step:?} is undone?"), Resolution::Undone { step: step.as_str().into() }));
    }
    let why = resolve.decision.why.as_str().into();
    Ok(("Keep completers from this operation until an operator decides?".to_owned(), Resolution::Park { why }))
}

/// The result of a step, which is JSON.
fn result(resolve: &Resolve) -> Result<Bytes, Failure> {
    let text = resolve.value.as_deref().unwrap_or_default();
    let value: Value = text.parse().map_err(|error| {
        Failure::usage(format!("--value is not JSON: {error}; a text needs its quotes, as '\"ch_1\"'"))
    })?;
    Ok(value.to_string().into())
}

fn response(resolve: &Resolve, status: StatusCode) -> Result<Arc<StoredResponse>, Failure> {
    let mut headers = HeaderMap::new();
    for line in &resolve.headers {
        let (name, value) =
            header(line).ok_or_else(|| Failure::usage("a --header is written as 'content-type: application/json'"))?;
        headers.append(name, value);
    }
    let body = match (&resolve.body, &resolve.body_file) {
        (Some(text), _) => text.clone().into(),
        (None, Some(path)) => fs::read(path)
            .map_err(|error| Failure::usage(format!("can't read the body in {}: {error}", path.display())))?
            .into(),
        (None, None) => Bytes::new(),
    };
    Ok(Arc::new(StoredResponse::capture(status, &headers, Some(body))))
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}
