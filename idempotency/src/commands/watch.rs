//! `watch`: a line for each finding, when it begins and when it is over.

use serde_json::{Value, json};
use tower_idempotency::{Finding, Watcher};

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
        .every(watch.every)
        .paid_for(watch.paid_for)
        .pending_for(watch.pending_for)
        .require(watch.require.into())
        .on_finding(move |finding| async move { print(output, &finding).map_err(|error| error.to_string()) });
    watcher
        .run(async {
            // Without the signal there is nothing to wait for but being killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await;
    Ok(DONE)
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
