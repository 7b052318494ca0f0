//! Kills real `payment` processes and their stores, and counts the charges. Then
//! the same where the response was 202, nobody retries, and a completer dies.
//!
//! ```console
//! $ cargo run -p killbox                      # for two minutes, every fault on every store
//! $ cargo run -p killbox -- --all             # every cell, and the table
//! $ cargo run -p killbox -- --cell redis/     # those whose name has this in it
//! ```

mod backend;
mod behind;
mod books;
mod cell;
mod later;
mod options;
mod plan;
mod readme;
mod seen;
mod service;
mod table;
mod till;
mod trial;
mod undertaker;

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::backend::Backend;
use crate::cell::{Cell, Fault, Finisher, Outage};
use crate::options::{HELP, Options};
use crate::readme::Shown;
use crate::trial::{BRANCHES, Report};

/// What all lanes share.
struct Run {
    options: Options,
    start: Instant,
    reports: Mutex<Vec<Report>>,
    numbers: AtomicU64,
    /// What crashes.md says of each cell, where not all of them are run.
    shown: Option<Shown>,
}

impl Run {
    /// One store, cell after cell.
    fn lane(&self, cells: Vec<Cell>) {
        let mut backend: Option<Backend> = None;
        let mut tried = std::collections::HashSet::new();
        for cell in cells {
            // Each fault once, whatever the time.
            let late = self.options.seconds.is_some_and(|limit| self.start.elapsed() > limit);
            if !tried.insert(cell.fault) && late {
                continue;
            }
            let mut report = self.try_once(cell, &mut backend);
            let denied = |report: &Report| self.shown.as_ref().and_then(|shown| shown.denies(report));
            // A slow machine may have renewed a lease too late for a 409.
            for _ in 0..2 {
                if report.broken.is_empty() && denied(&report).is_some() {
                    report = self.try_once(cell, &mut backend);
                }
            }
            let denied = denied(&report).map(|said| format!("crashes.md shows it: it says {said}"));
            report.broken.extend(denied);
            self.tell(report);
        }
    }

    fn try_once(&self, cell: Cell, backend: &mut Option<Backend>) -> Report {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let started = match backend.take() {
            Some(running) => Ok(running),
            // Once more: a port that was free may be taken meanwhile.
            None => {
                trial::caught(|| Backend::start(cell.store)).or_else(|_| trial::caught(|| Backend::start(cell.store)))
            }
        };
        let report = match started {
            Ok(running) => {
                let running = backend.insert(running);
                trial::caught(|| trial::run(cell, running, number))
                    .unwrap_or_else(|why| Report::failed(cell, format!("it can be tried: {why}")))
            }
            Err(why) => Report::failed(cell, format!("its store starts: {why}")),
        };
        let is_spent = matches!(cell.fault, Fault::Outage(Outage::Failover | Outage::LossyFailover));
        if is_spent || !report.broken.is_empty() {
            *backend = None;
        }
        report
    }

    fn tell(&self, report: Report) {
        let Report { cell, during, trace, charges, broken, took, .. } = &report;
        let during: Vec<_> = during.iter().map(ToString::to_string).collect();
        let during = if during.is_empty() { String::new() } else { format!("[{}] ", during.join(", ")) };
        let at = self.start.elapsed().as_secs();
        let verdict = if broken.is_empty() { "ok    " } else { "BROKEN" };
        let trace = trace.join(", ");
        println!("{at:4} s  {verdict} {cell}: {during}{trace}; charges: {charges} ({:.1} s)", took.as_secs_f64());
        if !broken.is_empty() {
            self.explain(&report);
        }
        self.reports.lock().unwrap().push(report);
    }

    fn explain(&self, report: &Report) {
        let seed = self.options.seed;
        for broken in &report.broken {
            println!("        broken: {broken}");
        }
        for (process, lines) in &report.lines {
            println!("        {process} printed:");
            lines.iter().for_each(|line| println!("          {line}"));
        }
        println!("        again: cargo run -p killbox -- --seed {seed} --cell {}", report.cell);
    }

    /// Whether all is as promised.
    fn sum_up(&self) -> bool {
        let reports = self.reports.lock().unwrap();
        let broken: Vec<_> = reports.iter().filter(|report| !report.broken.is_empty()).collect();
        let mut reached: HashMap<&str, usize> = HashMap::new();
        for (branch, count) in reports.iter().flat_map(|report| &report.branches) {
            *reached.entry(branch).or_default() += count;
        }
        let counts = BRANCHES.map(|branch| format!("{branch} {}", reached.get(branch).copied().unwrap_or_default()));
        println!("\nreached: {}", counts.join(", "));
        let missed: Vec<_> =
            BRANCHES.into_iter().filter(|branch| reached.get(branch).is_none_or(|n| *n == 0)).collect();
        let is_part = self.options.cell.is_some();
        if !missed.is_empty() && !is_part {
            println!("BROKEN: never reached: {}", missed.join(", "));
        }
        let seconds = self.start.elapsed().as_secs();
        println!("{} cells in {seconds} s, seed {}, {} broken", reports.len(), self.options.seed, broken.len());
        broken.iter().for_each(|report| println!("  {}", report.cell));
        broken.is_empty() && (is_part || missed.is_empty())
    }
}

/// What this program does in the place of a service, if it is started as one.
fn serve() -> Option<Result<(), Box<dyn Error>>> {
    let mut words = lexopt::Parser::from_env();
    let role = words.try_raw_args()?.peek()?.to_owned();
    let serve = match role.to_str()? {
        "serve" => service::serve,
        "behind" => behind::serve,
        _ => return None,
    };
    let _ = words.next();
    Some(serve(words))
}

fn main() -> ExitCode {
    if let Some(served) = serve() {
        return match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    if !options.list && !undertaker::is_worker() {
        return undertaker::supervise();
    }
    let mut cells = Cell::all();
    if let Some(name) = &options.cell {
        cells.retain(|cell| cell.to_string().contains(name));
    }
    if options.list {
        cells.iter().for_each(|cell| println!("{cell}"));
        return ExitCode::SUCCESS;
    }
    println!("{} cells, seed {}", cells.len(), options.seed);
    if cells.iter().any(|cell| cell.finisher == Finisher::Client) {
        killbox::build();
    }
    let lanes = plan::lanes(cells, &mut fastrand::Rng::with_seed(options.seed));
    // What is broken is told with its cell.
    std::panic::set_hook(Box::new(|_| {}));
    let is_bounded = !options.all && options.cell.is_none();
    let shown =
        if is_bounded { Some(readme::Shown::read().expect("crashes.md has a place for the table")) } else { None };
    let (reports, numbers) = (Mutex::default(), AtomicU64::new(1));
    let run = Run { options, start: Instant::now(), reports, numbers, shown };
    std::thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| run.lane(lane));
        }
    });
    let mut good = run.sum_up();
    good &= run.shown.as_ref().is_none_or(|shown| shown.has_rows_of(&Cell::all()));
    let mut reports = run.reports.into_inner().unwrap();
    reports.sort_by_key(|report| report.cell);
    if run.options.all {
        let table = table::markdown(&reports);
        println!("\n{table}");
        // What is broken is not to be published.
        good &= readme::compare(&table, run.options.write && good);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
