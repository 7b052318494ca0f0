//! Running one step.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::StepError;
use super::handle::{Operation, StepGuard};
use super::input::{self, Input};
use super::kind::Kind;
use super::result::{self, Finals, Judge};
use super::shared::StepUse;
use super::undoable::{How, NotUndone, UndoWork};
use crate::core::{Change, KeyForm, Point, Start, StepKey, in_its_own_piece};
use crate::engine::attempt::Attempt;
use crate::telemetry::event::EventKind;
use crate::telemetry::span::StepSpan;

/// How long a receiver is taken to know a step's key. Most keep one for a day.
const KEY_LIFETIME: Duration = Duration::from_secs(23 * 60 * 60);

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Work<'a, T, E> = Box<dyn FnOnce(StepKey) -> BoxFuture<'a, Result<T, E>> + Send + 'a>;
type Explain<'a, E> = Box<dyn Fn(&E) -> String + Send + 'a>;
type Reconcile<'a, T> = Box<dyn FnOnce() -> BoxFuture<'a, Reconciled<T>> + Send + 'a>;

/// What is known about a step in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum Reconciled<T> {
    /// It happened, and this was its result.
    Happened(T),
    /// It did not happen, and will not: the attempt may run it now.
    DidNotHappen,
    /// It is not known. The operation is parked.
    Unknown,
}

/// A step to be run: `.await` it, or set more about it first.
///
/// Lazy: nothing happens before it is polled.
///
/// ```
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use tower_idempotency::{Reconciled, Runner, StepError, StepKey, store::MemoryStore};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// enum Failed { Declined, Refused, Broken }
/// # async fn charge(_: StepKey) -> Result<u64, Failed> { Err(Failed::Declined) }
/// # async fn send(_: &str) -> Result<(), Failed> { Ok(()) }
/// # async fn was_sent() -> Option<bool> { Some(false) }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runner = Runner::new(MemoryStore::new());
/// let done = runner.run("shop", "order-17", "", |op| async move {
///     let receipt = op.once("receipt", || send("A-17")).reconcile(|| async {
///         match was_sent().await {
///             Some(true) => Reconciled::Happened(()),
///             Some(false) => Reconciled::DidNotHappen,
///             None => Reconciled::Unknown,
///         }
///     });
///     receipt.await?;
///     op.pay("charge", charge)
///         .timeout(Duration::from_secs(10))
///         .final_when(|error| matches!(error, Failed::Declined))
///         .harmless_when(|error| matches!(error, Failed::Refused))
///         .await
/// });
/// # let error = done.await.unwrap_err();
/// # assert!(matches!(error, tower_idempotency::RunError::Work(StepError::Final(Failed::Declined))));
/// # Ok(()) }
/// ```
///
/// # Cancellation
///
/// Dropping it stops the work, not the writes: an intent or a result that was
/// on its way to the store gets there. A step that was begun and dropped is in doubt,
/// as after a crash.
#[must_use = "a step does nothing unless it is awaited"]
pub struct StepFuture<'a, T, E> {
    step: Option<Step<'a, T, E>>,
    running: Option<BoxFuture<'a, Result<T, StepError<E>>>>,
}

pub(super) struct Step<'a, T, E> {
    pub(super) operation: Operation,
    pub(super) name: Box<str>,
    kind: Kind,
    work: Option<Work<'a, T, E>>,
    timeout: Option<Duration>,
    reconcile: Option<Reconcile<'a, T>>,
    pub(super) finals: Option<Finals<'a, E>>,
    harmless: Option<Judge<'a, E>>,
    /// What operators see of an error.
    explain: Option<Explain<'a, E>>,
    /// How it is undone.
    undo: Option<UndoWork>,
    /// What it depends on.
    input: Option<Input>,
    /// Why that is not known.
    unwritable: Option<serde_json::Error>,
    /// How its key is written.
    form: KeyForm,
    /// How long the receiver knows its key.
    key_lifetime: Duration,
    /// An earlier attempt or try began it, and may have done it.
    in_doubt: bool,
    /// Its result goes with the next write.
    is_deferred: bool,
}

