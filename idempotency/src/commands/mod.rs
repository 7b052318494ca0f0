//! The commands, a file each.

mod advice;
mod decide;
mod doctor;
mod list;
mod maintenance;
mod migrate;
mod schedule;
mod serve;
mod show;
mod sweep;
mod watch;

use std::io::{self, Write};

use clap::CommandFactory;

use crate::arguments::{Arguments, Command};
use crate::failure::{DONE, Failure};
use crate::output::Output;
use crate::proxy;

/// Carries out what was typed, and returns the exit code.
pub(crate) async fn run(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { common, command, .. } = arguments;
    let output = Output::new(common.json);
    match command {
        Command::List(list) => list::run(&common, &list, output).await,
        Command::Show(show) => show::run(&common, &show, output).await,
        Command::Resolve(resolve) => decide::resolve(&common, &resolve, output).await,
        Command::Retry(decision) => decide::retry(&common, &decision, output).await,
        Command::Forget(decision) => decide::forget(&common, &decision, output).await,
        Command::EndCallback(decision) => decide::end_callback(&common, &decision, output).await,
        Command::Maintenance(maintenance) => maintenance::run(&common, &maintenance, output).await,
        Command::Schedule(schedule) => schedule::run(&common, &schedule, output).await,
        Command::Serve(serve) => serve::run(&common, &serve, output).await,
        Command::Proxy(typed) => proxy::run(&common, &typed, output).await,
        Command::Watch(watch) => watch::run(&common, &watch, output).await,
        Command::Sweep(sweep) => sweep::run(&common, &sweep, output).await,
        Command::Migrate(migrate) => migrate::run(&common, &migrate, output).await,
        Command::Doctor(doctor) => doctor::run(&common, &doctor, output).await,
        Command::Completions { shell } => {
            // It panics if it can't write.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "idempotency", &mut text);
            io::stdout().lock().write_all(&text)?;
            Ok(DONE)
        }
    }
}
