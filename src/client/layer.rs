//! The layer, and what can be set.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tower_layer::Layer;

use super::origin::Server;
use super::policy::{Policy, budget};
use super::progress::Progress;
use super::service::Retry;
use crate::util::backoff::Backoff;

/// Sends requests until they have a final response, over any client that is a tower service:
/// hyper-util's, reqwest's, a router in this process. A POST or PATCH carries one idempotency
/// key, and the same bytes, in every try.
///
/// The key is the one that the request carries. It is either in its header or, as an
/// [`IdempotencyKey`](crate::core::IdempotencyKey), in its extensions: derive it
/// [from your own id](crate::core::IdempotencyKey::derived), and a client that was restarted
/// sends the same one. Otherwise it is a new UUID of version 7, which covers the tries of this
/// call and no others.
///
/// What is tried again, and what is final, is in [the guide](crate::guide::client). Requests to
/// servers that are not [declared](Server) are sent once, and as they are.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::{BodyExt, Full};
/// use tower::{Layer, ServiceExt};
/// use tower_idempotency::client::{RetryLayer, Sent, Server};
/// use tower_idempotency::core::IdempotencyKey;
/// # use tower_idempotency::{IdempotencyLayer, RequestBody, Scope, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let guarded = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).required();
/// # let service = guarded.layer(tower::service_fn(|request: Request<RequestBody<Full<Bytes>>>| async move {
/// #     let body = request.into_body().collect().await.map_err(|_| "no body")?.to_bytes();
/// #     Ok::<_, &'static str>(http::Response::new(Full::new(body)))
/// # }));
/// // Such as `hyper_util::client::legacy::Client::builder(…).build(https)`.
/// let client = RetryLayer::new(Server::honours_keys("https://api.example.com")?).layer(service);
/// let request = Request::post("https://api.example.com/payments")
///     .extension(IdempotencyKey::derived("capture", "order-17"))
///     .body(Full::from("1999"))?;
/// let response = client.oneshot(request).await?;
/// assert_eq!(response.extensions().get::<Sent>().map(Sent::tries), Some(1));
/// assert_eq!(response.into_body().collect().await?.to_bytes(), "1999");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryLayer {
    policy: Arc<Policy>,
}

impl RetryLayer {
    /// For requests to this server, which honours keys.
    pub fn new(server: Server) -> Self {
        let policy = Policy {
            servers: vec![server],
            key_header: HeaderName::from_static("idempotency-key"),
            quotes_keys: false,
            max_tries: 8,
            try_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(120),
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
            retry_after_limit: Duration::from_secs(60),
            request_limit: 8 << 20,
            response_limit: 1 << 20,
            follows: false,
            is_final: None,
            on_progress: None,
            budget: budget(10, 20),
        };
        Self { policy: Arc::new(policy) }
    }

    fn set(mut self, set: impl FnOnce(&mut Policy)) -> Self {
        set(Arc::make_mut(&mut self.policy));
        self
    }

