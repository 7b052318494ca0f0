//! What a store does with a record.

use bytes::Bytes;

use crate::core::{DecodeError, Encoded, PartId, Record, Status, Times, Timestamp, Version};

/// What a [`Store`](super::Store) does with a record, and only a store: as bytes, with the
/// time of its write, and where scans find it.
pub trait KeptRecord: sealed::Sealed + Sized {
    /// The record as bytes, as a store is to keep it.
    ///
    /// The parts are those that the swap to this version has to write. A store
    /// that starts from nothing (`expected` is `None`) gets all of them. Parts
    /// that the former head names and this one does not are to be deleted: they
    /// must not come back with a later record.
    ///
    /// The times are not among the bytes: a store keeps [`Times`] beside them,
    /// and the time of creation stays unless [`is_first`](Self::is_first).
    fn encode(&self) -> Encoded;

    /// How many parts it has that have a number: [`PartId::Step`].
    fn numbered_parts(&self) -> usize;

    /// The parts that a head refers to, in the order [`decode`](Self::decode) asks for
    /// them. A head that was forged may refer to four thousand million.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    fn parts_of(head: &[u8]) -> Result<impl Iterator<Item = PartId> + use<Self>, DecodeError>;

    /// A record from its bytes.
    ///
    /// `part` is asked for each part the head refers to.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if anything is damaged, missing, newer or of no release. The
    /// record is then to be kept as it is and reported, and never to be overwritten.
    fn decode(times: Times, head: &[u8], part: impl FnMut(PartId) -> Option<Bytes>) -> Result<Self, DecodeError>;

    /// The record as the store keeps it, with the time at which it did. As
    /// [`stamped_over`](Self::stamped_over), for one that keeps its own time of creation.
    #[doc(hidden)]
    #[must_use]
    fn stamped(self, at: Timestamp) -> Self;

    /// The record as the store keeps it, with the time at which it did, written over one
    /// that was first kept at `created`; `None` if there was none. A store calls this,
    /// with its own clock, on every record it stores: all lease and retention
    /// arithmetic starts from that time.
    ///
    /// A holder writes from its own copy, which never saw that time; the store
    /// has it. A first claim over an expired record is another operation, and
    /// starts anew.
    #[must_use]
    fn stamped_over(self, created: Option<Timestamp>, at: Timestamp) -> Self;

    /// Whether this is the write that starts the operation: its first claim, or
    /// that it was accepted for later.
    fn is_first(&self) -> bool;

    /// The same record after its holder is known to be dead: free at once.
    ///
    /// For a store that no other process can have open, such as a locked file.
    #[must_use]
    fn orphaned(self, version: Version) -> Self;

    /// The status that a store files it under, beside the time at which it is
    /// [due](Record::due): a complete record that still owes a callback is found, and kept,
    /// like an unfinished one.
    fn index_class(&self) -> Status;

    /// About how many bytes of memory it takes to keep this record: what it holds,
    /// with what is set aside for it.
    fn size(&self) -> usize;
}

impl KeptRecord for Record {
    fn encode(&self) -> Encoded {
        self.encode()
    }

    fn numbered_parts(&self) -> usize {
        self.numbered_parts()
    }

    fn parts_of(head: &[u8]) -> Result<impl Iterator<Item = PartId> + use<>, DecodeError> {
        Self::parts_of(head)
    }

    fn decode(times: Times, head: &[u8], part: impl FnMut(PartId) -> Option<Bytes>) -> Result<Self, DecodeError> {
        Self::decode(times, head, part)
    }

    fn stamped(self, at: Timestamp) -> Self {
        self.stamped(at)
    }

    fn stamped_over(self, created: Option<Timestamp>, at: Timestamp) -> Self {
        self.stamped_over(created, at)
    }

    fn is_first(&self) -> bool {
        self.is_first()
    }

    fn orphaned(self, version: Version) -> Self {
        self.orphaned(version)
    }

    fn index_class(&self) -> Status {
        self.index_class()
    }

    fn size(&self) -> usize {
        self.size()
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for crate::core::Record {}
}
