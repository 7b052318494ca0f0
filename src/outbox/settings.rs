//! An outbox: what is set, and what is put into it.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderName, Method, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::error::{InvalidOutboxName, SendLaterError};
use super::sender::Sender;
use crate::client::body::keep;
use crate::client::error::BoxError;
use crate::client::{ClientErrorKind, Retry};
use crate::core::{
    Fingerprint, IdempotencyKey, Intake, InvalidKey, Key, Label, Labels, Mode, Record, StoredRequest, Submit,
    Submitted, Work, quoted,
};
use crate::engine::Engine;
use crate::engine::dropped::Dropped;
use crate::engine::outage::Calls;
use crate::store::Cursor;
use crate::telemetry::event::EventKind;
use crate::util::backoff::Backoff;
use crate::util::name::is_name;
use crate::util::signal::{Alarm, Hints, lock};
use crate::workers::pace;
use crate::workers::running::Keys;

/// The field under which the key is kept.
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// More at once would do no good, and take the memory of as many bodies.
const MOST_AT_ONCE: usize = 10_000;

/// The seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// How many operations of others are remembered, so that they are not looked at again: they take six
/// megabytes.
const STRANGERS: usize = 100_000;

/// Calls to other services that must be made: each is kept in a store, and sent, by this process
/// or another one, until it has a final response.
///
/// It takes a client with a [`RetryLayer`](crate::client::RetryLayer), so that a call is only ever
/// sent twice to a server that is [declared](crate::client::Server) to honour its idempotency key.
/// All processes that have an outbox of this name over one store share its calls; each call is
/// sent by one of them at a time.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{Layer, service_fn};
/// use tower_idempotency::client::{RetryLayer, Server};
/// use tower_idempotency::core::IdempotencyKey;
/// use tower_idempotency::outbox::{CallState, Outbox};
/// use tower_idempotency::store::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// // Such as `hyper_util::client::legacy::Client::builder(…).build(https)`.
/// # let client = service_fn(|_: Request<Full<Bytes>>| async {
/// #     Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::from("queued"))))
/// # });
/// let client = RetryLayer::new(Server::honours_keys("https://mail.example.com")?).layer(client);
/// let mails = Outbox::new("mail", MemoryStore::new(), client)?;
///
/// // In a handler: it returns once the call is in the store.
/// let welcome = IdempotencyKey::derived("welcome", "user-17");
/// let request = || Request::post("https://mail.example.com/send").body(Full::new(Bytes::from("Welcome!")));
/// let id = mails.send_later(&welcome, request()?).await?;
/// // Again is the same call.
/// assert_eq!(mails.send_later(&welcome, request()?).await?, id);
///
/// // In a test, or by hand; in production `mails.run(shutdown)` in a task of its own.
/// mails.run_once().await?;
/// // What was sent?
/// let sent = mails.list(CallState::Sent, None).await?.calls;
/// assert_eq!((sent[0].id, sent[0].response.as_ref().unwrap().status().as_u16()), (id, 200));
/// # Ok(()) }
/// ```
///
/// The guide has [the whole story](crate::guide::outbox).
///
/// # Caveats
///
/// - A process that dies before [`send_later`](Self::send_later) has returned may have stored the
///   call, or not. Ask for the same call again, with the same key, when your own work goes on.
/// - Calls are sent in no order, and several at a time.
/// - Credentials are not stored: give them to the client, so that it adds them to each try. See
///   [`keep_credentials`](Self::keep_credentials).
/// - A call is sent at least once, and with the same key each time. That it has its effect once is
///   the promise of the server, for as long as that remembers the key: set
///   [`max_age`](Self::max_age) no longer than that.
/// - After [`keep`](Self::keep) a call is forgotten, and its key may be used anew.
#[derive(Clone)]
#[must_use]
pub struct Outbox {
    pub(super) name: Arc<str>,
    pub(super) engine: Engine,
    pub(super) sender: Sender,
    pub(super) settings: Settings,
    pub(super) state: Arc<State>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) poll: Duration,
    pub(super) concurrency: usize,
    pub(super) deadline: Duration,
    pub(super) max_tries: u32,
    pub(super) max_age: Duration,
    request_limit: usize,
    keeps_credentials: bool,
}

/// What the clones of an outbox share.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What was accepted just now.
    pub(super) fresh: Hints<Key>,
    /// Rings when what this process put off falls due.
    pub(super) due: Alarm,
    pub(super) running: Keys,
    /// Operations that are not this outbox's, or can't be read.
    strangers: Mutex<HashSet<Key>>,
    /// Where the last round stopped, if there was more than it starts.
    pub(super) place: Mutex<Option<Cursor>>,
    dropped: Dropped,
}

impl State {
    pub(super) fn add_stranger(&self, key: Key) {
        let mut strangers = lock(&self.strangers);
        if strangers.len() >= STRANGERS {
            strangers.clear();
        }
        strangers.insert(key);
    }

    pub(super) fn is_stranger(&self, key: &Key) -> bool {
        lock(&self.strangers).contains(key)
    }
}

