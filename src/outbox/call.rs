//! What there is to see of a call.

use std::sync::Arc;

use super::settings::Outbox;
use crate::core::{HistoryEvent, Hold, IdempotencyKey, Key, StoredResponse, Timestamp};
use crate::operator::Operator;
use crate::operator::error::OperatorError;
use crate::operator::listing::{ListPosition, ListState, Listing};
use crate::operator::shown::{OperationState, Shown};

/// How many calls are on a page of a list.
const PAGE: usize = 100;

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallState {
    /// It is to be sent, for the first time or again.
    Waiting,
    /// A process sends it now. If that process dies, the call is sent again with the same key,
    /// once its lease has expired.
    Sending,
    /// It has its final response.
    Sent,
    /// An operator has to decide: [`Call::why`] says about what.
    NeedsAttention,
}

impl CallState {
    /// Its name: `waiting`, `sending`, `sent` or `needs-attention`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::NeedsAttention => "needs-attention",
        }
    }

    const fn listed_among(self) -> ListState {
        match self {
            Self::Waiting | Self::Sending => ListState::Unfinished,
            Self::Sent => ListState::Complete,
            Self::NeedsAttention => ListState::NeedsAttention,
        }
    }
}

/// A call of an [`Outbox`], as the store had it when it was shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// What [`send_later`](Outbox::send_later) returned, and what events, log lines and operators
    /// call it.
    pub id: Key,
    /// Its idempotency key; of a longer one the first 96 characters.
    pub key: String,
    /// The method and the place, without the query; of a longer one the first 95 bytes.
    pub to: String,
    /// How far it is.
    pub state: CallState,
    /// When it was accepted, by the store's clock.
    pub accepted: Timestamp,
    /// When it was last written: of a call that is [sent](CallState::Sent), when its response was
    /// stored.
    pub written: Timestamp,
    /// When it is sent again, if it waits.
    pub due: Option<Timestamp>,
    /// How often it was begun; each time the client may send it more than once.
    pub attempts: u32,
    /// Its final response. In a list without its body.
    pub response: Option<Arc<StoredResponse>>,
    /// Why an operator has to decide, or why the last attempt had no final response.
    pub why: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Calls {
    /// The calls.
    pub calls: Vec<Call>,
    /// Where the next page starts; `None` if this was the last. A page may have no calls and a
    /// next one: it looks at so many records at most.
    pub next: Option<ListPosition>,
}

impl Call {
    fn of(shown: &Shown) -> Self {
        let record = &shown.record;
        let state = match shown.state() {
            OperationState::Complete | OperationState::CallbackPending => CallState::Sent,
            OperationState::Running => CallState::Sending,
            OperationState::Parked | OperationState::OutcomeUnknown => CallState::NeedsAttention,
            OperationState::Waiting | OperationState::Due => CallState::Waiting,
        };
        let label = |name| shown.labels().get(name).unwrap_or_default().to_owned();
        let waits = matches!(record.hold(), Hold::Released | Hold::Runnable) && state == CallState::Waiting;
        Self {
            id: shown.key,
            key: label("key"),
            to: label("call"),
            state,
            accepted: record.created_at().unwrap_or_default(),
            written: record.written_at(),
            due: waits.then(|| record.falls_due()),
            attempts: record.attempts(),
            response: record.response().cloned(),
            why: match state {
                CallState::Sent => None,
                _ => shown.parked().map(str::to_owned).or_else(|| last_reason(shown)),
            },
        }
    }
}

/// Why the last attempt that ended had no final response.
fn last_reason(shown: &Shown) -> Option<String> {
    let ended = shown.record.history().into_iter().rfind(|entry| entry.event == HistoryEvent::Released)?;
    ended.text.map(|text| text.to_string())
}

impl Outbox {
    /// One page of the calls in this state, up to 100: those that are sent, the latest first;
    /// those that need attention, the longest first; others, those that are due earliest first.
    /// Start with `None`, and go on with [`Calls::next`].
    ///
    /// # Errors
    ///
    /// As [`Operator::list`]: on Redis, those that are sent are listed with
    /// `RedisStoreOptions::index_complete` alone.
    ///
    /// # Caveats
    ///
    /// On a store that does not [index labels](crate::store::Store::indexes_labels) a page goes
    /// through the operations of all that use the store. The index lacks what was last written
    /// [before it was on](crate::Listing::label_index); such a call is sent all the same.
    pub async fn list(&self, state: CallState, after: Option<ListPosition>) -> Result<Calls, OperatorError> {
        let mut listing = Listing::new(state.listed_among()).label(self.label()).limit(PAGE);
        listing.after = after;
        let listed = Operator::new(&self.engine).list(&listing).await?;
        let own = listed.operations.iter().filter(|shown| self.is_own(&shown.record)).map(Call::of);
        Ok(Calls { calls: own.filter(|call| call.state == state).collect(), next: listed.next })
    }

    /// The call of this id, with the body of its response; `None` if this outbox has none, or
    /// no longer [keeps](Self::keep) it.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Store`] if the store can't be asked, or can't read it.
    pub async fn find(&self, id: &Key) -> Result<Option<Call>, OperatorError> {
        match Operator::new(&self.engine).show(id).await {
            Ok(shown) => Ok(self.is_own(&shown.record).then(|| Call::of(&shown))),
            Err(OperatorError::Absent) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The call of this idempotency key.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub async fn find_by_key(&self, key: &IdempotencyKey) -> Result<Option<Call>, OperatorError> {
        self.find(&self.id(key)).await
    }
}
