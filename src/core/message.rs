//! Requests and responses as they are kept, and which headers are.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use http::header::{
    AGE, CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, StatusCode, Uri};

use super::credential::is_credential;

/// Up to this many bytes, a body is copied to be kept: it may be a slice of a
/// buffer that is much larger, and would keep all of that. A larger one is copied
/// where it is such a slice, see [`in_its_own_piece`].
pub(super) const COPIED: usize = 16 << 10;

/// A request as it is kept for an attempt that runs it again.
///
/// Credentials are left out, by their names. A word is what stands between dashes
/// or underscores. A name is taken for a credential's
///
/// - with one of the words `accesstoken`, `apikey`, `apikeys`, `auth`,
///   `authenticate`, `authentication`, `authorization`, `authtoken`, `bearer`,
///   `cert`, `certificate`, `cookie`, `cookie2`, `credential`, `credentials`,
///   `csrf`, `csrftoken`, `dpop`, `idtoken`, `jwt`, `otp`, `passcode`,
///   `passphrase`, `passwd`, `password`, `privatekey`, `refreshtoken`, `secret`,
///   `secretkey`, `secrets`, `session`, `sessionid`, `sessiontoken`, `signature`,
///   `sso`, `totp`, `xsrf`, `xsrftoken`;
/// - with `key` or `keys` behind `access`, `account`, `admin`, `api`, `app`,
///   `application`, `customer`, `encryption`, `functions`, `idempotency`,
///   `license`, `master`, `private`, `rapidapi`, `secret`, `signing` or
///   `subscription`: `X-Api-Key`, and not `X-Partition-Key`;
/// - with `token` as its last word, but for one that marks a place (behind
///   `continuation`, `page` or `sync`), or with `tokens` behind `access`, `auth`,
///   `csrf`, `id`, `refresh` or `session`;
/// - with `data` behind `oidc`, which is how a load balancer of AWS hands on what
///   it knows of a user.
///
/// So the client's `Idempotency-Key` is left out too: a record must not give it
/// away. For each other name that a layer leaves out, it emits
/// [`CredentialDropped`](crate::EventKind::CredentialDropped) once. The fields that
/// belong to the connection are left out. The request target and the body are
/// kept as they came.
///
/// What a `Connection` header names is kept: hyper and axum hand it to the
/// handler, so a rerun has to see it too, and no client can choose what it
/// lacks.
///
/// Trailers are kept as headers are, and so is then the `Trailer` field that
/// names them.
///
/// `Debug` shows how much there is of it, and not what.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoredRequest {
    method: Method,
    uri: Uri,
    headers: Lines,
    body: Bytes,
    trailers: Lines,
    /// Whose it is, as JSON.
    principal: Option<Box<[u8]>>,
}

/// Header or trailer lines, in their order.
pub(super) type Lines = Vec<(HeaderName, HeaderValue)>;

impl StoredRequest {
    /// Keeps a request without trailers, less credentials and connection fields.
    #[doc(hidden)]
    pub fn capture(method: &Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Self {
        Self::capture_with_trailers(method, uri, headers, body, &HeaderMap::new())
    }

    /// Keeps a request, less credentials and connection fields.
    #[doc(hidden)]
    pub fn capture_with_trailers(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        trailers: &HeaderMap,
    ) -> Self {
        Self::keep(method, uri, headers, in_its_own_piece(body), trailers, |_| true, |_| {})
    }

    /// The same with a body that went through [`in_its_own_piece`], and of the headers only
    /// those that `may` be kept; `dropped` hears of credentials.
    pub(crate) fn keep(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        trailers: &HeaderMap,
        may: impl Fn(&HeaderName) -> bool,
        dropped: impl Fn(&HeaderName),
    ) -> Self {
        let keep = |name: &HeaderName| !is_of_connection(name) && !is_told_credential(name, &dropped);
        let trailers = chosen(trailers, keep);
        let headers = chosen(headers, |name| may(name) && (keep(name) || (*name == TRAILER && !trailers.is_empty())));
        let ([headers, trailers], body) = in_one_piece([headers, trailers], body);
        Self::from_parts(method.clone(), copied(uri), headers, body, trailers, None)
    }

    /// A call to another service, which an outbox makes later: with its idempotency key, which is
    /// no client's secret there, and with credentials only where those may be kept.
    #[cfg(feature = "client")]
    pub(crate) fn outgoing(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        keeps_credentials: bool,
        dropped: impl Fn(&HeaderName),
    ) -> Self {
        let is_kept = |name: &HeaderName| {
            let may = keeps_credentials || name.as_str() == "idempotency-key" || !is_told_credential(name, &dropped);
            may && !is_of_connection(name)
        };
        let ([headers], body) = in_one_piece([chosen(headers, is_kept)], in_its_own_piece(body));
        Self::from_parts(method.clone(), copied(uri), headers, body, Vec::new(), None)
    }

    /// The same without its body: to be shown.
    pub(super) fn without_body(&self) -> Self {
        Self { body: Bytes::new(), ..self.clone() }
    }

    pub(super) const fn from_parts(
        method: Method,
        uri: Uri,
        headers: Lines,
        body: Bytes,
        trailers: Lines,
        principal: Option<Box<[u8]>>,
    ) -> Self {
        Self { method, uri, headers, body, trailers, principal }
    }

    /// The same as one of this principal's.
    #[doc(hidden)]
    #[must_use]
    pub fn with_principal(mut self, json: impl Into<Box<[u8]>>) -> Self {
        self.principal = Some(json.into());
        self
    }

    /// Whose it is, as JSON: what [`principal`](crate::IdempotencyLayer::principal) took from
    /// its extensions.
    pub fn principal(&self) -> Option<&[u8]> {
        self.principal.as_deref()
    }

    /// The method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The request target.
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The kept header lines, in their order.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The body's bytes.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The kept trailer lines, in their order.
    pub fn trailers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.trailers
    }
}

