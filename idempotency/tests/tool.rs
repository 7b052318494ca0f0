//! The program as scripts run it, against real stores.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "tool/schedule.rs"]
mod schedule;
#[path = "tool/terminal.rs"]
mod terminal;
#[path = "tool/windows.rs"]
mod windows;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};

use serde_json::Value;
use servers::{Postgres, Redis};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_idempotency::store::{PostgresStore, RedisStore, SqliteStore, Store};
use tower_idempotency::{Engine, Labels, Operation, Operator, Runner, Shown};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Its name would clear the screen.
const HOSTILE: &str = "charge\u{1b}[2J\u{9b}1m";

/// What one run wrote, and its exit code.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!((self.code, &*self.err), (0, ""), "{self:?}");
        self.out.parse().unwrap()
    }
}

fn program(arguments: &[&str]) -> Ran {
    ran(command().args(arguments))
}

/// The program, with nothing of the environment that it heeds.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idempotency"));
    for name in ["IDEMPOTENCY_STORE", "IDEMPOTENCY_ENCRYPTION_KEY_FILE", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("USER", "eve").stdin(Stdio::null());
    command
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A store with an operation that is complete, and one whose outcome is not known.
struct Bed {
    url: String,
    operator: Operator,
    complete: Shown,
    unknown: Shown,
}

impl Bed {
    fn new(url: String, store: Arc<dyn Store>) -> Self {
        let engine = Engine::new(store);
        let operator = Operator::new(engine.clone());
        RUNTIME.block_on(async {
            let runner =
                Runner::new(engine).at_most_once().labels(Labels::new().with("order", 17).with("item", "lamp"));
            runner.run("shop", "fine", "", |_| async { Ok::<_, String>(1) }).await.unwrap();
            let charge = |op: Operation| async move {
                op.step(HOSTILE, |_| async { Ok::<_, String>(1) }).await?;
                Err::<u8, _>(tower_idempotency::StepError::Retry("the bank is away".to_owned()))
            };
            assert!(runner.run("shop", "stuck", "", charge).await.is_err());
            let complete = operator.find_of_runner("shop", "fine").await.unwrap();
            let unknown = operator.find_of_runner("shop", "stuck").await.unwrap();
            Self { url, operator, complete, unknown }
        })
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        program(&[&["--store", &self.url], arguments].concat())
    }

    /// As they are now.
    fn shown(&self, shown: &Shown) -> Value {
        self.run(&["show", &shown.key.to_string(), "--json"]).json()
    }
}

fn sqlite(folder: &TempDir) -> Bed {
    let path = folder.path().join("keys.db");
    let store = SqliteStore::open(&path).unwrap();
    Bed::new(format!("sqlite:{}", path.display()), Arc::new(store))
}

fn redis(server: &Redis) -> Bed {
    let store = RUNTIME.block_on(async { RedisStore::connect(&server.url()).unwrap() });
    Bed::new(server.url(), Arc::new(store))
}

fn postgres(name: &str) -> Bed {
    let url = Postgres::shared().database(name);
    let made = program(&["--store", &url, "migrate", "--yes"]);
    assert_eq!(made.code, 0, "{made:?}");
    let store = RUNTIME.block_on(async { PostgresStore::connect(&url).unwrap() });
    Bed::new(url, Arc::new(store))
}

/// What every store must show, and let an operator decide.
fn story(bed: &Bed) {
    let (hash, seen) = (bed.unknown.key.to_string(), format!("{:016x}", bed.unknown.record.version().get()));

    let listed = bed.run(&["list", "--json"]).json();
    assert_eq!(listed["operations"][0]["key"], *hash);
    assert_eq!(listed["operations"].as_array().unwrap().len(), 1);
    let doctor = bed.run(&["doctor", "--json"]);
    assert!([0, 5].contains(&doctor.code), "{doctor:?}");
    let doctor: Value = doctor.out.parse().unwrap();
    let rights = doctor["checks"].as_array().unwrap().iter().find(|check| check["about"] == "rights").unwrap();
    assert_eq!(rights["verdict"], "ok");

    for (label, found) in [("order=17", 1), ("order=18", 0), ("item=17", 0)] {
        let listed = bed.run(&["list", "--state", "unfinished", "--label", label, "--json"]).json();
        assert_eq!(listed["operations"].as_array().unwrap().len(), found, "{label}: {listed}");
    }
    assert_eq!(bed.run(&["list", "--label", "order"]).code, 2, "that is no label");
    assert!(bed.run(&["show", &hash]).out.contains("labels   order=17, item=lamp"), "an operator sees which it is");
    let of_label = bed.run(&["list", "--state", "unfinished", "--label", "order=17"]).out;
    assert!(
        of_label.contains("LABELS") && of_label.contains("item=lamp") && !of_label.contains("order=17"),
        "{of_label}"
    );

    // No colours in a pipe, and nothing of what would steer a terminal.
    for arguments in [&["list"][..], &["show", &hash], &["show", &hash, "--json"], &["doctor"]] {
        let ran = bed.run(arguments);
        assert!(ran.out.chars().all(|c| c == '\n' || !c.is_control()), "{arguments:?}: {ran:?}");
    }
    assert!(bed.run(&["show", &hash]).out.contains(r"charge\u{1b}[2J\u{9b}1m"), "the step is shown");
    assert!(bed.run(&["show", &hash]).out.contains(&format!("idempotency retry {hash} --seen {seen}")));

    // Nothing is decided without being asked for, on a state that was not seen, or without a why.
    let retry = ["retry", &hash, "--why", "the bank says no"];
    let stale = [&retry[..], &["--yes", "--seen", "0000000000000000"]].concat();
    for (arguments, code) in
        [(&retry[..], 1), (&stale, 1), (&[&retry[..], &["--yes"]].concat(), 2), (&["retry", &hash], 2)]
    {
        let ran = bed.run(arguments);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(bed.shown(&bed.unknown)["version"], *seen, "{arguments:?} changed something");
    }
    let ran = bed.run(&[&retry[..], &["--yes", "--seen", &seen, "--as", "mallory"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let after = bed.shown(&bed.unknown);
    let decided = after["history"].as_array().unwrap().last().unwrap();
    assert_eq!(decided["by"], "mallory");
    assert!(decided["text"].as_str().unwrap().contains("the bank says no"), "{decided}");
    assert_eq!(after["needs_attention"], false);

    resolve_and_forget(bed, &hash);
    maintenance(bed);
}

/// Last: while one is open, nothing new runs.
fn maintenance(bed: &Bed) {
    let plan = ["maintenance", "plan", "--from", "+2h", "--for", "1h", "--reason", "the database moves"];
    assert_eq!(bed.run(&plan).code, 1, "it asks");
    let id = bed.run(&[&plan[..], &["--yes", "--json"]].concat()).json()["id"].as_str().unwrap().to_owned();
    let listed = bed.run(&["maintenance", "list", "--json"]).json();
    let window = &listed["windows"][0];
    assert_eq!((&window["id"], &window["state"]), (&Value::from(&*id), &Value::from("planned")));
    assert!(window["by"].as_str().unwrap().starts_with("eve@"), "{window}");
    let ahead = window["from"].as_u64().unwrap() - listed["now"].as_u64().unwrap();
    assert!((7_100_000..=7_200_000).contains(&ahead), "{listed}");
    assert_eq!(bed.run(&["maintenance", "extend", &id, "--until", "+5h", "--yes"]).code, 0);
    let over = ["maintenance", "plan", "--from", "2020-01-01T00:00", "--for", "1h", "--reason", "late", "--yes"];
    assert_eq!(bed.run(&over).code, 1);
    assert_eq!(bed.run(&["list", "--state", "unfinished", "--json"]).json()["operations"], serde_json::json!([]));
    assert_eq!(bed.run(&["maintenance", "end", &id, "--yes"]).code, 0);
    assert_eq!(bed.run(&["maintenance", "end", &id, "--yes"]).code, 3);
}

fn resolve_and_forget(bed: &Bed, hash: &str) {
    let seen = bed.shown(&bed.unknown)["version"].as_str().unwrap().to_owned();
    let respond = ["resolve", hash, "--respond", "200", "--body", "{}", "--header", "content-type: application/json"];
    let ran = bed.run(&[&respond[..], &["--why", "it was charged", "--yes", "--seen", &seen, "--json"]].concat());
    assert_eq!(ran.json()["done"], true);
    assert_eq!(bed.shown(&bed.unknown)["state"], "complete");

    let (key, seen) = (bed.complete.key.to_string(), format!("{:016x}", bed.complete.record.version().get()));
    let forget = ["forget", &key, "--why", "a test", "--yes", "--seen", &seen];
    assert_eq!(bed.run(&forget).code, 0);
    let absent = bed.run(&["show", &key]);
    assert_eq!(absent.code, 3, "{absent:?}");
    assert!(RUNTIME.block_on(bed.operator.show(&bed.complete.key)).is_err());
    assert_eq!(bed.run(&["sweep", "--yes", "--json"]).json()["unreadable"], 0);
    assert_eq!(bed.run(&["sweep"]).code, 1, "it asks");
}

#[test]
fn an_operator_sees_and_decides_on_sqlite_beside_the_service() {
    story(&sqlite(&TempDir::new().unwrap()));
}

#[test]
fn an_operator_sees_and_decides_on_redis() {
    story(&redis(&Redis::start()));
}

#[test]
fn an_operator_sees_and_decides_on_postgres() {
    story(&postgres("tool"));
}

#[test]
fn what_is_found_by_scope_and_key_is_that_of_this_scope() {
    let folder = TempDir::new().unwrap();
    let bed = sqlite(&folder);
    let find = |scope: &str| bed.run(&["show", "--runner", "--scope", scope, "--key", "stuck", "--json"]);
    assert_eq!(find("shop").json()["key"], bed.unknown.key.to_string());
    assert_eq!(find("other").code, 3);
    assert_eq!(bed.run(&["show", "not-a-hash"]).code, 2);
    assert_eq!(bed.run(&["show", &bed.unknown.reference(), "--json"]).json()["key"], bed.unknown.key.to_string());
}

/// An operator who asks for part of it, and reads that all is well, goes back to sleep.
#[test]
fn a_list_says_that_nothing_needs_attention_only_if_it_left_out_nothing() {
    let folder = TempDir::new().unwrap();
    let bed = sqlite(&folder);
    let says = |arguments: &[&str]| bed.run(&[&["list"], arguments].concat()).out;
    let after = &format!("n.{}.{}", i64::MAX, "f".repeat(64));
    for arguments in [["--finding", "paid"], ["--label", "order=18"], ["--older-than", "2h"], ["--after", after]] {
        assert_eq!(says(&arguments), "none of the operations looked at\n", "{arguments:?}");
    }
    for kind in ["unsaved", "unreadable", "store-away", "capped"] {
        assert_eq!(bed.run(&["list", "--finding", kind]).code, 2, "no operation has it: {kind}");
    }
    let seen = format!("{:016x}", bed.unknown.record.version().get());
    let retry = ["retry", &bed.unknown.key.to_string(), "--why", "a test", "--yes", "--seen", &seen];
    assert_eq!(bed.run(&retry).code, 0);
    assert_eq!(says(&[]), "nothing needs attention\n");
}

#[test]
fn a_store_that_is_away_or_not_there_is_told_apart_and_no_password_is_printed() {
    let away = format!("postgres://app:s3cret@127.0.0.1:{}/shop", servers::free_port());
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("typo.db");
    for (url, code) in
        [(&*away, 4), (&*format!("sqlite:{}", missing.display()), 4), ("memory:", 2), ("mysql://app:s3cret@db", 2)]
    {
        for command in ["list", "doctor"] {
            let ran = program(&["--store", url, command]);
            assert_eq!(ran.code, code, "{ran:?}");
            assert!(!format!("{ran:?}").contains("s3cret"), "{ran:?}");
        }
    }
    assert!(!missing.exists(), "a mistyped path made a file");
    assert_eq!(program(&["list"]).code, 2, "no store was named");
}

/// A process that ends with its test, also with one that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status line and the head of what is answered to this request.
fn asked(address: &str, path: &str, cookie: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\ncookie: {cookie}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_page_is_for_the_one_who_has_the_link() {
    let folder = TempDir::new().unwrap();
    let bed = sqlite(&folder);
    let mut command = Command::new(env!("CARGO_BIN_EXE_idempotency"));
    let serving = command.args(["--store", &bed.url, "--json", "serve"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut serving = Killed(serving);
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = line.parse().unwrap();
    let (address, rest) = line["url"].as_str().unwrap().strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (page, token) = rest.split_once("?token=").unwrap();
    let page = format!("/{page}");
    let unknown = bed.unknown.key.to_string();
    let path = format!("{page}?operation={unknown}");
    let cookie = format!("idempotency-operator={token}");
    for (path, cookie, status) in [
        (&*page, "", 401),
        (&*path, "idempotency-operator=0", 401),
        (&format!("{page}?token=0"), "", 401),
        // Its path is part of the secret: other ports of this machine do not get its cookies.
        ("/", &*cookie, 404),
        (&format!("/?token={token}"), "", 404),
    ] {
        let denied = asked(address, path, cookie);
        assert!(denied.starts_with(&format!("HTTP/1.0 {status}")), "{denied}");
        assert!(!denied.contains("charge"), "{denied}");
    }
    let exchanged = asked(address, &format!("{page}?token={token}"), "");
    assert!(exchanged.starts_with("HTTP/1.0 303"), "{exchanged}");
    assert!(exchanged.contains(&format!("location: {page}\r\n")), "{exchanged}");
    assert!(exchanged.contains(&format!("; HttpOnly; SameSite=Strict; Path={page}\r\n")), "{exchanged}");
    assert!(page.len() > 64, "{page}");
    let shown = asked(address, &path, &cookie);
    assert!(shown.starts_with("HTTP/1.0 200") && shown.contains(&unknown), "{shown}");
    let open = program(&["--store", &bed.url, "serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(open.code, 2, "{open:?}");
}

/// Under another prefix there is another store, which shows nothing that needs attention.
#[test]
fn the_url_names_the_prefix_and_the_index_of_redis() {
    let server = Redis::start();
    let url = format!("{}?prefix=shop&index_complete=true", server.url());
    let options = RedisStore::options().prefix("shop").index_complete(true);
    let bed = Bed::new(url, Arc::new(RUNTIME.block_on(async { options.connect(&server.url()).unwrap() })));
    let keys = |ran: Ran| ran.json()["operations"].as_array().unwrap().len();
    assert_eq!(keys(bed.run(&["list", "--json"])), 1);
    assert_eq!(keys(bed.run(&["list", "--state", "complete", "--json"])), 1);
    assert_eq!(about_the_prefix(&bed.run(&["doctor", "--json"])), None);
    // However often: doctor does not take itself for a service.
    for _ in 0..12 {
        let other = program(&["--store", &server.url(), "doctor", "--read-only", "--json"]);
        assert_eq!((other.code, about_the_prefix(&other)), (5, Some("warning".into())), "{other:?}");
    }
    assert_eq!(server.cli(&["--scan", "--pattern", "{idempotency*"]).trim(), "", "it left something behind");
    for wrong in ["prefix=a{b", "index_complete=perhaps", "prefixes=shop"] {
        let ran = program(&["--store", &format!("{}?{wrong}", server.url()), "list"]);
        assert_eq!(ran.code, 4, "{ran:?}");
    }
}

/// What it checks about where the operations are.
fn about_the_prefix(ran: &Ran) -> Option<Value> {
    let doctor: Value = ran.out.parse().unwrap();
    let checks = doctor["checks"].as_array().unwrap();
    checks.iter().find(|check| check["about"] == "prefix").map(|check| check["verdict"].clone())
}

/// Beside the tables of a service there are others, which are empty.
#[test]
fn the_url_names_the_schema_the_prefix_and_the_pooler_of_postgres() {
    let plain = Postgres::shared().database("tool_prefix");
    let url = format!("{plain}?schema=keys&table_prefix=shop_&prepared=false");
    let printed = program(&["--store", &url, "migrate", "--print"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(printed.out.contains("CREATE TABLE IF NOT EXISTS \"keys\".\"shop_records\""), "{printed:?}");
    assert!(!printed.out.contains("labels"), "{printed:?}");
    let labelled = program(&["--store", &format!("{url}&index_labels=true"), "migrate", "--print"]);
    assert!(labelled.out.contains("\"keys\".\"shop_labels\""), "{labelled:?}");
    assert!(program(&["migrate", "--print"]).out.contains("\"idempotency\".\"records\""));
    assert_eq!(program(&["--store", "redis://localhost", "migrate", "--print"]).code, 2);

    // What was printed makes the tables that the store takes.
    Postgres::shared().sql_in("tool_prefix", &printed.out);
    let options = PostgresStore::options().schema("keys").table_prefix("shop_");
    let bed = Bed::new(url, Arc::new(RUNTIME.block_on(async { options.connect(&plain).unwrap() })));
    assert_eq!(bed.run(&["list", "--json"]).json()["operations"].as_array().unwrap().len(), 1);
    assert_eq!(about_the_prefix(&bed.run(&["doctor", "--json"])), None);

    assert_eq!(program(&["--store", &plain, "migrate", "--yes"]).code, 0);
    let sql = |sql: &str| Postgres::shared().sql_in("tool_prefix", sql);
    let mark = || sql("SELECT mark FROM idempotency.meta");
    let before = mark();
    for _ in 0..12 {
        let other = program(&["--store", &plain, "doctor", "--json"]);
        assert_eq!((other.code, about_the_prefix(&other)), (5, Some("warning".into())), "{other:?}");
        assert_eq!(sql("SELECT * FROM idempotency.records"), "", "the trial operation is removed");
    }
    assert_eq!(mark(), before, "doctor is no service");
    for wrong in ["prepared=perhaps", "table_prefix=%ff"] {
        assert_eq!(program(&["--store", &format!("{plain}?{wrong}"), "list"]).code, 4);
    }
}

#[test]
fn completions_name_the_commands() {
    assert!(program(&["completions", "bash"]).out.contains("end-callback"));
}
