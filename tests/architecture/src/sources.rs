//! The texts of a library.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The text of each file, by its path below `src`.
pub type Sources = BTreeMap<String, String>;

/// Reads all files below this folder.
///
/// # Panics
///
/// If one can't be read.
pub fn read(folder: &Path) -> Sources {
    let mut sources = Sources::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
                sources.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    sources
}
