//! Header lines: an array of names and values in turn. A name that is in the
//! table below is its number, other names are text. Values are bytes, or such a
//! number.

use std::borrow::Cow;

use http::header::{self, HeaderName, HeaderValue};
use minicbor::data::Type;
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};

use crate::core::message::name_of;

pub(super) type Lines<'a> = Cow<'a, [(HeaderName, HeaderValue)]>;

/// What is in most messages. **Part of the format**: a change is another one.
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

pub(super) fn none(lines: &Lines<'_>) -> bool {
    lines.is_empty()
}

pub(super) fn encode<C, W: Write>(
    lines: &Lines<'_>,
    encoder: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    encoder.array(2 * lines.len() as u64)?;
    for (name, value) in lines.iter() {
        match (0..).zip(&NAMES).find(|(_, known)| *known == name) {
            Some((number, _)) => encoder.u32(number)?,
            None => encoder.str(name.as_str())?,
        };
        match (0..).zip(VALUES).find(|(_, known)| known.as_bytes() == value.as_bytes()) {
            Some((number, _)) => encoder.u32(number)?,
            None => encoder.bytes(value.as_bytes())?,
        };
    }
    Ok(())
}

pub(super) fn decode<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Lines<'static>, decode::Error> {
    let count = decoder.array()?.filter(|count| count % 2 == 0).ok_or_else(strange)?;
    // Each takes a byte at least: what is not there is not made room for.
    let mut lines = Vec::with_capacity(usize::try_from(count / 2).unwrap_or(0).min(64));
    for _ in 0..count / 2 {
        lines.push((name(decoder)?, value(decoder)?));
    }
    Ok(lines.into())
}

fn strange() -> decode::Error {
    decode::Error::message("no header lines")
}

fn name(decoder: &mut Decoder<'_>) -> Result<HeaderName, decode::Error> {
    if decoder.datatype()? == Type::String {
        return name_of(decoder.str()?.as_bytes()).ok_or_else(strange);
    }
    known(&NAMES, decoder).cloned()
}

fn value(decoder: &mut Decoder<'_>) -> Result<HeaderValue, decode::Error> {
    if decoder.datatype()? == Type::Bytes {
        return HeaderValue::from_bytes(decoder.bytes()?).map_err(|_| strange());
    }
    Ok(HeaderValue::from_static(known(&VALUES, decoder)?))
}

fn known<'t, T>(table: &'t [T], decoder: &mut Decoder<'_>) -> Result<&'t T, decode::Error> {
    table.get(usize::from(decoder.u8()?)).ok_or_else(strange)
}
