//! Names and values of header lines that are in most messages, by their numbers.

use http::header::{self, HeaderName, HeaderValue};

/// **Part of the format**: a change is another one.
static NAMES: [HeaderName; 24] = [
    header::CONTENT_TYPE,
    header::LOCATION,
    header::ETAG,
    header::CACHE_CONTROL,
    header::VARY,
    header::CONTENT_LANGUAGE,
    header::CONTENT_ENCODING,
    header::CONTENT_LOCATION,
    header::CONTENT_DISPOSITION,
    header::LAST_MODIFIED,
    header::EXPIRES,
    header::LINK,
    header::RETRY_AFTER,
    header::SERVER,
    header::X_CONTENT_TYPE_OPTIONS,
    header::STRICT_TRANSPORT_SECURITY,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::USER_AGENT,
    header::HOST,
    header::ORIGIN,
    header::REFERER,
];
const VALUES: [&str; 8] = [
    "application/json",
    "application/json; charset=utf-8",
    "text/plain; charset=utf-8",
    "text/html; charset=utf-8",
    "application/octet-stream",
    "application/grpc",
    "no-store",
    "*/*",
];

pub(in crate::core) fn number_of_name(name: &HeaderName) -> Option<u8> {
    (0..).zip(&NAMES).find_map(|(number, known)| (known == name).then_some(number))
}

pub(in crate::core) fn name(number: u8) -> Option<HeaderName> {
    NAMES.get(usize::from(number)).cloned()
}

pub(in crate::core) fn number_of_value(value: &HeaderValue) -> Option<u8> {
    (0..).zip(VALUES).find_map(|(number, known)| (known.as_bytes() == value.as_bytes()).then_some(number))
}

pub(in crate::core) fn value(number: u8) -> Option<HeaderValue> {
    VALUES.get(usize::from(number)).map(|known| HeaderValue::from_static(known))
}
