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
        return print(common, output);
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

/// The statements for the schema and the prefix of the URL, or those for the usual names.
fn print(common: &Common, output: Output) -> Result<u8, Failure> {
    let target = common.store.is_some().then(|| Target::open(common)).transpose()?;
    let statements = match target.as_ref().map(|target| &target.kind) {
        None => PostgresStore::MIGRATION,
        Some(Kind::Postgres(store)) => store.migration(),
        Some(_) => {
            return Err(Failure::usage("only a store on Postgres has statements to print: give its URL, or none"));
        }
    };
    statements.lines().try_for_each(|line| output.line(line, Tone::Plain))?;
    Ok(DONE)
}
