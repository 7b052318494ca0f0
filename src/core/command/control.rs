//! Writing a control record: what all processes over one store read.

use std::sync::Arc;

use super::{Command, Decision, Sealed};
use crate::core::fingerprint::Fingerprint;
use crate::core::message::StoredResponse;
use crate::core::record::hold::Mode;
use crate::core::record::label::Labels;
use crate::core::record::time::{Stamp, Version};
use crate::core::record::{NEVER, Record};

/// Writes a control record in the place of the one that was seen.
///
/// To stores, scans and older builds it is a complete record that does not expire: they leave
/// it alone. It is no operation. A complete operation never changes; a control record changes
/// with each of these commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct SetControl {
    /// The version that its writer saw; `None` if there was no such record.
    pub seen: Option<Version>,
    /// What it says, as the body.
    pub content: Arc<StoredResponse>,
}

/// The control record changed since its writer saw it: nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing else to say")]
pub struct Overtaken;

impl Sealed for SetControl {}

impl Command for SetControl {
    type Output = Result<(), Overtaken>;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Self::Output> {
        if current.map(Record::version) != self.seen {
            return Decision::keep(Err(Overtaken));
        }
        // It is no operation, so that it has no callback either.
        let stamp = Stamp { callback: false, ..stamp };
        let fingerprint = Fingerprint::of([b"control".as_slice()]);
        let mut next = Record::first(fingerprint, Mode::Resumable, None, Labels::new(), stamp);
        next.history.set_newer(current.map_or(&[], |current| current.history.newer()));
        next.complete(&self.content, NEVER);
        Decision::put(next, Ok(()))
    }
}
