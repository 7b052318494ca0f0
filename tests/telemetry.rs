//! Metrics and spans, as a recorder and a subscriber see them.
//!
//! A program of its own: tracing keeps for the whole process who listens to what.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, KeyName, Metadata, SharedString, Unit};
use tower_idempotency::maintenance::Window;
use tower_idempotency::store::{MemoryStore, StoreErrorKind};
use tower_idempotency::{Engine, Event, EventKind, Operator, Watcher};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

use support::Count;
use support::bodies::Failure;
use support::lab::{App, Lab, completer, numbered, operation, post, reply, secs, send, serve, stored_key};
use support::store::{Call, Fault};

/// What one thread asks of tracing while another one begins to listen is kept,
/// and wrong: tests take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const SECRET: &str = "order-of-ann-4711";

/// Everything that was said, in one line each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn say(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|other| *other == line).count()
    }
}

/// One metric with its labels.
struct Meter(Heard, String);

impl CounterFn for Meter {
    fn increment(&self, value: u64) {
        self.0.say(format!("{} +{value}", self.1));
    }

    fn absolute(&self, value: u64) {
        self.0.say(format!("{} ={value}", self.1));
    }
}

impl GaugeFn for Meter {
    fn increment(&self, value: f64) {
        self.0.say(format!("{} +{value}", self.1));
    }

    fn decrement(&self, value: f64) {
        self.0.say(format!("{} -{value}", self.1));
    }

    fn set(&self, value: f64) {
        self.0.say(format!("{} ={value}", self.1));
    }
}

impl HistogramFn for Meter {
    fn record(&self, _: f64) {
        self.0.say(self.1.clone());
    }
}

impl Heard {
    fn meter(&self, key: &metrics::Key) -> Arc<Meter> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Meter(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
    }
}

impl Heard {
    fn describe(&self, kind: &str, name: &KeyName, unit: Option<Unit>, text: &str) {
        let unit = unit.map(|unit| unit.as_str().to_owned()).unwrap_or_default();
        self.say(format!("{}{{}} is a {kind} in {unit}: {text}", name.as_str()));
    }
}

impl metrics::Recorder for Heard {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe("counter", &name, unit, &text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe("gauge", &name, unit, &text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe("histogram", &name, unit, &text);
    }

    fn register_counter(&self, key: &metrics::Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.meter(key))
    }

    fn register_gauge(&self, key: &metrics::Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.meter(key))
    }

    fn register_histogram(&self, key: &metrics::Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.meter(key))
    }
}

/// Spans by their number, with what is known of them.
#[derive(Clone, Default)]
struct Spans {
    all: Arc<Mutex<BTreeMap<u64, BTreeMap<String, String>>>>,
    entered: Arc<Mutex<Vec<u64>>>,
    /// Events, with the name of the span they are in.
    events: Heard,
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "tower_idempotency"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut all = self.all.lock().unwrap();
        let id = all.len() as u64 + 1;
        let mut fields = BTreeMap::from([("span".to_owned(), span.metadata().name().to_owned())]);
        span.record(&mut Fields(&mut fields));
        all.insert(id, fields);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Fields(self.all.lock().unwrap().get_mut(&span.into_u64()).unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let within = self.entered.lock().unwrap().last().map(|id| self.all.lock().unwrap()[id]["span"].clone());
        self.events.say(format!("{} in {}: {fields:?}", event.metadata().level(), within.unwrap_or_default()));
    }

    fn enter(&self, span: &Id) {
        self.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut entered = self.entered.lock().unwrap();
        let at = entered.iter().rposition(|id| *id == span.into_u64()).unwrap();
        entered.remove(at);
    }
}

/// Fails once, then charges.
fn charging(lab: &Lab) -> App {
    let runs = Count::default();
    serve(&lab.layer().resumable(), move |request| {
        let (op, run) = (operation(&request), runs.up());
        async move {
            op.step("order", |_| async { Ok::<_, Failure>(17) }).await.unwrap();
            let charge = op.pay("charge", |_| async move { if run == 1 { Err(Failure("no")) } else { Ok(1) } });
            Ok(if charge.await.is_ok() { reply(201, "paid") } else { reply(503, "later") })
        }
    })
}

