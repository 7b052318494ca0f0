//! Fields of a head that only a newer release knows: kept as bytes, and written back.

use std::borrow::Cow;
use std::sync::Arc;

use minicbor::decode::{self, Decode, Decoder};
use minicbor::encode::{self, Encode, Encoder, Write};

use super::head::WireHead;
use crate::core::message::StoredResponse;
use crate::core::record::Record;

/// The last number in the table of the head, and those before it that are not taken.
const LAST: i64 = 28;
const NOT_TAKEN: [i64; 2] = [20, 23];

/// A head with the fields in it that this release does not know, each a number and a value.
pub(in crate::core) struct WholeHead<'a> {
    pub(in crate::core) known: WireHead<'a>,
    /// Empty in all but the heads of a newer release.
    pub(in crate::core) newer: Cow<'a, [u8]>,
}

impl<'a> WholeHead<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        Self { known: WireHead::of(record), newer: record.history.newer().into() }
    }

    /// As [`WireHead::record`].
    pub(in crate::core) fn record(self, response: Option<Arc<StoredResponse>>) -> Option<Record> {
        let mut record = self.known.record(response)?;
        record.history.set_newer(&self.newer);
        Some(record)
    }
}

impl<'b, C> Decode<'b, C> for WholeHead<'b> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        let start = d.position();
        let known = WireHead::decode(d, ctx)?;
        let map = &d.input()[start..d.position()];
        // As many as it knows: then it needs no second walk.
        let is_known = Decoder::new(map).map()? == Some(known.fields());
        let newer = if is_known { Vec::new() } else { newer_in(map)? };
        Ok(Self { known, newer: newer.into() })
    }
}

impl<C> Encode<C> for WholeHead<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        if self.newer.is_empty() {
            return self.known.encode(e, ctx);
        }
        let mut map = Vec::new();
        // Writing to memory does not fail.
        let _ = minicbor::encode_with(&self.known, &mut map, ctx);
        let mut known = Decoder::new(&map);
        let count = known.map().ok().flatten().unwrap_or_default() + count(&self.newer);
        e.map(count)?;
        for fields in [&map[known.position()..], &self.newer] {
            e.writer_mut().write_all(fields).map_err(encode::Error::write)?;
        }
        Ok(())
    }
}

/// The fields of this map that are not in the table.
#[cold]
fn newer_in(map: &[u8]) -> Result<Vec<u8>, decode::Error> {
    let (mut d, mut newer) = (Decoder::new(map), Vec::new());
    // No release writes a map of no definite length.
    for _ in 0..d.map()?.unwrap_or_default() {
        let start = d.position();
        let number = d.i64()?;
        d.skip()?;
        if !(0..=LAST).contains(&number) || NOT_TAKEN.contains(&number) {
            newer.extend_from_slice(&map[start..d.position()]);
        }
    }
    Ok(newer)
}

fn count(fields: &[u8]) -> u64 {
    let mut d = Decoder::new(fields);
    let mut items = 0;
    while d.position() < fields.len() && d.skip().is_ok() {
        items += 1;
    }
    items / 2
}
