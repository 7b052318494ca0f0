//! One run: read the rows, write the file, send the mail.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tower_idempotency::schedule::Period;
use tower_idempotency::{Operation, Reconciled};

use crate::demo::{Demo, Point};
use crate::mail::{Mail, MailError, Mailer};
use crate::options::Options;
use crate::shop::{self, Sale};
use crate::{alert, say};

type Failure = Box<dyn Error + Send + Sync>;

pub(crate) struct Export {
    shop: PathBuf,
    out: PathBuf,
    mailer: Mailer,
    demo: Demo,
}

impl Export {
    pub(crate) fn new(options: Options) -> Result<Self, String> {
        let Options { shop, out, .. } = &options;
        shop::create(shop).map_err(|error| format!("{}: {error}; name another with --shop", shop.display()))?;
        std::fs::create_dir_all(out).map_err(|error| format!("{}: {error}; choose another --out", out.display()))?;
        let demo = Demo(options.demo.clone());
        Ok(Self { shop: shop.clone(), out: out.clone(), mailer: Mailer::new(options, demo.clone()), demo })
    }

    /// One attempt at the run of a period.
    pub(crate) async fn run(self: Arc<Self>, period: Period, operation: Operation) -> Result<(), Failure> {
        // The same on each attempt, and what `idempotency show` finds the run by.
        let run = operation.key().to_string();
        say(&run, &format!("attempt {} at the export of {period}, run {run}", operation.attempt()));
        let done = self.export(&run, &period, &operation).await;
        done.inspect_err(|error| alert(&run, &format!("the export of {period} has not ended: {error}")))
    }

    async fn export(&self, run: &str, period: &Period, operation: &Operation) -> Result<(), Failure> {
        self.demo.reached(Point::Begun).await;

        // On record, so that each attempt exports the same rows.
        let (shop, begin) = (self.shop.clone(), period.begin());
        let read = |_| async move { blocking(move || shop::sold_before(&shop, begin).map_err(io::Error::other)).await };
        let sales: Vec<Sale> = operation.step("rows", read).await?;
        self.demo.reached(Point::RowsStored).await;

        // It may run again, and then writes the same bytes to the same place.
        let csv = csv_of(&sales)?;
        let name = format!("sales-{}.csv", period.name().replace([':', '/'], "-"));
        let (path, content) = (self.out.join(&name), csv.clone());
        let write = |_| async move {
            let written = blocking(move || write_whole(&path, &content)).await;
            self.demo.reached(Point::CsvWritten).await;
            written
        };
        operation.step("csv", write).await?;

        // A mail server takes the same mail twice. So it is sent once, and if it is in doubt
        // whether it was taken, the server is asked.
        let id = operation.step_key("mail").to_string();
        let mail = Mail { id: &id, run, period: period.name(), file: &name, csv: &csv };
        let until = self.mailer.is_ours_until(operation);
        operation
            .once("mail", || self.mailer.send(mail, until))
            .harmless_when(MailError::is_not_sent)
            .explain(ToString::to_string)
            .reconcile(|| async {
                match self.mailer.was_taken(&id).await {
                    Ok(true) => Reconciled::Happened(()),
                    Ok(false) => Reconciled::DidNotHappen,
                    Err(why) => {
                        say(run, &format!("can't tell whether the mail was taken: {why}"));
                        Reconciled::Unknown
                    }
                }
            })
            .await?;
        self.demo.reached(Point::MailStored).await;
        say(run, &format!("done: {name}, {} rows, one mail", sales.len()));
        Ok(())
    }
}

fn csv_of(sales: &[Sale]) -> Result<Vec<u8>, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for sale in sales {
        writer.serialize(sale)?;
    }
    Ok(writer.into_inner()?)
}

/// All of it or nothing: who reads the file never sees a part of it.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".").suffix(".part").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The name is on the disk when the folder is.
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
