//! The ciphertexts of a record.

use std::fmt;

use bytes::Bytes;

use crate::core::message::piece;
use crate::core::wire::format::PartId;

/// The ciphertexts of a record: of its head, and of its parts.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(in crate::core) struct Sealed {
    /// `None` if the head says all in clear.
    pub(in crate::core) head: Option<Bytes>,
    pub(in crate::core) parts: Vec<(PartId, Bytes)>,
}

impl Sealed {
    pub(in crate::core) fn part(&self, id: PartId) -> Option<&Bytes> {
        self.parts.iter().find(|(other, _)| *other == id).map(|(_, piece)| piece)
    }

    pub(in crate::core) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.head.iter().chain(self.parts.iter().map(|(_, piece)| piece))
    }

    /// About how many bytes of memory it takes.
    pub(super) fn size(&self) -> usize {
        let pieces: usize = self.pieces().map(|bytes| piece(bytes.len())).sum();
        piece(size_of::<Self>()) + piece(self.parts.capacity() * size_of::<(PartId, Bytes)>()) + pieces
    }
}

/// How much there is of it, and not what.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.pieces().map(Bytes::len).sum();
        f.debug_struct("Sealed").field("parts", &self.parts.len()).field("len", &bytes).finish_non_exhaustive()
    }
}
