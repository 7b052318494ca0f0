//! Runs schedules of faults, from a seed:
//!
//! ```console
//! $ cargo run -p flaky -- --schedules 10000
//! $ cargo run -p flaky -- --from 1234 --schedules 1     one that went wrong
//! ```

use std::process::ExitCode;
use std::time::Duration;

#[tokio::main]
async fn main() -> ExitCode {
    let Ok((from, schedules, seconds)) = options() else {
        eprintln!("usage: flaky [--from NUMBER] [--schedules COUNT] [--seconds LIMIT]");
        return ExitCode::from(2);
    };
    let report = flaky::run(from, from.saturating_add(schedules), Duration::from_secs(seconds)).await;
    report.wrong.iter().take(20).for_each(|wrong| println!("{wrong}"));
    println!("{report}");
    if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Result<(u64, u64, u64), lexopt::Error> {
    use lexopt::prelude::*;

    let (mut from, mut schedules, mut seconds) = (0, 10_000, u64::MAX);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("from") => from = parser.value()?.parse()?,
            Long("schedules") => schedules = parser.value()?.parse()?,
            Long("seconds") => seconds = parser.value()?.parse()?,
            _ => return Err(argument.unexpected()),
        }
    }
    Ok((from, schedules, seconds))
}
