//! A clock that can be stepped, for a server that is started under it.

use std::path::{Path, PathBuf};

/// The clock of the processes that are started with its environment.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// A clock that is right, kept in a file of this folder, which the process
    /// must be able to read.
    ///
    /// # Panics
    ///
    /// If libfaketime is not installed.
    pub fn new(folder: &Path) -> Self {
        let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut found =
            found.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file());
        let library = found.next().expect("missing: libfaketime; install it (Debian: apt-get install libfaketime)");
        let clock = Self { library, file: folder.join("clock") };
        clock.set(0);
        clock
    }

    /// What the process has to be started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
        let variables = [
            ("LD_PRELOAD", path(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", path(&self.file)),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // Only the wall clock: what a server waits with goes on.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// From now on it is this many seconds ahead.
    pub fn set(&self, ahead: i64) {
        // Whoever reads it must find one or the other, never nothing.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{ahead:+}\n")).expect("a clock file");
        std::fs::rename(&new, &self.file).expect("a clock file");
    }
}
