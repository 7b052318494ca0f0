//! A run, as it is kept between its rounds.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What figures can be told apart by: two runs that differ here are two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Of this repository.
    pub commit: String,
    /// Processor, cores, kernel.
    pub machine: String,
    /// Which process has which core.
    pub layout: String,
    /// How long each slice took.
    pub seconds: f64,
    /// How many connections are kept busy.
    pub connections: usize,
}

/// What one slice of one row saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which load.
    pub scenario: String,
    /// Which server.
    pub row: String,
    /// All rows take turns within a round.
    pub round: usize,
    /// How many were answered.
    pub requests: u64,
    /// Within so many seconds.
    pub seconds: f64,
    /// Microseconds from a request to its answer: the median.
    pub p50: f64,
    /// And of the slowest hundredth the fastest.
    pub p99: f64,
    /// Microseconds on a CPU a request, of the service.
    pub cpu: f64,
    /// The same, of the server that has its records.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub store_cpu: Option<f64>,
    /// How often the handler ran for each key that was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runs: Option<f64>,
}

impl Sample {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// What is measured once, and not in rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Which server.
    pub row: String,
    /// `round trips, first` or `bytes a key`, say.
    pub what: String,
    /// How many.
    pub value: f64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Where and how.
    pub setting: Setting,
    /// What each slice saw.
    pub samples: Vec<Sample>,
    /// What was measured once.
    pub facts: Vec<Fact>,
    /// Rows that could not be measured, and why.
    pub skipped: Vec<(String, String)>,
}

impl Run {
    /// The run at `path`, if it was made under the same setting; or a new one.
    pub fn resume(path: &Path, setting: Setting) -> Self {
        let kept = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        match kept {
            Some(run) if run.setting == setting => Self { skipped: Vec::new(), ..run },
            _ => Self { setting, samples: Vec::new(), facts: Vec::new(), skipped: Vec::new() },
        }
    }

    /// Keeps it, whole or not at all: a run that is cut finds what it kept last.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let next = path.with_extension("next");
        std::fs::write(&next, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(next, path)
    }

    /// How many rounds of a scenario all these rows have, and forgets the round that was cut:
    /// ratios compare what was measured one after the other.
    pub fn rounds(&mut self, scenario: &str, rows: &[&str]) -> usize {
        let has = |round, row: &str| {
            let found = |sample: &Sample| sample.scenario == scenario && sample.round == round && sample.row == row;
            self.samples.iter().any(found)
        };
        let whole = (0..).take_while(|round| rows.iter().all(|row| has(*round, row))).count();
        let cut = |sample: &Sample| {
            sample.scenario == scenario && sample.round >= whole && rows.contains(&sample.row.as_str())
        };
        self.samples.retain(|sample| !cut(sample));
        whole
    }

    /// What the rounds of a row saw, in their order.
    pub fn of(&self, scenario: &str, row: &str) -> Vec<&Sample> {
        let mut found: Vec<_> =
            self.samples.iter().filter(|sample| sample.scenario == scenario && sample.row == row).collect();
        found.sort_by_key(|sample| sample.round);
        found
    }

    /// The rates of one, divided by those of the other in the same round.
    pub fn ratios(&self, over: (&str, &str), under: (&str, &str)) -> Vec<f64> {
        self.compared(over, under, |over, under| over.rate() / under.rate())
    }

    /// What the ratios would be if nothing but the services' processors counted. A machine
    /// that has other work to do disturbs these much less.
    pub fn ratios_by_cpu(&self, over: (&str, &str), under: (&str, &str)) -> Vec<f64> {
        self.compared(over, under, |over, under| under.cpu / over.cpu)
    }

    fn compared(&self, over: (&str, &str), under: (&str, &str), ratio: impl Fn(&Sample, &Sample) -> f64) -> Vec<f64> {
        let under = self.of(under.0, under.1);
        let same = |sample: &&Sample| {
            let round = sample.round;
            let other = under.iter().find(|other| other.round == round)?;
            Some(ratio(sample, other))
        };
        self.of(over.0, over.1).iter().filter_map(same).collect()
    }