/// Why a response was delivered to its first client and not retained.
///
/// The first response has it in its head, in `Idempotency-Replay-Unavailable`, and so has
/// the response to every retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotRetained {
    /// Body and trailers are larger than the
    /// [response limit](crate::IdempotencyLayer::response_limit).
    #[default]
    TooLarge,
    /// A stream: of events, or [said](crate::Streaming) to be one, or [held
    /// back](crate::IdempotencyLayer::stream_after) for too long.
    Streamed,
    /// The body broke off, or was shorter or longer than announced.
    Incomplete,
    /// A [hook](crate::IdempotencyLayer::redact_response) removed the body.
    Redacted,
}

impl NotRetained {
    const ALL: [Self; 4] = [Self::TooLarge, Self::Streamed, Self::Incomplete, Self::Redacted];

    /// As the header and the problem's `reason` say it: `size-exceeded`,
    /// `streaming`, `incomplete` or `redacted`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "size-exceeded",
            Self::Streamed => "streaming",
            Self::Incomplete => "incomplete",
            Self::Redacted => "redacted",
        }
    }

    /// Its number in a record.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::TooLarge => 0,
            Self::Streamed => 1,
            Self::Incomplete => 2,
            Self::Redacted => 3,
        }
    }

    /// What a later release says is the default.
    pub(super) fn numbered(number: u32) -> Self {
        Self::ALL.into_iter().find(|why| why.number() == number).unwrap_or_default()
    }
}

/// A final response as it is kept and replayed.
///
/// Header lines keep their order, their duplicates and their bytes. Not kept:
/// fields that belong to the connection (RFC 9110 §7.6.1) or to the framing,
/// `Date`, `Age`, request and trace ids, and what is taken for a credential, by
/// the list of [`StoredRequest`]: `Set-Cookie` is.
/// Trailers are kept as headers are, and so is then the `Trailer` field that
/// names them.
///
/// `Debug` shows how much there is of it, and not what.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoredResponse {
    status: StatusCode,
    headers: Lines,
    body: Result<Bytes, NotRetained>,
    trailers: Lines,
}

impl StoredResponse {
    /// Keeps a response without trailers. A `body` of `None` says that it was
    /// delivered and not retained, because it was too large.
    pub fn capture(status: StatusCode, headers: &HeaderMap, body: Option<Bytes>) -> Self {
        let body = body.map(in_its_own_piece).ok_or_else(NotRetained::default);
        Self::keep(status, headers, body, &HeaderMap::new(), |_| true, |_| {})
    }

    /// Keeps a response with its trailers.
    pub fn capture_with_trailers(status: StatusCode, headers: &HeaderMap, body: Bytes, trailers: &HeaderMap) -> Self {
        Self::keep(status, headers, Ok(in_its_own_piece(body)), trailers, |_| true, |_| {})
    }

    /// Keeps the head of a response that was delivered and not retained.
    #[doc(hidden)]
    pub fn capture_head(status: StatusCode, headers: &HeaderMap, why: NotRetained) -> Self {
        Self::keep(status, headers, Err(why), &HeaderMap::new(), |_| true, |_| {})
    }

