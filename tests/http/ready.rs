//! The contract of `tower::Service`: readiness, clones, order. (Faults B14.)

use std::future::{Ready, poll_fn, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::Response;
use tower::{Layer, Service};
use tower_idempotency::Idempotency;

use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{Inner, Lab, collect, post, reply, unkeyed};

/// Counts clones, and refuses to be called unless *this* one was polled ready.
struct Strict {
    ready: bool,
    id: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    clones: Mutex<usize>,
    called: Mutex<Vec<usize>>,
    closed: AtomicBool,
    busy: AtomicBool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        let mut clones = self.shared.clones.lock().unwrap();
        *clones += 1;
        Self { ready: false, id: *clones, shared: Arc::clone(&self.shared) }
    }
}

impl Service<Inner> for Strict {
    type Response = Response<TestBody>;
    type Error = Failure;
    type Future = Ready<Result<Response<TestBody>, Failure>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.shared.closed.load(Ordering::SeqCst) {
            return Poll::Ready(Err(Failure("closed")));
        }
        if self.shared.busy.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Inner) -> Self::Future {
        assert!(self.ready, "called without having been ready");
        self.ready = false;
        self.shared.called.lock().unwrap().push(self.id);
        ready(Ok(reply(200, "ran")))
    }
}

fn strict(lab: &Lab) -> (Idempotency<Strict>, Arc<Shared>) {
    let shared = Arc::<Shared>::default();
    (lab.layer().layer(Strict { ready: false, id: 0, shared: Arc::clone(&shared) }), shared)
}

async fn is_ready(service: &mut Idempotency<Strict>) -> Poll<Result<(), Failure>> {
    poll_fn(|cx| Poll::Ready(Service::<http::Request<TestBody>>::poll_ready(service, cx))).await
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    let lab = Lab::new();
    let (mut service, shared) = strict(&lab);
    assert_eq!(is_ready(&mut service).await, Poll::Ready(Ok(())));
    let answer = collect(service.call(post("k1")).await.unwrap()).await.unwrap();
    answer.assert_first(200, "ran");
    assert_eq!(*shared.called.lock().unwrap(), [0]);
    // The clone that was left behind has to be polled ready anew.
    assert_eq!(is_ready(&mut service).await, Poll::Ready(Ok(())));
    let answer = collect(service.call(unkeyed("POST")).await.unwrap()).await.unwrap();
    answer.assert_first(200, "ran");
    assert_eq!(*shared.called.lock().unwrap(), [0, 1]);
}

#[tokio::test]
async fn a_service_that_is_not_ready_is_waited_for_and_nothing_is_claimed() {
    let lab = Lab::new();
    let (mut service, shared) = strict(&lab);
    shared.busy.store(true, Ordering::SeqCst);
    assert_eq!(is_ready(&mut service).await, Poll::Pending);
    assert_eq!(lab.store.calls(), 0);
    shared.busy.store(false, Ordering::SeqCst);
    assert_eq!(is_ready(&mut service).await, Poll::Ready(Ok(())));
}

#[tokio::test]
async fn an_error_of_readiness_passes_through() {
    let lab = Lab::new();
    let (mut service, shared) = strict(&lab);
    shared.closed.store(true, Ordering::SeqCst);
    assert_eq!(is_ready(&mut service).await, Poll::Ready(Err(Failure("closed"))));
    assert_eq!(lab.store.calls(), 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_unpolled_does_nothing() {
    let lab = Lab::new();
    let (mut service, shared) = strict(&lab);
    assert_eq!(is_ready(&mut service).await, Poll::Ready(Ok(())));
    drop(service.call(post("k")));
    crate::support::settle().await;
    assert!(shared.called.lock().unwrap().is_empty());
    assert_eq!(lab.store.calls(), 0);
}

#[tokio::test]
async fn futures_outlive_the_service_that_made_them() {
    let lab = Lab::new();
    let (mut service, _) = strict(&lab);
    assert_eq!(is_ready(&mut service).await, Poll::Ready(Ok(())));
    let future = service.call(post("k"));
    drop(service);
    collect(future.await.unwrap()).await.unwrap().assert_first(200, "ran");
}

#[tokio::test]
async fn a_refusal_does_not_use_up_the_readiness_of_the_inner_service() {
    let lab = Lab::new();
    let (mut service, shared) = strict(&lab);
    assert_eq!(is_ready(&mut service).await, Poll::Ready(Ok(())));
    let refused = collect(service.call(post("\"broken")).await.unwrap()).await.unwrap();
    refused.assert_problem("invalid-key", 400);
    assert!(shared.called.lock().unwrap().is_empty());
    assert_eq!(service.get_ref().id, 0);
}

/// Layers around this one answer with an empty body of its type (tower-http's
/// time-outs and CORS do), and services that are not `Sync` can be wrapped.
#[test]
fn the_service_fits_into_a_stack() {
    fn stacks<S, B>(_: &S)
    where
        S: Service<http::Request<TestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        B: hyper::body::Body<Data = bytes::Bytes> + Default + Send + 'static,
    {
    }
    let inner = tower::service_fn(|_: Inner| async { Ok::<_, Failure>(reply(200, "")) });
    stacks(&Lab::new().layer().layer(tower::util::BoxCloneService::new(inner)));
}
