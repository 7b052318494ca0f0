//! What a store survives, read from its live settings.

use std::fmt;

use super::error::StoreError;

/// The worst event after which the store still has everything that it acknowledged.
///
/// Each includes those before it. That a store *forgets* a claim means: a retry of that
/// key may run the handler again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DurabilityLevel {
    /// Nothing, as far as is known: a restart of this process forgets every key.
    Nothing,
    /// The end of this process, for any reason.
    AppCrash,
    /// A crash of the store's own process. Power loss may forget the last
    /// moments before it; so may such a crash while the store was late with its
    /// file, as Redis under `appendfsync everysec` is on a busy disk. A warning
    /// says which.
    StoreCrash,
    /// Power loss of the store's machine.
    PowerLoss,
    /// Loss of the store's machine: another one has every acknowledged write.
    MachineLoss,
}

impl fmt::Display for DurabilityLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::AppCrash => "a crash of the application",
            Self::StoreCrash => "a crash of the store's process",
            Self::PowerLoss => "power loss",
            Self::MachineLoss => "loss of the store's machine",
        })
    }
}

/// What a store promises with its current settings: a store starts with [`of`](Self::of), and
/// sets what else it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durability {
    /// The worst event that forgets nothing.
    pub survives: DurabilityLevel,
    /// Which data this is; `None` if the store does not know.
    pub epoch: Option<Epoch>,
    /// Settings that weaken a promise, or will: one line each, with what to do.
    pub warnings: Vec<String>,
}

impl Durability {
    /// A store that survives this; nothing else is known about it.
    pub const fn of(survives: DurabilityLevel) -> Self {
        Self { survives, epoch: None, warnings: Vec::new() }
    }
}

/// Which data a store has: it differs if the store was wiped, restored or replaced.
///
/// The id is drawn when a store is first asked, and is kept in the store. So is the
/// mark, which grows each time it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "built by stores")]
pub struct Epoch {
    /// Drawn at random when the store was empty.
    pub id: u64,
    /// Larger each time it is read.
    pub mark: u64,
}

/// What happened to a store between two reads of its [`Epoch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum Since {
    /// Nothing: it is the same store.
    Same,
    /// It was wiped, or it is another one.
    Wiped,
    /// It is back at an earlier state: a backup, or a replica that lagged.
    Restored,
}

impl Epoch {
    /// What happened to the store since it showed `earlier`.
    pub const fn since(&self, earlier: &Self) -> Since {
        if self.id != earlier.id {
            Since::Wiped
        } else if self.mark <= earlier.mark {
            Since::Restored
        } else {
            Since::Same
        }
    }
}

/// Why a store is not good enough.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RequireError {
    /// The store did not say what it survives.
    Unknown(StoreError),
    /// The store survives less.
    Below {
        /// What was required.
        minimum: DurabilityLevel,
        /// What the store reported.
        found: Durability,
    },
}

impl fmt::Display for RequireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(error) => write!(f, "the store did not say what it survives: {error}"),
            Self::Below { minimum, found } => {
                write!(f, "the store survives {}, and {minimum} is required", found.survives)?;
                found.warnings.iter().try_for_each(|warning| write!(f, "; {warning}"))
            }
        }
    }
}

impl std::error::Error for RequireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unknown(error) => Some(error),
            Self::Below { .. } => None,
        }
    }
}
