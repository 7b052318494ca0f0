//! The mutants. To add one, add an entry to the table of its tests.

/// Names a function that makes the mutants of one table: they differ in all but
/// the tests that have to fail.
macro_rules! planted_under {
    ($function:ident, $target:expr) => {
        planted_under!($function, $target, "");
    };
    ($function:ident, $target:expr, $module:literal) => {
        const fn $function(
            name: &'static str,
            file: &'static str,
            text: &'static str,
            instead: &'static str,
            filter: &'static str,
        ) -> Mutant {
            Mutant { name, file, text, instead, target: $target, module: $module, filter }
        }
    };
}

mod background;
mod bodies;
mod callback;
mod client;
mod completer;
mod drain;
mod encryption;
mod grpc;
mod http;
mod immediate;
mod inspector;
mod keys;
mod limits;
mod maintenance;
mod memory;
mod model;
mod near;
mod operator;
mod outbox;
mod postgres;
mod presets;
mod proxy;
mod reasons;
mod redis;
mod request;
mod resume;
mod rollout;
mod schedule;
mod settings;
mod shipped;
mod sqlite;
mod tool;
mod undo;
mod watcher;
mod wire;

/// The model checker: it walks too many states for a build without optimising.
pub(crate) const MODEL: &str = "--release -p model";

/// One planted bug.
pub(crate) struct Mutant {
    /// What is wrong, in a few words; for `--only`.
    pub(crate) name: &'static str,
    /// The file, from the root of the repository.
    pub(crate) file: &'static str,
    /// What is replaced. It must be there exactly once.
    pub(crate) text: &'static str,
    pub(crate) instead: &'static str,
    /// The tests that have to fail, as arguments of `cargo test`: which binary,
    pub(crate) target: &'static str,
    /// which module of it,
    pub(crate) module: &'static str,
    /// and which part of that; the less runs, the sooner it is over.
    pub(crate) filter: &'static str,
}

impl Mutant {
    /// What the names of the tests that have to fail begin with.
    pub(crate) fn tests(&self) -> String {
        if self.module.is_empty() { self.filter.to_owned() } else { format!("{}::{}", self.module, self.filter) }
    }
}

const ACKNOWLEDGE: &str = "src/core/command/acknowledge.rs";
const CLAIM: &str = "src/core/command/claim.rs";
const FENCED: &str = "src/core/command/fenced.rs";
const MOVES: &str = "src/core/record/moves.rs";
const START: &str = "src/core/record/start.rs";

/// Group by group: those of one table share the code under test.
pub(crate) const GROUPS: [&[Mutant]; 35] = [
    model::MUTANTS,
    near::MUTANTS,
    http::MUTANTS,
    immediate::MUTANTS,
    request::MUTANTS,
    bodies::MUTANTS,
    resume::MUTANTS,
    rollout::MUTANTS,
    schedule::MUTANTS,
    undo::MUTANTS,
    watcher::MUTANTS,
    completer::MUTANTS,
    drain::MUTANTS,
    encryption::MUTANTS,
    background::MUTANTS,
    callback::MUTANTS,
    client::MUTANTS,
    operator::MUTANTS,
    outbox::MUTANTS,
    postgres::MUTANTS,
    memory::MUTANTS,
    limits::MUTANTS,
    maintenance::MUTANTS,
    sqlite::MUTANTS,
    redis::MUTANTS,
    shipped::MUTANTS,
    tool::MUTANTS,
    wire::MUTANTS,
    settings::MUTANTS,
    inspector::MUTANTS,
    keys::MUTANTS,
    grpc::MUTANTS,
    presets::MUTANTS,
    proxy::MUTANTS,
    reasons::MUTANTS,
];
