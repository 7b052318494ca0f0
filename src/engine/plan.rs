//! The control record: maintenance windows, and how often an operator changed a schedule.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::control::{content_of, said_in};
use crate::core::{Covers, PlannedWindow, Record, StoredResponse, Timestamp, Window};
use crate::store::{StoreError, StoreErrorKind};

/// The name of the control record.
pub(crate) const NAME: &str = "maintenance";

const WINDOWS: &str = "windows";
const SCHEDULES: &str = "schedules";

/// What the record says; what else a newer build put there is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control(Map<String, Value>);

impl Control {
    pub(super) fn of(record: Option<&Record>) -> Result<Self, StoreError> {
        let Some(record) = record else { return Ok(Self::default()) };
        match record.response().and_then(|content| said_in(content)) {
            Some(Value::Object(control)) => Ok(Self(control)),
            // As builds before schedules wrote it.
            Some(windows @ Value::Array(_)) => Ok(Self(Map::from_iter([(WINDOWS.into(), windows)]))),
            _ => Err(newer()),
        }
    }

    /// The windows. None of them is left out because this build does not know what it means:
    /// then the record is a newer build's.
    pub(super) fn windows(&self) -> Result<Vec<PlannedWindow>, StoreError> {
        let Some(windows) = self.0.get(WINDOWS) else { return Ok(Vec::new()) };
        windows.as_array().and_then(|list| list.iter().map(window).collect()).ok_or_else(newer)
    }

    /// What a newer build said of one of them stays, too.
    pub(crate) fn set_windows(&mut self, windows: &[PlannedWindow]) {
        let known = self.0.remove(WINDOWS).unwrap_or_default();
        let known = known.as_array().map_or(&[][..], |list| list);
        let with_newer = |planned: &PlannedWindow| {
            let mut fields = known.iter().find(|old| old["id"] == planned.id).cloned().unwrap_or_else(|| json!({}));
            fields.as_object_mut()?.extend(value(planned));
            Some(fields)
        };
        self.0.insert(WINDOWS.into(), windows.iter().filter_map(with_newer).collect());
    }

    /// How often an operator changed each schedule: its processes look when that grows.
    pub(super) fn schedules(&self) -> BTreeMap<String, u64> {
        let schedules = self.0.get(SCHEDULES).and_then(Value::as_object);
        let counts = schedules.into_iter().flatten().map(|(name, count)| (name.clone(), count.as_u64()));
        counts.filter_map(|(name, count)| Some((name, count?))).collect()
    }

    #[cfg(feature = "schedule")]
    pub(crate) fn call_schedule(&mut self, name: &str) {
        let count = self.schedules().get(name).copied().unwrap_or_default();
        let schedules = self.0.entry(SCHEDULES).or_insert_with(|| json!({}));
        schedules[name] = json!(count.wrapping_add(1));
    }

    pub(crate) fn to_content(&self) -> Arc<StoredResponse> {
        content_of(&Value::Object(self.0.clone()))
    }
}

fn newer() -> StoreError {
    let why = "the maintenance windows were written by a newer release; plan them with that one";
    StoreError::new(StoreErrorKind::NewerFormat, why)
}

fn value(PlannedWindow { id, by, window, .. }: &PlannedWindow) -> Map<String, Value> {
    let covers = match &window.covers {
        Covers::All => json!({ "all": true }),
        Covers::Route(path) => json!({ "route": path }),
        Covers::Scope(scope) => json!({ "scope": scope }),
    };
    let lead = u64::try_from(window.lead.as_millis()).unwrap_or(u64::MAX);
    let fields = [
        ("id", json!(id)),
        ("by", json!(by)),
        ("from_ms", json!(window.from.as_millis())),
        ("until_ms", json!(window.until.as_millis())),
        ("lead_ms", json!(lead)),
        ("reason", json!(window.reason)),
        ("covers", covers),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn control(said: Value) -> Control {
        let Value::Object(said) = said else { panic!("an object") };
        Control(said)
    }

    #[test]
    fn what_a_newer_build_said_of_a_window_stays_when_others_change() {
        let known = |id: &str, until: u64| {
            let window = Window::new(Timestamp::from_millis(1), Timestamp::from_millis(until), "the database moves");
            Value::Object(value(&PlannedWindow::new(id.to_owned(), None, window)))
        };
        let mut newer = known("a", 5);
        newer["page"] = json!("https://example.com/moves");
        let mut control = control(json!({ "windows": [newer.clone(), known("b", 5)], "colour": "red" }));
        let mut windows = control.windows().unwrap();
        windows[0].window.until = Timestamp::from_millis(7);
        windows.remove(1);
        windows.extend(window(&known("c", 9)));
        control.set_windows(&windows);
        newer["until_ms"] = json!(7);
        assert_eq!(Value::Object(control.0), json!({ "windows": [newer, known("c", 9)], "colour": "red" }));
    }
}
