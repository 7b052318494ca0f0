//! Forged requests: those that another site has an operator's browser send.
//!
//! A form carries a token that is made of who got it, under a secret in a cookie. Another
//! site can read neither. No process keeps anything, so a form of one process may be sent to
//! another. What the browser says of where the request comes from is asked as well.

use hmac::{Hmac, KeyInit, Mac};
use http::header::{COOKIE, HOST, ORIGIN};
use http::request::Parts;
use sha2::Sha256;

const COOKIE_NAME: &str = "idempotency-inspector";
/// As long as a key of this HMAC is, so that any of them is one.
const SECRET_BYTES: usize = 64;

/// What a browser keeps in the cookie.
#[derive(Clone)]
pub(super) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// A new one, unless the system has no random numbers: then no form can be sent.
    pub(super) fn new() -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).ok().map(|()| Self(bytes))
    }

    /// The one that came with a request.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let lines = parts.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == COOKIE_NAME)?;
        parse_hex(value).map(Self)
    }

    /// What keeps it in the browser. `Strict`: no other site's request carries it. Without a
    /// `Path`, nor does one to another path: other ports of this host are the same site.
    pub(super) fn cookie(&self, parts: &Parts) -> String {
        let secure = if is_encrypted(parts) { "; Secure" } else { "" };
        format!("{COOKIE_NAME}={}; HttpOnly; SameSite=Strict{secure}", hex(&self.0))
    }

    /// What a form that is shown to them has to carry.
    pub(super) fn token(&self, who: &str) -> String {
        hex(&self.mac(who).finalize().into_bytes())
    }

    fn is_token(&self, token: &str, who: &str) -> bool {
        // In constant time.
        parse_hex::<32>(token).is_some_and(|token| self.mac(who).verify_slice(&token).is_ok())
    }

    /// What only those who know the secret can make of these, one after the other.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac: Hmac<Sha256> = Hmac::new(&self.0.into());
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    fn mac(&self, who: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::new(&self.0.into());
        mac.update(who.as_bytes());
        mac
    }
}

/// Whether a request that changes something was sent by a form that this page gave to them.
pub(super) fn is_genuine(parts: &Parts, token: Option<&str>, who: &str) -> bool {
    let secret = Secret::of(parts);
    is_of_this_site(parts) && token.zip(secret).is_some_and(|(token, secret)| secret.is_token(token, who))
}

/// Whether it comes from a page of this site, as far as the browser says. Where it is not
/// HTTPS, browsers say only the origin.
pub(super) fn is_of_this_site(parts: &Parts) -> bool {
    if let Some(site) = parts.headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = parts.headers.get(ORIGIN) else {
        return true;
    };
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok());
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.is_some() && authority == host
}

/// Whether the browser regards the connection as safe: it says so by what it sends along.
/// On the own machine that needs no encryption, and not every browser keeps a `Secure`
/// cookie there.
fn is_encrypted(parts: &Parts) -> bool {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| host.starts_with(own));
    parts.headers.contains_key("sec-fetch-site") && !is_own
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    parse_bytes(text)?.try_into().ok()
}

pub(super) fn parse_bytes(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
