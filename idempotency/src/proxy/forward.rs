//! What a proxy changes about headers: RFC 9110, section 7.6, and RFC 7239.

use bytes::Bytes;
use http::header::{
    self, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::Authority;
use http::{Request, Uri, Version};

use super::answer::Trouble;
use super::arrival::Arrival;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED: &str = "x-forwarded-";
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The number of the attempt, for the upstream: a client's is taken away.
pub(crate) const ATTEMPT: HeaderName = HeaderName::from_static("idempotency-attempt");

/// These are about one connection, whether `Connection` names them or not. A constant would be made
/// anew at each place.
static HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What is seldom in a request, and not passed on as it is.
static SELDOM: [HeaderName; 4] = [EXPECT, TE, COOKIE, ATTEMPT];

/// What a client says of itself, beside `X-Forwarded-…`.
static SAID: [HeaderName; 2] = [FORWARDED, REAL_IP];

/// The one line that a header has; of several, none counts.
pub(crate) fn only_line<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())?.to_str().ok()
}

/// Whether the proxy itself says what is in this header, or takes it off.
pub(crate) fn is_own(name: &HeaderName) -> bool {
    let others = [CONNECTION, TE, EXPECT, HOST, CONTENT_LENGTH, VIA, FORWARDED, ATTEMPT];
    HOP_BY_HOP.contains(name) || others.contains(name) || name.as_str().starts_with(X_FORWARDED)
}

/// What no proxy may pass on: a request of which two servers could think differently where it
/// ends (RFC 9112, section 6.1), or to whom it is (section 3.2).
///
/// # Errors
///
/// [`Trouble`] that says what is wrong.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), Trouble> {
    let headers = request.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        return Err(Trouble::UnknownCoding);
    }
    match headers.get_all(HOST).iter().count() {
        1 => Ok(()),
        0 if request.version() != Version::HTTP_11 => Ok(()),
        _ => Err(Trouble::NotOneHost),
    }
}

/// Whether one of these is there. It compares; to look each of them up, it would be hashed, and most
/// messages have none of what is asked for here.
fn has_any(headers: &HeaderMap, is_one: impl Fn(&HeaderName) -> bool) -> bool {
    headers.keys().any(is_one)
}

/// Takes off what is about the connection that a message came by.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if !has_any(headers, |name| *name == CONNECTION || HOP_BY_HOP.contains(name)) {
        return;
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        // The chunks say where the body ends, whatever this says: RFC 9112, section 6.3.
        headers.remove(CONTENT_LENGTH);
    }
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let named = lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    let named: Vec<_> = named.filter(|name| name != TE).collect();
    for name in named.iter().chain(&HOP_BY_HOP).chain([&CONNECTION]) {
        headers.remove(name);
    }
}

/// The protocol that a client asks to go over to, if it does so properly: WebSocket. With h2c, say,
/// it could send further requests, past all that is guarded.
pub(crate) fn wanted_upgrade(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(','));
    let asks = version == Version::HTTP_11 && names.any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    let is_websocket = |protocol: &&HeaderValue| protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    headers.get(UPGRADE).filter(|_| asks).filter(is_websocket).cloned()
}

/// Makes the headers of a request those of the request to the upstream.
pub(crate) fn request(headers: &mut HeaderMap, uri: &Uri, arrival: &Arrival) {
    strip(headers);
    if has_any(headers, |name| SELDOM.contains(name)) {
        headers.remove(&ATTEMPT);
        // The server has sent `100 Continue` already, or will once the body is read.
        headers.remove(EXPECT);
        trailers_only(headers);
        one_line(headers, &COOKIE, "; ");
    }
    // What the request is for counts more than `Host`: RFC 9112, section 3.2.2; RFC 9113, section 8.3.1.
    if let Some(host) = uri.authority().and_then(host) {
        headers.insert(HOST, host);
    }
    tell_client(headers, arrival);
    add(headers, &VIA, HeaderValue::from_static(via(arrival.version)));
}

/// The host and its port, without a user.
fn host(authority: &Authority) -> Option<HeaderValue> {
    let text = authority.as_str();
    HeaderValue::from_str(text.rsplit_once('@').map_or(text, |(_, host)| host)).ok()
}

/// What the upstream accepts of `TE` goes for the whole way only if it is about trailers.
fn trailers_only(headers: &mut HeaderMap) {
    let Some(te) = headers.remove(TE) else { return };
    let mut codings = te.to_str().unwrap_or_default().split(',');
    if codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers")) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// HTTP/2 may have several lines of `Cookie`, and HTTP/1.1 one: RFC 9113, section 8.2.3.
fn one_line(headers: &mut HeaderMap, name: &HeaderName, between: &str) {
    if headers.get_all(name).iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(line) = HeaderValue::from_bytes(&lines.join(between.as_bytes())) {
        headers.insert(name, line);
    }
}

/// Who the client is. What a peer that is not trusted says of it is gone.
fn tell_client(headers: &mut HeaderMap, arrival: &Arrival) {
    let is_said = |name: &HeaderName| name.as_str().starts_with(X_FORWARDED);
    if !arrival.is_trusted && has_any(headers, |name| is_said(name) || SAID.contains(name)) {
        let said: Vec<_> = headers.keys().filter(|name| is_said(name)).cloned().collect();
        for name in said.iter().chain(&SAID) {
            headers.remove(name);
        }
    }
    let peer = &*arrival.peer;
    headers.entry(PROTO).or_insert(HeaderValue::from_static(peer.scheme()));
    let host = headers.get(HOST).cloned();
    if let Some(host) = &host {
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    let host = host.as_ref().and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\']));
    let [before, host, after] = host.map_or([""; 3], |host| [";host=\"", host, "\""]);
    let forwarded = [&peer.forwarded, before, host, after, ";proto=", peer.scheme()].concat();
    if let Ok(item) = HeaderValue::from_maybe_shared(Bytes::from(forwarded)) {
        add(headers, &FORWARDED, item);
    }
    add(headers, &FOR, peer.item.clone());
}

/// Adds to a list that may be there already, in one line.
fn add(headers: &mut HeaderMap, name: &HeaderName, item: HeaderValue) {
    if !has_any(headers, |own| own == name) {
        headers.insert(name, item);
        return;
    }
    one_line(headers, name, ", ");
    let whole = headers.get(name).map(|line| [line.as_bytes(), b", ", item.as_bytes()].concat());
    let line = whole.map_or(Ok(item), |whole| HeaderValue::from_maybe_shared(Bytes::from(whole)));
    if let Ok(line) = line {
        headers.insert(name, line);
    }
}

const fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0 idempotency",
        Version::HTTP_2 => "2.0 idempotency",
        _ => "1.1 idempotency",
    }
}
