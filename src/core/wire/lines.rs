//! Header lines: an array of names and values in turn. A name that has a number
//! in [`known`] is that number, other names are text. Values are bytes, or such
//! a number.

use std::borrow::Cow;

use http::header::{HeaderName, HeaderValue};
use minicbor::data::Type;
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};

use super::known;
use crate::core::message::name_of;

pub(super) type Lines<'a> = Cow<'a, [(HeaderName, HeaderValue)]>;

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
        match known::number_of_name(name) {
            Some(number) => encoder.u8(number)?,
            None => encoder.str(name.as_str())?,
        };
        match known::number_of_value(value) {
            Some(number) => encoder.u8(number)?,
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
    known::name(decoder.u8()?).ok_or_else(strange)
}

fn value(decoder: &mut Decoder<'_>) -> Result<HeaderValue, decode::Error> {
    if decoder.datatype()? == Type::Bytes {
        return HeaderValue::from_bytes(decoder.bytes()?).map_err(|_| strange());
    }
    known::value(decoder.u8()?).ok_or_else(strange)
}
