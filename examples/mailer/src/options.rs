//! The command line.

use std::path::PathBuf;
use std::time::Duration;

pub(crate) const HELP: &str = "\
A shop that sends each new customer a mail, through the service of another company.

Usage: mailer [OPTIONS]

  --name NAME      the name of this process, for the log and for operators [its process id]
  --listen ADDR    where the shop listens [127.0.0.1:3000]
  --store URL      where mails are kept, the same for all processes [sqlite:mailer.db]:
                   `sqlite:PATH` or, built with `--features redis` or `postgres`, `redis://HOST` and
                   `postgres://USER@HOST/DATABASE`, which gets its tables if they are missing
  --service URL    the mail service [http://127.0.0.1:3025]
  --lease SECONDS  after how long another process sends the mail of a dead one, at most [60]
  --backoff SECONDS  how long a mail rests that could not be sent; each time, longer [2]
  --poll SECONDS   how often a process looks for mails that another one has left [5]
  --demo FOLDER    what is to go wrong: see README.md
  --help           this text
";

pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) listen: String,
    pub(crate) store: String,
    pub(crate) service: String,
    pub(crate) lease: Duration,
    pub(crate) backoff: Duration,
    pub(crate) poll: Duration,
    pub(crate) demo: Option<PathBuf>,
}

impl Options {
    /// `None` if all that is wanted is help.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Self {
            name: std::process::id().to_string(),
            listen: "127.0.0.1:3000".to_owned(),
            store: "sqlite:mailer.db".to_owned(),
            service: "http://127.0.0.1:3025".to_owned(),
            lease: Duration::from_secs(60),
            backoff: Duration::from_secs(2),
            poll: Duration::from_secs(5),
            demo: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("name") => options.name = parser.value()?.string()?,
                Long("listen") => options.listen = parser.value()?.string()?,
                Long("store") => options.store = with_tables(parser.value()?.string()?),
                Long("service") => options.service = parser.value()?.string()?,
                Long("lease") => options.lease = parser.value()?.parse_with(seconds)?,
                Long("backoff") => options.backoff = parser.value()?.parse_with(seconds)?,
                Long("poll") => options.poll = parser.value()?.parse_with(seconds)?,
                Long("demo") => options.demo = Some(parser.value()?.into()),
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
    let sane = Duration::from_millis(10)..=Duration::from_secs(24 * 60 * 60);
    seconds.filter(|time| sane.contains(time)).ok_or_else(|| "it is 0.01 to 86400 seconds".to_owned())
}
