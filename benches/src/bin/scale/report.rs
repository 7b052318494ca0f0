//! The table, and the same as JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

pub(crate) struct Report {
    records: usize,
    lines: Vec<Line>,
}

struct Line {
    store: &'static str,
    what: String,
    median: f64,
    least: f64,
    most: f64,
    /// At most this much is aimed at.
    goal: Option<f64>,
    /// The medians that the ratio compares, if it is one.
    of: Option<[f64; 2]>,
}

impl Report {
    pub(crate) const fn new(records: usize) -> Self {
        Self { records, lines: Vec::new() }
    }

    /// How `figure` of what was measured in the same round compares.
    pub(crate) fn ratio<T>(
        &mut self,
        store: &'static str,
        what: &str,
        over: &[T],
        under: &[T],
        figure: impl Fn(&T) -> f64 + Copy,
        goal: Option<f64>,
    ) {
        let ratios = ratios(over, under, figure);
        let of = [over, under].map(|seen| median(seen.iter().map(figure).collect()));
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        self.add(Line { store, what: what.to_owned(), median: median(ratios), least, most, goal, of: Some(of) });
    }

    pub(crate) fn single(&mut self, store: &'static str, what: &str, value: f64, goal: Option<f64>) {
        self.add(Line { store, what: what.to_owned(), median: value, least: value, most: value, goal, of: None });
    }

    fn add(&mut self, line: Line) {
        eprintln!("  {}", line.text());
        self.lines.push(line);
    }

    pub(crate) fn table(&self) -> String {
        let mut table = "| store | | median | extremes | goal |\n|---|---|---|---|---|\n".to_owned();
        for line in &self.lines {
            let _ = writeln!(table, "{}", line.text());
        }
        table
    }

    pub(crate) fn save(&self, path: &Path) {
        let lines: Vec<Value> = self.lines.iter().map(Line::json).collect();
        let all = json!({ "records": self.records, "lines": lines });
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        std::fs::write(path, format!("{all:#}\n")).expect("a file");
    }
}

impl Line {
    fn text(&self) -> String {
        let Self { store, what, median, least, most, goal, .. } = self;
        let goal = goal.map(|goal| format!("≤ {goal}")).unwrap_or_default();
        let of = self.of.map(|[over, under]| format!(" ({over:.1} : {under:.1} µs)")).unwrap_or_default();
        format!("| {store} | {what} | {median:.2}{of} | {least:.2} to {most:.2} | {goal} |")
    }

    fn json(&self) -> Value {
        let Self { store, what, median, least, most, goal, of } = self;
        json!({ "store": store, "what": what, "median": median, "least": least, "most": most, "goal": goal, "of": of })
    }
}

/// Sorted.
fn ratios<T>(over: &[T], under: &[T], figure: impl Fn(&T) -> f64) -> Vec<f64> {
    let mut ratios: Vec<_> = over.iter().zip(under).map(|(over, under)| figure(over) / figure(under)).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
