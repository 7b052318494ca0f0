//! What is measured: scenarios, and the rows of each.

/// One way to handle a request.
#[derive(Debug)]
pub struct Row {
    /// In the JSON, and on the command line.
    pub id: &'static str,
    /// In tables.
    pub title: &'static str,
    /// The row of ours that uses the same store.
    pub beside: Option<&'static str>,
    /// In which scenarios it takes part.
    pub scenarios: &'static [&'static str],
}

/// One kind of load.
#[derive(Debug)]
pub struct Scenario {
    /// In the JSON, and on the command line.
    pub id: &'static str,
    /// Over its table.
    pub title: &'static str,
}

/// In the order in which they are measured.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { id: "no-key", title: "No key: what the layer costs a request that it does not guard" },
    Scenario { id: "first", title: "First request of each key" },
    Scenario { id: "replay", title: "Replay of one key" },
    Scenario { id: "replay-10k", title: "Replay over 10,000 keys" },
    Scenario { id: "duplicates", title: "64 duplicates at once of a handler that takes 50 ms" },
    Scenario { id: "three-steps", title: "Three durable steps, first request of each key" },
    Scenario { id: "hundred-steps", title: "100 durable steps, first request of each key" },
    Scenario { id: "foreground", title: "A resumable operation without steps, answered when it is done" },
    Scenario { id: "background", title: "The same, accepted at once: from the first accept to the last one done" },
];

const PLAIN: &[&str] = &["no-key", "first", "replay", "replay-10k", "duplicates"];
const KEYED: &[&str] = &["first", "replay", "replay-10k", "duplicates"];
const STEPS: &[&str] = &["three-steps", "hundred-steps", "foreground", "background"];
const ALL: &[&str] = &[
    "no-key",
    "first",
    "replay",
    "replay-10k",
    "duplicates",
    "three-steps",
    "hundred-steps",
    "foreground",
    "background",
];

const fn row(
    id: &'static str,
    title: &'static str,
    beside: Option<&'static str>,
    scenarios: &'static [&'static str],
) -> Row {
    Row { id, title, beside, scenarios }
}

/// In the order of the tables.
pub const ROWS: &[Row] = &[
    row("bare", "bare axum", None, PLAIN),
    row("ours-memory", "ours, memory", None, ALL),
    row("axum-idempotent", "axum-idempotent 0.6, moka", Some("ours-memory"), PLAIN),
    row("ours-sqlite", "ours, SQLite", None, ALL),
    row("durare-sqlite", "durare 0.5, SQLite, synchronous = FULL", Some("ours-sqlite"), STEPS),
    row("durare-normal", "durare 0.5, SQLite, NORMAL (its default)", Some("ours-sqlite"), STEPS),
    row("restate", "Restate (a server of its own)", Some("ours-sqlite"), &["three-steps", "hundred-steps"]),
    row("ours-redis", "ours, Redis", None, ALL),
    row("same-redis", "the same calls by hand, Redis", Some("ours-redis"), KEYED),
    row("unfenced-redis", "unfenced by hand, Redis", Some("ours-redis"), KEYED),
    row("ours-postgres", "ours, Postgres", None, ALL),
    row(
        "deferred-postgres",
        "ours, Postgres, with `defer_save`",
        Some("ours-postgres"),
        &["three-steps", "hundred-steps"],
    ),
    row("same-postgres", "the same calls by hand, Postgres", Some("ours-postgres"), KEYED),
    row("unfenced-postgres", "unfenced by hand, Postgres", Some("ours-postgres"), KEYED),
    row("durare-postgres", "durare 0.5, Postgres", Some("ours-postgres"), STEPS),
    row("dbos", "DBOS 0.5, Postgres", Some("ours-postgres"), STEPS),
];

impl Row {
    /// The row of this name.
    pub fn of(id: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_plan_is_one_of_the_plan() {
        for row in ROWS {
            assert!(row.beside.is_none_or(|beside| Row::of(beside).is_some()), "{}", row.id);
            for id in row.scenarios {
                assert!(SCENARIOS.iter().any(|scenario| scenario.id == *id), "{}: {id}", row.id);
            }
        }
    }
}
