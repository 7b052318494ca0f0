//! Handlers written with steps: what they are promised, and that a crash at
//! any point keeps it.

mod crash;
mod deferred;
mod doubt;
mod input;
mod keys;
mod reached;
mod runner;
mod steps;
mod undo;
mod unreadable;

use http::Response;
use tower_idempotency::Operation;

use crate::support::Count;
use crate::support::bodies::TestBody;
use crate::support::lab::{App, Lab, operation, serve};

/// A resumable service around a handler that gets its operation and the
/// number of the run.
fn resumable<F, Fut>(lab: &Lab, handler: F) -> App
where
    F: Fn(Operation, usize) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<TestBody>> + Send + 'static,
{
    let runs = Count::default();
    serve(&lab.layer().resumable(), move |request| {
        let run = handler(operation(&request), runs.up());
        async move { Ok(run.await) }
    })
}
