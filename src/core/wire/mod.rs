//! Records as bytes: a small head and write-once parts.
//!
//! Every piece begins with a byte that no text begins with, the number of the
//! format, and eight bytes of a SHA-256 of what follows: a map of CBOR (RFC 8949)
//! whose keys are the numbers below. A field that has its default is left out.
//!
//! | head | | default |
//! |---|---|---|
//! | 0 | version | |
//! | 1 | mode: 0 at-most-once, 1 resumable | 0 |
//! | 2 | the fingerprint's digest | |
//! | 3 | hold: `[0]` free, `[1, fence, lease]`, `[2, why]` parked, `[3]` cleared | `[0]` |
//! | 4 | progress: `[0]` pending, `[1]` paid, `[2, retention]` complete | `[0]` |
//! | 5, 6 | attempts, and how many of them are forgiven | 1, 0 |
//! | 7 | how long it rests | 0 |
//! | 8, 9 | whether there is a request, how many steps | no, 0 |
//! | 10 | the instance that wrote it | none |
//! | 11, 12, 13 | history: entries, how many are dropped, how many of those are steps that were done | none, 0, 0 |
//! | 14 | whether it was accepted for later | no |
//! | 15 | callback: `[0]` none, `[1]` wanted, `[2, id, tries, rest]` owed, `[3, id]` made, `[4, id]` given up | `[0]` |
//! | 16, 17, 18, 19 | the fingerprint's scheme, authority, content, trailers | 1, none |
//! | 20 | *not used* | |
//! | 21 | labels, each a text `name=value` | none |
//! | 22 | why the last attempt ended without a response | none |
//! | 23 | *reserved:* what a later scheme of fingerprints adds | |
//! | 24 | whether what it did is undone: then a plan of that is the part behind its steps | no |
//! | 25 | the same head in clear, encrypted: then 2, 10, 16 to 19, 21, 22, 26, 27 and the texts are empty here, and the first byte is another one | none |
//! | 26, 27 | the fingerprint's digest by rules, and the number of these | none, 0 |
//! | 28 | whether it is a call that an outbox is to make | no |
//!
//! | | request | response | step |
//! |---|---|---|---|
//! | 0 | method | status | name |
//! | 1 | target | headers | 0 begun, 1 saved, 2 failed |
//! | 2 | headers | trailers | attempt, if it is not 1 |
//! | 3 | trailers | body, if it is retained | how long after the claim |
//! | 4 | body | why not: 0 too large, 1 streamed, 2 incomplete, 3 redacted | hash of the input |
//! | 5 | principal, as JSON | | whether its key is a UUID |
//! | 6 | | | whether it was paid |
//! | 7 | | | result or error, as the handler's JSON |
//! | 8 | | | attempt and time, after its claim, by which it was undone |
//!
//! | | plan of what is undone |
//! |---|---|
//! | 0 | the steps' names |
//! | 1 | attempt, if it is not 1 |
//! | 2 | how long after the claim |
//! | 3 | the response, as above |
//!
//! What is encrypted is in an envelope: a byte of its own, the format of that, the length
//! and the name of the key, 24 bytes of nonce, the ciphertext (XChaCha20-Poly1305) with its
//! tag. Authenticated along: the hash of the record's key, and which part it is. In it is
//! the piece as it would be in clear. Parts of one record may be either.
//!
//! Times are milliseconds. Header lines are in `lines`, what of them has a number in `known`.
//!
//! # What may change
//!
//! Fields may be added, and are skipped by a release that does not know them. In a head they
//! stay all the same, as they were read, through all writes until the operation is forgotten.
//! So a new field of the head has to describe the operation as a whole, as a label does; one
//! that speaks of a state, an attempt or a write names it (by its number, or its version), and
//! its reader asks whether the record is still there. Where the head is encrypted, those
//! in clear stay in clear, and the encrypted ones encrypted; one that was read from a head in
//! clear is encrypted with the rest of it. From a step they are dropped when its result is
//! saved, and so is an entry of the history that is not known; builds from before fields stayed
//! drop those of the head, too. So a new field has to be one whose absence means what it meant
//! before. What must not be skipped (another kind of hold, progress, callback, or state of a
//! step) and what means something else takes another format: a higher number is
//! [newer](DecodeError::Newer), anything else is corrupt, and neither is ever taken
//! for "no record". Format 1 was JSON, and was never released.

pub(in crate::core) mod envelope;
pub(in crate::core) mod format;
pub(in crate::core) mod head;
pub(in crate::core) mod known;
mod lines;
pub(in crate::core) mod newer;
pub(in crate::core) mod parts;
pub(in crate::core) mod seal;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use self::envelope::is_sealed;
use self::format::{CORRUPT_HEAD, MISSING_PART, number};
pub use self::format::{DecodeError, PartId, WIRE_FORMAT};
use self::newer::WholeHead;
use self::parts::{
    decode_request, decode_response, decode_step, decode_undoing, encode_request, encode_response, encode_step,
    encode_undoing,
};
use self::seal::{open_head, seal_head};
use super::record::Record;
use super::record::hollow::{hollow_request, hollow_response, hollow_step, hollow_undoing};
use super::record::sealed::Sealed;
use super::record::time::{Timestamp, Version};

