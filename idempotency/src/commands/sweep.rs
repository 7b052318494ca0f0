//! `sweep`: removes what has expired.

use serde_json::json;
use tower_idempotency::{Sweeper, Swept};

use super::maintenance::rests_until;
use crate::arguments::{Common, Sweep};
use crate::confirm::confirm;
use crate::failure::{DONE, Failure};
use crate::output::{Output, Tone};
use crate::target::{Kind, Target};
use crate::text::time;

/// How many rows one statement removes: few enough to be done well within half a minute.
const BATCH: usize = 2000;

pub(crate) async fn run(common: &Common, sweep: &Sweep, output: Output) -> Result<u8, Failure> {
    let target = Target::open(common)?;
    if let Some(until) = rests_until(&target.engine).await {
        return Err(Failure::refused(format!(
            "nothing was removed: a maintenance window rests all work on the store until {}; sweep after it",
            time(until)
        )));
    }
    confirm(&format!("Remove all responses of {} whose retention is over?", target.name), sweep.yes)?;
    let removed = match &target.kind {
        Kind::Postgres(store) => {
            let progress = output.progress("removed");
            let mut all = 0;
            loop {
                let removed = store.sweep(BATCH).await?;
                all += removed;
                progress.set_position(all as u64);
                if removed < BATCH {
                    break;
                }
            }
            progress.finish_and_clear();
            (all, 0)
        }
        Kind::Sqlite(_) | Kind::Redis => {
            let Swept { removed, unreadable, .. } = Sweeper::new(&target.engine).run_once().await?;
            (removed, unreadable)
        }
    };
    report(removed, output)?;
    Ok(DONE)
}

fn report((removed, unreadable): (usize, usize), output: Output) -> std::io::Result<()> {
    if output.is_json() {
        return output.value(&json!({ "removed": removed, "unreadable": unreadable }));
    }
    output.line(&format!("removed {removed}"), Tone::Plain)?;
    if unreadable > 0 {
        let text = format!("{unreadable} can't be read and stay; `idempotency doctor` says why");
        output.line(&text, Tone::Warning)?;
    }
    Ok(())
}
