//! Random damage: harmless, refused, or an error for the records hit. What was
//! acknowledged is never "absent".

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::tempdir;
use tower_idempotency::core::Record;
use tower_idempotency::store::{SqliteStore, Store, StoreErrorKind};

use super::random::Random;
use super::records::*;

const RECORDS: usize = 60;

/// Hurts one of the store's files; what was done.
fn hurt(directory: &Path, random: &mut Random) -> String {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    // Rebuilt whenever nobody has the store open.
    files.retain(|file| !file.to_str().unwrap().ends_with("-shm"));
    files.sort();
    let file = &files[random.next(files.len())];
    let mut bytes = fs::read(file).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    match random.next(8) {
        0 => {
            fs::remove_file(file).unwrap();
            format!("{name} deleted")
        }
        1 => {
            let length = random.next(bytes.len());
            fs::write(file, &bytes[..length]).unwrap();
            format!("{name} cut at {length}")
        }
        2 if bytes.len() >= 8192 => {
            let page = random.next(bytes.len() / 4096) * 4096;
            let other = random.next(bytes.len() / 4096) * 4096;
            bytes.copy_within(other..other + 4096, page);
            fs::write(file, bytes).unwrap();
            format!("{name}: page at {other} over that at {page}")
        }
        3 => {
            let (at, length) = (random.next(bytes.len()), 1 + random.next(5000));
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(0);
            fs::write(file, bytes).unwrap();
            format!("{name}: zeros from {at} to {end}")
        }
        _ if bytes.is_empty() => format!("{name} is empty"),
        _ => {
            let (at, bit) = (random.next(bytes.len()), random.next(8));
            bytes[at] ^= 1 << bit;
            fs::write(file, bytes).unwrap();
            format!("{name}: bit {bit} at {at} flipped")
        }
    }
}

/// Each acknowledged answer is there as it was, or an error. The message of what
/// is wrong, if anything is.
async fn look(path: &Path, answers: &[Record]) -> Result<&'static str, String> {
    let Ok(store) = SqliteStore::open(path) else { return Ok("refused") };
    let mut outcome = "harmless";
    for (n, expected) in answers.iter().enumerate() {
        match store.load(&key(n)).await {
            Ok(loaded) => match loaded.record {
                None => return Err(format!("{n} is absent")),
                Some(found) if found.version() != expected.version() => return Err(format!("{n} is an old one")),
                Some(found) if found.progress() != expected.progress() => return Err(format!("{n} is another one")),
                Some(_) => {}
            },
            Err(error) if error.kind() == StoreErrorKind::Corrupt => outcome = "an error",
            Err(error) => return Err(format!("{n}: {error}")),
        }
    }
    Ok(outcome)
}

#[tokio::test]
async fn random_damage_makes_nothing_that_was_acknowledged_absent() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (rounds, seed) = (number("SQLITE_FLIPS", 50), number("SQLITE_FLIPS_SEED", 1));
    let [killed, closed] = [tempdir().unwrap(), tempdir().unwrap()];
    let live = tempdir().unwrap();
    let store = SqliteStore::open(live.path().join("keys.db")).unwrap();
    let mut answers = Vec::new();
    for n in 0..RECORDS {
        answers.push(answer(&store, n).await);
        if n == RECORDS / 2 {
            // So that some lie in the database and some in the WAL.
            let other = rusqlite::Connection::open(live.path().join("keys.db")).unwrap();
            other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        }
    }
    copy(live.path(), killed.path());
    drop(store);
    copy(live.path(), closed.path());

    let (mut outcomes, mut failures) = (std::collections::BTreeMap::new(), Vec::new());
    for round in 0..rounds {
        let mut random = Random(seed * 1_000_003 + round);
        let from = if random.next(2) == 0 { &killed } else { &closed };
        let directory = tempdir().unwrap();
        copy(from.path(), directory.path());
        let done = hurt(directory.path(), &mut random);
        match look(&directory.path().join("keys.db"), &answers).await {
            Ok(outcome) => *outcomes.entry(outcome).or_insert(0) += 1,
            Err(wrong) => failures.push(format!("round {round}: {done}: {wrong}")),
        }
    }
    println!("{rounds} rounds: {outcomes:?}");
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(outcomes.len() == 3, "each of them happens: {outcomes:?}");
}
