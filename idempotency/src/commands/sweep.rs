//! `sweep`: removes what has expired.

use serde_json::json;
use tower_idempotency::core::Timestamp;
use tower_idempotency::store::PostgresStore;
use tower_idempotency::{Stopped, Sweeper, Swept};

use super::maintenance::rests_until;
use crate::arguments::{Common, Sweep};
use crate::confirm::confirm;
use crate::failure::{DONE, Failure};
use crate::output::{Output, Tone};
use crate::target::{Kind, Target};
use crate::text::time;

/// How many rows one statement removes: few enough to be done well within half a minute.
const BATCH: usize = 2000;

const NOTHING: &str = "nothing was removed";

pub(crate) async fn run(common: &Common, sweep: &Sweep, output: Output) -> Result<u8, Failure> {
    let target = Target::open(common)?;
    refuse_in_window(&target, NOTHING).await?;
    confirm(&format!("Remove all responses of {} whose retention is over?", target.name), sweep.yes)?;
    match &target.kind {
        Kind::Postgres(store) => in_batches(&target, store, output).await,
        Kind::Sqlite(_) | Kind::Redis => one_by_one(&target, output).await,
    }
}

/// Refuses to go on in a window: one may begin while the operator is asked, and while this
/// removes.
async fn refuse_in_window(target: &Target, done: &str) -> Result<(), Failure> {
    rests_until(&target.engine).await.map_or(Ok(()), |until| Err(rests(done, until)))
}

fn rests(done: &str, until: Timestamp) -> Failure {
    let until = time(until);
    Failure::refused(format!("{done}: a maintenance window rests all work on the store until {until}; sweep after it"))
}

/// By a statement for many, and a look at the windows before each.
async fn in_batches(target: &Target, store: &PostgresStore, output: Output) -> Result<u8, Failure> {
    let progress = output.progress("removed");
    let mut all = 0;
    let ended = loop {
        let done = if all == 0 { NOTHING.to_owned() } else { format!("stopped when {all} were removed") };
        if let Err(rests) = refuse_in_window(target, &done).await {
            break Err(rests);
        }
        match store.sweep(BATCH).await {
            Ok(removed) => {
                all += removed;
                progress.set_position(all as u64);
                if removed < BATCH {
                    break Ok(DONE);
                }
            }
            Err(error) => break Err(error.into()),
        }
    };
    progress.finish_and_clear();
    // Also of a sweep that was cut short: what is removed is removed.
    if ended.is_ok() || all > 0 {
        report((all, 0), output)?;
    }
    ended
}

async fn one_by_one(target: &Target, output: Output) -> Result<u8, Failure> {
    let Swept { removed, unreadable, stopped, .. } = Sweeper::new(&target.engine).run_once().await?;
    let done = if removed == 0 { NOTHING.to_owned() } else { format!("stopped when {removed} were removed") };
    let ended = match stopped {
        None => Ok(()),
        Some(Stopped::Maintenance { until }) => Err(rests(&done, until)),
        Some(why) => Err(Failure::refused(format!("{done}: {why:?}; sweep again"))),
    };
    if ended.is_ok() || removed > 0 {
        report((removed, unreadable), output)?;
    }
    ended.map(|()| DONE)
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
