//! An attempt, as the handler has it.

use std::fmt;
use std::sync::Arc;

use super::shared::{Handled, StepUse};
use crate::core::{IdempotencyKey, Key, Label, Mode, Point, Status, StepKey};
use crate::engine::attempt::Attempt;
use crate::util::signal::lock;

/// One attempt at an operation; in the request's extensions, and an axum
/// extractor with feature `axum`. Clones are handles to the same attempt.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use tower_idempotency::Operation;
///
/// async fn pay<B>(request: Request<B>) -> Response<String> {
///     let Some(op) = request.extensions().get::<Operation>() else {
///         return Response::new("came without an Idempotency-Key".into());
///     };
///     let order = op.step("order", |_| async { Ok::<_, std::io::Error>(17) }).await;
///     let Ok(order) = order else {
///         let mut response = Response::new("try again".to_string());
///         *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
///         return response;
///     };
///     Response::new(format!("order {order}"))
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let response = pay(Request::new(())).await;
/// # assert!(response.body().starts_with("came"));
/// # });
/// ```
#[derive(Clone)]
pub struct Operation {
    pub(super) attempt: Arc<Attempt>,
}

impl Operation {
    pub(crate) fn new(attempt: Arc<Attempt>, idempotency_key: Option<IdempotencyKey>) -> Self {
        if let Some(key) = idempotency_key {
            // An attempt has one request.
            let _ = attempt.handled().idempotency_key.set(key);
        }
        Self { attempt }
    }

    pub(super) fn handled(&self) -> &Handled {
        self.attempt.handled()
    }

    /// The name of the operation's record.
    pub fn key(&self) -> &Key {
        self.attempt.key()
    }

    /// The key that the client sent, without quotes, by which it knows this operation.
    /// The store does not have it, so it is `None` in an attempt of a
    /// [`Completer`](crate::Completer), and in an operation of a [`Runner`](crate::Runner).
    ///
    /// ```
    /// use tower_idempotency::Operation;
    ///
    /// fn reference(operation: &Operation) -> String {
    ///     operation.idempotency_key().unwrap_or("unknown").to_owned()
    /// }
    /// ```
    ///
    /// # Caveats
    ///
    /// If a later attempt needs the key, put it into a step's result. Do not send it
    /// downstream as a key: [`step_key`](Self::step_key) makes one that does not collide
    /// with that of another caller or step.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.handled().idempotency_key.get().map(IdempotencyKey::as_str)
    }

    /// The number of this attempt; the first is 1.
    pub fn attempt(&self) -> u32 {
        self.attempt.claimed().attempts()
    }

    /// Whether there were attempts before this one.
    pub fn is_resumed(&self) -> bool {
        self.attempt() > 1
    }

    /// The mode: what happens if this attempt dies.
    pub fn mode(&self) -> Mode {
        self.attempt.claimed().mode()
    }

    /// How far the operation got: `Paid` once the result of a
    /// [`pay`](Self::pay) or [`once`](Self::once) is stored.
    pub fn status(&self) -> Status {
        self.attempt.status()
    }

    /// Whether the claim is lost, or in doubt. This attempt can't store what it still does;
    /// the attempt that took over does it again.
    pub fn is_cancelled(&self) -> bool {
        self.attempt.lost().initialized()
    }

    /// Resolves once [`is_cancelled`](Self::is_cancelled) is true; never, if all goes
    /// well. For a `select!` around long work. Cancel safe.
    pub async fn cancelled(&self) {
        self.attempt.lost().wait().await;
    }

    /// Says that this attempt did nothing that counts: its end frees the key, as if the
    /// client had never used it, unless a step was begun or done. In a response,
    /// [`Outcome::NothingHappened`](crate::Outcome) says the same.
    pub fn nothing_happened(&self) {
        self.attempt.set_nothing_happened();
    }

    /// Adds a [label](Label) by which an operator finds the operation, in the place of one of the
    /// same name.
    ///
    /// It costs no write: it is stored with the next one, be that of a step, of a renewal of the
    /// lease, or of the response. A record has at most [`Labels::MAX`](crate::Labels::MAX); what
    /// comes later under another name is left out.
    ///
    /// ```
    /// use tower_idempotency::Operation;
    ///
    /// fn order(operation: &Operation, number: u64) {
    ///     operation.label("order", number);
    /// }
    /// ```
    ///
    /// # Caveats
    ///
    /// If the process dies before the next write, the label is lost. After the end of the attempt
    /// this does nothing.
    pub fn label(&self, name: &str, value: impl fmt::Display) {
        self.attempt.label(Label::new(name, value));
    }

    /// The idempotency key to send downstream with the step `name`: the same
    /// on every attempt.
    pub fn step_key(&self, name: &str) -> StepKey {
        StepKey::new(self.key(), name)
    }

    /// Takes a name for the time a step runs under it; `None` if it runs or is
    /// done already.
    pub(super) fn take_name(&self, name: &str) -> Option<StepGuard> {
        let mut used = lock(&self.handled().used);
        let on_drop = used.get(name).copied().unwrap_or(StepUse::Again);
        if matches!(on_drop, StepUse::Running | StepUse::Stored) {
            return None;
        }
        used.insert(name.into(), StepUse::Running);
        drop(used);
        self.attempt.set_running(name, true);
        Some(StepGuard { operation: self.clone(), name: name.into(), on_drop })
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("key", self.key())
            .field("attempt", &self.attempt())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// A step's name while the step runs; put back when it ends, or is dropped.
pub(super) struct StepGuard {
    operation: Operation,
    name: Box<str>,
    pub(super) on_drop: StepUse,
}

impl StepGuard {
    /// How far the step got: what this attempt did with it counts more than
    /// what it found.
    pub(super) fn point(&self) -> Option<Point> {
        match self.on_drop {
            StepUse::InDoubt => Some(Point::Begun),
            StepUse::MayRun => None,
            StepUse::Again | StepUse::Running | StepUse::Stored => {
                self.operation.attempt.claimed().step(&self.name).map(|step| step.point().clone())
            }
        }
    }
}

impl Drop for StepGuard {
    fn drop(&mut self) {
        self.operation.attempt.set_running(&self.name, false);
        lock(&self.operation.handled().used).insert(std::mem::take(&mut self.name), self.on_drop);
    }
}
