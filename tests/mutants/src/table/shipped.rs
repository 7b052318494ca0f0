//! What is shipped for operators: metrics, the dashboard, alerts.

use super::Mutant;

planted_under!(metrics, "--test telemetry");
planted_under!(prometheus, "-p servers --test prometheus");

pub(super) const MUTANTS: &[Mutant] = &[
    metrics(
        "metrics-have-no-help",
        "src/telemetry/metrics.rs",
        "    describe();\n    for what",
        "    for what",
        "metrics_are_described",
    ),
    metrics(
        "the-first-unsaved-response-is-no-increase",
        "src/telemetry/metrics.rs",
        "for what in [\"waiting\", \"saved\", \"given-up\"] {",
        "for what in [\"saved\", \"given-up\"] {",
        "metrics_are_described",
    ),
    metrics(
        "a-recorder-that-comes-late-hears-no-help",
        "src/workers/watcher/mod.rs",
        "crate::telemetry::metrics::begin();",
        "();",
        "metrics_are_described",
    ),
    metrics(
        "a-watcher-that-rests-seems-to-be-dead",
        "src/workers/watcher/round.rs",
        "asked.map(|asked| asked.is_ok())",
        "Some(asked.is_some_and(|asked| asked.is_ok()))",
        "a_watcher_that_rests",
    ),
    prometheus(
        "a-panel-without-data-from-summaries",
        "dashboards/grafana.json",
        " or max by (mode) (idempotency_attempt_duration_seconds{quantile=\\\"0.5\\\"})",
        "",
        "each_panel_has_data",
    ),
    prometheus(
        "planned-work-calls-an-operator",
        "dashboards/alerts.yml",
        "unless on (job) sum by (job) (increase(idempotency_watcher_rounds_total{what=\"rested\"}[5m])) > 0",
        "",
        "each_alert",
    ),
    prometheus(
        "an-alert-that-never-fires",
        "dashboards/alerts.yml",
        "max by (job) (idempotency_findings{kind=\"unsaved\"}) > 0",
        "max by (job) (idempotency_findings{kind=\"unsaved\"}) > 1",
        "each_alert",
    ),
];
