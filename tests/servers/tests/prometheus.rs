//! What is shipped for operators works with a real Prometheus: the dashboard's panels have data
//! and the alerts fire.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use servers::{Prometheus, promtool, wait_until};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Operation, RequestBody, Scope, Watcher};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).canonicalize().unwrap()
}

#[test]
fn each_alert_fires_when_it_should_and_not_before() {
    promtool(&["check", "rules", shipped("dashboards/alerts.yml").to_str().unwrap()]);
    promtool(&["test", "rules", shipped("tests/servers/tests/prometheus/alerts.yml").to_str().unwrap()]);
}

#[test]
fn each_panel_has_data_with_the_exporter_as_it_comes() {
    each_panel_has_data(PrometheusBuilder::new());
}

#[test]
fn each_panel_has_data_with_buckets() {
    each_panel_has_data(PrometheusBuilder::new().set_buckets(&[0.001, 0.01, 0.1, 1.0]).unwrap());
}

/// A service works, is scraped, works on, and is scraped again: rates need both.
fn each_panel_has_data(exporter: PrometheusBuilder) {
    let recorder = exporter.build_recorder();
    let (port, scrapes) = exposed(recorder.handle());
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).resumable();
        let watcher = Watcher::new(&layer);
        let work = |round| runtime.block_on(work(&layer, &watcher, round));
        work(0);
        let prometheus = Prometheus::start(port, Duration::from_millis(500), &shipped("dashboards/alerts.yml"));
        for round in 1..4 {
            let before = scrapes.load(Ordering::SeqCst);
            wait_until("a scrape", || scrapes.load(Ordering::SeqCst) > before);
            work(round);
        }
        for (panel, expression) in expressions() {
            wait_until(&format!("data for {panel:?}: {expression}"), || has_data(&prometheus.query(&expression)));
        }
        let found = prometheus.query("idempotency_findings{kind=\"parked\"}");
        assert!(found.contains("\"job\":\"shop\""), "{found}");
    });
}

/// A first request, its replay, one with another body, and a round of the watcher.
async fn work(layer: &IdempotencyLayer, watcher: &Watcher, round: usize) {
    let handler = service_fn(|request: Request<RequestBody<Full<Bytes>>>| async move {
        let operation = request.extensions().get::<Operation>().unwrap().clone();
        operation.pay("charge", |_| async { Ok::<_, Infallible>(1) }).await.unwrap();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"paid"))))
    });
    let service = layer.layer(handler);
    for body in ["one", "one", "other"] {
        let request = Request::post("/charges").header("idempotency-key", format!("\"{round}\""));
        service.clone().oneshot(request.body(Full::from(body)).unwrap()).await.unwrap();
    }
    watcher.run_once().await;
}

/// Serves what is counted, and counts the scrapes.
fn exposed(handle: PrometheusHandle) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, scrapes) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&scrapes);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            if head.count() > 0 {
                let text = handle.render();
                let answer = format!("HTTP/1.0 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\n\r\n{text}");
                (&stream).write_all(answer.as_bytes()).unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (port, scrapes)
}

/// The expressions of the dashboard, each with its panel.
fn expressions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(shipped("dashboards/grafana.json")).unwrap();
    let dashboard: Value = text.parse().unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let all: Vec<_> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap().iter().map(|target| (&panel["title"], &target["expr"])))
        .map(|(title, expression)| (title.as_str().unwrap().to_owned(), expression.as_str().unwrap().to_owned()))
        .collect();
    assert!(all.len() >= 12, "{all:?}");
    all
}

/// Whether a reply has a number: a quantile of nothing is none.
fn has_data(reply: &str) -> bool {
    let reply: Value = reply.parse().unwrap_or_else(|error| panic!("{error}: {reply}"));
    let number =
        |sample: &Value| sample["value"][1].as_str().is_some_and(|value| value.parse().is_ok_and(f64::is_finite));
    reply.as_array().unwrap().iter().any(number)
}
