//! What a client prefers (RFC 7240).

use std::time::Duration;

use http::{HeaderMap, HeaderName};

pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Whether `respond-async` is among the preferences: tokens with parameters and
/// values, of which none counts here (RFC 7240 §2).
pub fn is_async(headers: &HeaderMap) -> bool {
    preferences(headers).any(|(name, _)| name.eq_ignore_ascii_case("respond-async"))
}

/// How long the client wants to be kept at most, in seconds (§4.3). Of two, the first one
/// counts (§2).
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let (_, value) = preferences(headers).find(|(name, _)| name.eq_ignore_ascii_case("wait"))?;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // Too many digits are too long for any limit.
    is_number.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
}

/// Names and values, without parameters.
fn preferences(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(of_line).filter_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        Some((name.trim(), value.trim().trim_matches('"')))
    })
}

/// The preferences in one header line.
fn of_line(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let at_comma = move |c: char| {
        let literal = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !literal => escaped = true,
            '"' if !literal => quoted = !quoted,
            _ => {}
        }
        c == ',' && !quoted
    };
    line.split(at_comma)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(line: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(PREFER, line.parse().unwrap());
        headers
    }

    #[test]
    fn preferences_are_read_as_rfc_7240_says() {
        for line in
            ["respond-async", "Respond-Async, wait=10", "foo; bar, respond-async", "a=\"x,\\\"y\", respond-async"]
        {
            assert!(is_async(&headers(line)), "{line}");
        }
        for line in
            ["", "wait=10", "foo=\"a, respond-async, b\"", "foo; respond-async", "x-respond-async", "return=minimal"]
        {
            assert!(!is_async(&headers(line)), "{line}");
        }
    }

    #[test]
    fn the_first_wait_counts_if_it_is_a_number() {
        for (line, seconds) in [
            ("wait=10", Some(10)),
            ("respond-async, WAIT = 0 ; x=1", Some(0)),
            ("wait=\"7\", wait=9", Some(7)),
            ("wait=99999999999999999999999", Some(u64::MAX)),
            ("wait", None),
            ("wait=", None),
            ("wait=-1", None),
            ("wait=1.5", None),
            ("foo=\"wait=3\"", None),
        ] {
            assert_eq!(wait(&headers(line)), seconds.map(Duration::from_secs), "{line}");
        }
    }
}
