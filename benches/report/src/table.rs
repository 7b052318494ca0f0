//! Tables, as Markdown.

use std::fmt::Write as _;

use crate::goals;
use crate::plan::{ROWS, Row, SCENARIOS, Scenario};
use crate::run::{Run, Sample, median};

/// The page: what it was measured with, the goals, and a table for each scenario.
pub fn report(run: &Run) -> String {
    let setting = &run.setting;
    let mut page = format!(
        "Commit {}, on {}; {}. {} connections, slices of {} s; medians of the rounds.\n\n## Ratios\n\n{}",
        setting.commit,
        setting.machine,
        setting.layout,
        setting.connections,
        setting.seconds,
        goals::table(run)
    );
    for scenario in SCENARIOS.iter().filter(|scenario| run.scenarios().contains(scenario.id)) {
        let _ = write!(page, "\n## {}\n\n{}", scenario.title, table(run, scenario));
    }
    let facts = facts(run);
    if !facts.is_empty() {
        let _ = write!(page, "\n## Round trips and bytes\n\n{facts}");
    }
    if !run.skipped.is_empty() {
        page.push_str("\n## Not measured\n\n");
        for (row, why) in &run.skipped {
            let _ = writeln!(page, "- {row}: {why}");
        }
    }
    page
}

/// One scenario, a line for each of its rows.
fn table(run: &Run, scenario: &Scenario) -> String {
    let counts_runs = scenario.id == "duplicates";
    let mut table = format!(
        "| | requests/s | : bare | ours : it | p50 µs | p99 µs | CPU µs, service | store |{}\n|---|---|---|---|---|---|---|---|{}\n",
        if counts_runs { " runs a key |" } else { "" },
        if counts_runs { "---|" } else { "" },
    );
    for row in ROWS {
        let samples = run.of(scenario.id, row.id);
        if samples.is_empty() {
            continue;
        }
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(|sample| figure(sample)).collect());
        let store = median(samples.iter().filter_map(|sample| sample.store_cpu).collect());
        let bare = if row.id == "bare" { None } else { ratio(run, scenario, row.id, "bare") };
        let ours = row.beside.and_then(|ours| ratio(run, scenario, ours, row.id));
        let _ = write!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            row.title,
            figure(of(Sample::rate)),
            figure(bare),
            figure(ours),
            figure(of(|sample| sample.p50)),
            figure(of(|sample| sample.p99)),
            figure(of(|sample| sample.cpu)),
            figure(store),
        );
        if counts_runs {
            let runs = median(samples.iter().filter_map(|sample| sample.runs).collect());
            let _ = write!(table, " {} |", figure(runs));
        }
        table.push('\n');
    }
    table
}

fn ratio(run: &Run, scenario: &Scenario, over: &str, under: &str) -> Option<f64> {
    median(run.ratios((scenario.id, over), (scenario.id, under)))
}

/// Bare axum and ours, as few lines as fit into a README: requests a second, and in brackets how
/// many times as many as a peer on the same store answers; bold where the peer is ahead.
pub fn summary(run: &Run) -> String {
    const COLUMNS: [&str; 3] = ["first", "replay", "three-steps"];
    let mut table = "| requests/s | first request | replay | three durable steps | runs of 64 duplicates |\n\
                     |---|---|---|---|---|\n"
        .to_owned();
    for row in ROWS.iter().filter(|row| row.beside.is_none()) {
        let mut cells: Vec<_> = COLUMNS.iter().map(|scenario| beside_peers(run, scenario, row)).collect();
        cells.push(figure(median(run.of("duplicates", row.id).iter().filter_map(|sample| sample.runs).collect())));
        if cells.iter().any(|cell| !cell.is_empty()) {
            let _ = writeln!(table, "| {} | {} |", row.title, cells.join(" | "));
        }
    }
    table
}

/// Those that are named in a summary, and how.
const PEERS: &[(&str, &str)] = &[
    ("axum-idempotent", "axum-idempotent"),
    ("durare-sqlite", "durare"),
    ("restate", "Restate"),
    ("unfenced-redis", "unfenced by hand"),
    ("unfenced-postgres", "unfenced by hand"),
    ("durare-postgres", "durare"),
    ("dbos", "DBOS"),
];

fn beside_peers(run: &Run, scenario: &str, row: &Row) -> String {
    let rate = median(run.of(scenario, row.id).iter().map(|sample| sample.rate()).collect());
    let beside = |(peer, name): &(&str, &str)| {
        Row::of(peer).filter(|peer| peer.beside == Some(row.id))?;
        let over = median(run.ratios((scenario, row.id), (scenario, peer)))?;
        let times = format!("{} ×", figure(Some(over)));
        Some(if over < 1.0 { format!("**{times}** {name}") } else { format!("{times} {name}") })
    };
    let peers: Vec<_> = PEERS.iter().filter_map(beside).collect();
    if peers.is_empty() { figure(rate) } else { format!("{} ({})", figure(rate), peers.join(", ")) }
}

