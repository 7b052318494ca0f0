//! `doctor`: checks a store as the layer would, and says what to set.

mod file;
mod onlooker;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tower_idempotency::core::Key;
use tower_idempotency::store::{Durability, DurabilityLevel, Filter, Store, StoreError};
use tower_idempotency::{Engine, Finding, FindingKind, Operator, RunError, Runner, Watcher};

use self::onlooker::Onlooker;
use super::maintenance::rests_until;
use crate::arguments::{Common, Doctor};
use crate::failure::{AWAY, DONE, FOUND_SOMETHING, Failure};
use crate::output::{Output, Tone};
use crate::target::{Kind, Target, engine_on};
use crate::text::age;

/// Clocks that differ by more are worth a word.
const OFFSET: Duration = Duration::from_secs(60);
/// How many findings are listed one by one.
const LISTED: usize = 20;
/// How many rounds of the watcher: each reads up to 10,000 operations.
const ROUNDS: usize = 100;

/// Each watcher moves the mark of a store once a minute, and this does not: one whose mark is less is
/// hardly in use.
const NEW: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Warning,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Check {
    verdict: Verdict,
    /// What was looked at.
    about: &'static str,
    text: String,
}

impl Check {
    pub(super) fn new(verdict: Verdict, about: &'static str, text: impl Into<String>) -> Self {
        Self { verdict, about, text: text.into() }
    }
}

pub(crate) async fn run(common: &Common, doctor: &Doctor, output: Output) -> Result<u8, Failure> {
    let target = Target::open(common)?;
    let mut checks = vec![answers(&target).await?];
    if let Kind::Sqlite(path) = &target.kind {
        checks.extend(file::check(path));
    }
    match target.store.inspect().await {
        Ok(durability) => {
            checks.extend(durable(&durability, doctor.require.into()));
            checks.extend(unused(&target, &durability).await);
        }
        Err(error) => checks.push(Check::new(Verdict::Problem, "settings", error.to_string())),
    }
    if !doctor.read_only {
        checks.push(trial(&target).await);
    }
    let onlooking = engine_on(Onlooker::at(&target.store), common)?;
    checks.extend(findings(&onlooking, doctor, output).await);
    report(&target, &checks, output)?;
    let healthy = checks.iter().all(|check| check.verdict == Verdict::Fine);
    Ok(if healthy { DONE } else { FOUND_SOMETHING })
}

/// Whether the store replies at all, how fast, and by which clock.
async fn answers(target: &Target) -> Result<Check, Failure> {
    let key = Key::from_bytes([0; 32]);
    let away = |error: StoreError| Failure::new(AWAY, format!("{} can't be used: {error}", target.name));
    // The first call connects, and may take longer.
    target.store.load(&key).await.map_err(away)?;
    let (started, clock) = (Instant::now(), SystemTime::now());
    let now = target.store.load(&key).await.map_err(away)?.now;
    let took = started.elapsed();
    let reply = format!("replies in {:.1} ms", took.as_secs_f64() * 1000.0);
    if matches!(target.kind, Kind::Sqlite(_)) {
        // It counts from the start of the machine.
        return Ok(Check::new(Verdict::Fine, "reply", reply));
    }
    let middle = clock.duration_since(UNIX_EPOCH).unwrap_or_default() + took / 2;
    let offset = middle.abs_diff(Duration::from_millis(now.as_millis()));
    if offset > OFFSET {
        let text = format!(
            "{reply}; its clock and that of this machine differ by {}: leases go by the store's, so set this machine's",
            age(offset)
        );
        return Ok(Check::new(Verdict::Warning, "reply", text));
    }
    Ok(Check::new(Verdict::Fine, "reply", format!("{reply}; clocks differ by {} ms", offset.as_millis())))
}

/// What the store survives, and the settings that weaken that.
fn durable(durability: &Durability, minimum: DurabilityLevel) -> Vec<Check> {
    let (verdict, needed) = if durability.survives < minimum {
        (Verdict::Problem, format!(", and {minimum} is required"))
    } else {
        (Verdict::Fine, String::new())
    };
    let survives = Check::new(verdict, "durability", format!("survives {}{needed}", durability.survives));
    let warnings = durability.warnings.iter().map(|text| Check::new(Verdict::Warning, "settings", text));
    std::iter::once(survives).chain(warnings).collect()
}

