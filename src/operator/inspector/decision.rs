//! What may be decided about an operation, in words and as links.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use maud::{Markup, html};

use crate::core::{Key, Resolution, Status, StoredResponse};
use crate::operator::Operator;
use crate::operator::error::OperatorError;
use crate::operator::inspector::form::{Pairs, link};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;
use crate::operator::shown::{OperationState, Shown};

/// A kind of decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    RunAgain,
    Respond,
    Park,
    StepDone,
    DidNotHappen,
    Undone,
    EndCallback,
    Forget,
}

/// A decision that may be made about an operation as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) kind: Kind,
    /// About which step, if about one.
    pub(super) step: Option<String>,
}

/// What is to be done once it is confirmed.
pub(super) enum Act {
    Resolve(Resolution),
    EndCallback,
    Forget,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::RunAgain,
        Self::Respond,
        Self::Park,
        Self::StepDone,
        Self::DidNotHappen,
        Self::Undone,
        Self::EndCallback,
        Self::Forget,
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.text().0 == name)
    }

    pub(super) const fn name(self) -> &'static str {
        self.text().0
    }

    /// Whether what it leads to can't be taken back.
    pub(super) const fn is_dangerous(self) -> bool {
        matches!(self, Self::Forget | Self::EndCallback)
    }

    /// What it does, for those who are about to do it.
    pub(super) const fn effect(self) -> &'static str {
        self.text().2
    }

    const fn text(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::RunAgain => (
                "run-again",
                "Run again",
                "Its handler may start again: at its client's next retry, or by a completer. Steps that are done stay \
                 done. Outside its steps the handler repeats what it did: find out first that this does no harm.",
            ),
            Self::Respond => (
                "respond",
                "Store a response",
                "The operation is complete, and each retry gets this response. This can't be changed later.",
            ),
            Self::Park => ("park", "Park", "No attempt starts until an operator decides again."),
            Self::StepDone => (
                "step-done",
                "Step was done",
                "The step counts as done, with this result. Its operation may go on from there.",
            ),
            Self::DidNotHappen => (
                "did-not-happen",
                "Step did not happen",
                "The step is run when its operation goes on. If it did happen after all, it happens twice: ask the \
                 receiver first.",
            ),
            Self::Undone => {
                ("undone", "Step is undone", "The step counts as undone, and the undoing goes on without it.")
            }
            Self::EndCallback => (
                "end-callback",
                "Give the callback up",
                "No completer makes the callback any more. A call that is under way may still arrive.",
            ),
            Self::Forget => (
                "forget",
                "Forget",
                "The record and its history are removed. A retry with its key runs anew: whatever the operation did is \
                 done again.",
            ),
        }
    }
}

impl Choice {
    /// What may be decided about it now.
    pub(super) fn all(shown: &Shown) -> Vec<Self> {
        let record = &shown.record;
        let of = |kind| Self { kind, step: None };
        let about = |kind, step: &str| Self { kind, step: Some(step.to_owned()) };
        if shown.state() == OperationState::Running {
            return Vec::new();
        }
        if record.status() == Status::Complete {
            let pending = record.pending_callback().is_some();
            return vec![of(if pending { Kind::EndCallback } else { Kind::Forget })];
        }
        let in_doubt = shown.in_doubt().flat_map(|step| [about(Kind::StepDone, step), about(Kind::DidNotHappen, step)]);
        let to_undo = record.left_to_undo().map(|step| about(Kind::Undone, step));
        let mut all: Vec<_> = in_doubt.chain(to_undo).collect();
        all.extend([of(Kind::RunAgain), of(Kind::Respond)]);
        if shown.parked().is_none() {
            all.push(of(Kind::Park));
        }
        all
    }

    /// As it is on a button.
    pub(super) fn title(&self) -> String {
        let title = self.kind.text().1;
        match &self.step {
            Some(step) => format!("{title}: {step}"),
            None => title.to_owned(),
        }
    }