/// The text between `<!-- NAME -->` and `<!-- /NAME -->`, replaced.
///
/// # Errors
///
/// If `page` does not have both.
pub fn replaced(page: &str, name: &str, with: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let parts = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("no {begin} before an {end}"))?;
    Ok(format!("{before}{begin}{with}{end}{after}"))
}

/// What was measured once, a line for each row and a column for each fact.
fn facts(run: &Run) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for fact in &run.facts {
        if !columns.contains(&fact.what.as_str()) {
            columns.push(&fact.what);
        }
    }
    if columns.is_empty() {
        return String::new();
    }
    let mut table = format!("| | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    let known = |row: &&Row| columns.iter().any(|what| run.fact(row.id, what).is_some());
    for row in ROWS.iter().filter(known) {
        let cells: Vec<_> = columns.iter().map(|what| figure(run.fact(row.id, what))).collect();
        let _ = writeln!(table, "| {} | {} |", row.title, cells.join(" | "));
    }
    table
}

/// With as many digits as it deserves, and commas.
pub(crate) fn figure(value: Option<f64>) -> String {
    let Some(value) = value else { return String::new() };
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{run, sample};

    #[test]
    fn a_figure_has_three_digits_or_commas() {
        let figures = [0.476, 12.34, 123.4, 1_234.5, 51_329.0, 1_234_567.0].map(|value| figure(Some(value)));
        assert_eq!(figures, ["0.48", "12.3", "123", "1,234", "51,329", "1,234,567"]);
        assert_eq!(figure(None), "");
    }

    #[test]
    fn a_table_has_the_medians_of_what_was_measured() {
        let mut run = run();
        for (round, factor) in [1, 3, 2].into_iter().enumerate() {
            run.samples.push(sample("first", "bare", round, 1000 * factor));
            run.samples.push(sample("first", "ours-memory", round, 800 * factor));
            run.samples.push(sample("first", "axum-idempotent", round, 400 * factor));
        }
        run.note("ours-redis", "round trips, first", 2.0);
        run.skipped.push(("restate".to_owned(), "no server was found".to_owned()));
        let page = report(&run);
        for line in [
            "| bare axum | 2,000 |  |  | 100 | 900 | 20.0 |  |",
            "| ours, memory | 1,600 | 0.80 |  | 100 | 900 | 20.0 |  |",
            "| axum-idempotent 0.6, moka | 800 | 0.40 | 2.00 | 100 | 900 | 20.0 |  |",
            "| ours, Redis | 2.00 |",
            "- restate: no server was found",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        assert!(!page.contains("Three durable steps"), "what was not measured has no table: {page}");
    }

    #[test]
    fn a_summary_says_how_many_times_as_many_ours_answers() {
        let mut run = run();
        run.samples = vec![
            sample("three-steps", "ours-postgres", 0, 900),
            sample("three-steps", "dbos", 0, 300),
            sample("three-steps", "durare-postgres", 0, 1000),
            sample("first", "ours-postgres", 0, 2400),
            Sample { runs: Some(1.0), ..sample("duplicates", "ours-postgres", 0, 64) },
        ];
        let summary = summary(&run);
        let line = "| ours, Postgres | 2,400 |  | 900 (**0.90 ×** durare, 3.00 × DBOS) | 1.00 |\n";
        assert!(summary.ends_with(line), "{summary}");
        assert_eq!(summary.lines().count(), 3, "{summary}");
    }

    #[test]
    fn a_peer_in_a_summary_is_a_row_beside_ours() {
        for (peer, _) in PEERS {
            assert!(Row::of(peer).is_some_and(|row| row.beside.is_some()), "{peer}");
        }
    }

    #[test]
    fn figures_go_where_a_page_has_room_for_them() {
        let page = "before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n";
        let new = replaced(page, "figures", "new\n").unwrap();
        assert_eq!(new, "before\n<!-- figures -->\nnew\n<!-- /figures -->\nafter\n");
        assert!(replaced("before\n", "figures", "new\n").is_err());
    }

    #[test]
    fn duplicates_tell_how_often_the_handler_ran() {
        let mut run = run();
        run.samples.push(Sample { runs: Some(64.0), ..sample("duplicates", "bare", 0, 64) });
        assert!(report(&run).contains("| bare axum | 64.0 |  |  | 100 | 900 | 20.0 |  | 64.0 |"), "{}", report(&run));
    }
}