impl Operation {
    /// Runs `work`, or gives the result of an earlier attempt.
    ///
    /// The work runs at least once: if the process dies before the result is stored, the
    /// next attempt runs it again, with the same [`StepKey`]. The result must
    /// survive a round trip through JSON.
    ///
    /// # Errors
    ///
    /// [`StepError`]. Errors of the work are not stored and the next attempt
    /// runs it again, unless [`final_when`](StepFuture::final_when) says
    /// otherwise. A result that can't be read back, such as `NaN` or a map whose
    /// keys are tuples, is [`StepError::Unreadable`]; the step counts as done.
    ///
    /// # Caveats
    ///
    /// The layer does not notice a result that reads back as a different value, and a later
    /// attempt gets that value: JSON turns `Some(None)` into `None`, and leaves out fields
    /// that serde skips.
    pub fn step<'a, T, E, F, Fut>(&self, name: impl Into<String>, work: F) -> StepFuture<'a, T, E>
    where
        F: FnOnce(StepKey) -> Fut + Send + 'a,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
        T: Serialize + DeserializeOwned + Send + Sync + 'a,
        E: Send + 'a,
    {
        StepFuture::new(self, name.into(), Kind::Step, Box::new(move |key| Box::pin(work(key))))
    }

    /// As [`step`](Self::step), for work that can't be taken back: the layer stores an
    /// intent before it runs the work, and once the result is stored the
    /// operation is *paid*.
    ///
    /// Send the [`StepKey`] downstream as *its* idempotency key. If the
    /// process dies between the effect and the write of its result, the next
    /// attempt makes the same call with the same key, and only the receiver
    /// can know that it is the same: no store can close that window.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    ///
    /// # Caveats
    ///
    /// For a receiver that does not honour a key, use [`once`](Self::once).
    pub fn pay<'a, T, E, F, Fut>(&self, name: impl Into<String>, work: F) -> StepFuture<'a, T, E>
    where
        F: FnOnce(StepKey) -> Fut + Send + 'a,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
        T: Serialize + DeserializeOwned + Send + Sync + 'a,
        E: Send + 'a,
    {
        StepFuture::new(self, name.into(), Kind::Pay, Box::new(move |key| Box::pin(work(key))))
    }

    /// Runs `work` at most once. If any attempt began it and left no result, the step is in
    /// doubt: the layer calls the [`reconcile`](StepFuture::reconcile) hook, and if that can't
    /// tell, the operation is parked for an operator.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and [`StepError::InDoubt`]. Any error of the
    /// work leaves the step in doubt (a time-out says nothing about what
    /// happened) unless [`final_when`](StepFuture::final_when) or
    /// [`harmless_when`](StepFuture::harmless_when) says otherwise.
    pub fn once<'a, T, E, F, Fut>(&self, name: impl Into<String>, work: F) -> StepFuture<'a, T, E>
    where
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
        T: Serialize + DeserializeOwned + Send + Sync + 'a,
        E: Send + 'a,
    {
        StepFuture::new(self, name.into(), Kind::Once, Box::new(move |_| Box::pin(work())))
    }
}

