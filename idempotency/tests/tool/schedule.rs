//! What the program shows of schedules, and what an operator does about one, on every store.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use servers::{Postgres, Redis};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tower_idempotency::schedule::{Schedule, Scheduler, Timing};
use tower_idempotency::store::{PostgresStore, RedisStore, SqliteStore, Store};

use super::{RUNTIME, Ran, program};

/// How long a run may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that runs a schedule each second, and one that waits for a day far ahead.
fn process(store: Arc<dyn Store>) -> (JoinHandle<()>, Receiver<String>) {
    let (sender, runs) = channel();
    let runs_by = |runs: &Sender<String>| {
        let runs = runs.clone();
        move |period: tower_idempotency::schedule::Period, _| {
            let sent = runs.send(period.to_string());
            async { sent }
        }
    };
    let often = Schedule::new("often", Timing::every(Duration::from_secs(1)).unwrap());
    let rarely = Schedule::new("rarely", Timing::cron("Europe/Berlin", "0 2 29 2 *").unwrap());
    let scheduler = Scheduler::new(store).schedule(often, runs_by(&sender)).unwrap();
    let scheduler = scheduler.schedule(rarely, runs_by(&sender)).unwrap();
    let process = RUNTIME.spawn(async move { scheduler.run(std::future::pending()).await });
    (process, runs)
}

fn until(runs: &Receiver<String>, is_seen: impl Fn(&str) -> bool) {
    while !is_seen(&runs.recv_timeout(PATIENCE).expect("it runs")) {}
}

fn story(url: &str, store: Arc<dyn Store>) {
    let run = |arguments: &[&str]| -> Ran { program(&[&["--store", url, "schedule"], arguments].concat()) };
    assert_eq!(run(&["list"]).out, "no process has run a schedule over this store\n");
    assert_eq!((run(&["show", "often"]).code, run(&["pause", "often", "--yes"]).code), (3, 3));
    let (process, runs) = process(store);
    until(&runs, |_| true);
    assert_eq!(run(&["pause", "often"]).code, 1, "there is no terminal to ask on");
    let paused = run(&["pause", "often", "--as", "eve", "--why", "the disk is full", "--json", "--yes"]).json();
    assert_eq!((&paused["state"], &paused["paused"]["by"]), (&"paused".into(), &"eve".into()));
    let shown = run(&["show", "often"]);
    assert!(shown.out.contains("paused by eve: the disk is full"), "{shown:?}");
    let asked = run(&["run", "often", "--why", "the mail was lost", "--json", "--yes"]).json();
    let name = asked["asked"][0]["period"].as_str().unwrap().to_owned();
    until(&runs, |period| period == name);
    let filled = run(&["back-fill", "rarely", "--from", "2020-01-01T00:00Z", "--yes"]);
    assert_eq!((filled.code, filled.out.matches("asked for").count()), (0, 2), "{filled:?}");
    until(&runs, |period| period.starts_with("2020-02-29T02:00:00/"));
    until(&runs, |period| period.starts_with("2024-02-29T02:00:00/"));
    let none = run(&["back-fill", "rarely", "--from", "2020-03-01T00:00Z", "--until", "2020-04-01T00:00Z", "--yes"]);
    assert!(none.code == 1 && none.err.contains("no period began in that time"), "{none:?}");
    assert_eq!(run(&["go-on", "often", "--yes"]).code, 0);
    until(&runs, |period| !period.contains('/'));
    let shown = run(&["show", "often", "--json"]).json();
    let by_hand = shown["ended"].as_array().unwrap().iter().find(|ended| ended["by_hand"] == true).unwrap();
    assert_eq!((&by_hand["end"], &by_hand["period"]), (&"complete".into(), &name.into()));
    assert_eq!(by_hand["order"]["why"], "the mail was lost");

    let listed = run(&["list", "--json"]).json();
    let names: Vec<_> = listed["schedules"].as_array().unwrap().iter().map(|shown| &shown["name"]).collect();
    assert_eq!(names, ["often", "rarely"]);
    assert_eq!(run(&["list"]).out.lines().count(), 3);
    let next = run(&["next", "rarely", "--count", "2", "--json"]).json();
    assert_eq!(next["next"][0]["period"], "2028-02-29T02:00:00");
    assert_eq!(next["next"].as_array().unwrap().len(), 2);
    process.abort();
    assert_eq!(run(&["forget", "rarely"]).code, 1, "there is no terminal to ask on");
    assert_eq!(run(&["forget", "rarely", "--why", "it moved", "--yes"]).code, 0);
    assert!(!run(&["list"]).out.contains("rarely"));
    assert_eq!(run(&["forget", "rarely", "--yes"]).code, 3);
}

#[test]
fn schedules_are_seen_and_steered_on_sqlite() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    story(&format!("sqlite:{}", path.display()), Arc::new(store));
}

#[test]
fn schedules_are_seen_and_steered_on_redis() {
    let server = Redis::start();
    let store = RUNTIME.block_on(async { RedisStore::connect(&server.url()).unwrap() });
    story(&server.url(), Arc::new(store));
}

#[test]
fn schedules_are_seen_and_steered_on_postgres() {
    let url = Postgres::shared().database("tool_schedule");
    assert_eq!(program(&["--store", &url, "migrate", "--yes"]).code, 0);
    let store = RUNTIME.block_on(async { PostgresStore::connect(&url).unwrap() });
    story(&url, Arc::new(store));
}

#[test]
fn next_runs_of_a_timing_need_no_store() {
    let next =
        program(&["schedule", "next", "--cron", "0 2 29 2 *", "--zone", "Europe/Berlin", "--count", "3", "--json"]);
    let next = next.json();
    let periods: Vec<_> = next["next"].as_array().unwrap().iter().map(|next| &next["period"]).collect();
    assert_eq!(periods.len(), 3);
    assert!(periods.iter().all(|period| period.as_str().unwrap().ends_with("-02-29T02:00:00")), "{periods:?}");
    assert_eq!(program(&["schedule", "next", "--every", "2h"]).out.lines().count(), 5);
    let wrong = program(&["schedule", "next", "--cron", "61 2 * * *", "--zone", "UTC"]);
    assert!(wrong.code == 2 && wrong.err.contains("61 2 * * *"), "{wrong:?}");
    let wrong = program(&["schedule", "next", "--cron", "0 2 * * *", "--zone", "Mars/Olympus"]);
    assert!(wrong.code == 2 && wrong.err.contains("no time zone"), "{wrong:?}");
    assert_eq!(program(&["schedule", "next", "--cron", "0 2 * * *"]).code, 2, "of which zone?");
}
