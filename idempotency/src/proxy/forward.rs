//! What a proxy changes about headers: RFC 9110, section 7.6, and RFC 7239.

use http::header::{
    self, CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::{Uri, Version};

use super::arrival::Arrival;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The number of the attempt, for the upstream: a client's is taken away.
pub(crate) const ATTEMPT: HeaderName = HeaderName::from_static("idempotency-attempt");

/// These are about one connection, whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The one line that a header has; of several, none counts.
pub(crate) fn only_line<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())?.to_str().ok()
}

/// Takes off what is about the connection that a message came by.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let named = lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    let named: Vec<_> = named.filter(|name| name != TE).collect();
    for name in named.iter().chain(&HOP_BY_HOP).chain([&CONNECTION]) {
        headers.remove(name);
    }
}

/// The protocol that a client asks to go over to, if it does so properly.
pub(crate) fn wanted_upgrade(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(','));
    let asks = version == Version::HTTP_11 && names.any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asks).cloned()
}

/// Makes the headers of a request those of the request to the upstream.
pub(crate) fn request(headers: &mut HeaderMap, uri: &Uri, arrival: &Arrival) {
    strip(headers);
    headers.remove(&ATTEMPT);
    // The server has sent `100 Continue` already, or will once the body is read.
    headers.remove(EXPECT);
    trailers_only(headers);
    one_line(headers, &COOKIE, "; ");
    if !headers.contains_key(HOST)
        && let Some(host) = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        headers.insert(HOST, host);
    }
    tell_client(headers, arrival);
    add(headers, &VIA, &format!("{} idempotency", number(arrival.version)));
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
    if !arrival.is_trusted {
        for name in [&FOR, &PROTO, &FORWARDED_HOST, &FORWARDED] {
            headers.remove(name);
        }
    }
    let peer = arrival.peer.to_string();
    add(headers, &FOR, &peer);
    headers.entry(PROTO).or_insert(HeaderValue::from_static(arrival.scheme()));
    let host = headers.get(HOST).cloned();
    if let Some(host) = &host {
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    let node = if arrival.peer.is_ipv6() { format!("\"[{peer}]\"") } else { peer };
    let host = host.as_ref().and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\']));
    let host = host.map_or_else(String::new, |host| format!(";host=\"{host}\""));
    add(headers, &FORWARDED, &format!("for={node}{host};proto={}", arrival.scheme()));
}

/// Adds to a list that may be there already, in one line.
fn add(headers: &mut HeaderMap, name: &HeaderName, item: &str) {
    one_line(headers, name, ", ");
    let line = match headers.get(name) {
        Some(line) => [line.as_bytes(), b", ", item.as_bytes()].concat(),
        None => item.as_bytes().to_vec(),
    };
    if let Ok(line) = HeaderValue::from_bytes(&line) {
        headers.insert(name, line);
    }
}

fn number(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    }
}
