//! What is tried: one fault, at one moment, on one store, in one mode.

use std::fmt;

/// Where operations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Store {
    Memory,
    File,
    /// Append-only file, synced at each write.
    Redis,
    /// Persists nothing.
    RedisForgetful,
    Postgres,
    /// A primary and a replica under sentinels.
    Sentinel,
    /// A primary and an asynchronous standby.
    Standby,
    /// With a clock that can be stepped. Debian's Redis does not run so.
    ClockedValkey,
    ClockedPostgres,
}

impl Store {
    pub const ALL: [Self; 9] = [
        Self::Memory,
        Self::File,
        Self::Redis,
        Self::RedisForgetful,
        Self::Postgres,
        Self::Sentinel,
        Self::Standby,
        Self::ClockedValkey,
        Self::ClockedPostgres,
    ];

    /// Whether several processes may share it.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Memory | Self::File)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
            Self::Redis => "Redis (AOF always)",
            Self::RedisForgetful => "Redis (no persistence)",
            Self::Postgres | Self::ClockedPostgres => "Postgres",
            Self::ClockedValkey => "Valkey (AOF always)",
            Self::Sentinel => "Redis under Sentinel",
            Self::Standby => "Postgres (async standby)",
        }
    }

    const fn slug(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
            Self::Redis => "redis",
            Self::RedisForgetful => "redis-forgetful",
            Self::Postgres => "postgres",
            Self::Sentinel => "sentinel",
            Self::Standby => "standby",
            Self::ClockedValkey => "clocked-valkey",
            Self::ClockedPostgres => "clocked-postgres",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    AtMostOnce,
    Resumable,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::AtMostOnce, Self::Resumable];

    const fn slug(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::Resumable => "resumable",
        }
    }
}

/// How far the first attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    BeforeClaim,
    /// The store has the claim, and nobody was told.
    ClaimSent,
    BeforeCharge,
    AfterCharge,
    BeforeResponse,
    AfterComplete,
}

impl Moment {
    pub const ALL: [Self; 6] = [
        Self::BeforeClaim,
        Self::ClaimSent,
        Self::BeforeCharge,
        Self::AfterCharge,
        Self::BeforeResponse,
        Self::AfterComplete,
    ];

    /// As in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeClaim => "before the claim is sent",
            Self::ClaimSent => "claim stored, its reply lost",
            Self::BeforeCharge => "claimed, before the charge",
            Self::AfterCharge => "charged, before that is stored",
            Self::BeforeResponse => "steps stored, before the answer is",
            Self::AfterComplete => "answer stored",
        }
    }

    /// As in `X-Demo`.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::BeforeClaim => "before-claim",
            Self::ClaimSent => "claim-sent",
            Self::BeforeCharge => "before-charge",
            Self::AfterCharge => "after-charge",
            Self::BeforeResponse => "before-response",
            Self::AfterComplete => "after-complete",
        }
    }

    /// Whether the claim is stored and the answer is not.
    pub const fn is_unfinished(self) -> bool {
        !matches!(self, Self::BeforeClaim | Self::AfterComplete)
    }

    /// Whether nothing was charged yet, and nothing is without another attempt.
    pub const fn is_uncharged(self) -> bool {
        matches!(self, Self::ClaimSent | Self::BeforeCharge)
    }

    /// Whether the example can stop here by itself.
    pub const fn is_in_handler(self) -> bool {
        matches!(self, Self::BeforeCharge | Self::AfterCharge | Self::BeforeResponse)
    }
}

/// What happens to the process that runs the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blow {
    Abort,
    Kill,
    /// SIGSTOP for longer than the lease, then SIGCONT.
    Pause,
    /// The same, and SIGCONT comes while the next attempt runs.
    Overlap,
    Terminate,
}

impl Blow {
    pub const ALL: [Self; 5] = [Self::Abort, Self::Kill, Self::Pause, Self::Overlap, Self::Terminate];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Kill => "SIGKILL",
            Self::Pause => "SIGSTOP > lease",
            Self::Overlap => "SIGSTOP > lease (waking in the next attempt)",
            Self::Terminate => "SIGTERM",
        }
    }

    /// Whether the process is gone at once.
    pub const fn is_deadly(self) -> bool {
        matches!(self, Self::Abort | Self::Kill)
    }
}

/// What happens to the store, or to the link between it and the process that
/// runs the first attempt. Lasts longer than the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outage {
    /// Ended as an administrator would, and started again.
    Stop,
    /// `kill -9`, and started again.
    Kill,
    /// The server's process is stopped, and goes on.
    Pause,
    /// `FLUSHALL`, `TRUNCATE`.
    Flush,
    /// No room for a write.
    Full,
    /// Connections are reset and refused.
    Cut,
    /// Nothing goes either way; what was sent arrives late.
    Hold,
    /// Requests are lost.
    LoseRequests,
    /// Requests arrive, replies are lost.
    LoseReplies,
    /// The server's clock is an hour ahead from now on.
    ClockAhead,
    /// The server's clock is an hour behind from now on.
    ClockBehind,
    /// The primary dies; who takes over has everything.
    Failover,
    /// The primary dies with writes that who takes over never saw.
    LossyFailover,
    /// The server may drop any key when memory is short.
    Evicting,
}

