//! gRPC: a unary call and its retry end the same way, and what streams is left alone. tonic
//! is on both sides, with a service written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, StreamingService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::Service;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{GrpcMethods, IdempotencyLayer, Scope};

/// Messages are text, as it is.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let text = from.copy_to_bytes(from.remaining());
        String::from_utf8(text.into()).map(Some).map_err(|_| Status::invalid_argument("no text"))
    }
}

/// `shop.Payments`: charges what is not "nothing", and counts its runs. "later" is charged
/// the second time; "gated", once a permit is there. `Talk` says what it hears.
#[derive(Clone)]
struct Payments {
    runs: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    begun: Arc<Semaphore>,
}

impl Payments {
    fn charge(amount: &str, number: usize) -> Result<Response<String>, Status> {
        let mut status = match (amount, number) {
            ("nothing", _) => {
                Status::with_details(Code::FailedPrecondition, "no money", "detail"[..].as_bytes().into())
            }
            ("later", 1) => Status::unavailable("the bank is closed"),
            _ => {
                let mut response = Response::new(format!("charge {number} of {amount}"));
                response.metadata_mut().insert("attempt", number.into());
                return Ok(response);
            }
        };
        status.metadata_mut().insert("attempt", number.into());
        Err(status)
    }
}

impl NamedService for Payments {
    const NAME: &'static str = "shop.Payments";
}

impl UnaryService<String> for Payments {
    type Response = String;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Status>> + Send>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let number = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        let (amount, gate) = (request.into_inner(), Arc::clone(&self.gate));
        self.begun.add_permits(1);
        Box::pin(async move {
            if amount == "gated" {
                gate.acquire().await.unwrap().forget();
            }
            Self::charge(&amount, number)
        })
    }
}

impl StreamingService<String> for Payments {
    type Response = String;
    type ResponseStream = Streaming<String>;
    type Future = Ready<Result<Response<Streaming<String>>, Status>>;

    fn call(&mut self, request: Request<Streaming<String>>) -> Self::Future {
        self.runs.fetch_add(1, Ordering::SeqCst);
        ready(Ok(Response::new(request.into_inner())))
    }
}

impl Service<http::Request<Body>> for Payments {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Text);
            Ok(match request.uri().path() {
                "/shop.Payments/Talk" => grpc.streaming(service, request).await,
                _ => grpc.unary(service, request).await,
            })
        })
    }
}

/// A server under the layer, and a client of it.
async fn connected(layer: IdempotencyLayer) -> (Payments, tonic::client::Grpc<Channel>) {
    let none = || Arc::new(Semaphore::new(0));
    let payments = Payments { runs: Arc::default(), gate: none(), begun: none() };
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = incoming.local_addr().unwrap();
    let server = Server::builder().layer(layer).add_service(payments.clone());
    tokio::spawn(server.serve_with_incoming(incoming));
    let channel = Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
    (payments, tonic::client::Grpc::new(channel))
}

async fn call(
    client: &mut tonic::client::Grpc<Channel>,
    key: &'static str,
    amount: &str,
) -> Result<Response<String>, Status> {
    client.ready().await.unwrap();
    let mut request = Request::new(amount.to_owned());
    request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    client.unary(request, PathAndQuery::from_static("/shop.Payments/Charge"), Text).await
}

/// Which refusal it is.
fn problem(status: &Status) -> &str {
    status.metadata().get("idempotency-problem").unwrap().to_str().unwrap()
}

fn layers() -> [IdempotencyLayer; 2] {
    let methods = GrpcMethods::named(["/shop.Payments/Charge"]).unwrap();
    let layer = || IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).grpc_methods(methods.clone());
    [layer(), layer().resumable()]
}

#[tokio::test]
async fn the_same_unary_call_twice_gives_the_same_ok_twice() {
    for layer in layers() {
        let (payments, mut client) = connected(layer).await;
        for is_replay in [false, true] {
            let (metadata, text, _) = call(&mut client, "k", "17 EUR").await.expect("OK").into_parts();
            assert_eq!(text, "charge 1 of 17 EUR");
            assert_eq!(metadata.get("attempt").unwrap(), "1");
            assert_eq!(metadata.get("grpc-status").unwrap(), "0");
            assert_eq!(metadata.contains_key("idempotent-replayed"), is_replay);
        }
        assert_eq!(payments.runs.load(Ordering::SeqCst), 1);
        assert_eq!(call(&mut client, "l", "17 EUR").await.unwrap().into_inner(), "charge 2 of 17 EUR");
    }
}

