//! `idempotency`: what is stuck in a store of tower-idempotency, why, and what to do.
//!
//! Start with [`arguments`], which is all that can be typed; each command is a file of
//! [`commands`], but for [`proxy`], which is a server. [`target`] opens the store, [`output`] is the only place that writes.

mod arguments;
mod commands;
mod confirm;
mod failure;
mod keys;
mod output;
mod proxy;
mod target;
mod text;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

use crate::arguments::Arguments;

/// Requests of the proxy allocate some KiB each, and what is kept of them is often let go in another thread.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.color.write_global();
    match commands::run(arguments).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}
