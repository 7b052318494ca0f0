//! An operation as JSON: for programs, and for the page.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::shown::Shown;
use crate::core::{HistoryEntry, Mode, Point, Status, Step, StoredRequest, StoredResponse, Timestamp};
use crate::workers::watcher::classify::FAR;

impl Shown {
    /// The operation as JSON, without what may be secret: of headers their names, of bodies and
    /// results of steps how many bytes they have, of the target its path. Times are in
    /// milliseconds since 1970, by the store's clock. Members that do not apply are `null`, so
    /// that a program finds each of them.
    ///
    /// The principal is not in it. Of one that was [listed](crate::Operator::list) the sizes are those of the
    /// bodies that were left out.
    pub fn to_json(&self) -> Value {
        self.as_json(None)
    }

    /// The same with the bodies, the whole target and the results of steps: each up to `most`
    /// bytes, as `text` if it is UTF-8, else as `base64`.
    ///
    /// # Caveats
    ///
    /// - What clients and handlers sent is in it: show it only where that may be read.
    /// - One that was listed is [without them](Self::is_without_bodies).
    pub fn to_json_with_bodies(&self, most: usize) -> Value {
        self.as_json(Some(most))
    }

    fn as_json(&self, bodies: Option<usize>) -> Value {
        let record = &self.record;
        let (finding, left_out) = (self.finding(), self.left_out.as_ref());
        json!({
            "key": self.key.to_string(),
            "reference": self.reference(),
            "version": format!("{:016x}", record.version().get()),
            "state": self.state().name(),
            "needs_attention": self.needs_attention(),
            "finding": finding.map(|finding| json!({
                "kind": finding.kind.name(),
                "cause": finding.cause,
                "since": finding.since.as_millis(),
                "first_response": finding.first_response(),
            })),
            "status": status(record.status()),
            "mode": if record.mode() == Mode::Resumable { "resumable" } else { "at-most-once" },
            "attempts": record.attempts(),
            "tries": record.tries(),
            "now": self.now.as_millis(),
            "created": record.created_at().map(Timestamp::as_millis),
            "written": record.written_at().as_millis(),
            "due": Some(record.falls_due()).filter(|due| *due <= self.now.after(FAR)).map(Timestamp::as_millis),
            "age_ms": u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX),
            "by": record.by(),
            "labels": self.labels().iter().map(|label| (label.name(), label.value())).collect::<BTreeMap<_, _>>(),
            "parked": self.parked(),
            "in_doubt": self.in_doubt().collect::<Vec<_>>(),
            "encrypted": record.is_sealed(),
            "callback": record.pending_callback().map(|pending| json!({
                "id": pending.id(&self.key),
                "tries": pending.tries(),
            })),
            "steps": record.steps().iter().map(|one| step(one, bodies)).collect::<Vec<_>>(),
            "undoing": record.undoing().map(|plan| json!({
                "steps": plan.steps(),
                "left": record.left_to_undo().collect::<Vec<_>>(),
                "response": response(plan.response(), bodies, left_out.map(|sizes| sizes.superseding)),
            })),
            "history": record.history().iter().map(entry).collect::<Vec<_>>(),
            "history_dropped": record.history_dropped(),
            "request": record.request().map(|kept| request(kept, bodies, left_out.map(|sizes| sizes.request))),
            "response": record.response().map(|kept| response(kept, bodies, left_out.map(|sizes| sizes.response))),
        })
    }
}

const fn status(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Paid => "paid",
        Status::Complete => "complete",
    }
}

fn step(step: &Step, bodies: Option<usize>) -> Value {
    let (state, result) = match step.point() {
        Point::Begun => ("begun", None),
        Point::Saved(value) => ("saved", Some(value)),
        Point::Failed(error) => ("failed", Some(error)),
    };
    json!({
        "name": step.name(),
        "state": state,
        "attempt": step.attempt(),
        "undone": step.is_undone(),
        "result": result.map(|result| body(result, bodies, None)),
    })
}

fn entry(entry: &HistoryEntry) -> Value {
    json!({
        "event": entry.event.name(),
        "attempt": entry.attempt,
        "text": entry.text.as_deref(),
        "by": entry.by.as_deref(),
        "at": entry.at.as_millis(),
    })
}

fn request(request: &StoredRequest, bodies: Option<usize>, left_out: Option<usize>) -> Value {
    json!({
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "target": bodies.map(|_| request.uri().to_string()),
        "headers": names(request.headers()),
        "trailers": names(request.trailers()),
        "body": body(request.body(), bodies, left_out),
    })
}

fn response(response: &StoredResponse, bodies: Option<usize>, left_out: Option<usize>) -> Value {
    json!({
        "status": response.status().as_u16(),
        "headers": names(response.headers()),
        "trailers": names(response.trailers()),
        "retained": response.body().is_some(),
        "not_retained": response.not_retained().map(|why| why.name()),
        "body": response.body().map(|kept| body(kept, bodies, left_out)),
    })
}

fn names(lines: &[(HeaderName, HeaderValue)]) -> BTreeSet<&str> {
    lines.iter().map(|(name, _)| name.as_str()).collect()
}

/// Its size; and what of it is to be shown, unless it was left out.
fn body(bytes: &Bytes, most: Option<usize>, left_out: Option<usize>) -> Value {
    let shown = most.filter(|_| left_out.is_none()).map(|most| &bytes[..bytes.len().min(most)]);
    let text = shown.and_then(text);
    let base64 = shown.filter(|_| text.is_none()).map(|shown| STANDARD.encode(shown));
    json!({ "bytes": left_out.unwrap_or(bytes.len()), "text": text, "base64": base64 })
}

/// As text; a character that was cut is left out.
fn text(bytes: &[u8]) -> Option<&str> {
    match str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => str::from_utf8(&bytes[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}
