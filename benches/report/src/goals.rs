//! What is required at least, and what is aimed at.

use crate::run::{Run, median};
use crate::table::figure;

/// A ratio of rates, or a fact.
struct Goal {
    what: &'static str,
    of: Of,
    bar: &'static str,
    better: &'static str,
}

enum Of {
    /// Scenario and row, over scenario and row.
    Rates((&'static str, &'static str), (&'static str, &'static str)),
    Fact(&'static str, &'static str),
    /// How often the handler ran for a key.
    Runs(&'static str),
}

const fn of_one(
    what: &'static str,
    scenario: &'static str,
    [over, under]: [&'static str; 2],
    [bar, better]: [&'static str; 2],
) -> Goal {
    Goal { what, of: Of::Rates((scenario, over), (scenario, under)), bar, better }
}

const GOALS: &[Goal] = &[
    of_one("no key, memory : bare", "no-key", ["ours-memory", "bare"], ["0.98", "0.99"]),
    of_one("memory first : bare", "first", ["ours-memory", "bare"], ["0.78", "0.85"]),
    of_one("axum-idempotent first : bare", "first", ["axum-idempotent", "bare"], ["", ""]),
    of_one("memory replay : bare", "replay", ["ours-memory", "bare"], ["1.0", "1.1"]),
    of_one("axum-idempotent replay : bare", "replay", ["axum-idempotent", "bare"], ["", ""]),
    of_one("Redis first : unfenced by hand", "first", ["ours-redis", "unfenced-redis"], ["0.65", "0.75"]),
    of_one("Redis first : the same calls by hand", "first", ["ours-redis", "same-redis"], ["", ""]),
    of_one("Redis replay : unfenced by hand", "replay", ["ours-redis", "unfenced-redis"], ["0.92", "1.0"]),
    of_one("Postgres first : unfenced by hand", "first", ["ours-postgres", "unfenced-postgres"], ["0.90", "1.0"]),
    of_one("Postgres first : the same calls by hand", "first", ["ours-postgres", "same-postgres"], ["", ""]),
    of_one("Postgres replay : unfenced by hand", "replay", ["ours-postgres", "unfenced-postgres"], ["0.95", "1.0"]),
    of_one("three steps, SQLite : durare", "three-steps", ["ours-sqlite", "durare-sqlite"], ["6", "9"]),
    of_one("three steps, SQLite : Restate", "three-steps", ["ours-sqlite", "restate"], ["6", "9"]),
    of_one("three steps, Postgres : DBOS", "three-steps", ["ours-postgres", "dbos"], ["", ""]),
    of_one("three steps with defer_save, Postgres : DBOS", "three-steps", ["deferred-postgres", "dbos"], ["3", "4"]),
    of_one("three steps, Postgres : durare", "three-steps", ["ours-postgres", "durare-postgres"], ["", ""]),
    Goal {
        what: "background done : foreground, memory",
        of: Of::Rates(("background", "ours-memory"), ("foreground", "ours-memory")),
        bar: "0.7",
        better: "0.9",
    },
    Goal {
        what: "bytes a key, memory: the process",
        of: Of::Fact("ours-memory", "bytes a key"),
        bar: "600",
        better: "500",
    },
    Goal { what: "bytes a key, Redis", of: Of::Fact("ours-redis", "bytes a key"), bar: "560", better: "500" },
    Goal {
        what: "bytes a key, Postgres, with its indexes",
        of: Of::Fact("ours-postgres", "bytes a key"),
        bar: "900",
        better: "700",
    },
    Goal { what: "executions under 64 duplicates, memory", of: Of::Runs("ours-memory"), bar: "1", better: "" },
    Goal { what: "executions under 64 duplicates, SQLite", of: Of::Runs("ours-sqlite"), bar: "1", better: "" },
    Goal { what: "executions under 64 duplicates, Redis", of: Of::Runs("ours-redis"), bar: "1", better: "" },
    Goal { what: "executions under 64 duplicates, Postgres", of: Of::Runs("ours-postgres"), bar: "1", better: "" },
];

/// Those that the run has figures for, as Markdown.
pub(crate) fn table(run: &Run) -> String {
    let mut table = "| | median | extremes | by CPU | bar | better |\n|---|---|---|---|---|---|\n".to_owned();
    for goal in GOALS {
        let mut by_cpu = None;
        let figures = match goal.of {
            Of::Rates(over, under) => {
                by_cpu = median(run.ratios_by_cpu(over, under));
                run.ratios(over, under)
            }
            Of::Fact(row, what) => run.fact(row, what).into_iter().collect(),
            Of::Runs(row) => run.of("duplicates", row).iter().filter_map(|sample| sample.runs).collect(),
        };
        table.extend(line(goal, figures, by_cpu));
    }
    table
}

fn line(goal: &Goal, mut figures: Vec<f64>, by_cpu: Option<f64>) -> Option<String> {
    figures.sort_by(f64::total_cmp);
    let (least, most) = (*figures.first()?, *figures.last()?);
    let digits = if most >= 20.0 { 0 } else { 2 };
    let middle = median(figures)?;
    let Goal { what, bar, better, .. } = goal;
    let by_cpu = figure(by_cpu);
    Some(format!(
        "| {what} | {middle:.digits$} | {least:.digits$} to {most:.digits$} | {by_cpu} | {bar} | {better} |\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Row, SCENARIOS};
    use crate::run::tests::{run, sample};

    #[test]
    fn a_goal_names_rows_that_take_part_in_its_scenario() {
        for goal in GOALS {
            let pairs = match goal.of {
                Of::Rates(over, under) => vec![over, under],
                Of::Fact(row, _) | Of::Runs(row) => vec![("duplicates", row)],
            };
            for (scenario, row) in pairs {
                assert!(SCENARIOS.iter().any(|known| known.id == scenario), "{}", goal.what);
                assert!(Row::of(row).is_some_and(|row| row.scenarios.contains(&scenario)), "{}", goal.what);
            }
        }
    }

    #[test]
    fn only_what_was_measured_has_a_line() {
        let mut run = run();
        run.samples = vec![sample("first", "ours-memory", 0, 85), sample("first", "bare", 0, 100)];
        let table = table(&run);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.ends_with("| memory first : bare | 0.85 | 0.85 to 0.85 | 1.00 | 0.78 | 0.85 |\n"), "{table}");
    }
}
