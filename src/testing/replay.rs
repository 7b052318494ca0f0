//! Runs a handler against what it did before.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::bed::TestBed;
use super::crash::Crash;
use super::recording::Recording;
use crate::core::Hold;
use crate::engine::Engine;
use crate::store::Store;
use crate::telemetry::event::EventKind;
use crate::util::signal::lock;

/// Runs a handler against the steps on record, and reports which of them the handler does not
/// reach, and which one is new. A release that renames a step, drops one or gives one
/// another [input](crate::StepFuture::input) can't finish operations that the release before it
/// began: it pays again, or stops.
///
/// `run` gets an engine over a store that has only this operation, as after a crash, and
/// sends the same request under the same key: through a layer, a [`Runner`](crate::Runner) or
/// a [`Completer`](crate::Completer). The results of the steps come from the record.
///
/// ```
/// use tower_idempotency::testing::{TestBed, verify_replay};
/// use tower_idempotency::{Operation, RunError, Runner, StepError};
///
/// type Done = Result<u64, StepError<String>>;
///
/// async fn released(op: Operation) -> Done {
///     op.step("order", |_| async { Ok(17) }).await
/// }
/// // The step has another name.
/// async fn changed(op: Operation) -> Done {
///     op.step("place order", |_| async { Ok(18) }).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let bed = TestBed::new();
/// Runner::new(bed.process()).run("jobs", "k", "input", released).await.unwrap();
/// let recording = bed.find_of_runner("jobs", "k").await.recording().unwrap();
///
/// let runner = |engine| Runner::new(engine);
/// let replayed = verify_replay(&recording, |engine| async move { runner(engine).run("jobs", "k", "input", released).await });
/// assert_eq!(replayed.await.unwrap().unwrap(), 17);
///
/// let replayed = verify_replay(&recording, |engine| async move { runner(engine).run("jobs", "k", "input", changed).await });
/// assert_eq!(replayed.await.unwrap_err().new_step(), Some("place order"));
/// # }
/// ```
///
/// # Errors
///
/// [`ReplayError`]. If there is no error, let the test check the response.
///
/// # Caveats
///
/// A new [`pay`](crate::Operation::pay) or [`once`](crate::Operation::once) stops
/// before its work; a new [`step`](crate::Operation::step) stops only after its work, before
/// its result is stored. What a handler does outside its steps really happens, too: give the
/// handler test doubles.
pub async fn verify_replay<F, Fut>(recording: &Recording, run: F) -> Result<Fut::Output, ReplayError>
where
    F: FnOnce(Engine) -> Fut,
    Fut: Future,
{
    let bed = TestBed::new();
    let store = &bed.shared().store;
    // An empty store in memory refuses nothing.
    let _ = store.swap(&recording.key, None, &recording.record).await;
    // Its holder is gone, and its rest is over.
    let rest = match recording.record.hold() {
        Hold::Leased { lease, .. } => *lease,
        _ => recording.record.retry_in(),
    };
    bed.advance(rest.saturating_add(Duration::from_secs(1)));

    let process = bed.process();
    process.crash_at(Crash::at_new_step(recording.steps()));
    let replayed = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&replayed);
    let engine = Engine::new(process.clone()).on_event(move |event| {
        if let EventKind::StepReplayed { step } = &event.kind {
            lock(&seen).insert(step.clone());
        }
    });
    let output = process.run(run(engine)).await;
    let replayed = std::mem::take(&mut *lock(&replayed));
    let missed: Vec<_> = recording.steps().filter(|step| !replayed.contains(*step)).map(str::to_owned).collect();
    match output {
        Some(output) if missed.is_empty() => Ok(output),
        _ => Err(ReplayError { new: process.new_step().map(str::to_owned), missed }),
    }
}

/// How a handler differs from what it did before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayError {
    new: Option<String>,
    missed: Vec<String>,
}

impl ReplayError {
    /// The step that is not on record, and that stopped the handler.
    pub fn new_step(&self) -> Option<&str> {
        self.new.as_deref()
    }

    /// The steps on record whose results the handler did not take: it did not reach them, or
    /// reached them with another input, or a new step stopped it before them.
    pub fn missed_steps(&self) -> impl Iterator<Item = &str> {
        self.missed.iter().map(String::as_str)
    }
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.new {
            None => write!(f, "the handler did not take the results of the steps {:?}", self.missed),
            Some(new) if self.missed.is_empty() => write!(f, "the handler has a new step {new:?}"),
            Some(new) => {
                write!(f, "the handler has a new step {new:?}, and had not reached the steps {:?}", self.missed)
            }
        }
    }
}

impl Error for ReplayError {}
