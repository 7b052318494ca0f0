//! What people do by hand: look at an operation, and decide about it.
//!
//! It may know everything but the runner. Start with [`Operator`]; [`shown`] is what
//! it shows, [`error`] why it refuses.

pub(crate) mod error;
mod maintenance;
pub(crate) mod shown;

use crate::core::{IdempotencyKey, Key, NotResolved, Resolution, Resolve, Status};
use crate::engine::Engine;
use crate::operator::error::OperatorError;
use crate::operator::shown::Shown;
use crate::store::{Page, Query};

/// Shows operations to a person, and carries out what that person decides.
///
/// A decision applies to the state that was shown: if the operation has changed since, the
/// decision is refused ([`OperatorError::Overtaken`]). The history of the operation says who
/// decided, by the engine's [`instance`](Engine::instance).
///
/// ```
/// use tower_idempotency::core::Resolution;
/// use tower_idempotency::{Engine, Operator, OperatorError, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let operator = Operator::new(Engine::new(MemoryStore::new()).instance("eve"));
/// // By the client's key, or by the hash that logs and events show.
/// match operator.find("tenant-1", "order-17").await {
///     Ok(shown) if shown.parked().is_some() => operator.retry(&shown).await?,
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
/// The guide says [which decision fits](crate::guide::completer).
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
}

impl Operator {
    /// For the operations in the store of this engine. It also takes a store, or a
    /// layer.
    pub fn new(engine: impl Into<Engine>) -> Self {
        Self { engine: engine.into() }
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
        self.show(&key_of(hash).ok_or(OperatorError::InvalidHash)?).await
    }

    /// The operation under this key.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Absent`] if there is none, or its retention is over;
    /// [`OperatorError::Store`] if the store can't be asked, or can't read it.
    pub async fn show(&self, key: &Key) -> Result<Shown, OperatorError> {
        let found = self.engine.look_at_any(key).await?;
        let record = found.record.filter(|record| !record.is_expired(found.now)).ok_or(OperatorError::Absent)?;
        Ok(Shown { key: *key, record, now: found.now })
    }

    /// One page of the store's records, earliest due first. An operation may have
    /// changed since: [`show`](Self::show) it.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Store`] if the store can't be asked.
    pub async fn list(&self, query: &Query) -> Result<Page, OperatorError> {
        Ok(self.engine.scan(query).await?)
    }

    /// Decides about an unfinished operation that no attempt holds.
    ///
    /// # Errors
    ///
    /// [`OperatorError`] if nothing was decided. After [`OperatorError::Store`] the
    /// decision may have been stored: show the operation again.
    pub async fn resolve(&self, shown: &Shown, resolution: Resolution) -> Result<(), OperatorError> {
        if self.engine.in_hand().has(&shown.key) {
            return Err(OperatorError::InHand);
        }
        let command = Resolve { resolution, seen: Some(shown.record.version()) };
        let done = self.engine.apply(&shown.key, None, command).await?;
        done.output.map_err(|refused| match refused {
            NotResolved::Absent => OperatorError::Absent,
            NotResolved::Busy(left) => OperatorError::Busy(left),
            NotResolved::Complete => OperatorError::Complete,
            NotResolved::NotInDoubt => OperatorError::NotInDoubt,
            NotResolved::Overtaken => OperatorError::Overtaken,
        })
    }

    /// Lets an unfinished operation run again, in any [`Mode`](crate::Mode): at its
    /// client's next retry, or by a completer. Its steps stay as they are. The same as
    /// [`resolve`](Self::resolve) with [`Resolution::RunAgain`].
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub async fn retry(&self, shown: &Shown) -> Result<(), OperatorError> {
        self.resolve(shown, Resolution::RunAgain).await
    }

    /// Removes a complete operation before its retention is over. A retry after that
    /// runs anew. An unfinished operation is never removed.
    ///
    /// # Errors
    ///
    /// [`OperatorError`] if it was not removed. After [`OperatorError::Store`] it may
    /// have been.
    pub async fn forget(&self, shown: &Shown) -> Result<(), OperatorError> {
        if shown.record.status() != Status::Complete {
            return Err(OperatorError::Unfinished);
        }
        if shown.record.pending_callback().is_some() {
            return Err(OperatorError::CallbackPending);
        }
        let removed = self.engine.forget(&shown.key, shown.record.version()).await?;
        removed.then_some(()).ok_or(OperatorError::Overtaken)
    }
}

fn parsed(key: &str) -> Result<IdempotencyKey, OperatorError> {
    IdempotencyKey::parse(key.as_bytes()).map_err(OperatorError::InvalidKey)
}

/// The key whose hash is written so.
fn key_of(hash: &str) -> Option<Key> {
    let mut bytes = [0; 32];
    if hash.len() != 2 * bytes.len() || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hash[at..at + 2], 16).ok()?;
    }
    Some(Key::from_bytes(bytes))
}
