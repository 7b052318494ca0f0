//! What the program does while a maintenance window rests all work on the store.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use servers::{Postgres, Redis};
use tempfile::TempDir;

use super::terminal::Terminal;
use super::{Bed, Killed, command, postgres, ran, redis, sqlite};

/// How long a line may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn plan(bed: &Bed, from: &str, zone: &str) -> String {
    let plan = ["--store", &bed.url, "--json", "maintenance", "plan", "--from", from, "--for", "1h", "--lead", "0s"];
    let planned = ran(command().args(plan).args(["--reason", "the database moves", "--yes"]).env("TZ", zone));
    planned.json()["id"].as_str().unwrap().to_owned()
}

/// What is written, line by line.
fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

/// Silence, or a `removed 0`, would be read as "nothing is wrong".
fn rests(bed: &Bed) {
    let mut watching = command();
    watching.args(["--store", &bed.url, "--json", "watch", "--every", "100ms"]).stdout(Stdio::piped());
    let id = plan(bed, "now", "UTC");
    let mut watching = Killed(watching.spawn().unwrap());
    let lines = lines_of(watching.0.stdout.take().unwrap());
    let next = || lines.recv_timeout(PATIENCE).expect("it is silent").parse::<Value>().unwrap();
    assert!(next()["rests_until"].is_string(), "in the window");

    let doctor = bed.run(&["doctor", "--json"]);
    assert_eq!(doctor.code, 5, "{doctor:?}");
    let doctor: Value = doctor.out.parse().unwrap();
    let said = |about: &str| {
        let check = doctor["checks"].as_array().unwrap().iter().find(|check| check["about"] == about).unwrap();
        (check["verdict"].as_str().unwrap().to_owned(), check["text"].as_str().unwrap().to_owned())
    };
    let (verdict, text) = said("operations");
    assert!(verdict == "warning" && text.contains("not looked at: a maintenance window covers the store"), "{text}");
    let (verdict, text) = said("rights");
    assert!(verdict == "ok" && text.contains("not tried: a maintenance window refuses new work"), "{text}");
    let swept = bed.run(&["sweep", "--yes"]);
    assert!(swept.code == 1 && swept.out.is_empty(), "{swept:?}");
    assert!(swept.err.contains("nothing was removed: a maintenance window rests all work"), "{swept:?}");
    assert_eq!(bed.run(&["list", "--json"]).json()["operations"].as_array().unwrap().len(), 1, "looking goes on");

    assert_eq!(bed.run(&["maintenance", "end", &id, "--yes"]).code, 0);
    assert!(next()["rests_until"].is_null(), "it is over");
    assert_eq!(bed.run(&["sweep", "--yes"]).code, 0);
    begins_before_the_yes(bed);
}

/// The operator may take long to say yes.
fn begins_before_the_yes(bed: &Bed) {
    let mut sweeping = Terminal::run(bed, &["sweep"], &[]);
    sweeping.see("[yes/no] ");
    plan(bed, "now", "UTC");
    sweeping.type_in("yes\n");
    let (seen, code) = sweeping.end();
    assert!(seen.contains("nothing was removed: a maintenance window rests all work") && code == 1, "{seen}");
    assert!(!seen.contains("removed 0"), "{seen}");
}

#[test]
fn the_program_says_that_a_window_rests_it_on_sqlite() {
    let folder = TempDir::new().unwrap();
    rests(&sqlite(&folder));
}

#[test]
fn the_program_says_that_a_window_rests_it_on_redis() {
    let server = Redis::start();
    rests(&redis(&server));
}

#[test]
fn the_program_says_that_a_window_rests_it_on_postgres() {
    rests(&postgres("tool_window"));
}

/// Puts the record of the windows back, as if an operator had planned one, once a statement has
/// removed rows.
const BEGINS_AFTER_A_BATCH: &str = "
    CREATE FUNCTION begin_window() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO idempotency.records SELECT * FROM kept ON CONFLICT DO NOTHING; RETURN NULL;
    END $$;
    CREATE TRIGGER begins AFTER DELETE ON idempotency.records FOR EACH ROW EXECUTE FUNCTION begin_window()";

#[test]
fn a_window_stops_a_sweep_on_postgres_before_its_next_batch() {
    let name = "tool_batches";
    let bed = postgres(name);
    let sql = |sql: &str| Postgres::shared().sql_in(name, sql);
    let [complete, unknown] = [&bed.complete, &bed.unknown].map(|shown| format!("decode('{}', 'hex')", shown.key));
    plan(&bed, "now", "UTC");
    let windows = format!("FROM idempotency.records WHERE key NOT IN ({complete}, {unknown})");
    sql(&format!("CREATE TABLE kept AS SELECT * {windows}; DELETE {windows}"));
    sql(&format!(
        "INSERT INTO idempotency.records (key, version, status, created, due, span, steps, head)
         SELECT sha256(n::text::bytea), version, status, created, 0, span, steps, head
         FROM idempotency.records, generate_series(1, 4500) AS n WHERE key = {complete}"
    ));
    sql(BEGINS_AFTER_A_BATCH);

    let swept = bed.run(&["sweep", "--yes"]);
    assert_eq!((swept.code, &*swept.out), (1, "removed 2000\n"), "{swept:?}");
    assert!(swept.err.contains("stopped when 2000 were removed: a maintenance window rests all work"), "{swept:?}");
    assert_eq!(sql("SELECT count(*) FROM idempotency.records WHERE due = 0"), "2500");
}

#[test]
fn a_time_is_that_of_the_zone_of_who_types_it() {
    let folder = TempDir::new().unwrap();
    let bed = sqlite(&folder);
    let typed = [
        ("2036-01-01T22:00", "Asia/Tokyo"),
        ("2036-01-01T13:00", "UTC"),
        ("2036-01-01T08:00", "America/New_York"),
        ("2036-01-01T14:00+01:00", "Asia/Tokyo"),
        ("2036-01-01T14:00[Europe/Berlin]", "America/New_York"),
    ];
    typed.iter().for_each(|(from, zone)| drop(plan(&bed, from, zone)));
    let windows = bed.run(&["maintenance", "list", "--json"]).json()["windows"].clone();
    let begins: Vec<_> = windows.as_array().unwrap().iter().map(|window| window["from"].as_u64().unwrap()).collect();
    assert_eq!(begins.len(), typed.len());
    // They count from when each was typed, by another clock.
    let spread = begins.iter().max().unwrap() - begins.iter().min().unwrap();
    assert!(spread < 60_000, "{begins:?}");
}