impl<'a, T, E> StepFuture<'a, T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'a,
    E: Send + 'a,
{
    fn new(operation: &Operation, name: String, kind: Kind, work: Work<'a, T, E>) -> Self {
        let step = Step {
            operation: operation.clone(),
            name: name.into(),
            kind,
            work: Some(work),
            timeout: None,
            reconcile: None,
            finals: None,
            harmless: None,
            explain: None,
            undo: None,
            input: None,
            unwritable: None,
            form: KeyForm::Hex,
            key_lifetime: KEY_LIFETIME,
            in_doubt: false,
            is_deferred: false,
        };
        Self { step: Some(step), running: None }
    }

    fn set(mut self, set: impl FnOnce(&mut Step<'a, T, E>)) -> Self {
        if let Some(step) = &mut self.step {
            set(step);
        }
        self
    }

    /// Gives up on the work after `limit`, and drops it: [`StepError::TimedOut`].
    /// What was sent may have arrived. By default there is no limit.
    pub fn timeout(self, limit: Duration) -> Self {
        self.set(|step| step.timeout = Some(limit))
    }

    /// Errors for which this is true are final: the layer stores them, and later attempts get
    /// the stored error instead of running the work again. A declined card, not a lost
    /// connection.
    pub fn final_when(self, is_final: impl Fn(&E) -> bool + Send + 'a) -> Self
    where
        E: Serialize + DeserializeOwned,
    {
        self.set(|step| step.finals = Some(Finals::new(is_final)))
    }

    /// Errors for which this is true prove that nothing happened: the step is
    /// not in doubt, and may run again. A refused connection, not a
    /// time-out. A step that an earlier attempt or try left in doubt stays in doubt.
    pub fn harmless_when(self, is_harmless: impl Fn(&E) -> bool + Send + 'a) -> Self {
        self.set(|step| step.harmless = Some(Box::new(is_harmless)))
    }

    /// What operators see of an error of this step, if the attempt ends without a response: a line
    /// in the history, the event and the log, after the step's name. By default they see that it
    /// failed. [`Engine::redact_reason`](crate::Engine::redact_reason) has the bounds.
    ///
    /// ```
    /// use tower_idempotency::{Operation, StepError};
    /// # async fn send() -> Result<(), std::io::Error> { Ok(()) }
    ///
    /// async fn receipt(operation: &Operation) -> Result<(), StepError<std::io::Error>> {
    ///     operation.step("receipt", |_| send()).explain(|error| error.to_string()).await
    /// }
    /// ```
    ///
    /// # Caveats
    ///
    /// The line is stored: leave out what must not be, such as what a receiver says of a card.
    /// If `line` panics, operators see that the step failed, and no more.
    pub fn explain(self, line: impl Fn(&E) -> String + Send + 'a) -> Self {
        self.set(|step| step.explain = Some(Box::new(line)))
    }

    /// How to undo this step if the operation fails for good. The layer calls the hook with the
    /// step's result, and with a separate [`StepKey`] to send downstream. See the
    /// [guide](crate::guide::compensation). This turns a [`step`](Operation::step) into
    /// a [`pay`](Operation::pay): its intent is stored first.
    ///
    /// The undoing runs at least once. Events and history show it as a step with the name
    /// `undo` and the name of this one; its key is not the key of any step. Nothing is undone
    /// under a [`Runner`](crate::Runner), which has no final failure, nor in at-most-once
    /// mode.
    pub fn undo_with<F, Fut>(self, undo: F) -> Self
    where
        F: FnOnce(T, StepKey) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), NotUndone>> + Send + 'static,
        T: 'static,
    {
        self.set(|step| {
            if step.kind == Kind::Step {
                step.kind = Kind::Pay;
            }
            step.undo = Some(Box::new(move |result, key| {
                Box::pin(async move {
                    let result = serde_json::from_slice(&result);
                    let result = result.map_err(|error| {
                        NotUndone::never(format!("its result can't be read ({:?} error)", error.classify()))
                    });
                    undo(result?, key).await
                })
            }));
        })
    }

    /// What this step depends on; must be JSON. The layer stores a hash of it with the
    /// step, and an attempt that runs the step with another input gets
    /// [`StepError::InputChanged`] instead of the result for the first input.
    ///
    /// If JSON can't carry the input (a map whose keys are tuples, NaN or infinity, say), the
    /// step fails with [`StepError::Unreadable`], and does not begin.
    ///
    /// # Caveats
    ///
    /// Two values with the same JSON are the same input: `None`, `Some(None)` and `()` are all
    /// `null`, and fields that serde skips do not count.
    pub fn input<I: Serialize + ?Sized>(self, input: &I) -> Self {
        let (input, unwritable) = match Input::of(input) {
            Ok(input) => (Some(input), None),
            Err(error) => (None, Some(error)),
        };
        self.set(|step| (step.input, step.unwritable) = (input, unwritable))
    }

    /// How long the receiver knows this step's [`StepKey`] for the call it came
    /// with first: 23 hours by default, because most providers keep one for 24. The layer counts
    /// from the intent of a [`pay`](Operation::pay), by the store's clock, and
    /// checks before each call; it subtracts the [`timeout`](Self::timeout).
    ///
    /// After that time the receiver would take the same call for a new one. So the layer treats
    /// a step that is still in doubt like a [`once`](Operation::once):
    /// it calls the [`reconcile`](Self::reconcile) hook, and if that can't tell, the operation
    /// is parked. The same holds for the call that
    /// [undoes](Self::undo_with) the step, counted from the decision to undo.
    ///
    /// # Caveats
    ///
    /// This does not apply to a [`step`](Operation::step): it has no intent, so the layer can't
    /// know whether its key was sent before. Nor does it apply to a `once`, which sends no key.
    pub fn key_lifetime(self, lifetime: Duration) -> Self {
        self.set(|step| step.key_lifetime = lifetime)
    }

    /// Makes the [`StepKey`] a UUID, as [`to_uuid`](StepKey::to_uuid) does, for a
    /// receiver that wants one or takes no more than 36 characters. The intent of a
    /// [`pay`](Operation::pay) stores this form: once begun, a step keeps the form of its
    /// key, whatever a later attempt sets, and is undone under the same form.
    ///
    /// # Caveats
    ///
    /// A [`step`](Operation::step) has no intent. Do not change the form there
    /// while operations are unfinished.
    pub fn uuid_key(self) -> Self {
        self.set(|step| step.form = KeyForm::Uuid)
    }

    /// Lets this step return before its result is stored: that goes with the operation's next
    /// write, which is the intent or the result of another step, the renewal of the lease, or the end. Three
    /// such steps in a row, and the response, cost one write in place of four.
    ///
    /// The next write stores all or nothing: no [`pay`](Operation::pay), [`once`](Operation::once) or
    /// [`transaction`](Operation::transaction) begins or commits that does not find this result on record, in each
    /// later attempt, too.
    ///
    /// ```
    /// # use tower_idempotency::{Runner, StepError, store::MemoryStore};
    /// # async fn price(_: u64) -> Result<u64, std::io::Error> { Ok(1700) }
    /// # async fn charge(_: tower_idempotency::StepKey, _: u64) -> Result<(), std::io::Error> { Ok(()) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runner = Runner::new(MemoryStore::new());
    /// # let done = runner.run("shop", "order-17", "", |op| async move {
    /// let price = op.step("price", |_| price(17)).defer_save().await?;
    /// // Stored with the intent of this one.
    /// op.pay("charge", |key| charge(key, price)).await
    /// # });
    /// # done.await.map_err(|error: tower_idempotency::RunError<StepError<std::io::Error>>| error.to_string())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Caveats
    ///
    /// If the process dies before the next write, the next attempt runs the work again, although the handler had its result
    /// and may have shown it to others. Defer where the work has the same result each time, or where what follows
    /// outside of steps does not depend on it: a look at a price, a file that is rendered.
    ///
    /// An attempt that has lost its claim learns of it at the next write, and no longer here. A result for which the
    /// store has no room fails that write, and those after it, renewals too, so that the attempt loses its claim. No
    /// [`StepSaved`](EventKind::StepSaved) tells of the step.
    ///
    /// Inside the work of a `pay` or a `once` it is too late: that intent is stored already.
    ///
    /// It changes nothing for a `pay` or a `once`, nor for a step with [`undo_with`](Self::undo_with): their results are
    /// stored before they return.
    pub fn defer_save(self) -> Self {
        self.set(|step| step.is_deferred = true)
    }

    /// A hook that finds out whether the step happened, for when it is in doubt.
    pub fn reconcile<F, Fut>(self, reconcile: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'a,
        Fut: Future<Output = Reconciled<T>> + Send + 'a,
    {
        self.set(|step| step.reconcile = Some(Box::new(move || Box::pin(reconcile()))))
    }
}

impl<'a, T, E> Future for StepFuture<'a, T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'a,
    E: Send + 'a,
{
    type Output = Result<T, StepError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(step) = self.step.take() {
            let span = StepSpan::new(&step.name, step.kind.name());
            self.running = Some(Box::pin(span.clone().around(step.run(span), StepError::name)));
        }
        match &mut self.running {
            Some(running) => running.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<T, E> fmt::Debug for StepFuture<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.step.as_ref().map(|step| &step.name);
        f.debug_struct("StepFuture").field("name", &name).finish_non_exhaustive()
    }
}

impl<T, E> Step<'_, T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync,
    E: Send,
{
    async fn run(mut self, span: StepSpan) -> Result<T, StepError<E>> {
        let attempt = Arc::clone(&self.operation.attempt);
        self.operation.check(Start::Reach, &self.name)?;
        // Before the step counts as one that the attempt came to.
        if let Some(source) = self.unwritable.take() {
            return Err(self.unreadable(source));
        }
        let Some(mut taken) = self.operation.take_name(&self.name) else {
            return Err(StepError::Duplicate { step: self.name.into() });
        };
        input::check(&attempt, &self.name, self.input)?;
        let point = taken.point();
        let done = matches!(point, Some(Point::Saved(_) | Point::Failed(_)));
        if !done {
            self.operation.check(Start::GoOn, &self.name)?;
        }
        let mut begun = false;
        match point {
            Some(Point::Saved(value)) => {
                taken.on_drop = StepUse::Stored;
                attempt.emit(|| EventKind::StepReplayed { step: self.name.to_string() });
                span.outcome("replayed");
                if self.undo.is_some() {
                    self.keep_form(&attempt).await;
                }
                self.can_be_undone(&value);
                return self.decode(&value);
            }
            Some(Point::Failed(error)) => {
                taken.on_drop = StepUse::Stored;
                attempt.emit(|| EventKind::StepReplayed { step: self.name.to_string() });
                return Err(self.decode_final(&error));
            }
            Some(Point::Begun) => {
                begun = true;
                match self.what_happened(&attempt).await {
                    Ok(Some(value)) => return self.save(&attempt, &mut taken, value, &span).await,
                    Ok(None) => {}
                    Err(and) => return Err(self.park(and)),
                }
            }
            None => {}
        }
        self.operation.check(Start::Act, &self.name)?;
        self.start(&attempt, begun).await?;
        if self.kind != Kind::Step {
            taken.on_drop = StepUse::InDoubt;
        }
        match self.work().await {
            Ok(value) => self.save(&attempt, &mut taken, value, &span).await,
            Err(error) => Err(self.fail(&attempt, &mut taken, error).await),
        }
    }

    /// Of a step that was begun: its result if it happened, nothing if the call may be made
    /// again, and otherwise what to say beside that it is in doubt.
    async fn what_happened(&mut self, attempt: &Attempt) -> Result<Option<T>, &'static str> {
        self.in_doubt = true;
        if self.undo.is_some() {
            self.operation.may_have_happened(&self.name);
        }
        match self.reconciled().await {
            Reconciled::Happened(value) => return Ok(Some(value)),
            Reconciled::DidNotHappen => self.in_doubt = false,
            Reconciled::Unknown if self.kind == Kind::Once => return Err(""),
            Reconciled::Unknown if self.is_key_forgotten(attempt).await => {
                return Err(", and its receiver may have forgotten its key");
            }
            // The same call with the same key again.
            Reconciled::Unknown => {}
        }
        self.keep_form(attempt).await;
        Ok(None)
    }

    /// Stores the intent, where there is to be one.
    async fn start(&mut self, attempt: &Arc<Attempt>, begun: bool) -> Result<(), StepError<E>> {
        // Under `once` even if the intent is on record: finding out what became of it takes
        // time, and an attempt that lost the claim meanwhile learns of that here.
        if self.kind == Kind::Once || (self.kind == Kind::Pay && !begun) {
            self.begin(attempt).await?;
        } else if self.kind == Kind::Pay {
            // The call that it repeats may rest on results that are not stored.
            attempt.write_those_along().await?;
        }
        let started = self.operation.may_start(&self.name, self.undo.is_some());
        // It failed for good meanwhile. What was in doubt before stays so.
        if started.is_err() && !begun && self.kind != Kind::Step {
            attempt.write(Change::Clear { step: self.name.clone() }).await?;
        }
        started
    }

    async fn begin(&mut self, attempt: &Arc<Attempt>) -> Result<(), StepError<E>> {
        self.write(attempt, Change::Begin { step: self.name.clone() }).await?;
        attempt.emit(|| EventKind::StepBegun { step: self.name.to_string() });
        Ok(())
    }

    /// Whether the same call could be a new one to its receiver by now, or become
    /// one while it is made.
    #[expect(clippy::needless_pass_by_ref_mut, reason = "a step is not Sync, and the future must be Send")]
    async fn is_key_forgotten(&mut self, attempt: &Attempt) -> bool {
        let age = attempt.doubt_age(&self.name).await.unwrap_or_default();
        age >= self.key_lifetime.saturating_sub(self.timeout.unwrap_or_default())
    }

    /// What was begun under one form of its key keeps it.
    async fn keep_form(&mut self, attempt: &Attempt) {
        self.form = attempt.current().await.step(&self.name).map_or(self.form, |step| step.key_form());
    }

    /// Stores a change, and with it what the step depends on and how its key is
    /// written.
    #[expect(clippy::needless_pass_by_ref_mut, reason = "a step is not Sync, and the future must be Send")]
    async fn write(&mut self, attempt: &Arc<Attempt>, change: Change) -> Result<(), StepError<E>> {
        attempt.write_all(self.with_what_it_depends_on(change)).await?;
        // If the plan of what is undone went before it, it does not count.
        if self.operation.is_undoing() && attempt.current().await.step(&self.name).is_none() {
            return Err(StepError::Undoing { step: self.name.to_string() });
        }
        Ok(())
    }

    fn with_what_it_depends_on(&self, change: Change) -> [Option<Change>; 3] {
        let input = self.input.map(|input| Change::Input { step: self.name.clone(), hash: input.hash });
        let form = Some(self.form).filter(|form| *form != KeyForm::Hex);
        let form = form.map(|form| Change::Key { step: self.name.clone(), form });
        [Some(change), input, form]
    }

    /// While it is undone, whether the step still counts has to be known.
    fn may_be_deferred(&self) -> bool {
        self.is_deferred && self.kind == Kind::Step && !self.operation.is_undoing()
    }

    fn can_be_undone(&mut self, result: &[u8]) {
        if let Some(work) = self.undo.take() {
            let (form, key_lifetime) = (self.form, self.key_lifetime);
            let how = How { result: Bytes::copy_from_slice(result), work, form, key_lifetime };
            self.operation.happened(&self.name, how);
        }
    }

    async fn reconciled(&mut self) -> Reconciled<T> {
        match self.reconcile.take() {
            Some(reconcile) => reconcile().await,
            None => Reconciled::Unknown,
        }
    }

    async fn work(&mut self) -> Result<T, StepError<E>> {
        let key = self.operation.step_key(&self.name).written(self.form);
        let Some(work) = self.work.take() else { return Err(StepError::Duplicate { step: self.name.to_string() }) };
        let work = work(key);
        let Some(limit) = self.timeout else { return work.await.map_err(StepError::Retry) };
        match timeout(limit, work).await {
            Ok(outcome) => outcome.map_err(StepError::Retry),
            Err(_) => Err(StepError::TimedOut { step: self.name.to_string() }),
        }
    }

    async fn save(
        mut self,
        attempt: &Arc<Attempt>,
        taken: &mut StepGuard,
        value: T,
        span: &StepSpan,
    ) -> Result<T, StepError<E>> {
        let (bytes, unreadable) = result::to_bytes(&value);
        // From here on the work is done, whatever becomes of the write.
        taken.on_drop = StepUse::Stored;
        let bytes = in_its_own_piece(bytes);
        let change = Change::Save { step: self.name.clone(), value: bytes.clone() };
        if self.may_be_deferred() {
            span.outcome("deferred");
            attempt.write_along(self.with_what_it_depends_on(change)).await?;
        } else {
            span.outcome("saved");
            self.write(attempt, change).await?;
            self.can_be_undone(&bytes);
            attempt.emit(|| EventKind::StepSaved { step: self.name.to_string() });
        }
        unreadable.map_or(Ok(value), |source| Err(self.unreadable(source)))
    }

    async fn fail(mut self, attempt: &Arc<Attempt>, taken: &mut StepGuard, error: StepError<E>) -> StepError<E> {
        let line = match (&error, &self.explain) {
            // It says what to write, and no more: if it panics, what follows is as it is without.
            (StepError::Retry(failed), Some(explain)) => {
                catch_unwind(AssertUnwindSafe(|| explain(failed))).unwrap_or_else(|_panic| error.line())
            }
            (error, _) => error.line(),
        };
        attempt.step_failed(&self.name, line);
        let StepError::Retry(error) = error else { return error };
        if let Some(finals) = self.finals.as_ref().filter(|finals| (finals.is_final)(&error)) {
            let (bytes, unreadable) = (finals.encode)(&error);
            if let Err(error) = self.write(attempt, Change::Fail { step: self.name.clone(), error: bytes }).await {
                return error;
            }
            taken.on_drop = StepUse::Stored;
            self.operation.did_not_happen(&self.name);
            attempt.emit(|| EventKind::StepFailed { step: self.name.to_string() });
            return unreadable.map_or(StepError::Final(error), |source| self.unreadable(source));
        }
        // That this call did nothing says nothing about an earlier call, of this attempt or
        // another: its intent stays on record.
        let harmless = !self.in_doubt && self.harmless.as_ref().is_some_and(|harmless| harmless(&error));
        if harmless && self.kind != Kind::Step {
            self.operation.did_not_happen(&self.name);
            // Whatever becomes of the write: the next try states its intent anew.
            taken.on_drop = StepUse::MayRun;
            if let Err(error) = attempt.write(Change::Clear { step: self.name.clone() }).await {
                return error.into();
            }
        }
        StepError::Retry(error)
    }

    fn park(self, and: &str) -> StepError<E> {
        let why = format!("step {:?} was begun and it is not known whether it happened{and}", self.name);
        self.operation.attempt.park(&self.name, &why);
        StepError::InDoubt { step: self.name.into() }
    }
}
