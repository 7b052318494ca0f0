//! gRPC: a unary call and its retry end the same way. tonic is on both sides,
//! with a service written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tower::Service;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};

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

/// `shop.Payments`: charges what is not "nothing", and counts its runs.
#[derive(Clone, Default)]
struct Payments {
    runs: Arc<AtomicUsize>,
}

impl NamedService for Payments {
    const NAME: &'static str = "shop.Payments";
}

impl UnaryService<String> for Payments {
    type Response = String;
    type Future = Ready<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let number = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        let amount = request.into_inner();
        ready(if amount == "nothing" {
            let mut status = Status::with_details(Code::FailedPrecondition, "no money", "detail"[..].as_bytes().into());
            status.metadata_mut().insert("attempt", number.into());
            Err(status)
        } else {
            let mut response = Response::new(format!("charge {number} of {amount}"));
            response.metadata_mut().insert("attempt", number.into());
            Ok(response)
        })
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
        Box::pin(async move { Ok(tonic::server::Grpc::new(Text).unary(service, request).await) })
    }
}

/// A server under the layer, and a client of it.
async fn connected(layer: IdempotencyLayer) -> (Payments, tonic::client::Grpc<Channel>) {
    let (payments, incoming) = (Payments::default(), TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap());
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

fn layers() -> [IdempotencyLayer; 2] {
    let layer = || IdempotencyLayer::new(MemoryStore::new(), Scope::shared());
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
