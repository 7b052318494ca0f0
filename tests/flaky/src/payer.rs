//! The two stacks of clients, as the guide shows them.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{Layer as _, Service, ServiceExt as _};
use tower_idempotency::client::{ClientError, ReceivedBody, Retry, RetryLayer, Sent};

/// Over hyper-util's client.
pub fn over_hyper(layer: &RetryLayer) -> Retry<Client<HttpConnector, Full<Bytes>>> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    layer.layer(client)
}

/// Over reqwest's.
pub fn over_reqwest(
    layer: &RetryLayer,
) -> Result<
    impl Service<
        Request<reqwest::Body>,
        Response = http::Response<ReceivedBody<reqwest::Body>>,
        Error = ClientError,
        Future: Send,
    > + Clone,
    reqwest::Error,
> {
    // Redirects are the layer's: reqwest's own would take the key along to another origin.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let send = move |request: Request<reqwest::Body>| {
        let client = client.clone();
        async move { client.execute(request.try_into()?).await.map(http::Response::<reqwest::Body>::from) }
    };
    Ok(layer.layer(tower::service_fn(send)))
}

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// hyper-util's.
    Hyper,
    /// reqwest's.
    Reqwest,
}

/// What a payment led to.
pub(crate) struct Paid {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    pub(crate) tries: u32,
}

impl Stack {
    pub(crate) async fn pay(self, layer: &RetryLayer, request: Request<Bytes>) -> Result<Paid, ClientError> {
        match self {
            Self::Hyper => paid(over_hyper(layer).oneshot(request.map(Full::new)).await?).await,
            Self::Reqwest => {
                let client = over_reqwest(layer).expect("no TLS is asked for");
                paid(client.oneshot(request.map(reqwest::Body::from)).await?).await
            }
        }
    }
}

async fn paid<R>(response: http::Response<ReceivedBody<R>>) -> Result<Paid, ClientError>
where
    R: http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Unpin,
{
    let (parts, body) = response.into_parts();
    let tries = parts.extensions.get::<Sent>().map_or(0, Sent::tries);
    let body = body.collect().await.expect("it was read to its end").to_bytes();
    Ok(Paid { status: parts.status.as_u16(), body, tries })
}
