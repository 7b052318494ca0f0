//! The windows as the control record has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::core::{Covers, PlannedWindow, Record, StoredResponse, Timestamp, Window};
use crate::store::{StoreError, StoreErrorKind};

/// The name of the control record.
pub(crate) const NAME: &str = "maintenance";

/// The windows that the record has. None of them is left out because this build does not know
/// what it means: then the record is a newer build's.
pub(crate) fn windows_in(record: Option<&Record>) -> Result<Vec<PlannedWindow>, StoreError> {
    let Some(record) = record else { return Ok(Vec::new()) };
    let body = record.response().and_then(|response| response.body());
    let list = body.and_then(|body| serde_json::from_slice::<Vec<Value>>(body).ok());
    let windows = list.and_then(|list| list.iter().map(window).collect());
    let newer = || {
        let why = "the maintenance windows were written by a newer release; plan them with that one";
        StoreError::new(StoreErrorKind::NewerFormat, why)
    };
    windows.ok_or_else(newer)
}

/// What the record is to say.
pub(crate) fn content_of(windows: &[PlannedWindow]) -> Arc<StoredResponse> {
    let list: Value = windows.iter().map(value).collect();
    Arc::new(StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some(Bytes::from(list.to_string()))))
}

fn value(PlannedWindow { id, by, window, .. }: &PlannedWindow) -> Value {
    let covers = match &window.covers {
        Covers::All => json!({ "all": true }),
        Covers::Route(path) => json!({ "route": path }),
        Covers::Scope(scope) => json!({ "scope": scope }),
    };
    json!({
        "id": id,
        "by": by,
        "from_ms": window.from.as_millis(),
        "until_ms": window.until.as_millis(),
        "lead_ms": u64::try_from(window.lead.as_millis()).unwrap_or(u64::MAX),
        "reason": window.reason,
        "covers": covers,
    })
}

fn window(value: &Value) -> Option<PlannedWindow> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let number = |name: &str| value[name].as_u64();
    let (from, until) = (Timestamp::from_millis(number("from_ms")?), Timestamp::from_millis(number("until_ms")?));
    let window = Window::new(from, until, text("reason")?).lead(Duration::from_millis(number("lead_ms")?));
    Some(PlannedWindow::new(text("id")?, text("by"), window.covers(covers(&value["covers"])?)))
}

fn covers(value: &Value) -> Option<Covers> {
    let (name, what) = value.as_object().filter(|covers| covers.len() == 1)?.iter().next()?;
    match (name.as_str(), what.as_str()) {
        ("all", _) => Some(Covers::All),
        ("route", Some(path)) => Some(Covers::Route(path.to_owned())),
        ("scope", Some(scope)) => Some(Covers::Scope(scope.to_owned())),
        _ => None,
    }
}