    /// The same with a body that went through [`in_its_own_piece`], and of the headers
    /// only those that `may` be kept; `dropped` hears of credentials.
    pub(crate) fn keep(
        status: StatusCode,
        headers: &HeaderMap,
        body: Result<Bytes, NotRetained>,
        trailers: &HeaderMap,
        may: impl Fn(&HeaderName) -> bool,
        dropped: impl Fn(&HeaderName),
    ) -> Self {
        let named = named_by_connection(headers);
        let keep = |name: &HeaderName| {
            let passes = is_of_connection(name) || is_of_one_delivery(name) || named.contains(name);
            !passes && !is_told_credential(name, &dropped)
        };
        let trailers = chosen(trailers, keep);
        let announced = |name: &HeaderName| *name == TRAILER && !trailers.is_empty() && !named.contains(name);
        let headers = chosen(headers, |name| may(name) && (keep(name) || announced(name)));
        let (body, not_retained) = body.map_or_else(|why| (Bytes::new(), Some(why)), |body| (body, None));
        let ([headers, trailers], body) = in_one_piece([headers, trailers], body);
        Self::from_parts(status, headers, not_retained.map_or(Ok(body), Err), trailers)
    }

    /// The same with an empty body, if it has one: to be shown.
    pub(super) fn without_body(&self) -> Self {
        Self { body: self.body.as_ref().map(|_| Bytes::new()).map_err(Clone::clone), ..self.clone() }
    }

    pub(super) const fn from_parts(
        status: StatusCode,
        headers: Lines,
        body: Result<Bytes, NotRetained>,
        trailers: Lines,
    ) -> Self {
        Self { status, headers, body, trailers }
    }

    /// The status code.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The kept header lines, in their order.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The body's bytes, or `None` if it was not retained.
    pub fn body(&self) -> Option<&Bytes> {
        self.body.as_ref().ok()
    }

    /// The kept trailer lines, in their order.
    pub fn trailers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.trailers
    }

    /// Why the body and the trailers were not retained, if they were not.
    pub fn not_retained(&self) -> Option<NotRetained> {
        self.body.as_ref().err().copied()
    }
}

/// What is small, in a piece of its own.
pub(super) fn on_its_own(body: Bytes) -> Bytes {
    if body.len() <= COPIED { Bytes::copy_from_slice(&body) } else { body }
}

/// A body that is to be kept: copied, if it is large and a slice of what others
/// share or of a buffer that is larger still. Small ones are copied when they are
/// kept.
pub(crate) fn in_its_own_piece(body: Bytes) -> Bytes {
    if body.len() <= COPIED {
        return body;
    }
    // Takes the buffer over if nothing else has a slice of it, and copies if not.
    let mut bytes = Vec::from(body);
    bytes.shrink_to_fit();
    bytes.into()
}

/// The header lines that are to be kept.
fn chosen(headers: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> Vec<(&HeaderName, &HeaderValue)> {
    let mut lines = Vec::with_capacity(headers.len());
    lines.extend(headers.iter().filter(|(name, _)| keep(name)));
    lines
}

/// These lines, and a body that went through [`in_its_own_piece`]. All values, and the body if
/// it is small, are copied into one piece: they were slices of a connection's read buffer.
///
/// Nothing is taken that is larger than what is kept: what an allocator splits off for each
/// response it has to put together again, at some other time.
fn in_one_piece<const N: usize>(of: [Vec<(&HeaderName, &HeaderValue)>; N], body: Bytes) -> ([Lines; N], Bytes) {
    let copied = if body.len() <= COPIED { &*body } else { &[] };
    let values: usize = of.iter().flatten().map(|(_, value)| value.len()).sum();
    let mut piece = Vec::with_capacity(values + copied.len());
    of.iter().flatten().for_each(|(_, value)| piece.extend_from_slice(value.as_bytes()));
    piece.extend_from_slice(copied);
    let is_copied = copied.len() == body.len();
    let mut piece = Bytes::from(piece);
    let lines = of.map(|lines| lines.iter().map(|(name, value)| copy_of(name, value, &mut piece)).collect());
    (lines, if is_copied { piece } else { body })
}

/// The line with its value from the front of `piece`.
fn copy_of(name: &HeaderName, value: &HeaderValue, piece: &mut Bytes) -> (HeaderName, HeaderValue) {
    let copy = HeaderValue::from_maybe_shared(piece.split_to(value.len()));
    // What was one value is one value again.
    let mut copy = copy.unwrap_or_else(|_| value.clone());
    copy.set_sensitive(value.is_sensitive());
    (name.clone(), copy)
}

/// A name of a line that was kept. HTTP/2 has names with a `"` in them, which can't be made as
/// others are.
pub(super) fn name_of(bytes: &[u8]) -> Option<HeaderName> {
    HeaderName::from_lowercase(bytes).or_else(|_| HeaderName::from_bytes(bytes)).ok()
}

/// The same target in a piece of its own.
fn copied(uri: &Uri) -> Uri {
    let origin = uri.path_and_query().filter(|_| uri.authority().is_none() && uri.scheme().is_none());
    let copy = match origin {
        Some(path) => Uri::from_maybe_shared(Bytes::copy_from_slice(path.as_str().as_bytes())),
        None => Uri::from_maybe_shared(Bytes::from(uri.to_string().into_bytes())),
    };
    copy.unwrap_or_else(|_| uri.clone())
}

/// What clients and handlers say is not for logs: only its size is shown.
impl fmt::Debug for StoredRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.uri.path_and_query().map_or(0, |target| target.as_str().len());
        f.debug_struct("StoredRequest")
            .field("method", &self.method)
            .field("target_len", &target)
            .field("headers", &self.headers.len())
            .field("body_len", &self.body.len())
            .field("trailers", &self.trailers.len())
            .field("principal_len", &self.principal.as_ref().map_or(0, |json| json.len()))
            .finish()
    }
}

impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.status)
            .field("headers", &self.headers.len())
            .field("body_len", &self.body.as_ref().map(Bytes::len))
            .field("trailers", &self.trailers.len())
            .finish()
    }
}

/// How many bytes of memory it takes to keep it.
impl StoredRequest {
    pub(super) fn held(&self) -> usize {
        let uri = self.uri.path_and_query().map_or(0, |target| target.as_str().len())
            + self.uri.authority().map_or(0, |authority| authority.as_str().len());
        arc(size_of::<Self>())
            + shared(uri)
            + held_by([&self.headers, &self.trailers], self.body.len())
            + piece(self.principal.as_ref().map_or(0, |json| json.len()))
    }
}

impl StoredResponse {
    pub(super) fn held(&self) -> usize {
        let body = self.body.as_ref().map_or(0, Bytes::len);
        arc(size_of::<Self>()) + held_by([&self.headers, &self.trailers], body)
    }
}

/// Header and trailer lines, and the body: see [`in_one_piece`].
fn held_by(lines: [&Lines; 2], body: usize) -> usize {
    // Most names are known ones and take nothing; others are short.
    const NAME: usize = 16;
    let values: usize = lines.into_iter().flatten().map(|(_, value)| value.len()).sum();
    let lines = lines
        .into_iter()
        .map(|lines| piece(lines.capacity() * size_of::<(HeaderName, HeaderValue)>()) + lines.len() * NAME);
    let bytes = if body <= COPIED { shared(values + body) } else { shared(values) + shared(body) };
    lines.sum::<usize>() + bytes
}

/// What an allocator takes for so many bytes: a word of its own, in steps of 16.
pub(super) const fn piece(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes.saturating_add(size_of::<usize>()).next_multiple_of(16) }
}

/// The same, where a [`Bytes`] counts who has it.
const fn shared(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { piece(bytes) + piece(3 * size_of::<usize>()) }
}

/// The same for what is in an [`Arc`](std::sync::Arc).
pub(super) const fn arc(bytes: usize) -> usize {
    piece(bytes + 2 * size_of::<usize>())
}

/// A set: the list may be as long as its sender likes.
fn named_by_connection(headers: &HeaderMap) -> HashSet<HeaderName> {
    let lists = headers.get_all(CONNECTION).iter().filter_map(|list| list.to_str().ok());
    let options = lists.flat_map(|list| list.split(','));
    options.filter_map(|option| HeaderName::from_bytes(option.trim().as_bytes()).ok()).collect()
}

fn is_of_connection(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE]
        .contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

/// Whether a trailer of this name is part of what a request asks for: not of how,
/// when or by whom it was sent, which a retry may say anew.
pub(crate) fn is_of_request(name: &HeaderName) -> bool {
    !is_of_connection(name) && !is_of_one_delivery(name) && !is_credential(name)
}

fn is_told_credential(name: &HeaderName, dropped: impl Fn(&HeaderName)) -> bool {
    let is_credential = is_credential(name);
    if is_credential {
        dropped(name);
    }
    is_credential
}

fn is_of_one_delivery(name: &HeaderName) -> bool {
    [DATE, AGE].contains(name)
        || matches!(
            name.as_str(),
            "request-id"
                | "x-request-id"
                | "x-correlation-id"
                | "traceparent"
                | "tracestate"
                | "server-timing"
                | "authentication-info"
                | "proxy-authentication-info"
                | "idempotency-expires-in"
                | "idempotent-replayed"
                | "idempotency-replay-unavailable"
        )
}
