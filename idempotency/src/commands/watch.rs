//! `watch`: a line for each finding, when it begins and when it is over.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tower_idempotency::core::Timestamp;
use tower_idempotency::{Engine, Finding, OperatorError, Watcher};

use super::maintenance::{Rest, rest};
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
    let (mut known, mut rested) = (Known::default(), None);
    loop {
        let said = rest(engine).await;
        let is_heard = said.is_ok();
        known.hear(said, Instant::now());
        let rests = known.until();
        if rests != rested {
            tell(output, rests, is_heard)?;
            rested = rests;
        }
        watcher.run_once().await;
        tokio::time::sleep(every).await;
    }
}

/// The window that covers the store, as the store said last, and when it ends on this machine's
/// clock.
#[derive(Debug, Default)]
struct Known(Option<(Timestamp, Option<Instant>)>);

impl Known {
    /// A store that does not respond does not say that its window is over: the watcher rests on,
    /// until the end that is known.
    fn hear(&mut self, said: Result<Option<Rest>, OperatorError>, now: Instant) {
        self.0 = match said {
            // No time of the clock is an end that is never reached.
            Ok(rest) => rest.map(|rest| (rest.until, now.checked_add(rest.left))),
            Err(_) => self.0.filter(|(_, ends)| ends.is_none_or(|ends| now < ends)),
        };
    }

    fn until(&self) -> Option<Timestamp> {
        self.0.map(|(until, _)| until)
    }
}

/// An operator may have moved the end of a window while the store does not respond.
fn tell(output: Output, rests: Option<Timestamp>, is_heard: bool) -> std::io::Result<()> {
    if output.is_json() {
        return output.value(&json!({ "rests_until": rests.map(time), "store_responds": is_heard }));
    }
    match rests {
        Some(until) => {
            let text = format!("a maintenance window rests this until {}: nothing is looked at", time(until));
            output.line(&text, Tone::Warning)
        }
        None if is_heard => output.line("the maintenance window is over: looking again", Tone::Good),
        None => {
            let text = "the end of the maintenance window has passed, and the store does not say whether it was \
                        extended: looking again";
            output.line(text, Tone::Warning)
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_not_over_because_the_store_is_away() {
        let (from, second) = (Instant::now(), Duration::from_secs(1));
        let away = || Err(OperatorError::Absent);
        let until = Timestamp::from_millis(5000);
        let mut known = Known::default();
        let mut hear = |said, now| {
            known.hear(said, now);
            known.until()
        };
        assert_eq!(hear(away(), from), None, "no window is known");
        assert_eq!(hear(Ok(Some(Rest { until, left: 2 * second })), from), Some(until));
        assert_eq!(hear(away(), from + second), Some(until), "it goes on");
        assert_eq!(hear(away(), from + 2 * second), None, "the end that is known");
        let endless = Rest { until: Timestamp::from_millis(u64::MAX), left: Duration::MAX };
        assert_eq!(hear(Ok(Some(endless)), from), Some(endless.until));
        assert_eq!(hear(away(), from + 9 * second), Some(endless.until));
        assert_eq!(hear(Ok(None), from), None, "an operator ended it");
    }
}
