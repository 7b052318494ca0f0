//! `migrate`: makes what the store needs.

use serde_json::json;
use tower_idempotency::store::PostgresStore;

use crate::arguments::{Common, Migrate};
use crate::confirm::confirm;
use crate::failure::{DONE, Failure};
use crate::output::{Output, Tone};
use crate::target::{Kind, Target};

pub(crate) async fn run(common: &Common, migrate: &Migrate, output: Output) -> Result<u8, Failure> {
    if migrate.print {
        PostgresStore::MIGRATION.lines().try_for_each(|line| output.line(line, Tone::Plain))?;
        return Ok(DONE);
    }
    let url = common.store.as_deref().unwrap_or_default();
    confirm(&format!("Make what is missing in {}?", crate::target::without_secrets(url)), migrate.yes)?;
    let target = Target::open_or_make(common, true)?;
    let text = match &target.kind {
        Kind::Postgres(store) => {
            store.create_schema().await?;
            "the schema and its tables are there"
        }
        // Opening made it.
        Kind::Sqlite(_) => "the file and its tables are there",
        Kind::Redis => "Redis needs no tables; `idempotency doctor` checks its settings",
    };
    if output.is_json() {
        output.value(&json!({ "store": target.name, "text": text }))?;
    } else {
        output.line(text, Tone::Good)?;
    }
    Ok(DONE)
}
