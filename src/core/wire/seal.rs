//! One piece of a record as bytes: what it is, a checksum, and a map of CBOR.

use bytes::Bytes;
use minicbor::{Decode, Decoder, Encode, Encoder};
use sha2::{Digest, Sha256};

use super::format::{DecodeError, WIRE_FORMAT};

/// No text begins with it, and nothing else of ours.
const MAGIC: u8 = 0xf1;
/// What pieces of format 1 began with, which were text.
const FIRST_MAGIC: &[u8] = b"tower-idempotency/1 ";
const SUM: usize = 8;

/// `wire` as a piece, which is going to have about `raw` bytes and some fields.
pub(super) fn seal(wire: &impl Encode<()>, raw: usize) -> Bytes {
    let mut sealed = Vec::with_capacity(256 + raw);
    sealed.push(MAGIC);
    // Writing to memory cannot fail. Nor can encoding plain structs of text and
    // numbers, and if it did the checksum below would keep the piece from being
    // read.
    let _ = Encoder::new(&mut sealed).u32(WIRE_FORMAT);
    let start = sealed.len();
    sealed.extend_from_slice(&[0; SUM]);
    let _ = minicbor::encode(wire, &mut sealed);
    let sum = checksum(&sealed[start + SUM..]);
    sealed[start..start + SUM].copy_from_slice(&sum);
    sealed.into()
}

/// What is in a piece. Fields that this release does not know are skipped.
pub(super) fn open<'a, T: Decode<'a, ()>>(sealed: &'a [u8], corrupt: &DecodeError) -> Result<T, DecodeError> {
    let corrupt = || corrupt.clone();
    if sealed.starts_with(FIRST_MAGIC) {
        return Err(DecodeError::Unreleased(1));
    }
    let rest = sealed.strip_prefix(&[MAGIC]).ok_or_else(corrupt)?;
    let mut decoder = Decoder::new(rest);
    let format = decoder.u32().map_err(|_| corrupt())?;
    if format > WIRE_FORMAT {
        return Err(DecodeError::Newer(format));
    }
    let (sum, map) = rest[decoder.position()..].split_first_chunk::<SUM>().ok_or_else(corrupt)?;
    // What is before the checksum is not under it: it has to be as it is written.
    if format != WIRE_FORMAT || decoder.position() != 1 || *sum != checksum(map) {
        return Err(DecodeError::Corrupt("its checksum does not match"));
    }
    let mut decoder = Decoder::new(map);
    let wire = decoder.decode().map_err(|_| corrupt())?;
    if decoder.position() == map.len() { Ok(wire) } else { Err(corrupt()) }
}

pub(super) fn checksum(bytes: &[u8]) -> [u8; SUM] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    [a, b, c, d, e, f, g, h]
}