/// One line each, with names and labels as the guide's table has them.
#[test]
fn metrics_count_what_happened_and_name_no_key() {
    let _turn = TURN.blocking_lock();
    let (heard, lab) = (Heard::default(), Lab::new());
    metrics::with_local_recorder(&heard, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = charging(&lab);
            for _ in 0..3 {
                send(&app, post(SECRET)).await;
            }
            Watcher::new(&lab.layer()).run_once().await;
        });
    });
    for (line, times) in [
        ("idempotency_operations_total{what=claimed} +1", 1),
        ("idempotency_operations_total{what=released} +1", 1),
        ("idempotency_operations_total{what=resumed} +1", 1),
        ("idempotency_operations_total{what=completed} +1", 1),
        ("idempotency_operations_total{what=replayed} +1", 1),
        ("idempotency_steps_total{what=begun} +1", 1),
        ("idempotency_steps_total{what=saved} +1", 2),
        ("idempotency_steps_total{what=replayed} +1", 1),
        ("idempotency_attempt_duration_seconds{mode=resumable}", 2),
        ("idempotency_watcher_rounds_total{what=done} +1", 1),
        ("idempotency_findings{kind=parked} =0", 1),
    ] {
        assert_eq!(heard.count(line), times, "{line}: {:#?}", heard.lines());
    }
    let guide = include_str!("../src/guide/operations.md");
    for line in heard.lines() {
        let name = line.split('{').next().unwrap();
        assert!(guide.contains(&format!("`{name}`")), "{name}");
        assert!(!line.contains(SECRET) && !line.contains(&stored_key(SECRET).to_string()), "{line}");
    }
}

/// The first of a counter that was not there before is no increase: what is rare is there from
/// the start.
#[test]
fn metrics_are_described_and_what_is_rare_is_counted_from_nought() {
    let _turn = TURN.blocking_lock();
    let (made, run) = (Heard::default(), Heard::default());
    let engine = metrics::with_local_recorder(&made, || Engine::new(MemoryStore::new()));
    metrics::with_local_recorder(&run, || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Watcher::new(engine).run(std::future::ready(())));
    });
    assert_eq!(made.lines(), run.lines(), "a recorder that is installed late hears it, too");
    let guide = include_str!("../src/guide/operations.md");
    let rows = guide.lines().filter(|line| line.starts_with("| `idempotency_"));
    let mut rare = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect();
        let unit = if cells[2] == "seconds" { "seconds" } else { "count" };
        let described = format!("{}{{}} is a {} in {unit}: ", cells[0], cells[1]);
        assert_eq!(made.lines().iter().filter(|line| line.starts_with(&described)).count(), 1, "{described}");
        let is_rare = ["leases", "store_failures", "unsaved", "drains", "rounds", "shared"];
        if is_rare.iter().any(|word| cells[0].contains(word)) {
            let (label, values) = cells[3].split_once(": ").unwrap_or_default();
            for value in values.split(", ") {
                let labels = if label.is_empty() { String::new() } else { format!("{label}={value}") };
                let line = format!("{}{{{labels}}} +0", cells[0]);
                assert_eq!(made.count(&line), 1, "{line}: {:#?}", made.lines());
                rare += 1;
            }
        }
    }
    assert_eq!(rare, 18);
}

/// Otherwise planned work would look like a watcher that does not run, and call an operator.
#[test]
fn a_watcher_that_rests_in_a_maintenance_window_says_so() {
    let _turn = TURN.blocking_lock();
    let heard = Heard::default();
    metrics::with_local_recorder(&heard, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let engine = Engine::new(MemoryStore::new());
            let operator = Operator::new(&engine);
            let (_, now) = operator.windows().await.unwrap();
            operator.plan(Window::new(now, now.after(Duration::from_secs(3600)), "the database moves")).await.unwrap();
            Watcher::new(&engine).run_once().await;
        });
    });
    assert_eq!(heard.count("idempotency_watcher_rounds_total{what=rested} +1"), 1, "{:#?}", heard.lines());
    assert_eq!(heard.count("idempotency_watcher_rounds_total{what=done} +1"), 0);
}

