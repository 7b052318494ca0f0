//! What is tried: one fault, at one moment, on one store, in one mode, and who
//! goes on afterwards.

use std::fmt;

/// Where operations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Store {
    Memory,
    /// One file, which the processes of this machine share.
    Sqlite,
    /// Append-only file, synced at each write.
    Redis,
    /// Append-only file, synced every second.
    RedisEverysec,
    /// Persists nothing.
    RedisForgetful,
    /// Three nodes that share the keys.
    Cluster,
    Postgres,
    /// Where commits do not wait for the disk, unless they ask for it.
    PostgresAsync,
    /// A primary and a replica under sentinels.
    Sentinel,
    /// The same, and every write waits for the replica.
    SentinelWait,
    /// The same of Valkey, and every write waits for both disks.
    SentinelWaitAof,
    /// A primary and an asynchronous standby.
    Standby,
    /// A primary whose commits wait for its standby.
    SyncStandby,
    /// With a clock that can be stepped. Debian's Redis does not run so.
    ClockedValkey,
    ClockedPostgres,
}

impl Store {
    pub const ALL: [Self; 15] = [
        Self::Memory,
        Self::Sqlite,
        Self::Redis,
        Self::RedisEverysec,
        Self::RedisForgetful,
        Self::Cluster,
        Self::Postgres,
        Self::PostgresAsync,
        Self::Sentinel,
        Self::SentinelWait,
        Self::SentinelWaitAof,
        Self::Standby,
        Self::SyncStandby,
        Self::ClockedValkey,
        Self::ClockedPostgres,
    ];

    /// Whether several processes may share it.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Memory)
    }

    /// Whether a reply of it can be lost on its way.
    const fn has_link(self) -> bool {
        !matches!(self, Self::Memory | Self::Sqlite)
    }

    /// Whether processes die on it at every moment.
    const fn is_main(self) -> bool {
        matches!(self, Self::Memory | Self::Sqlite | Self::Redis | Self::RedisForgetful | Self::Postgres)
    }

    /// Whether processes die on it after the charge only: how it is kept makes
    /// no difference to them.
    const fn is_variant(self) -> bool {
        let is_kept_otherwise = matches!(self, Self::RedisEverysec | Self::Cluster | Self::PostgresAsync);
        is_kept_otherwise || matches!(self, Self::SentinelWait | Self::SyncStandby)
    }

    /// Whether nothing is acknowledged that a replica does not have.
    pub const fn waits_for_replicas(self) -> bool {
        matches!(self, Self::SentinelWait | Self::SentinelWaitAof | Self::SyncStandby)
    }

    /// Whether it hands out transactions.
    pub const fn has_transactions(self) -> bool {
        matches!(self, Self::Postgres | Self::PostgresAsync | Self::Standby | Self::SyncStandby)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "SQLite",
            Self::Redis => "Redis (AOF always)",
            Self::RedisEverysec => "Redis (AOF everysec)",
            Self::RedisForgetful => "Redis (no persistence)",
            Self::Cluster => "Redis Cluster (AOF always)",
            Self::Postgres | Self::ClockedPostgres => "Postgres",
            Self::PostgresAsync => "Postgres (`synchronous_commit=off`)",
            Self::ClockedValkey => "Valkey (AOF always)",
            Self::Sentinel => "Redis under Sentinel",
            Self::SentinelWait => "Redis under Sentinel (`WAIT 1`)",
            Self::SentinelWaitAof => "Valkey under Sentinel (`WAITAOF 1 1`)",
            Self::Standby => "Postgres (async standby)",
            Self::SyncStandby => "Postgres (sync standby)",
        }
    }

    const fn slug(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::RedisEverysec => "redis-everysec",
            Self::RedisForgetful => "redis-forgetful",
            Self::Cluster => "cluster",
            Self::Postgres => "postgres",
            Self::PostgresAsync => "postgres-async",
            Self::Sentinel => "sentinel",
            Self::SentinelWait => "sentinel-wait",
            Self::SentinelWaitAof => "sentinel-waitaof",
            Self::Standby => "standby",
            Self::SyncStandby => "sync-standby",
            Self::ClockedValkey => "clocked-valkey",
            Self::ClockedPostgres => "clocked-postgres",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    AtMostOnce,
    Resumable,
    /// Resumable, and the charge is a row of the store's database, written in
    /// the transaction that is handed out.
    Transactional,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::AtMostOnce, Self::Resumable, Self::Transactional];

    /// Those where the charge is somebody else's.
    pub const OF_CALLS: [Self; 2] = [Self::AtMostOnce, Self::Resumable];

    /// As in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::Resumable => "resumable",
            Self::Transactional => "transactional",
        }
    }

    const fn slug(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::Resumable => "resumable",
            Self::Transactional => "transactional",
        }
    }
}

