//! What was taken, in a folder, and what goes wrong next.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// What goes wrong with a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Accept,
    Refuse,
    Reject,
    TakeAndDrop,
    Lose,
    Slow(Duration),
}

impl Fault {
    pub(crate) fn list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(Self::parse).collect()
    }

    fn parse(name: &str) -> Result<Self, String> {
        let slow = || name.strip_prefix("slow=")?.parse().ok().map(Duration::from_millis).map(Self::Slow);
        Ok(match name {
            "accept" => Self::Accept,
            "refuse" => Self::Refuse,
            "reject" => Self::Reject,
            "take-and-drop" => Self::TakeAndDrop,
            "lose" => Self::Lose,
            _ => slow().ok_or_else(|| format!("`{name}` is no fault; see --help"))?,
        })
    }
}

/// What is known of a mail by its header.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Head {
    message_id: String,
    pub(crate) subject: String,
}

impl Head {
    pub(crate) fn of(content: &[u8]) -> Self {
        let content = String::from_utf8_lossy(content);
        let head = content.split("\r\n\r\n").next().unwrap_or_default();
        // A field that is folded goes on in the next line.
        let head = head.replace("\r\n ", " ");
        let field = |name: &str| {
            let value = head.lines().find_map(|line| line.split_once(": ").filter(|(field, _)| *field == name));
            value.map(|(_, value)| value.trim_matches(['<', '>']).to_owned()).unwrap_or_default()
        };
        Self { message_id: field("Message-ID"), subject: field("Subject") }
    }
}

pub(crate) struct Mailbox {
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    taken: Vec<Head>,
    /// How many mails it works on, and may take yet.
    open: usize,
    faults: VecDeque<Fault>,
}

impl Mailbox {
    /// Opens the folder, and reads what is in it.
    pub(crate) fn open(folder: PathBuf, faults: Vec<Fault>) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut files: Vec<_> =
            std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|kind| kind == "eml"));
        files.sort();
        let taken = files.iter().map(|file| Ok(Head::of(&std::fs::read(file)?))).collect::<io::Result<_>>()?;
        Ok(Self { folder, state: Mutex::new(State { taken, open: 0, faults: faults.into() }) })
    }

    /// From here on it may take a mail.
    pub(crate) fn begin(&self) -> OpenMail<'_> {
        self.lock().open += 1;
        OpenMail { mailbox: self }
    }

    pub(crate) fn next_fault(&self) -> Fault {
        self.lock().faults.pop_front().unwrap_or(Fault::Accept)
    }

    pub(crate) fn set_faults(&self, faults: Vec<Fault>) {
        self.lock().faults = faults.into();
    }

    pub(crate) fn all(&self) -> Vec<Head> {
        self.lock().taken.clone()
    }

    /// `None` if it can't be said yet.
    pub(crate) fn was_taken(&self, id: &str) -> Option<bool> {
        let state = self.lock();
        let is_taken = state.taken.iter().any(|mail| mail.message_id == id);
        (is_taken || state.open == 0).then_some(is_taken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mail that it works on. Dropped, it is not taken any more.
pub(crate) struct OpenMail<'a> {
    mailbox: &'a Mailbox,
}

impl OpenMail<'_> {
    /// On the disk, before anyone is told.
    pub(crate) fn take(&self, content: &[u8]) -> io::Result<()> {
        let mut state = self.mailbox.lock();
        let name = format!("{:05}.eml", state.taken.len() + 1);
        let mut file = File::create(self.mailbox.folder.join(name))?;
        file.write_all(content)?;
        file.sync_all()?;
        let head = Head::of(content);
        crate::say(&format!("taken: {}", head.subject));
        state.taken.push(head);
        Ok(())
    }
}

impl Drop for OpenMail<'_> {
    fn drop(&mut self) {
        self.mailbox.lock().open -= 1;
    }
}
