//! Futures that outlive the task that waits for them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;

tokio::task_local! {
    /// Set in the tasks of work that goes on alone: it costs nothing before that.
    static LEFT: ();
}

/// Whether this is asked in work that goes on alone.
pub(crate) fn is_left() -> bool {
    LEFT.try_with(|()| ()).is_ok()
}

/// Work that goes on when the task that waits for it is gone.
///
/// hyper drops a handler's future when the client hangs up, and a dropped
/// handler is a crash. This one is polled where it is awaited, which costs
/// nothing; dropped unfinished, it moves to a task of its own.
pub(crate) struct Detached<T> {
    /// Whether it is dropped with the task that waits for it, after all.
    stays: bool,
    work: Option<Pin<Box<dyn Work<T>>>>,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

/// A future that can be sent off. As a trait of its own, so that `Detached`
/// needs no bounds.
trait Work<T>: Send {
    fn poll_work(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T>;
    /// The same work, for a task in which no caller waits for it.
    fn unawaited(self: Pin<Box<Self>>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl<F: Future + Send + 'static> Work<F::Output> for F {
    fn poll_work(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.poll(cx)
    }

    fn unawaited(self: Pin<Box<Self>>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move { drop(self.await) })
    }
}

/// Work in a box, as [`Detached`] takes it.
pub(crate) struct Boxed<T>(Pin<Box<dyn Work<T>>>);

impl<T: Send + 'static> Boxed<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(work))
    }
}

impl<T> Future for Boxed<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll_work(cx)
    }
}

impl<T> From<Boxed<T>> for Detached<T> {
    fn from(Boxed(work): Boxed<T>) -> Self {
        Self {
            stays: false,
            work: Some(work),
            #[cfg(feature = "tracing")]
            span: tracing::Span::current(),
        }
    }
}

impl<T> Detached<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self
    where
        T: Send + 'static,
    {
        Boxed::new(work).into()
    }

    /// The same for work that may be cut off: dropped unfinished, it is over.
    pub(crate) fn attached(work: impl Future<Output = T> + Send + 'static) -> Self
    where
        T: Send + 'static,
    {
        let mut attached = Self::new(work);
        attached.stays = true;
        attached
    }
}

impl<T> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that work that panics is not sent off as well.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let poll = work.as_mut().poll_work(cx);
        if poll.is_pending() {
            self.work = Some(work);
        }
        poll
    }
}

impl<T> Drop for Detached<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take().filter(|_| !self.stays) else { return };
        // Without a runtime the process is on its way out; to an operation
        // that is a crash like any other.
        let Ok(runtime) = Handle::try_current() else { return };
        // One type for all work: a task of its own for each would be a hundred functions
        // for the compiler, for every service that is guarded.
        let alone = LEFT.scope((), work.unawaited());
        #[cfg(feature = "tracing")]
        let alone = tracing::Instrument::instrument(alone, self.span.clone());
        runtime.spawn(alone);
    }
}

impl<T> fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("finished", &self.work.is_none()).finish_non_exhaustive()
    }
}

/// The inner future panicked.
#[derive(Debug)]
pub(crate) struct Panicked;

pin_project! {
    /// Turns a panic of the inner future into a value.
    #[derive(Debug)]
    pub(crate) struct CatchPanic<F> {
        #[pin]
        inner: F,
    }
}

impl<F> CatchPanic<F> {
    pub(crate) const fn new(inner: F) -> Self {
        Self { inner }
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.project().inner;
        // Unwind safe: the future is not polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}