/// Who goes on after the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finisher {
    /// Who asked asks again.
    Client,
    /// Who asked was told 202, and does not ask again.
    Completer,
}

/// How far the first attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    BeforeClaim,
    /// The store has the claim, and nobody was told.
    ClaimSent,
    /// Before its first step.
    Claimed,
    BeforeCharge,
    /// In a transaction: the row is written, and not committed.
    AfterCharge,
    /// The store never gets the COMMIT.
    CommitLost,
    /// The store has committed, and nobody was told.
    CommitSent,
    BeforeResponse,
    /// The store has committed the answer, and nobody was told.
    AnswerSent,
    AfterComplete,
    /// Several operations, one or more at each.
    Every,
}

impl Moment {
    /// Of an attempt that a client asked for.
    pub const ALL: [Self; 9] = [
        Self::BeforeClaim,
        Self::ClaimSent,
        Self::BeforeCharge,
        Self::AfterCharge,
        Self::CommitLost,
        Self::CommitSent,
        Self::BeforeResponse,
        Self::AnswerSent,
        Self::AfterComplete,
    ];

    /// Of a completer's attempt.
    pub const OF_COMPLETERS: [Self; 6] = [
        Self::BeforeClaim,
        Self::Claimed,
        Self::BeforeCharge,
        Self::AfterCharge,
        Self::BeforeResponse,
        Self::AfterComplete,
    ];

    /// Where several operations are stopped, so that each moment has one.
    pub const STOPS: [Self; 4] = [Self::Claimed, Self::BeforeCharge, Self::AfterCharge, Self::BeforeResponse];

    /// As in the table.
    pub const fn name(self, finisher: Finisher) -> &'static str {
        match self {
            Self::BeforeClaim if matches!(finisher, Finisher::Completer) => "accepted, not claimed",
            Self::BeforeClaim => "before the claim is sent",
            Self::ClaimSent => "claim stored, its reply lost",
            Self::Claimed => "claimed, before its first step",
            Self::BeforeCharge if matches!(finisher, Finisher::Completer) => "in a step, before the charge",
            Self::BeforeCharge => "claimed, before the charge",
            Self::AfterCharge => "charged, before that is stored",
            Self::CommitLost => "COMMIT lost on its way",
            Self::CommitSent => "COMMIT sent, its reply lost",
            Self::BeforeResponse => "steps stored, before the response is",
            Self::AnswerSent => "COMMIT with the response sent, its reply lost",
            Self::AfterComplete => "response stored",
            Self::Every => "at every moment",
        }
    }

    /// As in `X-Demo`.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::BeforeClaim => "before-claim",
            Self::ClaimSent => "claim-sent",
            Self::Claimed => "claimed",
            Self::BeforeCharge => "before-charge",
            Self::AfterCharge => "after-charge",
            Self::CommitLost => "commit-lost",
            Self::CommitSent => "commit-sent",
            Self::BeforeResponse => "before-response",
            Self::AnswerSent => "answer-sent",
            Self::AfterComplete => "after-complete",
            Self::Every => "every-moment",
        }
    }

    /// Whether the claim is stored and the answer is not.
    pub const fn is_unfinished(self) -> bool {
        !matches!(self, Self::BeforeClaim | Self::AfterComplete)
    }

    /// Whether nothing was charged yet, and nothing is without another attempt.
    pub const fn is_uncharged(self) -> bool {
        matches!(self, Self::ClaimSent | Self::Claimed | Self::BeforeCharge)
    }

    /// Whether it is that of a COMMIT.
    pub const fn is_commit(self) -> bool {
        matches!(self, Self::CommitLost | Self::CommitSent | Self::AnswerSent)
    }

    /// Whether a handler can stop here by itself.
    pub const fn is_in_handler(self) -> bool {
        matches!(self, Self::Claimed | Self::BeforeCharge | Self::AfterCharge | Self::BeforeResponse)
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
    /// Connections are reset, once.
    Reset,
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
    /// The replica that is waited for is away, and comes back.
    ReplicaAway,
    /// The server may drop any key when memory is short.
    Evicting,
    /// The server drops what may expire, as memory is short.
    Expiring,
}

