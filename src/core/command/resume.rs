//! Going on with an operation that has no holder.

use std::sync::Arc;
use std::time::Duration;

use super::{Command, Decision, Sealed};
use crate::core::record::Record;
use crate::core::record::hold::{Fence, Hold, Status};
use crate::core::record::outlook::Outlook;
use crate::core::record::time::Stamp;

/// Asks for the right to finish an operation, without a client's request.
///
/// A [`Claim`](crate::core::Claim) that knows no request: it takes only what is due,
/// and gives up on what was tried too often.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct Resume {
    /// How long one write keeps the operation held.
    pub lease: Duration,
    /// After so many tries an operator has to decide.
    pub max_tries: u32,
    /// So long after its first claim an operator has to decide.
    pub max_age: Duration,
    /// Whether it is an outbox that asks: only that goes on with what is
    /// [outgoing](Record::is_outgoing), and with nothing else.
    pub outgoing: bool,
}

/// The reply to a [`Resume`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a caller must handle all of them")]
pub enum Resumed {
    /// The operation is ours to run, under this fence.
    Granted(Fence),
    /// There is nothing to do, or not yet: it is gone, complete, parked, held,
    /// to be left alone for a while, or not for the one that asks.
    NotDue,
    /// Its request was not stored. It is left to its caller from now on.
    Left,
    /// It was parked just now, for this reason.
    Parked(Arc<str>),
    /// It is in at-most-once mode, and its holder died: it is never run again, and
    /// an operator or a reconciler has to find out what happened.
    InDoubt,
    /// It ended, and its callback is to be made.
    CallbackPending,
}

impl Sealed for Resume {}

impl Command for Resume {
    type Output = Resumed;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Resumed> {
        let unfinished = current.filter(|record| record.index_class() != Status::Complete);
        let own = unfinished.filter(|record| record.outgoing == self.outgoing);
        let Some(current) = own.filter(|record| record.falls_due() <= stamp.now) else {
            return Decision::keep(Resumed::NotDue);
        };
        if current.pending_callback().is_some() {
            return Decision::keep(Resumed::CallbackPending);
        }
        if current.held_for_now(stamp, self.lease).is_some() {
            return Decision::keep(Resumed::NotDue);
        }
        match current.outlook() {
            Outlook::Parked(_) => return Decision::keep(Resumed::NotDue),
            Outlook::InDoubt => return Decision::keep(Resumed::InDoubt),
            Outlook::Decided | Outlook::Resumable => {}
        }
        if current.request.is_none() {
            let mut next = current.clone();
            next.version = stamp.nonce;
            next.hold = Hold::Released;
            return Decision::put(next, Resumed::Left);
        }
        if let Some(why) = self.hopeless(current, stamp) {
            let mut next = current.clone();
            next.version = stamp.nonce;
            next.park(&why);
            return Decision::put(next, Resumed::Parked(why));
        }
        Decision::put(current.taken(stamp, self.lease), Resumed::Granted(Fence::of(stamp.nonce)))
    }
}

impl Resume {
    fn hopeless(&self, record: &Record, stamp: Stamp<'_>) -> Option<Arc<str>> {
        let tries = record.tries();
        if tries >= self.max_tries {
            return Some(tried(tries));
        }
        if matches!(record.hold, Hold::Runnable) && record.attempts > 0 {
            // It was decided by hand that it goes on, however old it is.
            return None;
        }
        let age = record.created_at.map(|created| stamp.now.since(created)).filter(|age| *age > self.max_age)?;
        Some(format!("it is {} seconds old", age.as_secs()).into())
    }
}

/// Why it is parked that was tried as often as it may be.
pub(crate) fn tried(times: u32) -> Arc<str> {
    format!("it was tried {times} times").into()
}