/// Whether this looks like a name space that no service uses: another prefix is another store, and an
/// empty one shows nothing that needs attention.
async fn unused(target: &Target, durability: &Durability) -> Option<Check> {
    let (place, parameters) = match target.kind {
        Kind::Redis => ("under this prefix", "redis://HOST?prefix=NAME"),
        Kind::Postgres(_) => ("in these tables", "postgres://HOST/DB?schema=NAME&table_prefix=NAME"),
        Kind::Sqlite(_) => return None,
    };
    let is_new = durability.epoch.is_none_or(|epoch| epoch.mark < NEW);
    if !is_new || has_some(target, Filter::Unfinished).await || has_some(target, Filter::Complete).await {
        return None;
    }
    let text = format!(
        "nothing is stored {place}, and hardly any process has asked for them: are they those that the service sets? \
         Give them in the URL, as {parameters}"
    );
    Some(Check::new(Verdict::Warning, "prefix", text))
}

/// As far as the store has an index of them.
async fn has_some(target: &Target, filter: Filter) -> bool {
    target.store.count(filter, 1).await.is_ok_and(|count| count > 0)
}

/// An operation from its claim to its end, and its removal: all that the layer has to be
/// allowed to do.
async fn trial(target: &Target) -> Check {
    let about = "rights";
    let scope = "idempotency doctor";
    let key = format!(
        "{}-{}",
        std::process::id(),
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
    );
    let runner = Runner::new(target.engine.clone().retention(Duration::from_secs(1)));
    let ran = runner.run(scope, &key, "", |_| async { Ok::<_, std::fmt::Error>(()) }).await;
    if let Err(RunError::Maintenance { .. }) = &ran {
        return Check::new(Verdict::Fine, about, "not tried: a maintenance window refuses new work");
    }
    if let Err(error) = ran {
        return Check::new(Verdict::Problem, about, format!("a trial operation failed: {error}"));
    }
    let operator = Operator::new(target.engine.clone());
    let removed = async { operator.forget(&operator.find_of_runner(scope, &key).await?).await };
    match removed.await {
        Ok(()) => Check::new(Verdict::Fine, about, "an operation can be claimed, ended and removed"),
        Err(error) => Check::new(Verdict::Problem, about, format!("a trial operation can't be removed: {error}")),
    }
}

/// What a watcher would report by now.
async fn findings(engine: &Engine, doctor: &Doctor, output: Output) -> Vec<Check> {
    let found: Arc<Mutex<Vec<Finding>>> = Arc::default();
    let seen = Arc::clone(&found);
    let watcher = Watcher::new(engine).require(doctor.require.into()).on_finding(move |finding| {
        let seen = Arc::clone(&seen);
        async move {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
            Ok(())
        }
    });
    let progress = output.progress("operations read");
    for _ in 0..ROUNDS {
        let watched = watcher.run_once().await;
        progress.inc(watched.scanned as u64);
        if !watched.capped {
            break;
        }
    }
    progress.finish_and_clear();
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    // Told already, with what the store survives.
    let told = |finding: &Finding| finding.over || finding.kind == FindingKind::BelowDurability;
    let found: Vec<_> = found.into_iter().filter(|finding| !told(finding)).collect();
    if found.is_empty() && rests_until(engine).await.is_some() {
        let text = "not looked at: a maintenance window covers the store; list them with `idempotency list`";
        return vec![Check::new(Verdict::Warning, "operations", text)];
    }
    checks_of(&found)
}

fn checks_of(found: &[Finding]) -> Vec<Check> {
    let about = "operations";
    if found.is_empty() {
        return vec![Check::new(Verdict::Fine, about, "nothing needs attention")];
    }
    let mut checks: Vec<_> =
        found.iter().take(LISTED).map(|finding| Check::new(Verdict::Problem, about, finding.to_string())).collect();
    if found.len() > LISTED {
        let text = format!("{} more; `idempotency list` shows them", found.len() - LISTED);
        checks.push(Check::new(Verdict::Problem, about, text));
    }
    checks
}

fn report(target: &Target, checks: &[Check], output: Output) -> std::io::Result<()> {
    if output.is_json() {
        let listed =
            |check: &Check| json!({ "verdict": word(check.verdict).0, "about": check.about, "text": check.text });
        let healthy = checks.iter().all(|check| check.verdict == Verdict::Fine);
        let checks: Vec<_> = checks.iter().map(listed).collect();
        return output.value(&json!({ "store": target.name, "healthy": healthy, "checks": checks }));
    }
    output.line(&target.name, Tone::Heading)?;
    for check in checks {
        let (word, tone) = word(check.verdict);
        let about = format!("{:<11}", check.about);
        output.pieces(&[(format!("{word:<8} "), tone), (about, Tone::Quiet), (check.text.clone(), Tone::Plain)])?;
    }
    Ok(())
}

const fn word(verdict: Verdict) -> (&'static str, Tone) {
    match verdict {
        Verdict::Fine => ("ok", Tone::Good),
        Verdict::Warning => ("warning", Tone::Warning),
        Verdict::Problem => ("problem", Tone::Bad),
    }
}
