//! The messages, the server and the client, as generated code has them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

/// The method, as it is the path of its requests.
pub const CHARGE: &str = "/shop.Payments/Charge";

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ChargeRequest {
    #[prost(uint64, tag = "1")]
    pub cents: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ChargeReply {
    #[prost(string, tag = "1")]
    pub charge: String,
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// The server of this handler.
#[derive(Clone)]
pub struct Payments<F> {
    charge: F,
}

impl<F> Payments<F> {
    pub const fn new(charge: F) -> Self {
        Self { charge }
    }
}

impl<F> NamedService for Payments<F> {
    const NAME: &'static str = "shop.Payments";
}

impl<F, Fut> Service<http::Request<Body>> for Payments<F>
where
    F: Fn(Request<ChargeRequest>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<ChargeReply>, Status>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let charge = self.charge.clone();
        Box::pin(async move {
            if request.uri().path() != CHARGE {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            Ok(grpc.unary(service_fn(charge), request).await)
        })
    }
}

/// A client.
pub struct Client(tonic::client::Grpc<Channel>);

impl Client {
    pub fn new(channel: Channel) -> Self {
        Self(tonic::client::Grpc::new(channel))
    }

    pub async fn charge(&mut self, request: Request<ChargeRequest>) -> Result<Response<ChargeReply>, Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        self.0.unary(request, PathAndQuery::from_static(CHARGE), ProstCodec::default()).await
    }
}
