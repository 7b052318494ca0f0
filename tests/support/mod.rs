//! What the integration tests share.
//!
//! Each test binary uses a part of it.
#![allow(dead_code, reason = "no test binary uses all of it")]

pub(crate) mod bodies;
pub(crate) mod lab;
pub(crate) mod raw;
pub(crate) mod secrets;
pub(crate) mod sources;
pub(crate) mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts how often something happened. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    /// Counts one more, and says the how-manieth it was.
    pub(crate) fn up(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Lets every task run that can.
///
/// Under paused time this also lets everything happen that falls due within a
/// millisecond, and nothing else.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// A future polled once by a waker that nobody listens to.
pub(crate) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    use std::pin::Pin;
    use std::task::Poll;
    std::future::poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// Awaits all of them, in one task, and gives the results in their order.
pub(crate) async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    use std::task::Poll;
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}