    /// Another server that honours keys. Keys and credentials never go from one to another.
    ///
    /// ```
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?)
    ///     .server(Server::honours_keys("https://mail.example.com")?);
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn server(self, server: Server) -> Self {
        self.set(|policy| policy.servers.push(server))
    }

    /// The header field that has the key: `Idempotency-Key` by default.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api-m.paypal.com")?)
    ///     .key_header(HeaderName::from_static("paypal-request-id"));
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn key_header(self, name: HeaderName) -> Self {
        self.set(|policy| policy.key_header = name)
    }

    /// Sends keys as quoted strings (RFC 9651), as the IETF draft has them. By default a key
    /// has quotes only where it can't be sent without: most servers take quotes for a part of
    /// the key, and this crate's takes both forms. A header that the request carries stays as
    /// it is.
    ///
    /// ```
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?).quoted_keys();
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn quoted_keys(self) -> Self {
        self.set(|policy| policy.quotes_keys = true)
    }

    /// How often a request is sent, the first time included: 8 times by default, at least once.
    /// Then the caller gets the last response, or the last error.
    ///
    /// ```
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?).max_tries(3);
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn max_tries(self, tries: u32) -> Self {
        self.set(|policy| policy.max_tries = tries.max(1))
    }

    /// How long one try may take, until the end of the response's body: 30 seconds by default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?)
    ///     .try_timeout(Duration::from_secs(5));
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn try_timeout(self, limit: Duration) -> Self {
        self.set(|policy| policy.try_timeout = limit)
    }

    /// How long a call may take, with all of its tries and pauses: 2 minutes by default. If a
    /// pause would last longer, the caller gets the last response or error at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?)
    ///     .deadline(Duration::from_secs(20));
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn deadline(self, limit: Duration) -> Self {
        self.set(|policy| policy.deadline = limit)
    }

    /// The pauses between tries, with full jitter: up to 200 ms after the first try, up to 10
    /// seconds later on, by default. They come after what `Retry-After` asks for.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::Backoff;
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?)
    ///     .backoff(Backoff::new(Duration::from_millis(50), Duration::from_secs(2)));
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.set(|policy| policy.backoff = backoff)
    }

    /// The longest pause that a server may ask for by `Retry-After`: one minute by default. Of
    /// a longer one the client waits that much.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?)
    ///     .retry_after_limit(Duration::from_secs(300));
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn retry_after_limit(self, limit: Duration) -> Self {
        self.set(|policy| policy.retry_after_limit = limit)
    }

    /// Which errors of the client beneath are final: a call that fails with one ends at once.
    /// By default all are tried again, for the layer does not know the errors of each client.
    /// `is_final` is asked about the error and each of its causes, down into what an
    /// [`io::Error`](std::io::Error) wraps, as rustls's errors are. Name what no retry can mend,
    /// such as a certificate that is not trusted, and nothing that may pass.
    ///
    /// ```
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// # mod rustls { #[derive(Debug)] pub enum Error { InvalidCertificate(()) }
    /// # impl std::fmt::Display for Error { fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) } }
    /// # impl std::error::Error for Error {} }
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?)
    ///     .final_errors(|error| matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))));
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// The call may have been sent in an earlier try: make it again with the same
    /// [key](super::ClientError::key), once what was wrong is mended.
    pub fn final_errors(self, is_final: impl Fn(&(dyn Error + 'static)) -> bool + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.is_final = Some(Arc::new(is_final)))
    }

    /// How many retries all clones of this layer may send: so many a second in any case, and
    /// so many for every hundred calls of the last ten seconds. 10 and 20 by default; at most
    /// 1,000,000 and 100,000. While the budget is used up, calls get their last response or
    /// error at once, so that a server in trouble does not get a multiple of its load.
    ///
    /// ```
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?).budget(50, 10);
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn budget(self, per_second: u32, percent: u32) -> Self {
        self.set(|policy| policy.budget = budget(per_second, percent))
    }

    /// The largest body of a request in bytes: 8 MiB by default. It is kept for another try, so
    /// a larger one is refused
    /// ([`RequestTooLarge`](super::ClientErrorKind::RequestTooLarge)), and nothing is sent.
    ///
    /// ```
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?).request_limit(64 << 10);
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn request_limit(self, bytes: usize) -> Self {
        self.set(|policy| policy.request_limit = bytes)
    }

    /// Up to which size the body of a response is read before the caller gets it, so that one
    /// which breaks off is tried again: 1 MiB by default. A larger one, or a stream of events,
    /// comes as it comes, and the caller sees the error if it breaks off.
    ///
    /// ```
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?).response_limit(16 << 20);
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn response_limit(self, bytes: usize) -> Self {
        self.set(|policy| policy.response_limit = bytes)
    }

    /// Follows a 202 to its result, if the server applied `respond-async` (RFC 7240), as this
    /// crate's does: it asks the status resource until the operation has ended, and then sends
    /// the request once more, for its stored response. By default a 202 is final. Set a
    /// [`deadline`](Self::deadline) that is long enough.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?)
    ///     .follow()
    ///     .deadline(Duration::from_secs(3600));
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn follow(self) -> Self {
        self.set(|policy| policy.follows = true)
    }

    /// Calls `hook` with what the status resource says each time. Follows, as
    /// [`follow`](Self::follow) does.
    ///
    /// ```
    /// use tower_idempotency::client::{RetryLayer, Server};
    ///
    /// let layer = RetryLayer::new(Server::honours_keys("https://api.example.com")?)
    ///     .on_progress(|progress| println!("{}: {} steps done", progress.state(), progress.steps_done()));
    /// # Ok::<_, tower_idempotency::client::InvalidServer>(())
    /// ```
    pub fn on_progress(self, hook: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.follow().set(|policy| policy.on_progress = Some(Arc::new(hook)))
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry::new(inner, Arc::clone(&self.policy))
    }
}
