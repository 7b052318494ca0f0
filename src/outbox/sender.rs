//! The client through which calls are made, with its types forgotten.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderName, Request, Response, Uri};
use http_body::Body;
use tower_service::Service;

use crate::client::body::is_stream;
use crate::client::error::BoxError;
use crate::client::{ClientError, Retry};
use crate::core::{NotRetained, in_its_own_piece};
use crate::util::signal::lock;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A response with its whole body, or why that is not kept.
pub(super) type Answer = Response<Result<Bytes, NotRetained>>;

type Client = dyn Fn(Request<Bytes>) -> BoxFuture<Result<Answer, ClientError>> + Send + Sync;

#[derive(Clone)]
pub(super) struct Sender {
    send: Arc<Client>,
    serves: Arc<dyn Fn(&Uri) -> bool + Send + Sync>,
    pub(super) key_header: HeaderName,
}

impl Sender {
    pub(super) fn new<S, B, R>(client: Retry<S>) -> Self
    where
        S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + From<Bytes> + Send + Unpin + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let key_header = client.key_header();
        let client = Arc::new(Mutex::new(client));
        let declared = Arc::clone(&client);
        Self {
            send: Arc::new(move |request| {
                let mut client = lock(&client).clone();
                Box::pin(async move {
                    poll_fn(|cx| client.poll_ready(cx)).await?;
                    let response = client.call(request.map(B::from)).await?;
                    let why = if is_stream(response.headers()) { NotRetained::Streamed } else { NotRetained::TooLarge };
                    Ok(response.map(|body| body.whole().map(in_its_own_piece).ok_or(why)))
                })
            }),
            serves: Arc::new(move |uri| lock(&declared).serves(uri)),
            key_header,
        }
    }

    /// Whether requests to this place may be sent again.
    pub(super) fn serves(&self, uri: &Uri) -> bool {
        (self.serves)(uri)
    }

    /// Sends it, as often as the client does.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Answer, ClientError> {
        (self.send)(request).await
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