impl Outage {
    pub const ALL: [Self; 17] = [
        Self::Stop,
        Self::Kill,
        Self::Pause,
        Self::Flush,
        Self::Full,
        Self::Cut,
        Self::Reset,
        Self::Hold,
        Self::LoseRequests,
        Self::LoseReplies,
        Self::ClockAhead,
        Self::ClockBehind,
        Self::Failover,
        Self::LossyFailover,
        Self::ReplicaAway,
        Self::Evicting,
        Self::Expiring,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "server stopped, started again",
            Self::Kill => "server killed (SIGKILL), started again",
            Self::Pause => "server paused (SIGSTOP)",
            Self::Flush => "data deleted",
            Self::Full => "full",
            Self::Cut => "link cut",
            Self::Reset => "link reset at the COMMIT",
            Self::Hold => "link silent both ways, then all arrives late",
            Self::LoseRequests => "link loses requests",
            Self::LoseReplies => "link loses replies",
            Self::ClockAhead => "server's clock 1 h ahead",
            Self::ClockBehind => "server's clock 1 h behind",
            Self::Failover => "failover, replica in step",
            Self::LossyFailover => "failover, replica behind",
            Self::ReplicaAway => "replica away",
            Self::Evicting => "evicting (`allkeys-lru`)",
            Self::Expiring => "evicting (`volatile-lru`)",
        }
    }

    /// Whether it can be done to this store.
    pub const fn is_for(self, store: Store) -> bool {
        let is_plain = matches!(store, Store::Redis | Store::RedisForgetful | Store::Postgres);
        match self {
            Self::Failover | Self::LossyFailover => {
                matches!(store, Store::Sentinel | Store::Standby) || store.waits_for_replicas()
            }
            Self::ReplicaAway => store.waits_for_replicas(),
            Self::Full | Self::Evicting | Self::Expiring => matches!(store, Store::Redis),
            Self::ClockAhead | Self::ClockBehind => matches!(store, Store::ClockedValkey | Store::ClockedPostgres),
            Self::Reset => matches!(store, Store::Postgres),
            Self::Stop => is_plain || matches!(store, Store::RedisEverysec),
            Self::Kill => is_plain || matches!(store, Store::RedisEverysec | Store::Cluster | Store::PostgresAsync),
            _ => is_plain,
        }
    }

    /// Why promises that need the store's memory do not hold. Declared, not
    /// excused: a resumable handler still charges once.
    pub const fn residual(self, store: Store) -> Option<&'static str> {
        match (self, store) {
            (Self::Stop | Self::Kill, Store::RedisForgetful) => Some("forgets every key"),
            (Self::Flush, _) => Some("forgets every key"),
            (Self::Kill, Store::RedisEverysec) => Some("forgets the last two seconds, if its disk was busy"),
            (Self::LossyFailover, Store::Sentinel | Store::Standby) => {
                Some("forgets acknowledged claims and responses")
            }
            (Self::Expiring, _) => Some("forgets responses early, keeps what is unfinished"),
            _ => None,
        }
    }

    /// Whether it is the link that fails.
    pub const fn is_of_link(self) -> bool {
        matches!(self, Self::Cut | Self::Reset | Self::Hold | Self::LoseRequests | Self::LoseReplies)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    Blow(Blow),
    Outage(Outage),
    /// The clock of the process that runs it is this many seconds off from now
    /// on.
    Skew(i64),
    /// None: two completers find the same work at the same time.
    Rivals,
}

