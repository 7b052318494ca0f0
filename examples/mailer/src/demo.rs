//! What is to go wrong: notes in a folder, such as `crash-answered`. The process that gets to the
//! point first takes the note, and dies there.

use std::path::PathBuf;
use std::time::Duration;

/// How long `pause-POINT` lasts.
const PAUSE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Point {
    /// The mail is in the store, and the customer does not know.
    Accepted,
    /// A process holds the mail, and has sent nothing.
    BeforeSend,
    /// The mail service has responded, and that is not in the store.
    Answered,
}

impl Point {
    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::BeforeSend => "before-send",
            Self::Answered => "answered",
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
            crate::say(&format!("this process dies now: {name}"));
            // No destructors, no flushing.
            std::process::abort();
        }
        if self.takes(&format!("pause-{name}")) {
            crate::say(&format!("pausing: {name}"));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether there is such a note, which no process finds again.
    fn takes(&self, note: &str) -> bool {
        self.0.as_ref().is_some_and(|folder| std::fs::remove_file(folder.join(note)).is_ok())
    }
}
