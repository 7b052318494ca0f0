//! Which data this is: a number drawn once, and a mark that grows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::directory::sync_directory;
use crate::nonce::fresh_nonce;
use crate::store::{Epoch, StoreError, StoreErrorKind};

const NAME: &str = "EPOCH";

/// Reads the epoch below `directory` and moves its mark. Not for two at once.
pub(super) fn advance(directory: &Path) -> Result<Epoch, StoreError> {
    let path = directory.join(NAME);
    let failed = |error: io::Error| {
        let message = format!("{} can't be read or written", path.display());
        StoreError::new(StoreErrorKind::Unavailable, message).caused_by(error)
    };
    let damaged = || StoreError::new(StoreErrorKind::Corrupt, format!("{} is damaged", path.display()));
    let mut epoch = match fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(damaged)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Epoch { id: fresh_nonce().get(), mark: 0 },
        Err(error) => return Err(failed(error)),
    };
    epoch.mark = epoch.mark.saturating_add(1);
    write(directory, epoch).map_err(failed)?;
    Ok(epoch)
}

fn parse(text: &str) -> Option<Epoch> {
    let (id, mark) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Epoch { id: id.parse().ok()?, mark: mark.parse().ok()? })
}

/// Beside it, then in its place: a crash leaves the old one or the new one.
fn write(directory: &Path, epoch: Epoch) -> io::Result<()> {
    let unfinished = directory.join("EPOCH.new");
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{} {}", epoch.id, epoch.mark)?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(NAME))?;
    sync_directory(directory)
}
