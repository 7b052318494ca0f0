//! `watch`: a line for each finding, when it begins and when it is over.

use std::time::Duration;

use serde_json::{Value, json};
use tower_idempotency::core::Timestamp;
use tower_idempotency::{Engine, Finding, Watcher};

use super::maintenance::rests_until;
use crate::arguments::{Common, Watch};
use crate::failure::{DONE, Failure};
use crate::output::{Output, Tone};
use crate::target::Target;
use crate::text::time;

pub(crate) async fn run(common: &Common, watch: &Watch, output: Output) -> Result<u8, Failure> {
    let target = Target::open(common)?;
    if !output.is_json() {
        output.line(&format!("watching {}; Ctrl-C ends this", target.name), Tone::Quiet)?;
    }
    let watcher = Watcher::new(&target.engine)
        .paid_for(watch.paid_for)
        .pending_for(watch.pending_for)
        .require(watch.require.into())
        .on_finding(move |finding| async move { print(output, &finding).map_err(|error| error.to_string()) });
    tokio::select! {
        never = look(&target.engine, &watcher, watch.every, output) => never.map(|()| DONE),
        Ok(()) = tokio::signal::ctrl_c() => Ok(DONE),
    }
}

/// Looks again and again. In a maintenance window a watcher rests: silence would be read as
/// "nothing is wrong".
async fn look(engine: &Engine, watcher: &Watcher, every: Duration, output: Output) -> Result<(), Failure> {
    let mut rested = None;
    loop {
        let rests = rests_until(engine).await;
        if rests != rested {
            tell(output, rests)?;
            rested = rests;
        }
        watcher.run_once().await;
        tokio::time::sleep(every).await;
    }
}

fn tell(output: Output, rests: Option<Timestamp>) -> std::io::Result<()> {
    if output.is_json() {
        return output.value(&json!({ "rests_until": rests.map(time) }));
    }
    match rests {
        Some(until) => {
            let text = format!("a maintenance window rests this until {}: nothing is looked at", time(until));
            output.line(&text, Tone::Warning)
        }
        None => output.line("the maintenance window is over: looking again", Tone::Good),
    }
}

fn print(output: Output, finding: &Finding) -> std::io::Result<()> {
    if output.is_json() {
        return output.value(&value(finding));
    }
    let tone = if finding.over { Tone::Good } else { Tone::Bad };
    output.pieces(&[(time(finding.since), Tone::Quiet), ("  ".to_owned(), Tone::Plain), (finding.to_string(), tone)])
}

/// A finding for scripts.
pub(crate) fn value(finding: &Finding) -> Value {
    json!({
        "finding": finding.kind.name(),
        "key": finding.key.map(|key| key.to_string()),
        "cause": finding.cause,
        "do": finding.first_response(),
        "since": time(finding.since),
        "over": finding.over,
    })
}
