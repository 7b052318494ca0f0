//! One piece of a record as bytes: what it is, a checksum, and a map of CBOR.

use bytes::Bytes;
use minicbor::{Decode, Decoder, Encode, Encoder};
use sha2::{Digest, Sha256};

use super::format::{CORRUPT_HEAD, DecodeError, WIRE_FORMAT};
use super::newer::WholeHead;

/// No text begins with it, and nothing else of ours.
const MAGIC: u8 = 0xf1;
/// What a head begins with of which most is encrypted: no release may skip that.
const ENCRYPTED: u8 = 0xf3;
/// What pieces of format 1 began with, which were text.
const FIRST_MAGIC: &[u8] = b"tower-idempotency/1 ";
const SUM: usize = 8;

/// `wire` as a piece, which is going to have about `raw` bytes and some fields.
pub(super) fn seal(wire: &impl Encode<()>, raw: usize) -> Bytes {
    seal_as(MAGIC, wire, raw)
}

/// The same of a head, of which most may be encrypted.
pub(super) fn seal_head(head: &WholeHead<'_>) -> Bytes {
    seal_as(if head.known.is_encrypted() { ENCRYPTED } else { MAGIC }, head, 0)
}

fn seal_as(magic: u8, wire: &impl Encode<()>, raw: usize) -> Bytes {
    let mut sealed = Vec::with_capacity(256 + raw);
    sealed.push(magic);
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

/// What is in a piece. Fields that this release does not know are skipped, but those of heads.
pub(in crate::core) fn open<'a, T: Decode<'a, ()>>(sealed: &'a [u8], corrupt: &DecodeError) -> Result<T, DecodeError> {
    open_as(MAGIC, sealed, corrupt)
}

/// The same of a head.
pub(super) fn open_head(sealed: &[u8]) -> Result<WholeHead<'_>, DecodeError> {
    let is_encrypted = sealed.first() == Some(&ENCRYPTED);
    let head: WholeHead<'_> = open_as(if is_encrypted { ENCRYPTED } else { MAGIC }, sealed, &CORRUPT_HEAD)?;
    if head.known.is_encrypted() == is_encrypted { Ok(head) } else { Err(CORRUPT_HEAD) }
}

fn open_as<'a, T: Decode<'a, ()>>(magic: u8, sealed: &'a [u8], corrupt: &DecodeError) -> Result<T, DecodeError> {
    let corrupt = || corrupt.clone();
    if sealed.starts_with(FIRST_MAGIC) {
        return Err(DecodeError::Unreleased(1));
    }
    let rest = sealed.strip_prefix(&[magic]).ok_or_else(corrupt)?;
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
