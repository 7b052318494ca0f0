//! The names of the schedules that a process has run over a store: so an operator finds them.

use std::collections::BTreeSet;

use serde_json::json;

use crate::core::{Key, Record};
use crate::engine::Engine;
use crate::engine::control::{content_of, said_in};
use crate::store::{Loaded, StoreError, StoreErrorKind};

/// The name of the control record.
const NAME: &str = "schedules";

/// How many names it has at most. A schedule that came later runs all the same, and is found by
/// its name.
const MOST: usize = 1000;

/// How often a write is tried again that another process overtook.
const TRIES: usize = 32;

/// All names, in the order of the alphabet.
pub(crate) async fn names(engine: &Engine) -> Result<BTreeSet<String>, StoreError> {
    let Loaded { record, .. } = engine.look(&Key::of_control(NAME)).await?;
    record.map_or_else(|| Ok(BTreeSet::new()), |record| names_in(&record))
}

/// Takes note of a name. It writes nothing if the name is there already.
pub(super) async fn enter(engine: &Engine, name: &str) -> Result<(), StoreError> {
    change(engine, |names| names.len() < MOST && names.insert(name.to_owned())).await.map(drop)
}

/// Takes a name off the list; whether it was there.
pub(super) async fn leave(engine: &Engine, name: &str) -> Result<bool, StoreError> {
    change(engine, |names| names.remove(name)).await
}

/// Writes what `change` makes of the names, if it changes them; whether it did.
async fn change(
    engine: &Engine,
    change: impl Fn(&mut BTreeSet<String>) -> bool + Send + Sync,
) -> Result<bool, StoreError> {
    let key = Key::of_control(NAME);
    for _ in 0..TRIES {
        let Loaded { record, .. } = engine.look(&key).await?;
        let version = record.as_ref().map(Record::version);
        let mut names = record.as_ref().map(names_in).transpose()?.unwrap_or_default();
        if !change(&mut names) {
            return Ok(false);
        }
        if engine.set_control(&key, version, content_of(&json!({ "names": names }))).await? {
            return Ok(true);
        }
    }
    let why = "other processes write the list of schedules all the time";
    Err(StoreError::new(StoreErrorKind::Unavailable, why))
}

fn names_in(record: &Record) -> Result<BTreeSet<String>, StoreError> {
    let content = record.response().and_then(|content| said_in::<serde_json::Value>(content));
    let names = content.as_ref().and_then(|content| content["names"].as_array());
    let names = names.and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
    names.ok_or_else(|| {
        let why = "the list of schedules was written by a newer release; ask for it with that one";
        StoreError::new(StoreErrorKind::NewerFormat, why)
    })
}