impl Fault {
    /// Where operations at every moment are tried at once.
    pub const OF_COMPLETERS: [Self; 8] = [
        Self::Rivals,
        Self::Skew(3600),
        Self::Skew(-3600),
        Self::Outage(Outage::Stop),
        Self::Outage(Outage::Kill),
        Self::Outage(Outage::Pause),
        Self::Outage(Outage::Cut),
        Self::Outage(Outage::LoseReplies),
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Blow(blow) => blow.name(),
            Self::Outage(outage) => outage.name(),
            Self::Skew(..0) => "the completer's clock 1 h behind",
            Self::Skew(_) => "the completer's clock 1 h ahead",
            Self::Rivals => "two completers at once",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    pub finisher: Finisher,
    pub store: Store,
    pub fault: Fault,
    pub moment: Moment,
    pub mode: Mode,
}

impl Cell {
    /// Every one there is.
    pub fn all() -> Vec<Self> {
        let mut cells = Self::of_clients();
        cells.extend(Self::of_completers());
        cells
    }

    /// Those where nobody asks again.
    fn of_completers() -> Vec<Self> {
        let mut cells = Vec::new();
        for store in [Store::Memory, Store::Sqlite, Store::Redis, Store::Postgres] {
            let moments = |blow| Moment::OF_COMPLETERS.map(|moment| (Fault::Blow(blow), moment));
            let blows = Blow::ALL.into_iter().flat_map(moments);
            let others = Fault::OF_COMPLETERS.map(|fault| (fault, Moment::Every));
            for (fault, moment) in
                blows.chain(others).filter(|&(fault, moment)| is_for_completers(store, fault, moment))
            {
                let finisher = Finisher::Completer;
                cells.extend(Mode::OF_CALLS.map(|mode| Self { finisher, store, fault, moment, mode }));
            }
        }
        cells
    }

    fn of_clients() -> Vec<Self> {
        let mut cells = Vec::new();
        let finisher = Finisher::Client;
        for store in Store::ALL {
            let blows = Blow::ALL.into_iter().map(Fault::Blow);
            let outages = Outage::ALL.into_iter().filter(|outage| outage.is_for(store)).map(Fault::Outage);
            for fault in blows.chain(outages) {
                let places = Moment::ALL.into_iter().flat_map(|moment| Mode::ALL.map(|mode| (moment, mode)));
                let cells_of = places.map(|(moment, mode)| Self { finisher, store, fault, moment, mode });
                cells.extend(cells_of.filter(Self::is_meant));
            }
        }
        cells
    }

    /// Whether it is tried, of those where a client asks again.
    const fn is_meant(&self) -> bool {
        let Self { store, fault, moment, mode, .. } = *self;
        if matches!(mode, Mode::Transactional) && !store.has_transactions() {
            return false;
        }
        match fault {
            _ if moment.is_commit() => {
                matches!((store, mode), (Store::Postgres, Mode::Transactional)) && is_at_commit(fault, moment)
            }
            Fault::Blow(blow) if store.is_main() => is_blow_meant(store, blow, moment),
            Fault::Blow(_) => store.is_variant() && matches!(moment, Moment::AfterCharge),
            // What an outage loses is lost by the outage.
            Fault::Outage(_) if matches!(moment, Moment::ClaimSent) => false,
            Fault::Outage(outage) => is_outage_meant(store, outage, moment, mode),
            Fault::Skew(_) | Fault::Rivals => false,
        }
    }

