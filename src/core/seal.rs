//! One piece of a record as bytes: format and checksum, a line of JSON, raw
//! bytes.

use std::io::Write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::wire::{DecodeError, WIRE_FORMAT};

const MAGIC: &str = "tower-idempotency/";

pub(super) fn seal(wire: &impl Serialize, raw: &[u8]) -> Bytes {
    let mut sealed = Vec::with_capacity(512 + raw.len());
    // Writing to memory cannot fail. Nor can serializing plain structs of strings
    // and numbers, and if it did the checksum below would keep the piece from
    // being read.
    let _ = writeln!(sealed, "{MAGIC}{WIRE_FORMAT} {:016x}", 0);
    let start = sealed.len();
    let _ = serde_json::to_writer(&mut sealed, wire);
    sealed.push(b'\n');
    sealed.extend_from_slice(raw);
    let sum = checksum(&sealed[start..]);
    let _ = write!(&mut sealed[start - 17..start - 1], "{sum:016x}");
    sealed.into()
}

pub(super) fn open<'a, T: Deserialize<'a>>(
    sealed: &'a [u8],
    corrupt: &DecodeError,
) -> Result<(T, &'a [u8]), DecodeError> {
    let corrupt = || corrupt.clone();
    let (first, rest) = split_line(sealed).ok_or_else(corrupt)?;
    let first = str::from_utf8(first).map_err(|_| corrupt())?;
    let (format, sum) = first.strip_prefix(MAGIC).and_then(|line| line.split_once(' ')).ok_or_else(corrupt)?;
    if !format.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(corrupt());
    }
    let format: u32 = format.parse().map_err(|_| corrupt())?;
    if format > WIRE_FORMAT {
        return Err(DecodeError::Newer(format));
    }
    // The first line is not under the checksum: it has to be as it is written.
    if format == 0 || sum != format!("{:016x}", checksum(rest)) {
        return Err(DecodeError::Corrupt("its checksum does not match"));
    }
    let (json, raw) = split_line(rest).ok_or_else(corrupt)?;
    let wire = serde_json::from_slice(json).map_err(|_| corrupt())?;
    Ok((wire, raw))
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn checksum(bytes: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
