//! What is finished without its client, and what is not.

mod doubt;
mod due;
mod history;
mod rounds;
mod sweeper;
mod tries;
mod unreadable;
mod whose;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tower_idempotency::core::{Fingerprint, Hold, Labels, Mode, Record, StoredRequest};
use tower_idempotency::spi::Ledger;
use tower_idempotency::{Backoff, Completer, IdempotencyLayer, Operation, Report};

use crate::support::Count;
use crate::support::bodies::TestBody;
use crate::support::lab::{App, Lab, operation, secs, serve, stored_key};

type Said = Response<TestBody>;

const BACKOFF: Backoff = Backoff::new(secs(10), secs(40));

fn layer(lab: &Lab) -> IdempotencyLayer {
    lab.layer_with(|engine| engine.backoff(BACKOFF)).resumable()
}

/// A handler that gets its operation and the number of the run.
fn app<F, Fut>(layer: &IdempotencyLayer, handler: F) -> App
where
    F: Fn(Operation, usize) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Said> + Send + 'static,
{
    let runs = Count::default();
    serve(layer, move |request| {
        let run = handler(operation(&request), runs.up());
        async move { Ok(run.await) }
    })
}

async fn once(completer: &Completer) -> Report {
    completer.run_once().await.unwrap()
}

async fn stored(lab: &Lab) -> Record {
    lab.store.peek(&stored_key("k")).await.unwrap()
}

fn parked_why(record: &Record) -> String {
    match record.hold() {
        Hold::Parked { why } => why.to_string(),
        other => panic!("not parked: {other:?}"),
    }
}

/// A claim whose holder died at once, as the layer would have made it.
async fn crashed(lab: &Lab, key: &str, mode: Mode, body: &'static [u8]) {
    let request = Request::post("/pay").body(()).unwrap().into_parts().0;
    let body = Bytes::from_static(body);
    let request = StoredRequest::capture(&request.method, &request.uri, &request.headers, body.clone());
    let fingerprint = Fingerprint::of([b"POST".as_slice(), b"/pay", b"", b"", &body]);
    let request = (mode == Mode::Resumable).then(|| Arc::new(request));
    let claim = tower_idempotency::core::Claim { fingerprint, mode, lease: secs(60), request, labels: Labels::new() };
    Ledger::new(lab.store.clone()).apply(&stored_key(key), None, claim).await.unwrap();
}