impl Outbox {
    /// The outbox of this name, over a store, or over the [`Engine`] of what else uses the store,
    /// or over a layer. `client` is what a [`RetryLayer`](crate::client::RetryLayer) makes of a
    /// client.
    ///
    /// # Errors
    ///
    /// [`InvalidOutboxName`] unless the name is 1 to 64 visible characters of ASCII.
    pub fn new<S, B, R>(name: &str, engine: impl Into<Engine>, client: Retry<S>) -> Result<Self, InvalidOutboxName>
    where
        S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + From<Bytes> + Send + Unpin + 'static,
        R: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        if !is_name(name) {
            return Err(InvalidOutboxName);
        }
        let settings = Settings {
            poll: Duration::from_secs(5),
            concurrency: 16,
            deadline: Duration::from_secs(5 * 60),
            max_tries: 1000,
            max_age: Duration::from_secs(3 * DAY),
            request_limit: 1 << 20,
            keeps_credentials: false,
        };
        let engine = engine.into().retention_at_least(Duration::from_secs(30 * DAY));
        Ok(Self { name: name.into(), engine, sender: Sender::new(client), settings, state: Arc::default() })
    }

    /// How long a call is kept after its final response was stored: 30 days by default, or the
    /// engine's [`retention`](Engine::retention) if that is longer; at least one second. For as
    /// long the same key stands for the same call, and lists have it.
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// let outbox = outbox.keep(std::time::Duration::from_secs(365 * 24 * 60 * 60));
    /// # }
    /// ```
    pub fn keep(mut self, length: Duration) -> Self {
        self.engine = self.engine.retention(length);
        self
    }

    /// How long a call rests after an attempt without a final response: as the engine's
    /// [`backoff`](Engine::backoff) says by default, up to 2 seconds after the first and up to 10
    /// minutes later on. A longer `Retry-After` of the server counts, up to one day.
    ///
    /// ```
    /// # use tower_idempotency::{Backoff, outbox::Outbox};
    /// # use std::time::Duration;
    /// # fn f(outbox: Outbox) {
    /// let outbox = outbox.backoff(Backoff::new(Duration::from_secs(30), Duration::from_secs(3600)));
    /// # }
    /// ```
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.engine = self.engine.backoff(backoff);
        self
    }

    /// How long a process holds a call unless it renews that: the engine's [`lease`](Engine::lease)
    /// by default. So long after a process died, at most, another one sends what that one was
    /// sending.
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// let outbox = outbox.lease(std::time::Duration::from_secs(20));
    /// # }
    /// ```
    pub fn lease(mut self, lease: Duration) -> Self {
        self.engine = self.engine.lease(lease);
        self
    }

    /// How often the outbox asks the store what is due: every 5 seconds, give or take a third, by
    /// default; at least 10 ms. What this process itself accepts it sends at once.
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// let outbox = outbox.poll(std::time::Duration::from_secs(1));
    /// # }
    /// ```
    pub fn poll(mut self, every: Duration) -> Self {
        self.settings.poll = pace::at_least(every);
        self
    }

    /// How many calls this process sends at once: 16 by default, at least one. A server that hangs
    /// may take all of them: give it an outbox of its own.
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// let outbox = outbox.concurrency(4);
    /// # }
    /// ```
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.settings.concurrency = calls.clamp(1, MOST_AT_ONCE);
        self
    }

    /// How long one attempt may take, with all tries of the client: 5 minutes by default. After
    /// that it is cut off, and the call is made again later.
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// let outbox = outbox.deadline(std::time::Duration::from_secs(60));
    /// # }
    /// ```
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.settings.deadline = limit;
        self
    }

    /// After how many attempts a call without a final response
    /// [needs attention](super::CallState::NeedsAttention): 1,000 by default, at least one. An
    /// operator's decision starts the count anew.
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// let outbox = outbox.max_tries(50);
    /// # }
    /// ```
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.settings.max_tries = tries.max(1);
        self
    }

    /// How old a call may be before it [needs attention](super::CallState::NeedsAttention), instead
    /// of being sent again: three days by default.
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// // The server forgets keys after 24 hours.
    /// let outbox = outbox.max_age(std::time::Duration::from_secs(23 * 60 * 60));
    /// # }
    /// ```
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = age;
        self
    }

    /// The largest body of a request in bytes: 1 MiB by default. A larger one is
    /// [refused](SendLaterError::Request).
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// let outbox = outbox.request_limit(64 << 10);
    /// # }
    /// ```
    pub const fn request_limit(mut self, bytes: usize) -> Self {
        self.settings.request_limit = bytes;
        self
    }

    /// Stores the credentials of requests, too. By default it leaves out what
    /// [`StoredRequest`] takes for one, `Authorization` and `Cookie` among them, and the event
    /// [`CredentialDropped`](crate::EventKind::CredentialDropped) names each field once.
    ///
    /// ```
    /// # use tower_idempotency::outbox::Outbox;
    /// # fn f(outbox: Outbox) {
    /// // Each request is signed by its handler, and the signature does not expire.
    /// let outbox = outbox.keep_credentials();
    /// # }
    /// ```
    ///
    /// # Caveats
    ///
    /// They are in the store until the call has its final response, for operators and in backups:
    /// [encrypt](crate::Engine) it. Those that expire do no good: let the client add them.
    pub const fn keep_credentials(mut self) -> Self {
        self.settings.keeps_credentials = true;
        self
    }

    /// Accepts a call: it returns once the request is in the store, with the id of the call. From
    /// then on the call is sent until it has a final response, whatever becomes of this process.
    ///
    /// `key` names the call for good, in this outbox and to the server, which gets it with every
    /// try: [derive](IdempotencyKey::derived) it from what the call is about. The same call with
    /// the same key, now or later, has the same id, and is not sent another time. What makes it
    /// the same call is its method, its target, its `Content-Type` and its body. Fields of the
    /// connection and of the framing are not kept, nor the key that the request itself may carry.
    ///
    /// It accepts calls while the engine is [draining](Engine::drain), too: another process sends
    /// them.
    ///
    /// # Errors
    ///
    /// [`SendLaterError`]. After [`SendLaterError::Store`] it is not known whether the call is in
    /// the store; the same call with the same key finds out, and is never one too many.
    ///
    /// # Cancellation
    ///
    /// If you drop the future, the call may be in the store, and is sent then.
    ///
    /// # Caveats
    ///
    /// It is not part of your database's transactions. In an operation, call it in a step after the
    /// transaction, with a key that is derived from that step's: a completer sees to it that the
    /// step is made. See [the guide](crate::guide::outbox#with-your-own-data).
    pub async fn send_later<B>(&self, key: &IdempotencyKey, request: Request<B>) -> Result<Key, SendLaterError>
    where
        B: Body<Error: Into<BoxError>> + Unpin,
    {
        let (head, body) = request.into_parts();
        if !self.sender.serves(&head.uri) || head.method == Method::CONNECT {
            return Err(SendLaterError::NotDeclared);
        }
        let body = keep(body, self.settings.request_limit).await.map_err(SendLaterError::Request)?;
        if let Some(rest) = self.engine.rest_of(Work::Store).await.filter(|rest| rest.intake == Intake::Closed) {
            return Err(SendLaterError::Maintenance { retry_in: rest.notice.left, reason: rest.notice.reason });
        }
        let (id, labels) = (self.id(key), self.labels(key, &head));
        let request = self.to_store(key, head, body)?;
        let command = Submit {
            fingerprint: fingerprint(&request),
            mode: Mode::Resumable,
            request: Arc::new(request),
            labels,
            room: true,
            lease: None,
            outgoing: true,
        };
        let submitted = self.engine.apply(&id, None, command).await;
        let submitted = submitted.inspect_err(|error| self.engine.store_failed(Some(&id), Calls::Writes, error));
        match submitted?.output {
            Submitted::Mismatch => Err(SendLaterError::KeyReused),
            Submitted::First(_) => {
                self.engine.emit(&id, || EventKind::Accepted);
                self.state.fresh.put(id);
                Ok(id)
            }
            _ => Ok(id),
        }
    }

    fn to_store(&self, key: &IdempotencyKey, mut head: Parts, body: Bytes) -> Result<StoredRequest, SendLaterError> {
        let invalid = |_| SendLaterError::Request(ClientErrorKind::InvalidKey(InvalidKey::Syntax));
        let line = HeaderValue::try_from(quoted(key.as_str())).map_err(invalid)?;
        head.headers.remove(&self.sender.key_header);
        head.headers.insert(KEY, line);
        let dropped = |name: &HeaderName| self.state.dropped.report(&self.engine, name);
        let keeps_credentials = self.settings.keeps_credentials;
        Ok(StoredRequest::outgoing(&head.method, &head.uri, &head.headers, body, keeps_credentials, dropped))
    }

    fn labels(&self, key: &IdempotencyKey, head: &Parts) -> Labels {
        let place = head.uri.to_string();
        let place = place.split_once('?').map_or(&*place, |(place, _)| place);
        Labels::from_iter([self.label(), Label::new("key", key.as_str())])
            .with("call", format!("{} {place}", head.method))
    }

    /// By which operators find its calls.
    pub(super) fn label(&self) -> Label {
        Label::new("outbox", &*self.name)
    }

    /// The scope of its calls.
    pub(super) fn scope(&self) -> String {
        format!("outbox/{}", self.name)
    }

    pub(super) fn id(&self, key: &IdempotencyKey) -> Key {
        Key::of_runner(&self.scope(), key)
    }

    pub(super) fn is_own(&self, record: &Record) -> bool {
        record.is_outgoing() && record.labels().has(&self.label())
    }
}

/// What makes it the same call.
fn fingerprint(request: &StoredRequest) -> Fingerprint {
    let (method, uri) = (request.method().as_str(), request.uri().to_string());
    let types = request.headers().iter().filter(|(name, _)| *name == CONTENT_TYPE).map(|(_, value)| value.as_bytes());
    let parts = [b"outbox".as_slice(), method.as_bytes(), uri.as_bytes(), request.body()];
    Fingerprint::of(parts.into_iter().chain(types))
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}