    /// What was measured once.
    pub fn fact(&self, row: &str, what: &str) -> Option<f64> {
        self.facts.iter().find(|fact| fact.row == row && fact.what == what).map(|fact| fact.value)
    }

    /// Keeps a fact, in place of the one there was.
    pub fn note(&mut self, row: &str, what: &str, value: f64) {
        self.facts.retain(|fact| fact.row != row || fact.what != what);
        self.facts.push(Fact { row: row.to_owned(), what: what.to_owned(), value });
    }

    /// This row takes no part any more, for this reason.
    pub fn skip(&mut self, row: &str, why: &str) {
        // Its first line: what follows is for the terminal.
        let why = why.lines().next().unwrap_or_default().to_owned();
        self.skipped.push((row.to_owned(), why));
    }

    /// Whether it takes no part any more.
    pub fn is_skipped(&self, row: &str) -> bool {
        self.skipped.iter().any(|(skipped, _)| skipped == row)
    }

    /// The scenarios that have samples.
    pub fn scenarios(&self) -> BTreeSet<&str> {
        self.samples.iter().map(|sample| sample.scenario.as_str()).collect()
    }
}

/// The middle one, or the lower of the two in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn run() -> Run {
        let setting = Setting {
            commit: "0123456".to_owned(),
            machine: "a machine".to_owned(),
            layout: "all on one core".to_owned(),
            seconds: 1.0,
            connections: 32,
        };
        Run { setting, samples: Vec::new(), facts: Vec::new(), skipped: Vec::new() }
    }

    pub(crate) fn sample(scenario: &str, row: &str, round: usize, requests: u64) -> Sample {
        let (scenario, row) = (scenario.to_owned(), row.to_owned());
        let (p50, p99, cpu) = (100.0, 900.0, 20.0);
        Sample { scenario, row, round, requests, seconds: 1.0, p50, p99, cpu, store_cpu: None, runs: None }
    }

    #[test]
    fn a_median_is_one_of_the_figures() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_run_that_was_cut_goes_on_after_its_last_whole_round() {
        let mut cut = run();
        for round in 0..2 {
            cut.samples.extend(["bare", "ours-memory"].map(|row| sample("first", row, round, 10)));
        }
        cut.samples.push(sample("first", "bare", 2, 10));
        cut.samples.push(sample("replay", "bare", 0, 10));
        let folder = std::env::temp_dir().join(format!("bench-report-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("run.json");
        cut.save(&path).unwrap();
        let mut resumed = Run::resume(&path, cut.setting.clone());
        assert_eq!(resumed, cut);
        assert_eq!(resumed.rounds("first", &["bare", "ours-memory"]), 2);
        assert_eq!(resumed.of("first", "bare").len(), 2, "the third was cut");
        assert_eq!(resumed.of("replay", "bare").len(), 1, "another scenario is left alone");

        let other = Setting { commit: "another".to_owned(), ..cut.setting };
        assert_eq!(Run::resume(&path, other.clone()).samples, [], "figures of two commits are not mixed");
        std::fs::write(&path, "{\"setting\":").unwrap();
        assert_eq!(Run::resume(&path, other).samples, [], "what can't be read is no run");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut run = run();
        run.samples = vec![
            sample("first", "ours-memory", 1, 60),
            sample("first", "bare", 0, 100),
            sample("first", "ours-memory", 0, 80),
            sample("first", "bare", 1, 200),
            sample("first", "bare", 2, 1),
        ];
        assert_eq!(run.ratios(("first", "ours-memory"), ("first", "bare")), [0.8, 0.3]);
        run.samples[0].cpu = 40.0;
        assert_eq!(run.ratios_by_cpu(("first", "ours-memory"), ("first", "bare")), [1.0, 0.5]);
    }

    #[test]
    fn a_fact_takes_the_place_of_an_older_one() {
        let mut run = run();
        run.note("ours-redis", "bytes a key", 600.0);
        run.note("ours-redis", "bytes a key", 590.0);
        assert_eq!((run.facts.len(), run.fact("ours-redis", "bytes a key")), (1, Some(590.0)));
    }
}
