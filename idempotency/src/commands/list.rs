//! `list`: what needs attention, or other operations.

use serde_json::{Value, json};
use tower_idempotency::{Label, Listed, Listing, OperationState, Operator, Shown};

use crate::arguments::{Common, List, Listed as Which};
use crate::failure::{DONE, Failure};
use crate::output::{Output, Piece, Tone};
use crate::target::Target;
use crate::text::age;

/// A reference has 66 characters, and must not be broken: it is copied.
const WIDE: u16 = 130;

pub(crate) async fn run(common: &Common, list: &List, output: Output) -> Result<u8, Failure> {
    let target = Target::open(common)?;
    let mut listing = Listing::new(list.state.into()).limit(list.limit);
    if let Some(age) = list.older_than {
        listing = listing.older_than(age);
    }
    if let Some(kind) = list.finding {
        listing = listing.finding(kind.into());
    }
    if let Some(label) = &list.label {
        listing = listing.label(label.clone());
    }
    if let Some(position) = list.after {
        listing = listing.after(position);
    }
    let listed = Operator::new(target.engine).list(&listing).await?;
    if output.is_json() {
        output.value(&value(&listed))?;
    } else {
        print(&listed, list, output)?;
    }
    Ok(DONE)
}

fn value(listed: &Listed) -> Value {
    json!({
        "operations": listed.operations.iter().map(Shown::to_json).collect::<Vec<_>>(),
        "unreadable": {
            "count": listed.unreadable.count,
            "keys": listed.unreadable.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "looked_at": listed.looked_at,
        "next": listed.next.map(|next| next.to_string()),
    })
}

fn print(listed: &Listed, list: &List, output: Output) -> std::io::Result<()> {
    if !listed.operations.is_empty() {
        operations(&listed.operations, list.label.as_ref(), output)?;
    } else if listed.next.is_none() && listed.unreadable.count == 0 {
        let (nothing, tone) = nothing(list);
        output.line(nothing, tone)?;
    }
    if listed.unreadable.count > 0 {
        let text = format!("{} can't be read; `idempotency doctor` says why:", listed.unreadable.count);
        output.line(&text, Tone::Bad)?;
        listed.unreadable.keys.iter().try_for_each(|key| output.line(&format!("  {key}"), Tone::Plain))?;
    }
    if let Some(next) = listed.next {
        let none = listed.operations.is_empty().then(|| format!("none of the {} looked at; ", listed.looked_at));
        output.line(&format!("{}more: add --after {next}", none.unwrap_or_default()), Tone::Quiet)?;
    }
    if !listed.operations.is_empty() {
        output.line("`idempotency show OPERATION` says what to do", Tone::Quiet)?;
    }
    Ok(())
}

/// What it means that there are none: little, where some were left out, or are on an earlier page.
const fn nothing(list: &List) -> (&'static str, Tone) {
    let List { state, older_than, finding, label, after, .. } = list;
    match state {
        _ if older_than.is_some() || finding.is_some() || label.is_some() || after.is_some() => {
            ("none of the operations looked at", Tone::Plain)
        }
        Which::Attention => ("nothing needs attention", Tone::Good),
        _ => ("there are none", Tone::Good),
    }
}

/// As a table, if a row fits on a line. With the other labels of what was asked for by one.
fn operations(operations: &[Shown], label: Option<&Label>, output: Output) -> std::io::Result<()> {
    let rows = operations.iter().map(|shown| row(shown, label));
    if output.width().is_none_or(|width| width >= WIDE) {
        let labels = label.map(|_| "LABELS");
        let headings = ["STATE", "AGE", "TRIES", "REQUEST", "WHY"].into_iter().chain(labels).chain(["OPERATION"]);
        return output.table(&headings.collect::<Vec<_>>(), rows.collect());
    }
    for mut row in rows {
        let last = row.split_off(4);
        let separated = row.into_iter().filter(|(text, _)| !text.is_empty()).flat_map(|piece| [piece, gap()]);
        output.pieces(&separated.collect::<Vec<_>>())?;
        for piece in last.into_iter().filter(|(text, _)| !text.is_empty()) {
            output.pieces(&[gap(), piece])?;
        }
    }
    Ok(())
}

fn gap() -> Piece {
    ("  ".to_owned(), Tone::Plain)
}

fn row(shown: &Shown, label: Option<&Label>) -> Vec<Piece> {
    let request = shown.record.request().map(|request| format!("{} {}", request.method(), request.uri().path()));
    let mut row = vec![
        (shown.state().name().to_owned(), tone(shown)),
        (age(shown.age()), Tone::Plain),
        (shown.record.tries().to_string(), Tone::Plain),
        (request.unwrap_or_default(), Tone::Plain),
        (why(shown), Tone::Plain),
    ];
    row.extend(label.map(|label| (labels(shown, Some(label)), Tone::Plain)));
    row.push((shown.reference(), Tone::Quiet));
    row
}

/// Its labels but for one.
pub(crate) fn labels(shown: &Shown, without: Option<&Label>) -> String {
    let labels = shown.labels().iter().filter(|label| Some(*label) != without).map(Label::as_str);
    labels.collect::<Vec<_>>().join(", ")
}

/// Why it needs attention, in one line; nothing, if it does not.
pub(crate) fn why(shown: &Shown) -> String {
    let finding = shown.finding().map(|finding| finding.cause);
    let unknown = || (shown.state() == OperationState::OutcomeUnknown).then(|| "what it did is not known".to_owned());
    shown.parked().map(ToOwned::to_owned).or(finding).or_else(unknown).unwrap_or_default()
}

pub(crate) fn tone(shown: &Shown) -> Tone {
    match shown.state() {
        OperationState::Complete => Tone::Good,
        _ if shown.needs_attention() => Tone::Bad,
        OperationState::Due => Tone::Warning,
        _ => Tone::Plain,
    }
}
