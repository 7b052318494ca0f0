//! The guide's tables, the code, the dashboard and the alerts name the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tower_idempotency::FindingKind;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// All names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("idempotency_")).map(str::to_owned).collect()
}

/// The rows of the tables of `guide/operations.md` whose first cell is code.
fn rows() -> Vec<Vec<String>> {
    let guide = read("src/guide/operations.md");
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect();
    guide.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

fn documented() -> BTreeSet<String> {
    rows().into_iter().map(|row| row[0].clone()).filter(|name| name.starts_with("idempotency_")).collect()
}

#[test]
fn the_table_and_the_code_name_the_same_metrics() {
    let code = read("src/telemetry/metrics.rs");
    assert_eq!(names(&code), documented());
    assert_eq!(documented().len(), 12);
    let guide = read("src/guide/operations.md");
    let said: Vec<_> = code.split(['(', ' ']).filter_map(|word| word.strip_prefix('"')?.split('"').next()).collect();
    for value in said.iter().filter(|value| !value.is_empty()) {
        assert!(guide.contains(value), "the table does not have {value:?}");
    }
    assert!(said.contains(&"undoing") && said.contains(&"given-up"), "{said:?}");
    // And the same texts, less links.
    for row in rows().iter().filter(|row| row[0].starts_with("idempotency_")) {
        let text = row[4].split(['[', ']']).map(|part| part.rsplit_once(')').map_or(part, |(_, rest)| rest));
        let said = format!("\"{}\");", text.collect::<String>());
        assert!(code.contains(&said), "{} is not described as {said}", row[0]);
    }
    // And the same labels, but for those that other types name.
    for row in rows().iter().filter(|row| row[0].starts_with("idempotency_") && row[3] != "–") {
        let (label, values) = row[3].split_once(": ").unwrap();
        assert!(code.contains(&format!("\"{label}\" =>")), "{label}");
        let named_elsewhere = ["problem", "kind"].contains(&label) && !row[0].contains("store_failures");
        for value in values.split(", ").filter(|_| !named_elsewhere) {
            assert!(code.contains(&format!("\"{value}\"")), "{} has no {value}", row[0]);
        }
    }
}

#[test]
fn dashboards_and_alerts_use_what_there_is_and_all_of_it() {
    let grafana = read("dashboards/grafana.json");
    let parsed: serde_json::Value = serde_json::from_str(&grafana).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() >= 7);
    let base = |name: String| name.strip_suffix("_bucket").map(str::to_owned).unwrap_or(name);
    let shown: BTreeSet<_> = names(&grafana).into_iter().map(base).collect();
    assert_eq!(shown, documented());
    let used = names(&read("dashboards/alerts.yml"));
    assert!(used.is_subset(&documented()) && used.len() == 3, "{used:?}");
    let package = read("Cargo.toml");
    let include = package.lines().find(|line| line.starts_with("include = ")).unwrap();
    assert!(include.contains("\"dashboards\""));
}

/// Exporters make summaries of histograms unless buckets are configured: a panel of
/// quantiles has an expression for each.
#[test]
fn panels_of_quantiles_work_with_buckets_and_with_summaries() {
    let parsed: serde_json::Value = serde_json::from_str(&read("dashboards/grafana.json")).unwrap();
    let targets = parsed["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<_> = targets.filter_map(|target| target["expr"].as_str()).collect();
    let quantiles: Vec<_> = expressions.iter().filter_map(|expr| expr.split_once("histogram_quantile(")).collect();
    assert_eq!(quantiles.len(), 2, "the panel is not found any more");
    for (_, rest) in quantiles {
        let (quantile, rest) = rest.split_once(',').unwrap();
        let (_, otherwise) = rest.split_once(" or ").unwrap_or_else(|| panic!("no data from summaries: {rest}"));
        assert!(otherwise.contains(&format!("{{quantile=\"{quantile}\"}}")), "{otherwise}");
    }
}

/// What to do first is said in one way: by the code, the guide and the alert.
#[test]
fn every_finding_has_an_alert_with_its_first_response() {
    let alerts = read("dashboards/alerts.yml");
    let rows: Vec<_> = rows().into_iter().filter(|row| row[0].starts_with("Idempotency")).collect();
    let table: BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    let rules: BTreeSet<_> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    assert_eq!(rules, table);
    for kind in FindingKind::ALL {
        let row = rows.iter().find(|row| row[1] == kind.name()).unwrap_or_else(|| panic!("no row for {kind:?}"));
        assert_eq!(row[2], kind.first_response());
        assert!(alerts.contains(&format!("kind=\"{}\"", kind.name())), "{kind:?}");
        assert!(alerts.contains(&format!("first_response: \"{}\"", kind.first_response())), "{kind:?}");
    }
}

/// The sections of the runbook, by the alert that each is about.
fn runbook() -> Vec<(String, String)> {
    let page = read("src/guide/runbook.md");
    let sections = page.split("\n## ").skip(1).map(|section| {
        let (alert, text) = section.split_once('\n').unwrap();
        (alert.to_owned(), text.split("\n# ").next().unwrap().to_owned())
    });
    sections.collect()
}

/// The alerts, each with its rule.
fn alerts() -> Vec<(String, String)> {
    let alerts = read("dashboards/alerts.yml");
    let rules = alerts.split("      - alert: ").skip(1);
    rules.map(|rule| rule.split_once('\n').map(|(name, rest)| (name.to_owned(), rest.to_owned())).unwrap()).collect()
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_the_other_way_round() {
    let sections = runbook();
    let (named, alerts) = (sections.iter().map(|(alert, _)| alert), alerts());
    assert_eq!(named.collect::<BTreeSet<_>>(), alerts.iter().map(|(alert, _)| alert).collect());
    for (alert, text) in &sections {
        for part in ["**It means**", "**Look**", "**Do**", "\n$ idempotency "] {
            assert!(text.contains(part), "{alert} has no {part:?}");
        }
    }
    for (alert, rule) in &alerts {
        let anchor = format!("/guide/runbook/index.html#{}\"", alert.to_lowercase());
        for part in ["severity: ", "summary: \"", "first_response: \"", "runbook_url: \"https://docs.rs/", &anchor] {
            assert!(rule.contains(part), "{alert} has no {part}");
        }
    }
}

/// `servers::prometheus` gives these to `promtool`.
#[test]
fn every_alert_is_expected_to_fire_once_and_not_to_fire_before() {
    let tests = read("tests/servers/tests/prometheus/alerts.yml");
    for (alert, _) in alerts() {
        let is_about = |test: &&str| test.starts_with(&format!("{alert}\n"));
        let expected: Vec<_> = tests.split("alertname: ").filter(is_about).collect();
        let silent = expected.iter().filter(|test| test.lines().nth(1).unwrap().trim() == "exp_alerts: []").count();
        assert!(silent > 0 && silent < expected.len(), "{alert}: {expected:?}");
    }
}