    /// Whether the store forgets, as it is declared.
    pub const fn residual(&self) -> Option<&'static str> {
        match (self.fault, self.store) {
            (Fault::Blow(blow), Store::Memory) if blow.is_deadly() => Some("forgets every key"),
            (Fault::Blow(Blow::Terminate), Store::Memory) => Some("forgets every key"),
            (Fault::Blow(_) | Fault::Skew(_) | Fault::Rivals, _) => None,
            // Nothing else is complete by then.
            (Fault::Outage(Outage::Expiring), _) if !matches!(self.moment, Moment::AfterComplete) => None,
            (Fault::Outage(outage), store) => outage.residual(store),
        }
    }

    /// Whether the attempt at the fault never comes back.
    pub const fn is_deadly(&self) -> bool {
        matches!(self.fault, Fault::Blow(blow) if blow.is_deadly())
    }
}

/// Without a link no reply is lost on it.
const fn is_blow_meant(store: Store, blow: Blow, moment: Moment) -> bool {
    match blow {
        Blow::Overlap => store.is_shared() && moment.is_in_handler(),
        _ => store.has_link() || !matches!(moment, Moment::ClaimSent),
    }
}

/// What can go wrong with a COMMIT.
const fn is_at_commit(fault: Fault, moment: Moment) -> bool {
    match (fault, moment) {
        (Fault::Blow(blow), _) => !matches!(blow, Blow::Overlap),
        (Fault::Outage(Outage::Reset), _) => true,
        (Fault::Outage(Outage::LoseRequests | Outage::Hold), Moment::CommitLost) => true,
        (Fault::Outage(Outage::LoseReplies | Outage::Cut | Outage::Kill), Moment::CommitSent) => true,
        (Fault::Outage(Outage::LoseReplies), Moment::AnswerSent) => true,
        _ => false,
    }
}

/// A failover takes seconds, so it is tried where it matters; what an evicting
/// server does it does at the start.
const fn is_outage_meant(store: Store, outage: Outage, moment: Moment, mode: Mode) -> bool {
    use Moment::{AfterCharge, AfterComplete, BeforeCharge, BeforeClaim};

    let is_variant = !store.is_main() || matches!(mode, Mode::Transactional);
    match outage {
        Outage::Failover | Outage::LossyFailover => match moment {
            BeforeCharge => !store.waits_for_replicas() && !matches!(mode, Mode::Transactional),
            _ => matches!(moment, AfterCharge | AfterComplete),
        },
        Outage::ReplicaAway => matches!(moment, BeforeClaim | AfterCharge),
        Outage::Evicting => matches!(moment, BeforeClaim),
        Outage::Reset => false,
        // Which node will have a key is not known before it has.
        Outage::Kill if matches!(store, Store::Cluster) => matches!(moment, AfterCharge | AfterComplete),
        Outage::Expiring => matches!(moment, BeforeClaim | AfterCharge | AfterComplete),
        Outage::ClockAhead | Outage::ClockBehind => true,
        _ if is_variant => matches!(moment, BeforeClaim | AfterCharge | AfterComplete),
        _ => true,
    }
}

/// A process that only accepts can't finish what it accepted, and nobody else
/// can where nobody shares the store.
const fn is_for_completers(store: Store, fault: Fault, moment: Moment) -> bool {
    match fault {
        Fault::Blow(Blow::Overlap) => store.is_shared() && moment.is_in_handler(),
        Fault::Blow(Blow::Pause) => store.is_shared() || !matches!(moment, Moment::BeforeClaim),
        Fault::Outage(outage) => outage.is_for(store),
        _ => true,
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Blow(blow) => format!("app-{blow:?}"),
            Fault::Outage(outage) => format!("store-{outage:?}"),
            Fault::Skew(..0) => "app-clockbehind".to_owned(),
            Fault::Skew(_) => "app-clockahead".to_owned(),
            Fault::Rivals => "rivals".to_owned(),
        };
        write!(f, "{}/{}/{}/{}", self.store.slug(), fault.to_lowercase(), self.moment.slug(), self.mode.slug())?;
        f.write_str(match self.finisher {
            Finisher::Client => "",
            Finisher::Completer => "/completer",
        })
    }
}
