//! Reports what needs attention.

pub(crate) mod classify;
mod open_findings;
mod round;
mod state;
mod store;

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

pub use self::state::Watched;

use self::classify::Thresholds;
use self::state::State;
use crate::engine::Engine;
use crate::store::DurabilityLevel;
use crate::telemetry::finding::Finding;
use crate::util::clock::SystemClock;
use crate::util::detached::CatchPanic;
use crate::workers::pace;

type HookFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type Hook = dyn Fn(Finding) -> HookFuture + Send + Sync;

/// How long a hook may take for one finding.
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Reports what needs attention: an operation that stays half-done, is in doubt or
/// parked; a response that could not be stored; a store that is unreachable, has lost records,
/// or survives less than it should.
///
/// Each finding is reported once, again when it changes, and once more when it is
/// [over](Finding::over). A watcher only reads, and decides nothing. Run one in each
/// process: only the process that has an unsaved response knows of it.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{IdempotencyLayer, Scope, Watcher, store::{MemoryStore, DurabilityLevel}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared());
/// let watcher = Watcher::new(&layer)
///     .paid_for(Duration::from_secs(120))
///     .require(DurabilityLevel::PowerLoss)
///     .on_finding(|finding| async move {
///         eprintln!("{finding}");
///         Ok(())
///     });
/// // In a test, or by hand:
/// assert_eq!(watcher.run_once().await.open, 1, "a store in memory survives nothing");
/// // In production:
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let watching = tokio::spawn(async move { watcher.run(async { stopped.await.unwrap_or(()) }).await });
/// stop.send(()).unwrap();
/// watching.await.unwrap();
/// # }
/// ```
///
/// With or without a hook, findings are events
/// ([`EventKind::Found`](crate::EventKind::Found)), and so log lines and metrics.
///
/// # Caveats
///
/// - The watcher keeps open findings in its process. After a restart it reports them again,
///   and it never reports findings as over that ended meanwhile.
/// - It keeps the store's epoch in its process, too: it does not notice that a store was
///   wiped while no watcher ran.
/// - A round reads 10,000 unfinished operations at most, and 1,000 of them
///   closely; the next round continues there. The watcher keeps 1,000 findings about
///   operations. If there is more, that is a finding ([`Capped`](crate::FindingKind::Capped)).
#[must_use]
pub struct Watcher {
    engine: Engine,
    settings: WatcherSettings,
    hook: Option<Arc<Hook>>,
    clock: SystemClock,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct WatcherSettings {
    every: Duration,
    thresholds: Thresholds,
    require: DurabilityLevel,
}

impl Watcher {
    /// A watcher of this engine, and of the whole store behind it. It also
    /// takes a layer, for its engine. Only the engine that has an unsaved response, and
    /// its clones, know of it: a watcher that you make from the store knows of none.
    pub fn new(engine: impl Into<Engine>) -> Self {
        let thresholds = Thresholds::default();
        Self {
            engine: engine.into(),
            settings: WatcherSettings { every: Duration::from_secs(30), thresholds, require: DurabilityLevel::Nothing },
            hook: None,
            clock: SystemClock::new(),
            state: Mutex::default(),
        }
    }

    /// After how long an operation that is neither paid for nor complete is a
    /// finding, from its first claim: 15 minutes by default. Set it longer than your
    /// slowest handler takes.
    pub const fn pending_for(mut self, limit: Duration) -> Self {
        self.settings.thresholds.pending = limit;
        self
    }

    /// After how long an operation that is paid for and not complete is a
    /// finding, from its first claim: 5 minutes by default.
    pub const fn paid_for(mut self, limit: Duration) -> Self {
        self.settings.thresholds.paid = limit;
        self
    }

    /// After how long an operation in doubt is a finding, counted from when a
    /// completer could have resolved it: one minute by default.
    pub const fn in_doubt_for(mut self, limit: Duration) -> Self {
        self.settings.thresholds.in_doubt = limit;
        self
    }

    /// How often it looks, give or take half: every 30 seconds by default, at
    /// least 10 ms.
    pub fn every(mut self, every: Duration) -> Self {
        self.settings.every = pace::at_least(every);
        self
    }

    /// What the store must survive, by default [`Nothing`](DurabilityLevel::Nothing). The
    /// watcher asks it once a minute.
    pub const fn require(mut self, minimum: DurabilityLevel) -> Self {
        self.settings.require = minimum;
        self
    }

    /// Calls `hook` with each finding, one at a time. After an error, a panic, or 10
    /// seconds without a result, the watcher reports the finding again in the next round, and
    /// all others wait until then.
    pub fn on_finding<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Finding) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.hook = Some(Arc::new(move |finding| Box::pin(hook(finding))));
        self
    }

    /// Looks once, and reports what is new. A store that fails is a finding, not an error.
    ///
    /// # Cancellation
    ///
    /// You may drop the future at any time; the next call reports what this one did not.
    pub async fn run_once(&self) -> Watched {
        let mut state = self.state.lock().await;
        let watched = self.round(&mut state).await;
        self.report(&mut state).await;
        watched
    }

    /// Calls [`run_once`](Self::run_once) again and again, until `shutdown` resolves.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        #[cfg(feature = "metrics")]
        crate::telemetry::metrics::begin();
        loop {
            let watched = async {
                self.run_once().await;
                pace::pause(self.settings.every).await;
            };
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = watched => {}
            }
        }
    }

    async fn report(&self, state: &mut State) {
        while let Some((subject, finding)) = state.findings.unreported() {
            if let Some(hook) = &self.hook {
                let calling = timeout(HOOK_TIMEOUT, CatchPanic::new(async { hook(finding).await }));
                if !matches!(calling.await, Ok(Ok(Ok(())))) {
                    // The receiver is away; the rest would only wait.
                    return;
                }
            }
            state.findings.reported(subject);
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("settings", &self.settings).finish_non_exhaustive()
    }
}
