//! What an operator can do about an operation: sentences, and commands to copy.

use tower_idempotency::{OperationState, Shown};

use crate::text::{quoted, version};

/// A sentence, and the command that does what it says.
pub(crate) type Advice = (String, Option<String>);

pub(crate) fn of(shown: &Shown) -> Vec<Advice> {
    let command = |name: &str, rest: &str| {
        let rest = if rest.is_empty() { String::new() } else { format!(" {rest}") };
        Some(format!("idempotency {name} {} --seen {}{rest} --why '…'", shown.key, version(&shown.record)))
    };
    match shown.state() {
        OperationState::Running => {
            let left = shown.record.due().since(shown.now).as_secs();
            vec![(format!("An attempt holds it, for {left} s more: show it again after that."), None)]
        }
        OperationState::Complete => {
            vec![("Nothing. To let its client run it anew, forget it:".to_owned(), command("forget", ""))]
        }
        OperationState::CallbackPending => vec![(
            "A completer makes its callback. If the receiver will never take it, give it up:".to_owned(),
            command("end-callback", ""),
        )],
        state => unfinished(shown, state, command),
    }
}

fn unfinished(shown: &Shown, state: OperationState, command: impl Fn(&str, &str) -> Option<String>) -> Vec<Advice> {
    let mut advice = Vec::new();
    match state {
        OperationState::Due => {
            advice.push(("A completer takes it next, or its client's retry: see that one runs.".to_owned(), None))
        }
        OperationState::Waiting => advice.push(("It waits for its time, or for its client's retry.".to_owned(), None)),
        _ => {}
    }
    for step in shown.in_doubt() {
        let name = quoted(step);
        advice.push((
            format!("Ask the receiver about step {step:?}. If it did not happen:"),
            command("resolve", &format!("--did-not-happen {name}")),
        ));
        advice.push((
            "If it happened, give its result as the handler would have:".to_owned(),
            command("resolve", &format!("--step-done {name} --value '…'")),
        ));
    }
    for step in shown.record.left_to_undo() {
        let done = format!("--undone {}", quoted(step));
        advice.push((format!("If step {step:?} is undone by now:"), command("resolve", &done)));
    }
    advice.push((
        "If all of it happened, store the response that its client shall get:".to_owned(),
        command("resolve", "--respond 200 --body '…'"),
    ));
    advice.push(("If it may run again, from its last recovery point:".to_owned(), command("retry", "")));
    if state != OperationState::Parked {
        advice.push(("To keep completers from it until you know more:".to_owned(), command("resolve", "--park")));
    }
    advice
}
