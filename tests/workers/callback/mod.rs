//! The end of an operation is delivered, and no end is forgotten.

mod crashes;
mod ends;
mod failures;
mod room;

use std::sync::{Arc, Mutex};

use tower_idempotency::core::{Record, Resolution};
use tower_idempotency::{Backoff, Callback, Completer, Ended, Report};

use crate::support::lab::{App, Lab, completer, reply, secs, serve, stored_key};

const BACKOFF: Backoff = Backoff::new(secs(10), secs(40));

/// What the hook was delivered, and what it says: `Err` while there are failures.
#[derive(Clone, Default)]
struct Receiver {
    delivered: Arc<Mutex<Vec<Ended>>>,
    failures: Arc<Mutex<usize>>,
}

impl Receiver {
    fn failing(times: usize) -> Self {
        Self { failures: Arc::new(Mutex::new(times)), ..Self::default() }
    }

    fn callback(&self) -> Callback {
        let this = self.clone();
        let hook = move |ended| {
            this.delivered.lock().unwrap().push(ended);
            let mut failures = this.failures.lock().unwrap();
            let fails = *failures > 0;
            *failures = failures.saturating_sub(1);
            async move { if fails { Err("planned") } else { Ok(()) } }
        };
        Callback::new(hook).backoff(BACKOFF)
    }

    fn delivered(&self) -> Vec<Ended> {
        self.delivered.lock().unwrap().clone()
    }

    fn ids(&self) -> Vec<String> {
        self.delivered().into_iter().map(|ended| ended.id).collect()
    }
}

/// A layer, a handler behind it that answers this, and a completer.
fn over(lab: &Lab, callback: Callback, status: u16) -> (App, Completer) {
    let layer = lab.layer_with(|engine| engine.backoff(BACKOFF)).resumable().callback(callback);
    let app = serve(&layer, move |_| async move { Ok(reply(status, "done")) });
    let completer = completer(&layer, &app);
    (app, completer)
}

async fn once(completer: &Completer) -> Report {
    completer.run_once().await.unwrap()
}

async fn stored(lab: &Lab) -> Record {
    lab.store.peek(&stored_key("k")).await.unwrap()
}

async fn decide(lab: &Lab, resolution: Resolution) {
    // By a tool that knows nothing of callbacks.
    lab.decide("k", resolution).await;
}
