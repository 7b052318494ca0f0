//! What is to go wrong: notes in a folder, such as `crash-csv-written`. The instance that gets to
//! the point first takes the note, and dies there.

use std::path::PathBuf;
use std::time::Duration;

/// How long `pause-POINT` lasts.
const PAUSE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Point {
    /// The run is claimed, and no step has begun.
    Begun,
    /// The rows are on record.
    RowsStored,
    /// The file is there, and that is not on record.
    CsvWritten,
    /// The step that sends has begun, and has sent nothing.
    MailBegun,
    /// The mail server waits for the content.
    MailOpen,
    /// The mail server has taken the mail, and that is not on record.
    MailTaken,
    /// All steps are on record, and the end of the run is not.
    MailStored,
}

impl Point {
    const fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::RowsStored => "rows-stored",
            Self::CsvWritten => "csv-written",
            Self::MailBegun => "mail-begun",
            Self::MailOpen => "mail-open",
            Self::MailTaken => "mail-taken",
            Self::MailStored => "mail-stored",
        }
    }
}

/// The folder with the notes, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Demo(pub(crate) Option<PathBuf>);

impl Demo {
    /// Dies or pauses here, if a note says so.
    pub(crate) async fn reached(&self, point: Point) {
        let name = point.name();
        if self.takes(&format!("crash-{name}")) {
            crate::say("demo", &format!("this process dies now: {name}"));
            // No destructors, no flushing.
            std::process::abort();
        }
        if self.takes(&format!("pause-{name}")) {
            crate::say("demo", &format!("pausing: {name}"));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether there is such a note, which no instance finds again.
    fn takes(&self, note: &str) -> bool {
        self.0.as_ref().is_some_and(|folder| std::fs::remove_file(folder.join(note)).is_ok())
    }
}