#[tokio::test]
async fn attempts_and_steps_are_spans_and_events_are_inside() {
    let _turn = TURN.lock().await;
    let (spans, lab) = (Spans::default(), Lab::new());
    let _listening = tracing::subscriber::set_default(spans.clone());
    let app = charging(&lab);
    send(&app, post(SECRET)).await;
    send(&app, post(SECRET)).await;
    let all: Vec<_> = spans.all.lock().unwrap().values().cloned().collect();
    let of = |span: &str, field: &str| {
        let spans = all.iter().filter(|fields| fields["span"] == span);
        spans.map(|fields| fields.get(field).cloned().unwrap_or_default()).collect::<Vec<_>>()
    };
    let operation = "idempotency.operation";
    assert_eq!(of(operation, "idempotency.key_hash"), vec![stored_key(SECRET).to_string(); 2]);
    assert_eq!(of(operation, "idempotency.attempt"), ["1", "2"]);
    assert_eq!(of(operation, "idempotency.mode"), ["resumable"; 2]);
    assert_eq!(of(operation, "http.request.method"), ["POST"; 2]);
    let step = "idempotency.step";
    assert_eq!(of(step, "idempotency.step.name"), ["order", "charge", "order", "charge"]);
    assert_eq!(of(step, "idempotency.step.kind"), ["step", "pay", "step", "pay"]);
    assert_eq!(of(step, "idempotency.step.outcome"), ["saved", "failed", "replayed", "saved"]);
    assert_eq!(of(step, "otel.status_code"), ["", "ERROR", "", ""]);
    assert_eq!(of(step, "error.type"), ["", "failed", "", ""]);
    let events = spans.events.lines();
    let inside = |what: &str, span: &str| {
        let found = events.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {events:#?}"));
        assert!(found.contains(&format!("in {span}:")), "{found}");
    };
    inside("step order is done, and its result is stored", step);
    inside("step charge is about to act", step);
    let reference = format!("\"reference\": \"{}-1\"", stored_key(SECRET));
    inside(&format!("step charge is about to act\", {reference}}}"), step);
    let released = "the attempt ended without a final response; a retry resumes: status 503; step charge: failed";
    inside(released, operation);
    inside("the response is stored", operation);
    assert!(!format!("{all:?} {events:?}").contains(SECRET));
    let guide = include_str!("../src/guide/operations.md");
    for name in all.iter().flat_map(BTreeMap::keys).filter(|name| *name != "span") {
        assert!(guide.contains(&format!("`{name}`")), "{name}");
    }
}

#[tokio::test]
async fn what_an_operator_decides_is_a_line_that_is_no_alarm() {
    let _turn = TURN.lock().await;
    let (spans, lab) = (Spans::default(), Lab::new());
    let _listening = tracing::subscriber::set_default(spans.clone());
    send(&charging(&lab), post("k")).await;
    let operator = Operator::new(lab.engine()).by("eve").because("the bank called");
    operator.retry(&operator.find("", "k").await.unwrap()).await.unwrap();
    let lines = spans.events.lines();
    let decided: Vec<_> = lines.iter().filter(|line| line.contains("the bank called")).collect();
    let [line] = &decided[..] else { panic!("{lines:#?}") };
    assert!(line.starts_with("INFO ") && line.contains("eve") && line.contains("run again"), "{line}");
}

/// However many calls fail, of requests and of the completer.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_lost_is_one_line_and_one_line_when_it_is_back() {
    let _turn = TURN.lock().await;
    let (spans, lab) = (Spans::default(), Lab::new());
    let _listening = tracing::subscriber::set_default(spans.clone());
    let shown = || {
        let lines = spans.events.lines();
        lines.into_iter().filter(|line| line.starts_with("WARN ") || line.starts_with("INFO ")).collect::<Vec<_>>()
    };
    let layer = lab.layer().resumable();
    let app = numbered(&layer).0;
    let completer = completer(&layer, &app);
    let running = tokio::spawn(async move { completer.run(std::future::pending()).await });
    for outage in 1..=2 {
        lab.store.down();
        for call in 0..20 {
            send(&app, post(&format!("{outage}-{call}"))).await.assert_problem("store-unavailable", 503);
            tokio::time::sleep(secs(30)).await;
        }
        let lines = shown();
        assert_eq!(lines.len(), 2 * outage - 1, "{lines:#?}");
        assert!(lines[2 * outage - 2].starts_with("WARN "), "{lines:#?}");
        assert!(lines[2 * outage - 2].contains("the store is lost until a line says that it is back"), "{lines:#?}");
        lab.store.heal();
        // The completer looks again within a minute.
        tokio::time::sleep(secs(61)).await;
        send(&app, post(&format!("{outage}"))).await;
        tokio::time::sleep(secs(61)).await;
        let lines = shown();
        assert_eq!(lines.len(), 2 * outage, "{lines:#?}");
        assert!(lines[2 * outage - 1].starts_with("INFO ") && lines[2 * outage - 1].contains("the store is back"));
        assert_eq!(lab.events.count("StoreBack"), outage);
        assert!(lab.events.count("StoreFailed") >= 20 * outage, "observers and metrics hear of each call");
    }
    running.abort();
}

/// A disk that is full: what reads and what scans succeeds all the time.
#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_writes_is_not_back_because_it_can_be_read() {
    let _turn = TURN.lock().await;
    let lab = Lab::new();
    let layer = lab.layer().resumable();
    let app = numbered(&layer).0;
    send(&app, post("done")).await;
    let completer = completer(&layer, &app);
    let running = tokio::spawn(async move { completer.run(std::future::pending()).await });
    lab.store.fail(|call| match call {
        Call::Swap(_) => Fault::Before(StoreErrorKind::Full),
        _ => Fault::None,
    });
    for call in 0..10 {
        send(&app, post(&format!("{call}"))).await.assert_problem("store-unavailable", 503);
        tokio::time::sleep(secs(30)).await;
    }
    let first = |event: &&Event| matches!(event.kind, EventKind::StoreFailed { repeated: false, .. });
    assert_eq!((lab.events.all().iter().filter(first).count(), lab.events.count("StoreBack")), (1, 0));
    lab.store.heal();
    send(&app, post("k")).await;
    assert_eq!(lab.events.count("StoreBack"), 1);
    running.abort();
}