impl Outage {
    pub const ALL: [Self; 14] = [
        Self::Stop,
        Self::Kill,
        Self::Pause,
        Self::Flush,
        Self::Full,
        Self::Cut,
        Self::Hold,
        Self::LoseRequests,
        Self::LoseReplies,
        Self::ClockAhead,
        Self::ClockBehind,
        Self::Failover,
        Self::LossyFailover,
        Self::Evicting,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "server stopped, started again",
            Self::Kill => "server killed (SIGKILL), started again",
            Self::Pause => "server paused (SIGSTOP)",
            Self::Flush => "data deleted",
            Self::Full => "full",
            Self::Cut => "link cut",
            Self::Hold => "link silent both ways, then all arrives late",
            Self::LoseRequests => "link loses requests",
            Self::LoseReplies => "link loses replies",
            Self::ClockAhead => "server's clock 1 h ahead",
            Self::ClockBehind => "server's clock 1 h behind",
            Self::Failover => "failover, replica in step",
            Self::LossyFailover => "failover, replica behind",
            Self::Evicting => "evicting (`allkeys-lru`)",
        }
    }

    /// Whether it can be done to this store.
    pub const fn is_for(self, store: Store) -> bool {
        let is_redis = matches!(store, Store::Redis | Store::RedisForgetful);
        match self {
            Self::Failover | Self::LossyFailover => matches!(store, Store::Sentinel | Store::Standby),
            Self::Full | Self::Evicting => matches!(store, Store::Redis),
            Self::ClockAhead | Self::ClockBehind => matches!(store, Store::ClockedValkey | Store::ClockedPostgres),
            _ => is_redis || matches!(store, Store::Postgres),
        }
    }

    /// Why promises that need the store's memory do not hold. Declared, not
    /// excused: a resumable handler still charges once.
    pub const fn residual(self, store: Store) -> Option<&'static str> {
        match (self, store) {
            (Self::Stop | Self::Kill, Store::RedisForgetful) => Some("forgets every key"),
            (Self::Flush, _) => Some("forgets every key"),
            (Self::LossyFailover, _) => Some("forgets acknowledged claims and answers"),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    Blow(Blow),
    Outage(Outage),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    pub store: Store,
    pub fault: Fault,
    pub moment: Moment,
    pub mode: Mode,
}

impl Cell {
    /// Every one there is.
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for store in Store::ALL {
            let blows = Blow::ALL.into_iter().map(Fault::Blow);
            let blows = blows.filter(|_| store <= Store::Postgres);
            let outages = Outage::ALL.into_iter().filter(|outage| outage.is_for(store)).map(Fault::Outage);
            for fault in blows.chain(outages) {
                let moments = Moment::ALL.into_iter().filter(|moment| is_meant(store, fault, *moment));
                cells.extend(
                    moments
                        .flat_map(|moment| Mode::ALL.into_iter().map(move |mode| Self { store, fault, moment, mode })),
                );
            }
        }
        cells
    }

    /// Whether the store forgets, as it is declared.
    pub const fn residual(&self) -> Option<&'static str> {
        match (self.fault, self.store) {
            (Fault::Blow(blow), Store::Memory) if blow.is_deadly() => Some("forgets every key"),
            (Fault::Blow(Blow::Terminate), Store::Memory) => Some("forgets every key"),
            (Fault::Blow(_), _) => None,
            (Fault::Outage(outage), store) => outage.residual(store),
        }
    }

    /// Whether the attempt at the fault never comes back.
    pub const fn is_deadly(&self) -> bool {
        matches!(self.fault, Fault::Blow(blow) if blow.is_deadly())
    }
}

/// A failover takes seconds, so it is tried where it matters; what an evicting
/// server does it does at the start.
const fn is_meant(store: Store, fault: Fault, moment: Moment) -> bool {
    match fault {
        // Without a link no reply is lost on it; and what an outage loses is
        // lost by the outage.
        _ if matches!(moment, Moment::ClaimSent) => {
            store.is_shared() && matches!(fault, Fault::Blow(blow) if !matches!(blow, Blow::Overlap))
        }
        Fault::Outage(Outage::Failover | Outage::LossyFailover) => {
            matches!(moment, Moment::BeforeCharge | Moment::AfterCharge | Moment::AfterComplete)
        }
        Fault::Blow(Blow::Overlap) => store.is_shared() && moment.is_in_handler(),
        Fault::Outage(Outage::Evicting) => matches!(moment, Moment::BeforeClaim),
        _ => true,
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Blow(blow) => format!("app-{blow:?}"),
            Fault::Outage(outage) => format!("store-{outage:?}"),
        };
        write!(f, "{}/{}/{}/{}", self.store.slug(), fault.to_lowercase(), self.moment.slug(), self.mode.slug())
    }
}