/// A record as bytes: the head, and the parts that are new in this version.
///
/// `Debug` shows how much there is of it, and not what.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "taken apart by stores")]
pub struct Encoded {
    /// The head; small, and another one in every version.
    pub head: Bytes,
    /// The parts that were written in this version. Older parts stay as they
    /// are, and the head says which there are.
    pub fresh: Vec<(PartId, Bytes)>,
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fresh: Vec<_> = self.fresh.iter().map(|(id, bytes)| (id, bytes.len())).collect();
        f.debug_struct("Encoded").field("head_len", &self.head.len()).field("fresh_len", &fresh).finish()
    }
}

/// The times a store keeps beside a record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "these two are all there is")]
pub struct Times {
    /// When the record was first stored.
    pub created: Timestamp,
    /// When it was last stored.
    pub written: Timestamp,
}

impl Record {
    /// The record as bytes, as a store is to keep it.
    ///
    /// The parts are those that the swap to this version has to write. A store
    /// that starts from nothing (`expected` is `None`) gets all of them. Parts
    /// that the former head names and this one does not are to be deleted: they
    /// must not come back with a later record.
    ///
    /// The times are not among the bytes: a store keeps [`Times`] beside them,
    /// and the time of creation stays unless [`is_first`](Self::is_first).
    pub(crate) fn encode(&self) -> Encoded {
        Encoded { head: self.head(), fresh: self.pieces(false) }
    }

    pub(in crate::core) fn head(&self) -> Bytes {
        seal_head(&WholeHead::of(self))
    }

    /// The parts: those that are new in this version, or all of them.
    pub(in crate::core) fn pieces(&self, all: bool) -> Vec<(PartId, Bytes)> {
        let mut pieces = Vec::new();
        // The request comes with the first claim and never changes.
        if let Some(request) = self.request.as_ref().filter(|_| all || self.is_first()) {
            pieces.push(self.piece(PartId::Request, || encode_request(request)));
        }
        if let Some(response) = self.response() {
            pieces.push(self.piece(PartId::Response, || encode_response(response)));
        }
        for (index, step) in (0..).zip(&self.steps) {
            if all || step.written == self.version {
                pieces.push(self.piece(PartId::Step(index), || encode_step(step)));
            }
        }
        if let Some(plan) = self.undoing().filter(|plan| all || plan.written == self.version) {
            pieces.push(self.piece(PartId::Step(number(self.steps.len())), || encode_undoing(plan)));
        }
        pieces
    }

    /// As ciphertext, if it is sealed.
    fn piece(&self, id: PartId, clear: impl FnOnce() -> Bytes) -> (PartId, Bytes) {
        let sealed = self.history.sealed().and_then(|sealed| sealed.part(id));
        (id, sealed.cloned().unwrap_or_else(clear))
    }

    /// How many parts it has that have a number: [`PartId::Step`].
    pub(crate) fn numbered_parts(&self) -> usize {
        self.steps.len() + usize::from(self.undoing.is_some())
    }

    /// The parts that a head refers to, in the order [`Record::decode`] asks for them. A
    /// head that was forged may refer to four thousand million.
    ///
    /// # Errors
    ///
    /// As [`Record::decode`].
    pub(crate) fn parts_of(head: &[u8]) -> Result<impl Iterator<Item = PartId> + use<>, DecodeError> {
        Ok(open_head(head)?.known.parts())
    }

    /// A record from its bytes.
    ///
    /// `part` is asked for each part the head refers to.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if anything is damaged, missing, newer or of no release. The
    /// record is then to be kept as it is and reported, and never to be overwritten.
    pub(crate) fn decode(
        times: Times,
        head: &[u8],
        mut part: impl FnMut(PartId) -> Option<Bytes>,
    ) -> Result<Self, DecodeError> {
        let head = open_head(head)?;
        let (mut request, mut response, mut steps, mut undoing) = (None, None, Vec::new(), None);
        let mut sealed = Sealed { head: head.known.sealed(), parts: Vec::new() };
        for id in head.known.parts() {
            let bytes = part(id).ok_or(MISSING_PART)?;
            let is_sealed = is_sealed(&bytes);
            match id {
                PartId::Request if is_sealed => request = Some(hollow_request()),
                PartId::Request => request = Some(Arc::new(decode_request(&bytes)?)),
                PartId::Response if is_sealed => response = Some(hollow_response()),
                PartId::Response => response = Some(Arc::new(decode_response(&bytes)?)),
                PartId::Step(number) if head.known.is_plan(number) => {
                    let plan = if is_sealed { hollow_undoing(OLDER) } else { Arc::new(decode_undoing(&bytes)?) };
                    undoing = Some(plan);
                }
                PartId::Step(_) if is_sealed => steps.push(hollow_step(OLDER)),
                PartId::Step(_) => steps.push(Arc::new(decode_step(&bytes)?)),
            }
            if is_sealed {
                sealed.parts.push((id, bytes));
            }
        }
        let mut record = head.record(response).ok_or(CORRUPT_HEAD)?;
        if sealed.head.is_some() || !sealed.parts.is_empty() {
            record.history.set_sealed(sealed);
        }
        Ok(Self { request, steps, undoing, created_at: Some(times.created), written_at: times.written, ..record })
    }
}

/// What is read was written before.
const OLDER: Version = Version::new(0);
