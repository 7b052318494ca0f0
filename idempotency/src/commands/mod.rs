//! The commands, a file each.

mod doctor;
mod migrate;
mod sweep;
mod watch;

use std::io;

use clap::CommandFactory;

use crate::arguments::{Arguments, Command};
use crate::failure::{DONE, Failure};
use crate::output::Output;

/// Carries out what was typed, and returns the exit code.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { common, command, .. } = arguments;
    let output = Output::new(common.json);
    match command {
        Command::Watch(watch) => watch::run(&common, &watch, output).await,
        Command::Sweep(sweep) => sweep::run(&common, &sweep, output).await,
        Command::Migrate(migrate) => migrate::run(&common, &migrate, output).await,
        Command::Doctor(doctor) => doctor::run(&common, &doctor, output).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "idempotency", &mut io::stdout());
            Ok(DONE)
        }
    }
}
