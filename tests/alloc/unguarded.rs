//! What a request that is not guarded pays for the layer: nothing.

use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};

/// Allocations of one call that is answered at its first poll.
fn allocations<S, B>(service: &mut S, request: Request<Full<Bytes>>) -> u64
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
{
    let mut request = Some(request);
    let info = measure(|| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let future = pin!(service.call(request.take().unwrap()));
        assert!(matches!(future.poll(&mut cx), Poll::Ready(Ok(_))));
    });
    info.count_total
}

/// Without a runtime, so nothing can be spawned either.
#[test]
fn an_unguarded_request_allocates_nothing_and_spawns_no_task() {
    let mut bare = service_fn(|_: Request<Full<Bytes>>| ready(Ok(Response::new(Full::new(Bytes::from_static(b"ok"))))));
    let layer = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        IdempotencyLayer::new(MemoryStore::new(), Scope::shared())
    };
    let mut guarded =
        layer.layer(service_fn(|_| ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok")))))));
    let get_with_key = || Request::get("/pay").header("idempotency-key", "k").body(Full::default()).unwrap();
    let post_without_key = || Request::post("/pay").body(Full::from("{}")).unwrap();
    for request in [get_with_key, post_without_key] {
        let bare = allocations(&mut bare, request());
        assert_eq!(allocations(&mut guarded, request()), bare);
    }
}

/// The counter counts: a guarded request does allocate.
#[tokio::test]
async fn a_guarded_request_is_seen_by_the_counter() {
    let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared());
    let mut guarded =
        layer.layer(service_fn(|_| ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok")))))));
    let request = |key: &str| Request::post("/pay").header("idempotency-key", key).body(Full::from("{}")).unwrap();
    // The first one of a process waits for what it reads of maintenance windows.
    guarded.ready().await.unwrap().call(request("a")).await.unwrap();
    assert!(allocations(&mut guarded, request("b")) > 0);
}
