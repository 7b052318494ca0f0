//! The command line.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
A payment service whose retries never charge twice.

Usage: payment [OPTIONS]

  --listen ADDR        where to listen [127.0.0.1:3000]
  --store URL          where operations are kept [sqlite:payment.db]: `sqlite:PATH`, `memory:`, or,
                       built with `--features redis` or `postgres`, `redis://HOST` and
                       `postgres://USER@HOST/DATABASE`, which gets its tables if they are missing
  --gateway-log FILE   where the gateway keeps its charges [gateway.log]
  --lease SECONDS      how long a dead attempt holds its key; fractions are fine [60]
  --drain SECONDS      how long payments that run may take after Ctrl-C or SIGTERM [20]
  --opaque             the same handler without steps: at-most-once mode, nothing to resume
  --help               this text
";

pub(crate) struct Options {
    pub(crate) listen: String,
    pub(crate) store: String,
    pub(crate) gateway_log: PathBuf,
    pub(crate) lease: Duration,
    pub(crate) drain: Duration,
    pub(crate) opaque: bool,
}

impl Options {
    /// `None` if all that is wanted is help.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Self {
            listen: "127.0.0.1:3000".to_owned(),
            store: "sqlite:payment.db".to_owned(),
            gateway_log: "gateway.log".into(),
            lease: Duration::from_secs(60),
            drain: Duration::from_secs(20),
            opaque: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("listen") => options.listen = parser.value()?.string()?,
                Long("store") => options.store = with_tables(parser.value()?.string()?),
                Long("gateway-log") => options.gateway_log = parser.value()?.into(),
                Long("lease") => options.lease = parser.value()?.parse_with(seconds)?,
                Long("drain") => options.drain = parser.value()?.parse_with(seconds)?,
                Long("opaque") => options.opaque = true,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// A service has its tables from a migration, and its role no right to make
/// them; a demo makes its own.
fn with_tables(url: String) -> String {
    let postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if !postgres || url.contains("create_schema=") {
        return url;
    }
    let and = if url.contains('?') { '&' } else { '?' };
    format!("{url}{and}create_schema=true")
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    // A day is more than any lease should be, and adding it to a date can't overflow.
    let sane = Duration::from_millis(10)..=Duration::from_secs(24 * 60 * 60);
    seconds.filter(|lease| sane.contains(lease)).ok_or_else(|| "a lease is 0.01 to 86400 seconds".to_owned())
}
