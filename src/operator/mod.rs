//! What people do by hand: look at operations, and decide about one.
//!
//! It may know everything below it but the runner. Start with [`Operator`]; `decide` is what it
//! decides, [`list`] and [`counts`] how it looks at many ([`listing`] says which),
//! [`shown`] what it shows of one, [`json`] the same for programs, [`error`] why it refuses.

pub(crate) mod counts;
mod decide;
pub(crate) mod error;
#[cfg(feature = "inspector")]
pub(crate) mod inspector;
mod json;
mod list;
pub(crate) mod listing;
mod maintenance;
#[cfg(feature = "schedule")]
pub(crate) mod schedules;
pub(crate) mod shown;
mod words;

use std::sync::Arc;

use crate::core::{IdempotencyKey, Key, Reference, Timestamp};
use crate::engine::Engine;
use crate::operator::error::OperatorError;
use crate::operator::shown::Shown;
use crate::operator::words::one_line;
use crate::store::{Page, Query};

/// Shows operations to a person, and carries out what that person decides.
///
/// A decision applies to the state that was shown: if the operation has changed since, the
/// decision is refused ([`OperatorError::Overtaken`]), and nothing is changed. The history of
/// the operation says [who](Self::by) decided and [why](Self::because), and so does the event
/// [`Decided`](crate::EventKind::Decided).
///
/// ```
/// use tower_idempotency::core::Resolution;
/// use tower_idempotency::{Engine, Listing, Operator, OperatorError, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let operator = Operator::new(Engine::new(MemoryStore::new())).by("eve");
/// // What is stuck?
/// for shown in operator.list(&Listing::needs_attention()).await?.operations {
///     println!("{} {}: {:?}", shown.reference(), shown.state().name(), shown.finding());
/// }
/// // By the client's key, or by the reference that problems, logs and events show.
/// match operator.find("tenant-1", "order-17").await {
///     Ok(shown) if shown.parked().is_some() => {
///         operator.because("the bank says that nothing was charged").retry(&shown).await?;
///     }
///     Ok(shown) => {
///         let why = "accounting looks into it".into();
///         operator.resolve(&shown, Resolution::Park { why }).await?;
///     }
///     Err(OperatorError::Absent) => println!("there is no such operation"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(()) }
/// ```
///
/// The guide says [which decision fits](crate::guide::operator).
///
/// # Caveats
///
/// - It asks for no credentials: put it behind your own authentication.
/// - Only clones of one engine know what this process still runs or could not save yet. If
///   a layer runs in the same process, make the operator from that layer, or from its
///   engine.
#[derive(Clone, Debug)]
#[must_use]
pub struct Operator {
    engine: Engine,
    why: Option<Arc<str>>,
}

impl Operator {
    /// For the operations in the store of this engine. It also takes a store, or a
    /// layer.
    pub fn new(engine: impl Into<Engine>) -> Self {
        Self { engine: engine.into(), why: None }
    }

    /// The same for this person: whose decisions these are, in the history and in events, in
    /// place of the engine's [`instance`](Engine::instance). One line: control characters
    /// become spaces, and what is longer than 200 bytes is cut.
    ///
    /// ```
    /// use tower_idempotency::{Operator, store::MemoryStore};
    ///
    /// let operators = Operator::new(MemoryStore::new());
    /// // For each request of an operator's, from what your authentication says.
    /// let operator = operators.by("eve@example.com");
    /// ```
    ///
    /// # Caveats
    ///
    /// Take it from your authentication, and never from what the person typed or a form
    /// sent: the history is only worth as much as this name.
    pub fn by(&self, who: &str) -> Self {
        let who = one_line(who).unwrap_or_default();
        Self { engine: self.engine.clone().instance(&who), why: self.why.clone() }
    }

    /// The same for this reason: why the decisions are made, in the history and in events. One
    /// line: control characters become spaces, and what is longer than 200 bytes is cut. An
    /// empty one is none.
    ///
    /// ```
    /// use tower_idempotency::{Operator, store::MemoryStore};
    ///
    /// let operator = Operator::new(MemoryStore::new()).by("eve").because("the bank says that nothing was charged");
    /// ```
    pub fn because(&self, why: &str) -> Self {
        Self { engine: self.engine.clone(), why: one_line(why) }
    }

    /// The operation of a request, by what the client sent as its `Idempotency-Key`
    /// and the scope that the layer's [`Scope`](crate::Scope) gave it; a shared scope
    /// is the empty one.
    ///
    /// # Errors
    ///
    /// [`OperatorError::InvalidKey`] if that is no key; else as [`show`](Self::show).
    pub async fn find(&self, scope: &str, key: &str) -> Result<Shown, OperatorError> {
        self.show(&Key::new(scope, &parsed(key)?)).await
    }

    /// The operation of a [`Runner`](crate::Runner), by its scope and key.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub async fn find_of_runner(&self, scope: &str, key: &str) -> Result<Shown, OperatorError> {
        self.show(&Key::of_runner(scope, &parsed(key)?)).await
    }

    /// An operation by the hash of its key: the 64 hexadecimal characters that events,
    /// log lines and [`Key`]'s `Display` show.
    ///
    /// # Errors
    ///
    /// [`OperatorError::InvalidHash`] if that is no hash; else as [`show`](Self::show).
    pub async fn find_by_hash(&self, hash: &str) -> Result<Shown, OperatorError> {
        self.show(&Key::from_hex(hash).ok_or(OperatorError::InvalidHash)?).await
    }

    /// An operation by its reference: the hash of its key, a dash, and the number of an
    /// attempt. It is found whichever attempt it has come to since.
    ///
    /// # Errors
    ///
    /// [`OperatorError::InvalidReference`] if that is no reference; else as [`show`](Self::show).
    pub async fn find_by_reference(&self, reference: &str) -> Result<Shown, OperatorError> {
        let reference: Reference = reference.parse().map_err(|_| OperatorError::InvalidReference)?;
        self.show(&reference.key).await
    }

    /// The operation under this key.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Absent`] if there is none, or its retention is over;
    /// [`OperatorError::Store`] if the store can't be asked, or can't read it.
    pub async fn show(&self, key: &Key) -> Result<Shown, OperatorError> {
        if key.is_control() {
            return Err(OperatorError::Absent);
        }
        let found = self.engine.look_at_any(key).await?;
        let record = found.record.filter(|record| !record.is_expired(found.now)).ok_or(OperatorError::Absent)?;
        Ok(Shown::new(*key, record, found.now))
    }

    /// One page of the store's index, without the records themselves. To look at operations,
    /// [`list`](Self::list) them.
    ///
    /// # Errors
    ///
    /// [`OperatorError::NotIndexed`] if the store does not index that;
    /// [`OperatorError::Store`] if the store can't be asked.
    pub async fn scan(&self, query: &Query) -> Result<Page, OperatorError> {
        Ok(self.engine.scan(query).await?)
    }

    /// The store's time: it comes with every record, and with none.
    async fn now(&self) -> Result<Timestamp, OperatorError> {
        Ok(self.engine.look_at_any(&Key::from_bytes([0; 32])).await?.now)
    }
}

fn parsed(key: &str) -> Result<IdempotencyKey, OperatorError> {
    IdempotencyKey::parse(key.as_bytes()).map_err(OperatorError::InvalidKey)
}
