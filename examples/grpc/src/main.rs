//! Payments over gRPC: `cargo run -p example-grpc`.
//!
//! A client charges once, sends the same call again, and then another one under the same
//! key. What the build script of a service would generate, from this, is written by hand
//! in `payments.rs`, so that the example needs no `protoc`:
//!
//! ```text
//! package shop;
//! service Payments { rpc Charge(ChargeRequest) returns (ChargeReply); }
//! message ChargeRequest { uint64 cents = 1; }
//! message ChargeReply { string charge = 1; }
//! ```

mod payments;

use std::error::Error;

use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{GrpcMethods, IdempotencyLayer, Operation, Scope, StepError};

use self::payments::{CHARGE, ChargeReply, ChargeRequest, Client, Payments};

/// The operation is in the extensions of the request, as over HTTP.
async fn charge(request: Request<ChargeRequest>) -> Result<Response<ChargeReply>, Status> {
    let operation = request.extensions().get::<Operation>().cloned();
    let operation = operation.ok_or_else(|| Status::internal("the layer is missing"))?;
    let cents = request.into_inner().cents;
    let pay = operation.pay("charge", |key| gateway(key.to_string(), cents));
    // `UNAVAILABLE` is not final in resumable mode: a retry goes on from here.
    let charge = pay.await.map_err(|error: StepError<Status>| Status::unavailable(error.to_string()))?;
    Ok(Response::new(ChargeReply { charge }))
}

/// The gateway, which honours the key that it gets.
async fn gateway(key: String, cents: u64) -> Result<String, Status> {
    println!("gateway: {cents} cents, under {key}");
    Ok(format!("ch_{cents}"))
}

async fn call(client: &mut Client, key: &str, cents: u64) -> Result<(), Box<dyn Error>> {
    let mut request = Request::new(ChargeRequest { cents });
    request.metadata_mut().insert("idempotency-key", key.parse()?);
    match client.charge(request).await {
        Ok(response) => {
            let is_replay = response.metadata().contains_key("idempotent-replayed");
            println!("client: {}, replay: {is_replay}", response.get_ref().charge);
        }
        Err(status) => {
            let problem = status.metadata().get("idempotency-problem");
            println!("client: {:?}, {problem:?}: {}", status.code(), status.message());
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // With a descriptor set: `GrpcMethods::unary_in(tonic::include_file_descriptor_set!("shop"))`.
    let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared())
        .grpc_methods(GrpcMethods::named([CHARGE])?)
        .resumable()
        .required();

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder().layer(layer).add_service(Payments::new(charge));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
    let mut client = Client::new(channel);
    call(&mut client, "order-17", 1999).await?;
    call(&mut client, "order-17", 1999).await?;
    call(&mut client, "order-17", 2999).await
}