/// Trailers alone: they are the head of such an answer.
#[tokio::test]
async fn the_same_unary_call_twice_gives_the_same_error_twice() {
    // In resumable mode an invalid request that came to no step frees the key.
    for (layer, is_kept) in layers().into_iter().zip([true, false]) {
        let (payments, mut client) = connected(layer).await;
        for is_again in [false, true] {
            let is_replay = is_again && is_kept;
            let status = call(&mut client, "k", "nothing").await.expect_err("an error");
            assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "no money"));
            assert_eq!(status.details(), b"detail");
            let run = if is_again && !is_kept { "2" } else { "1" };
            assert_eq!(status.metadata().get("attempt").unwrap(), run);
            assert_eq!(status.metadata().contains_key("idempotent-replayed"), is_replay);
        }
        assert_eq!(payments.runs.load(Ordering::SeqCst), if is_kept { 1 } else { 2 });
    }
}

/// In resumable mode 14 is no outcome: the retry runs, and what follows is the outcome. At
/// most once, it is one.
#[tokio::test]
async fn a_call_that_is_unavailable_is_tried_again_in_resumable_mode() {
    for (layer, is_final) in layers().into_iter().zip([true, false]) {
        let (payments, mut client) = connected(layer).await;
        let first = call(&mut client, "k", "later").await.expect_err("the bank is closed");
        assert_eq!(
            (first.code(), first.metadata().get("attempt").unwrap()),
            (Code::Unavailable, &"1".parse().unwrap())
        );
        for is_replay in [false, true] {
            let retry = call(&mut client, "k", "later").await;
            if is_final {
                let status = retry.expect_err("the same");
                assert_eq!((status.code(), status.message()), (Code::Unavailable, "the bank is closed"));
                assert!(status.metadata().contains_key("idempotent-replayed"));
            } else {
                let (metadata, text, _) = retry.expect("a charge").into_parts();
                assert_eq!(
                    (text.as_str(), metadata.contains_key("idempotent-replayed")),
                    ("charge 2 of later", is_replay)
                );
            }
        }
        assert_eq!(payments.runs.load(Ordering::SeqCst), if is_final { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_mismatch_and_a_call_that_runs_are_statuses() {
    for layer in layers() {
        let (payments, mut client) = connected(layer.required()).await;
        let mut other = client.clone();
        let running = tokio::spawn(async move { call(&mut other, "k", "gated").await });
        payments.begun.acquire().await.unwrap().forget();
        let busy = call(&mut client, "k", "gated").await.expect_err("it runs");
        assert_eq!((busy.code(), problem(&busy)), (Code::Aborted, "in-progress"));
        assert_eq!(busy.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
        payments.gate.add_permits(1);
        assert_eq!(running.await.unwrap().unwrap().into_inner(), "charge 1 of gated");

        let mismatch = call(&mut client, "k", "18 EUR").await.expect_err("another request");
        assert_eq!((mismatch.code(), problem(&mismatch)), (Code::FailedPrecondition, "key-reused"));
        assert!(mismatch.message().ends_with("reused across different payloads of this operation."), "{mismatch}");

        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/shop.Payments/Charge");
        let missing = client.unary(Request::new("17 EUR".to_owned()), path, Text).await.expect_err("no key");
        assert_eq!((missing.code(), problem(&missing)), (Code::InvalidArgument, "missing-key"));
        assert_eq!(call(&mut client, "k", "gated").await.unwrap().into_inner(), "charge 1 of gated");
        assert_eq!(payments.runs.load(Ordering::SeqCst), 1);
    }
}

/// Each message waits for the one before it to come back: a layer that read the request first
/// would wait for ever.
#[tokio::test]
async fn a_bidirectional_call_with_a_key_passes_message_by_message() {
    for layer in layers() {
        let (payments, mut client) = connected(layer).await;
        for runs in [1, 2] {
            let (say, said) = mpsc::channel(1);
            let mut request = Request::new(ReceiverStream::new(said));
            request.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
            client.ready().await.unwrap();
            let path = PathAndQuery::from_static("/shop.Payments/Talk");
            let mut heard = client.streaming(request, path, Text).await.unwrap().into_inner();
            for word in ["one", "two", "three"] {
                say.send(word.to_owned()).await.unwrap();
                assert_eq!(heard.message().await.unwrap().as_deref(), Some(word));
            }
            drop(say);
            assert_eq!(heard.message().await.unwrap(), None);
            assert!(!heard.trailers().await.unwrap().unwrap().contains_key("idempotent-replayed"));
            assert_eq!(payments.runs.load(Ordering::SeqCst), runs);
        }
    }
}

/// The operator has to say what becomes of streams: they are not guarded behind its back.
#[tokio::test]
async fn a_bidirectional_call_where_a_key_is_required_is_refused_at_once() {
    let [layer, _] = layers();
    let (payments, mut client) = connected(layer.required()).await;
    let (_say, said) = mpsc::channel::<String>(1);
    let mut request = Request::new(ReceiverStream::new(said));
    request.metadata_mut().insert("idempotency-key", "k".parse().unwrap());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/shop.Payments/Talk");
    let refused = client.streaming(request, path, Text).await.expect_err("a status");
    assert_eq!((refused.code(), problem(&refused)), (Code::FailedPrecondition, "grpc-method-not-named"));
    assert_eq!(payments.runs.load(Ordering::SeqCst), 0);
}
