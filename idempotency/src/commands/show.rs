//! `show`: one operation, and what may be done about it.

use tower_idempotency::core::{HistoryEntry, Mode, Point, Record, Step};
use tower_idempotency::{Operator, OperatorError, Shown};

use super::{advice, list};
use crate::arguments::{Common, Show, Which};
use crate::failure::{DONE, Failure};
use crate::output::{Output, Piece, Tone};
use crate::target::Target;
use crate::text::{age, time, version};

pub(crate) async fn run(common: &Common, show: &Show, output: Output) -> Result<u8, Failure> {
    let target = Target::open(common)?;
    let shown = find(&Operator::new(target.engine), &show.which).await?;
    if output.is_json() {
        let value = show.bodies.map_or_else(|| shown.to_json(), |most| shown.to_json_with_bodies(most));
        output.value(&value)?;
        return Ok(DONE);
    }
    summary(&shown, output)?;
    details(&shown.record, output)?;
    output.blank()?;
    output.line("WHAT TO DO", Tone::Quiet)?;
    for (sentence, command) in advice::of(&shown) {
        output.line(&sentence, Tone::Plain)?;
        if let Some(command) = command {
            output.line(&format!("  {command}"), Tone::Heading)?;
        }
    }
    Ok(DONE)
}

/// The operation that was named.
pub(crate) async fn find(operator: &Operator, which: &Which) -> Result<Shown, OperatorError> {
    match (&which.key, &which.operation) {
        (Some(key), _) if which.runner => operator.find_of_runner(&which.scope, key).await,
        (Some(key), _) => operator.find(&which.scope, key).await,
        (None, Some(reference)) if reference.contains('-') => operator.find_by_reference(reference).await,
        (None, hash) => operator.find_by_hash(hash.as_deref().unwrap_or_default()).await,
    }
}

/// What it is, how it stands, and why.
pub(crate) fn summary(shown: &Shown, output: Output) -> std::io::Result<()> {
    let record = &shown.record;
    output.pieces(&[
        (shown.state().name().to_owned(), list::tone(shown)),
        ("  ".to_owned(), Tone::Plain),
        (shown.reference(), Tone::Heading),
    ])?;
    let why = list::why(shown);
    if !why.is_empty() {
        fact("why", &why, output)?;
    }
    if let Some(finding) = shown.finding() {
        fact("first", finding.first_response(), output)?;
    }
    if let Some(created) = record.created_at() {
        fact("began", &format!("{}, {} ago", time(created), age(shown.age())), output)?;
    }
    let mode = if record.mode() == Mode::Resumable { "resumable" } else { "at most once" };
    let by = record.by().map(|by| format!(", last by {by}")).unwrap_or_default();
    fact("ran", &format!("{mode}; attempt {}{by}", record.attempts()), output)?;
    if let Some(request) = record.request() {
        let text = format!("{} {}, {} bytes", request.method(), request.uri().path(), request.body().len());
        fact("request", &text, output)?;
    }
    if let Some(response) = record.response() {
        let body = response.body().map_or_else(|| "body not kept".to_owned(), |body| format!("{} bytes", body.len()));
        fact("response", &format!("{}, {body}", response.status().as_u16()), output)?;
    }
    let labels = list::labels(shown, None);
    if !labels.is_empty() {
        fact("labels", &labels, output)?;
    }
    fact("version", &version(record), output)
}

fn fact(name: &str, text: &str, output: Output) -> std::io::Result<()> {
    output.pieces(&[(format!("  {name:<9}"), Tone::Quiet), (text.to_owned(), Tone::Plain)])
}

fn details(record: &Record, output: Output) -> std::io::Result<()> {
    if !record.steps().is_empty() {
        output.blank()?;
        output.table(&["STEP", "STATE", "ATTEMPT"], record.steps().iter().map(|step| of_step(step)).collect())?;
    }
    let history: Vec<_> = record.history().iter().map(of_entry).collect();
    if !history.is_empty() {
        output.blank()?;
        output.table(&["TIME", "WHAT HAPPENED", "ATTEMPT", "BY", "TEXT"], history)?;
    }
    if record.history_dropped() > 0 {
        output.line(&format!("{} entries in the middle are left out", record.history_dropped()), Tone::Quiet)?;
    }
    Ok(())
}

fn of_step(step: &Step) -> Vec<Piece> {
    let (state, tone) = match step.point() {
        _ if step.is_undone() => ("undone".to_owned(), Tone::Plain),
        Point::Begun => ("in doubt: begun, and no result".to_owned(), Tone::Bad),
        Point::Saved(value) => (format!("done, {} bytes", value.len()), Tone::Good),
        Point::Failed(error) => (format!("failed, {} bytes", error.len()), Tone::Warning),
        _ => ("not known to this release".to_owned(), Tone::Warning),
    };
    let attempt = step.attempt().to_string();
    vec![(step.name().to_owned(), Tone::Plain), (state, tone), (attempt, Tone::Plain)]
}

fn of_entry(entry: &HistoryEntry) -> Vec<Piece> {
    let word = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    vec![
        (time(entry.at), Tone::Quiet),
        (entry.event.name().to_owned(), Tone::Plain),
        (entry.attempt.to_string(), Tone::Plain),
        (word(&entry.by), Tone::Plain),
        (word(&entry.text), Tone::Plain),
    ]
}
