//! `proxy`: the layer in front of any service.
//!
//! Start with [`run`]. [`config`] is what may stand in the file, [`settings`] what is made of it
//! and the flags, [`table`] what a request meets: [`scope`] says whose it is, then the layer, then
//! [`upstream`], where it goes out with the headers of [`forward`]. [`serve`] has the connections, and
//! [`lanes`] the threads that they stay in.

mod admin;
mod answer;
pub(crate) mod arguments;
mod arrival;
mod config;
mod forward;
mod lanes;
mod log;
mod scope;
mod serve;
mod settings;
mod table;
mod tls;
mod upload;
mod upstream;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{Engine, Sweeper, Watcher};

use self::admin::Admin;
use self::arguments::Proxy;
use self::lanes::Lanes;
use self::log::Log;
use self::serve::Server;
use self::settings::Settings;
use self::table::Table;
use crate::arguments::Common;
use crate::failure::{DONE, Failure, REFUSED};
use crate::output::{Output, Tone};
use crate::target::Target;

/// How long what was cut off may take to be dropped.
const CUT_OFF: Duration = Duration::from_secs(2);

/// How often distributions of the metrics are put together.
const UPKEEP: Duration = Duration::from_secs(5);

/// By which durations are counted, for `histogram_quantile` over several proxies. A summary costs each
/// request more, and those of two proxies can't be put together.
const SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

pub(crate) async fn run(common: &Common, typed: &Proxy, output: Output) -> Result<u8, Failure> {
    let settings = Settings::read(common, typed)?;
    if typed.check {
        output.line("the settings are right", Tone::Good)?;
        return Ok(DONE);
    }
    let metrics = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Failure::refused(format!("can't record metrics: {error}")))?;
    let log = Log::start();
    let engine = observed(engine(common, &settings)?, &log);
    let listener = bind(settings.listen).await?;
    if let Some(address) = settings.admin {
        let admin = bind(address).await?;
        log.event("admin", format!("/healthz, /readyz and /metrics are on {}", admin.local_addr()?));
        let app = Admin { engine: engine.clone(), metrics: metrics.clone() }.app();
        tokio::spawn(async move { axum::serve(admin, app).await });
    }
    let lanes = Lanes::start().map_err(|error| Failure::refused(format!("can't start threads: {error}")))?;
    // From now on a signal is heeded.
    let signals = Signals::new()?;
    let fixed = Fixed::of(&settings);
    let table = Table::new(settings, &engine);
    log.serving(listener.local_addr()?, table.upstream());
    let server = Server::new(table, log.clone(), lanes.clone());
    beside(&engine, metrics);
    let reload = Reload { common, typed, engine: &engine, server: &server, log: &log, fixed };
    let mut code = DONE;
    let stopped = async {
        signals.until_stopped(&reload).await;
        let (drain, since) = (server.drain(), Instant::now());
        log.event("stopping", format!("no new operation begins; what runs has {} seconds", drain.as_secs()));
        let drained = engine.drain(drain).await;
        log.event("drained", drained.to_string());
        code = if drained.is_empty() { DONE } else { REFUSED };
        drain.saturating_sub(since.elapsed())
    };
    server.run(listener, stopped).await;
    // What was cut off lets the store go, which closes a file of SQLite properly. A name that is looked up may take longer.
    let _ = tokio::time::timeout(CUT_OFF, lanes.end()).await;
    log.finish();
    Ok(code)
}

/// What can't change while the proxy runs.
#[derive(Debug, PartialEq, Eq)]
struct Fixed {
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    store: String,
}

impl Fixed {
    fn of(settings: &Settings) -> Self {
        Self { listen: settings.listen, admin: settings.admin, store: settings.store.clone() }
    }
}

/// All that reading the settings again needs.
struct Reload<'a> {
    common: &'a Common,
    typed: &'a Proxy,
    engine: &'a Engine,
    server: &'a Server,
    log: &'a Log,
    fixed: Fixed,
}

impl Reload<'_> {
    /// Takes the new settings, or keeps the old ones and says why.
    fn again(&self) {
        let settings = match Settings::read(self.common, self.typed) {
            Ok(settings) => settings,
            Err(failure) => return self.log.event("settings-kept", format!("the old settings go on: {failure}")),
        };
        if Fixed::of(&settings) != self.fixed {
            let text = "the old settings go on: listen, admin and store can't change while the proxy runs; restart it";
            return self.log.event("settings-kept", text);
        }
        self.server.replace(Table::new(settings, self.engine));
        self.log.event("settings-read", "new requests meet the new settings");
    }
}

/// What the process is told by its operator.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let [terminate, interrupt, hang_up] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hang_up: hang_up? })
    }

    async fn until_stopped(mut self, reload: &Reload<'_>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => reload.again(),
            }
        }
    }
}

fn engine(common: &Common, settings: &Settings) -> Result<Engine, Failure> {
    if settings.store == "memory:" {
        return Ok(Engine::new(MemoryStore::new()));
    }
    let common = Common { store: Some(settings.store.clone()), ..common.clone() };
    Ok(Target::open_or_make(&common, true)?.engine)
}

/// What needs an operator is in the log, beside the requests.
fn observed(engine: Engine, log: &Log) -> Engine {
    let log = log.clone();
    engine.on_event(move |event| {
        if event.kind.needs_attention() {
            let about = event.reference().map_or_else(String::new, |reference| format!("{reference}: "));
            log.event("attention", format!("{about}{}", event.kind));
        }
    })
}

/// What a service would run beside its requests.
fn beside(engine: &Engine, metrics: PrometheusHandle) {
    let (sweeper, watcher) = (Sweeper::new(engine), Watcher::new(engine));
    tokio::spawn(async move { sweeper.run(std::future::pending()).await });
    tokio::spawn(async move { watcher.run(std::future::pending()).await });
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.run_upkeep();
        }
    });
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::refused(format!("can't listen on {address}: {error}; choose another address")))
}
