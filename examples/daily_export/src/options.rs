//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lettre::Address;
use tower_idempotency::schedule::Timing;

pub(crate) const HELP: &str = "\
Once a day, over any number of instances: what was sold becomes a CSV file and one mail.

Usage: daily_export [OPTIONS]

  --name NAME      the name of this instance, for the log and for operators [its process id]
  --store URL      where runs are kept, the same for all instances [sqlite:daily_export.db]:
                   `sqlite:PATH` or, built with `--features redis` or `postgres`, `redis://HOST` and
                   `postgres://USER@HOST/DATABASE`, which gets its tables if they are missing
  --shop FILE      a SQLite database with the table `sales`; it is made, with some rows, if it is
                   missing [shop.db]
  --out FOLDER     where CSV files go, the same for all instances [exports]
  --smtp ADDR      the mail server [127.0.0.1:2525]
  --ask ADDR       where to ask whether a mail was taken, for a mail in doubt; without it an
                   operator decides
  --from ADDRESS   who sends [export@shop.example]
  --to ADDRESS     who gets the mail [books@shop.example]
  --at HH:MM       when a day's run begins [02:30]
  --zone ZONE      in which time zone [UTC]
  --every TIME     in place of --at: a run each `5s`, for trying it out
  --lease SECONDS  after how long another instance goes on with the run of a dead one, where the
                   store does not see that it died [60]
  --backoff SECONDS  how long a run that failed rests at first; each time it fails, longer [60]
  --demo FOLDER    what is to go wrong: see README.md
  --help           this text
";

pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) store: String,
    pub(crate) shop: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) smtp: String,
    pub(crate) ask: Option<String>,
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) timing: Timing,
    pub(crate) lease: Duration,
    pub(crate) backoff: Duration,
    pub(crate) demo: Option<PathBuf>,
}

impl Options {
    /// `None` if all that is wanted is help.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let (mut at, mut zone, mut every) = ("02:30".to_owned(), "UTC".to_owned(), None);
        let mut options = Self {
            name: std::process::id().to_string(),
            store: "sqlite:daily_export.db".to_owned(),
            shop: "shop.db".into(),
            out: "exports".into(),
            smtp: "127.0.0.1:2525".to_owned(),
            ask: None,
            from: "export@shop.example".parse().map_err(|error| format!("{error}"))?,
            to: "books@shop.example".parse().map_err(|error| format!("{error}"))?,
            timing: Timing::daily(&zone, &at).map_err(|error| error.to_string())?,
            lease: Duration::from_secs(60),
            backoff: Duration::from_secs(60),
            demo: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("name") => options.name = parser.value()?.string()?,
                Long("store") => options.store = with_tables(parser.value()?.string()?),
                Long("shop") => options.shop = parser.value()?.into(),
                Long("out") => options.out = parser.value()?.into(),
                Long("smtp") => options.smtp = parser.value()?.string()?,
                Long("ask") => options.ask = Some(parser.value()?.string()?),
                Long("from") => options.from = parser.value()?.parse()?,
                Long("to") => options.to = parser.value()?.parse()?,
                Long("at") => at = parser.value()?.string()?,
                Long("zone") => zone = parser.value()?.string()?,
                Long("every") => every = Some(parser.value()?.string()?),
                Long("lease") => options.lease = parser.value()?.parse_with(seconds)?,
                Long("backoff") => options.backoff = parser.value()?.parse_with(seconds)?,
                Long("demo") => options.demo = Some(parser.value()?.into()),
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        let timing = every.map_or_else(|| Timing::daily(&zone, &at), |every| format!("every {every}").parse());
        options.timing = timing.map_err(|error| error.to_string())?;
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
