//! A store of many records: how long it takes to open, how much memory it has while
//! it is open, and how large its file is as records come and go.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tower_idempotency::store::SqliteStore;

use crate::{Failure, writes};

const TASKS: usize = 64;

/// Opens a store of so many records, after a clean stop and after a kill.
pub(crate) fn records(directory: &Path, count: usize) -> Result<(), Failure> {
    let path = directory.join("many.db");
    child("fill", &path, count)?.wait()?;
    println!("{count} records, {}", sizes(&path)?);
    print!("opened after a clean stop: ");
    child("open", &path, count)?.wait()?;
    let mut writing = child("write", &path, 0)?;
    let mut line = String::new();
    BufReader::new(writing.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    std::thread::sleep(Duration::from_secs(3));
    writing.kill()?;
    writing.wait()?;
    println!("killed while it wrote, {}", sizes(&path)?);
    print!("opened after a kill:       ");
    child("open", &path, count)?.wait()?;
    Ok(())
}

fn child(what: &str, path: &Path, count: usize) -> Result<Child, Failure> {
    std::io::stdout().flush()?;
    let mut command = Command::new(std::env::current_exe()?);
    if what == "write" {
        command.stdout(Stdio::piped());
    }
    Ok(command.arg(what).arg(path).arg(count.to_string()).spawn()?)
}

/// What a child does.
pub(crate) fn run(runtime: &Runtime, what: &str, path: &Path, count: usize) -> Result<(), Failure> {
    let before = resident()?;
    let begin = Instant::now();
    let store = SqliteStore::open(path)?;
    let opened = begin.elapsed();
    match what {
        "fill" => all(runtime, || writes::fill(store.clone(), count / TASKS)),
        "write" => {
            println!("begun");
            all(runtime, || writes::fill(store.clone(), usize::MAX))
        }
        _ => {
            let begin = Instant::now();
            runtime.block_on(writes::fill(store.clone(), 1))?;
            println!("{:.0} ms, the first write after {:.0} ms more", millis(opened), millis(begin.elapsed()));
            let begin = Instant::now();
            all(runtime, || writes::fill(store.clone(), count / 10 / TASKS))?;
            let rate = (count / 10) as f64 / begin.elapsed().as_secs_f64();
            // The background looks at everything once.
            std::thread::sleep(Duration::from_secs(10));
            let grown = (resident()? - before) as f64 / 1024.0;
            println!("    {rate:.0} writes a second into it; memory grew by {grown:.1} MiB");
            Ok(())
        }
    }
}

/// Writes that expire two seconds after they complete; how large the file is.
pub(crate) fn churn(runtime: &Runtime, directory: &Path, count: usize) -> Result<(), Failure> {
    let path = directory.join("churn.db");
    let store = SqliteStore::open(&path)?;
    let begin = Instant::now();
    for part in 1..=10 {
        all(runtime, || writes::churn(store.clone(), count / 10 / TASKS, Duration::from_secs(2)))?;
        println!("{:>9} writes, {:>5.1} s: {}", count / 10 * part, begin.elapsed().as_secs_f64(), sizes(&path)?);
    }
    Ok(())
}

fn all<F: Future<Output = Result<(), Failure>> + Send + 'static>(
    runtime: &Runtime,
    task: impl Fn() -> F,
) -> Result<(), Failure> {
    let tasks: Vec<_> = (0..TASKS).map(|_| runtime.spawn(task())).collect();
    tasks.into_iter().try_for_each(|task| runtime.block_on(task)?)
}

fn sizes(path: &Path) -> Result<String, Failure> {
    let wal = path.with_extension("db-wal");
    let mib = |path: &Path| std::fs::metadata(path).map_or(0.0, |found| found.len() as f64 / f64::from(1 << 20));
    Ok(format!("{:.0} MiB and {:.0} MiB of -wal", mib(path), mib(&wal)))
}

/// In KiB.
fn resident() -> Result<i64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
