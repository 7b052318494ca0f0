//! Three steps, and a hundred, on Restate: its server takes the requests, and calls this
//! endpoint. A repeated key attaches to the run.
//!
//! Prints its address. `RESTATE_LISTEN` says where it listens.

use std::net::SocketAddr;

use restate_sdk::prelude::*;

struct Payments;

#[service]
impl Payments {
    #[handler]
    async fn three_steps(&self, ctx: Context<'_>, body: Vec<u8>) -> HandlerResult<String> {
        let order = ctx.run(|| async { Ok("order_0123456789".to_owned()) }).name("order").await?;
        let charge = ctx.run(|| async { Ok("ch_0123456789abcdef".to_owned()) }).name("charge").await?;
        let length = body.len() as u64;
        let receipt = ctx.run(|| async move { Ok(length) }).name("receipt").await?;
        let note = "n".repeat(250);
        Ok(format!("{{\"order\":\"{order}\",\"charge\":\"{charge}\",\"receipt\":{receipt},\"note\":\"{note}\"}}"))
    }

    #[handler]
    async fn hundred_steps(&self, ctx: Context<'_>, body: Vec<u8>) -> HandlerResult<String> {
        let mut sum = body.len() as u64;
        for number in 0..100_u64 {
            sum += ctx.run(|| async move { Ok(number) }).name(format!("step-{number}")).await?;
        }
        Ok(format!("{{\"sum\":{sum}}}"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address: SocketAddr = listener.local_addr()?;
    println!("{address}");
    HttpServer::new(Endpoint::builder().bind(Payments).build()).serve(listener).await;
    Ok(())
}