    pub(super) fn link(&self, key: &Key) -> String {
        let key = key.to_string();
        let mut pairs = vec![("operation", key.as_str()), ("decide", self.kind.name())];
        pairs.extend(self.step.as_deref().map(|step| ("step", step)));
        link(&pairs)
    }

    pub(super) const fn has_fields(&self) -> bool {
        matches!(self.kind, Kind::Respond | Kind::StepDone)
    }

    /// What an operator has to type besides the reason.
    pub(super) fn fields(&self) -> Markup {
        html! {
            @match self.kind {
                Kind::Respond => {
                    div.row {
                        label { "Status" input name="status" type="number" min="200" max="599" value="200" required autofocus; }
                        label { "Content-Type" input name="type" value="application/json" maxlength="200"; }
                        label { "Remember it for, in hours" input name="hours" type="number" min="1" max="87600" value="24" required; }
                    }
                    label { "Body" textarea name="body" spellcheck="false" {} }
                }
                Kind::StepDone => label {
                    "Its result, as JSON"
                    span.hint { "What the step would have given its handler." }
                    textarea name="value" required autofocus spellcheck="false" {}
                },
                _ => {}
            }
        }
    }

    /// What is to be done, by what was typed.
    pub(super) fn act(&self, form: &Pairs, why: &str) -> Result<Act, Refused> {
        let step = || self.step.clone().unwrap_or_default().into_boxed_str();
        Ok(Act::Resolve(match self.kind {
            Kind::EndCallback => return Ok(Act::EndCallback),
            Kind::Forget => return Ok(Act::Forget),
            Kind::RunAgain => Resolution::RunAgain,
            Kind::Park => Resolution::Park { why: why.into() },
            Kind::Respond => response(form)?,
            Kind::StepDone => Resolution::StepDone { step: step(), value: value(form)? },
            Kind::DidNotHappen => Resolution::DidNotHappen { step: step() },
            Kind::Undone => Resolution::Undone { step: step() },
        }))
    }
}

impl Act {
    pub(super) async fn carry_out(self, operator: &Operator, shown: &Shown) -> Result<(), OperatorError> {
        match self {
            Self::Resolve(resolution) => operator.resolve(shown, resolution).await,
            Self::EndCallback => operator.end_callback(shown).await,
            Self::Forget => operator.forget(shown).await,
        }
    }
}

fn response(form: &Pairs) -> Result<Resolution, Refused> {
    const ADVICE: &str = "Give a status between 200 and 599, and for how many hours the response is remembered.";
    let status =
        form.get("status").and_then(|status| status.parse().ok()).filter(|status| (200..=599).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or(Refused::input(ADVICE))?;
    let hours = form.get("hours").and_then(|hours| hours.parse().ok()).filter(|hours| (1..=87_600).contains(hours));
    let hours: u64 = hours.ok_or(Refused::input(ADVICE))?;
    let mut headers = HeaderMap::new();
    if let Some(kind) = form.get("type") {
        let kind = HeaderValue::try_from(kind);
        headers.insert(CONTENT_TYPE, kind.map_err(|_| Refused::input("Give a Content-Type like application/json."))?);
    }
    let body = Bytes::from(form.get("body").unwrap_or_default().to_owned());
    let response = Arc::new(StoredResponse::capture(status, &headers, Some(body)));
    Ok(Resolution::Respond { response, retention: Duration::from_secs(hours * 3600) })
}

fn value(form: &Pairs) -> Result<Bytes, Refused> {
    let text = form.get("value").unwrap_or_default();
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(text);
    parsed.map_err(|_| Refused::input("Give the result of the step as JSON, for example {\"id\": 17} or null."))?;
    Ok(Bytes::from(text.to_owned()))
}

/// That a decision was made, on the page that follows it.
pub(super) fn done(visit: &Visit) -> Markup {
    let kind = visit.asked.get("done").and_then(Kind::named);
    html! {
        @if let Some(kind) = kind {
            div.verdict.good role="status" { div { strong { "Done: " (kind.text().1.to_lowercase()) } } }
        }
    }
}
