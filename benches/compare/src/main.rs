//! This library beside what a user would pick instead, in one run.
//!
//! ```text
//! scripts/bench                           all of it: half an hour, and once for building
//! scripts/bench --rounds 3 --seconds 0.2  a look
//! scripts/bench --scenarios first,replay --rows bare,ours-redis,unfenced-redis
//! ```
//!
//! Rounds of all rows alternate, so that a noisy machine is noisy for all of them. The
//! service under test has a core of its own where there are two, the load and the servers
//! of stores have others where there are more. After each round everything is kept in
//! `DIR/run.json`: a run that is cut goes on from there if it is started again, with the
//! same commit, machine and length of slices. At its end, and if it is interrupted between,
//! `DIR` has `report.md` and a chart for each scenario. `--publish` puts them into
//! `docs/benchmarks.md` and README, too.

mod cores;
mod facts;
mod load;
mod measure;
mod peers;
mod process;
mod relay;
mod serve;
mod service;
mod stores;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bench_report::{ROWS, Run, SCENARIOS, Setting, chart, replaced, report, summary};
use lexopt::prelude::*;

use self::cores::Cores;
use self::measure::{Bench, CONNECTIONS};
use self::peers::Peers;
use self::stores::Stores;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Options {
    seconds: f64,
    rounds: usize,
    rows: Vec<String>,
    scenarios: Vec<String>,
    out: PathBuf,
    anew: bool,
    publish: bool,
    words: Vec<String>,
}

impl Options {
    fn read() -> Result<Self, Failure> {
        let mut options = Self {
            seconds: 1.0,
            rounds: 7,
            rows: Vec::new(),
            scenarios: Vec::new(),
            out: beside_the_build()?.join("bench"),
            anew: false,
            publish: false,
            words: Vec::new(),
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("seconds") => options.seconds = arguments.value()?.parse()?,
                Long("rounds") => options.rounds = arguments.value()?.parse()?,
                Long("rows") => options.rows = list(arguments.value()?, ROWS.iter().map(|row| row.id))?,
                Long("scenarios") => options.scenarios = list(arguments.value()?, SCENARIOS.iter().map(|one| one.id))?,
                Long("out") => options.out = arguments.value()?.into(),
                Long("anew") => options.anew = true,
                Long("publish") => options.publish = true,
                Value(word) => options.words.push(word.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}

/// Names with commas between them, all of which are known.
fn list(names: std::ffi::OsString, known: impl Iterator<Item = &'static str>) -> Result<Vec<String>, Failure> {
    let (names, known) = (names.string()?, known.collect::<Vec<_>>());
    let check = |name: &str| match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name} is none of {}", known.join(", ")).into()),
    };
    names.split(',').map(check).collect()
}

fn beside_the_build() -> Result<PathBuf, Failure> {
    let target = std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no target directory")?.to_owned();
    Ok(target)
}

fn main() -> Result<(), Failure> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let Some(("bound", rest)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return process::ends_with_its_parent(rest);
    }
    let options = Options::read()?;
    if let [word, row, scenario, url] = options.words.as_slice()
        && word == "serve"
    {
        return serve::main(row, scenario, url);
    }
    if let Some(word) = options.words.first() {
        return Err(format!("what is {word:?}? See the head of benches/compare/src/main.rs").into());
    }
    std::fs::create_dir_all(&options.out)?;
    let path = options.out.join("run.json");
    if options.anew && path.exists() {
        std::fs::remove_file(&path)?;
    }
    let cores = Cores::of_this_machine()?;
    let setting = setting(&cores, options.seconds);
    let mut run = Run::resume(&path, setting);
    let bench = Bench {
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        cores,
        stores: Stores::beside(&options.out)?,
        peers: Peers::in_folder(&beside_the_build()?),
        slice: Duration::from_secs_f64(options.seconds),
        rounds: options.rounds.max(1),
        rows: options.rows,
    };
    bench.cores.for_load()?;
    let wanted = |id: &str| options.scenarios.is_empty() || options.scenarios.iter().any(|name| name == id);
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.id)) {
        bench.scenario(scenario, &mut run, &path)?;
        write(&run, &options.out)?;
    }
    if options.scenarios.is_empty() {
        bench.facts(&mut run)?;
        run.save(&path)?;
    }
    write(&run, &options.out)?;
    if options.publish {
        publish(&run)?;
    }
    println!("{}", report(&run));
    eprintln!("kept in {}", options.out.display());
    Ok(())
}

fn write(run: &Run, out: &Path) -> Result<(), Failure> {
    std::fs::write(out.join("report.md"), report(run))?;
    for scenario in SCENARIOS {
        if let Some(svg) = chart(run, scenario) {
            std::fs::write(out.join(format!("{}.svg", scenario.id)), svg)?;
        }
    }
    Ok(())
}

/// Into the documents of this repository.
fn publish(run: &Run) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = root.join("docs");
    let page = docs.join("benchmarks.md");
    let mut figures = report(run);
    for scenario in SCENARIOS {
        let Some(svg) = chart(run, scenario) else { continue };
        let (name, title) = (format!("{}.svg", scenario.id), format!("## {}\n", scenario.title));
        std::fs::create_dir_all(docs.join("benchmarks"))?;
        std::fs::write(docs.join("benchmarks").join(&name), svg)?;
        figures = figures.replace(&title, &format!("{title}\n![{}](benchmarks/{name})\n", scenario.title));
    }
    std::fs::write(&page, replaced(&std::fs::read_to_string(&page)?, "figures", &figures)?)?;
    let readme = root.join("README.md");
    let text = std::fs::read_to_string(&readme)?;
    if text.contains("<!-- summary -->") {
        std::fs::write(&readme, replaced(&text, "summary", &summary(run))?)?;
    }
    Ok(())
}

fn setting(cores: &Cores, seconds: f64) -> Setting {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown processor");
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let kernel = said("uname", &["-sr"]);
    Setting {
        commit: said("git", &["describe", "--always", "--dirty"]),
        machine: format!("{model}, {count} cores, {kernel}"),
        layout: cores.describe(),
        seconds,
        connections: CONNECTIONS,
    }
}
